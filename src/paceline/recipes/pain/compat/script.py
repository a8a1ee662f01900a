"""What the scripts of `paceline scaffold pain` share: their arguments, and errors without a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from paceline.config.compose import parse_values
from paceline.errors import PacelineError


@dataclass(frozen=True)
class Arguments:
    """What a script was called with."""

    names: tuple[str, ...]
    overrides: dict[str, Any]
    options: dict[str, bool]


def run_script(main: Callable[[Arguments], None], doc: str | None, names: Iterable[str] = ()) -> None:
    """Call `main` with the arguments of the command line.

    These are names of configurations, `key=value`, `--overwrite` and `--resume`. doc: the help. names: those that there
    are; without any on the command line all are taken. A mistake of the user's is one error on stderr and exit code 2;
    Ctrl-C ends with 130.
    """
    known = tuple(names)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    metavar, which = ("NAME or KEY=VALUE", f"{', '.join(known)} (all by default); ") if known else ("KEY=VALUE", "")
    parser.add_argument("words", nargs="*", metavar=metavar, help=f"{which}keys of prepare_config, such as epochs=20")
    parser.add_argument("--overwrite", action="store_true", help="replace runs of the same names")
    parser.add_argument("--resume", action="store_true", help="go on with those that were interrupted")
    given = parser.parse_intermixed_args()
    words: list[str] = given.words
    chosen = tuple(word for word in words if "=" not in word)
    for word in chosen:
        if word not in known:
            parser.error(f"unknown name {word!r}: {', '.join(known) or 'only key=value is taken here'}")
    try:
        overrides = parse_values([word for word in words if "=" in word])
        main(Arguments(chosen or known, overrides, {"overwrite": given.overwrite, "resume": given.resume}))
    except PacelineError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
