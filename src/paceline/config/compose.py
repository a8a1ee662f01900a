"""Composition: Hydra picks group options and applies overrides; it never judges a key or instantiates anything."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.config.reading import MAX_DEPTH
from paceline.config.suggest import hint
from paceline.config.tree import Tree, put, to_yaml
from paceline.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

GROUPS = ("task", "model", "data", "loss", "training", "tracking", "hpo")
APPENDED = ("training", "tracking", "hpo")  # no default: a user's option comes after the recipe's values
MAX_ARGUMENT = 40_000
CONF = Path(__file__).parent / "conf"

Options = Mapping[str, Mapping[str, Mapping[str, Any]]]  # group -> option -> its content


def compose(overrides: Sequence[str], options: Options, folders: Sequence[Path] = ()) -> Tree:
    """Return the composed config as a plain tree.

    `overrides` use Hydra's grammar: `model=gru` chooses a group's option, `training.num_epochs=15` sets a value.
    `options` are the choices that exist; an option of the same name in one of `folders` (the user's first, then the
    recipe's) replaces it. Raises ConfigError for what Hydra cannot parse or find.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from paceline.config.option_files import SCHEME, register

    register()
    _refuse_missing_groups(overrides, options, folders)
    parsed = [_parse(text) for text in overrides]
    _refuse_what_names_nothing(parsed, options)
    arguments = [str(override.input_line) for override in parsed]
    with tempfile.TemporaryDirectory(prefix="paceline-conf-") as stubs:
        _write_options(Path(stubs), options)
        path = ",".join(_quoted(f"{SCHEME}://{folder.resolve()}") for folder in [*folders, Path(stubs)])
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                composed = hydra_compose("config", overrides=[f"hydra.searchpath=[{path}]", *arguments])
            tree = OmegaConf.to_container(composed, resolve=False)
        except (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError) as error:  # Hydra's own
            raise _explain(error, options) from None
    assert isinstance(tree, dict)
    return {str(name): value for name, value in tree.items() if value is not None}


def parse_values(overrides: Sequence[str]) -> Tree:
    """Return `key=value` texts as a tree, in Hydra's grammar, without choosing any group."""
    tree: Tree = {}
    for text in overrides:
        parsed = _parse(text)
        put(tree, parsed.key_or_group, parsed.value())
    return tree


def _parse(text: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    _refuse_large(text)
    try:
        parsed = OverridesParser.create().parse_override(_argument(text))
    except (HydraException, ValueError):  # ValueError: a number of thousands of digits
        raise ConfigError("an argument cannot be parsed", where="command line", got=text,
                          hint="quote values with special characters: 'key=\"some: value\"'") from None  # fmt: skip
    if "${" in text:
        raise ConfigError("a config value is never computed: ${...} is not read", where="command line", got=text,
                          hint="write the value itself")  # fmt: skip
    if parsed.is_sweep_override():
        key = parsed.key_or_group
        raise ConfigError("an argument has several values", where="command line", got=text,
                          hint=f"a list {key}=[...], or a grid of members: members.vary.{key}=[...]")  # fmt: skip
    return parsed


def _refuse_large(text: str) -> None:
    """The parser takes a second for 40,000 characters, and its recursion ends at some hundred brackets."""
    depths = accumulate((c in "[{(") - (c in "]})") for c in text)
    if len(text) > MAX_ARGUMENT or max(depths, default=0) > MAX_DEPTH:
        raise ConfigError("an argument is too long or too deeply nested", where="command line", got=text,
                          hint=f"at most {MAX_ARGUMENT:,} characters and {MAX_DEPTH} brackets deep; "
                          "more goes into a YAML option")  # fmt: skip


def _argument(text: str) -> str:
    name, equals, _ = text.partition("=")
    name = name.lstrip("+").strip()
    if not equals or not name or name.startswith("-"):
        raise ConfigError("an argument is not of the form key=value", where="command line", got=text,
                          hint="training.num_epochs=15, or --help for the options")  # fmt: skip
    if name == "hydra" or name.startswith("hydra."):
        raise ConfigError("Hydra's own settings cannot be changed here", where=name, got=text)
    bare = text.lstrip("+")
    if name in APPENDED:
        return f"+{bare}"
    return bare if name in GROUPS else f"++{bare}"


def _refuse_missing_groups(overrides: Sequence[str], options: Options, folders: Sequence[Path]) -> None:
    """Hydra would take the option of a group that has none at all for a value."""
    for text in overrides:
        group, _, option = text.lstrip("+").partition("=")
        if group in APPENDED and not options.get(group) and not any((folder / group).is_dir() for folder in folders):
            raise ConfigError(f"there is no {group} of that name", where=group, got=option,
                              hint=f"{group}.<key>=..., or your own configs/{group}/{option}.yaml")  # fmt: skip


def _refuse_what_names_nothing(overrides: Sequence[Override], options: Options) -> None:
    """Hydra's own error for `model=null` or `model=3` is a traceback."""
    for override in overrides:
        group, value = override.key_or_group, override.value()
        if group in GROUPS and (value is None or isinstance(value, int | float)):
            name = override.get_value_string()
            raise ConfigError(f"there is no {group} of that name", where=group, got=name,
                              hint=hint(name, options.get(group, ())))  # fmt: skip


def _quoted(text: str) -> str:
    """Quote for Hydra's grammar, where a plain comma or bracket would end the value.

    A backslash stands for itself there, unless a quote follows.
    """
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text) + "'"


def _write_options(folder: Path, options: Options) -> None:
    for group, choices in options.items():
        (folder / group).mkdir()
        for name, content in choices.items():
            header = "# @package _global_\n" if group == "task" else ""
            (folder / group / f"{name}.yaml").write_text(header + to_yaml(content), encoding="utf-8")


def _explain(error: Exception, options: Options) -> ConfigError:
    """Say in one error what Hydra found wrong."""
    text = str(error)
    missing = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if missing:
        group, name = missing.groups()
        listed = re.search(r"Available options in '\w+':\n((?:\t.*\n?)+)", text)
        names = listed.group(1).split() if listed else list(options.get(group, ()))
        return ConfigError(f"there is no {group} of that name", where=group, got=name, hint=hint(name, names))
    if "You must specify 'task'" in text:
        names = list(options.get("task", ()))
        return ConfigError("no task was chosen", where="task", hint="task=" + " or task=".join(sorted(names)))
    first = text.strip().partition("\n")[0] or type(error).__name__
    return ConfigError("the configuration cannot be composed", where="command line", got=first)
