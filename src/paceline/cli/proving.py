"""`paceline prove`: kill a training again and again, resume it, and show that no bit is different."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paceline.api.trial import Watcher
from paceline.cli.console import make_console
from paceline.cli.running import logged
from paceline.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from paceline.api.proving import Proof

SHOWN = 2  # differences of a file
SECONDS = 0.2  # between two looks at the progress


def prove_command(
    words: Sequence[str],
    *,
    use: Sequence[Path],
    config_dir: Path | None,
    kills: int,
    seed: int,
    keep: bool,
    json_file: Path | None,
) -> None:
    """Prove, with progress, and print what was found. Raises TrainingError where the bits are not the same."""
    from paceline.api.proving import prove

    run, overrides = split_words(words)
    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError("the folder does not exist", where="--json", got=str(json_file))
    console, folder = make_console(), Path(tempfile.mkdtemp(prefix="paceline-prove-"))
    kept = True
    try:
        with logged(console), _Shown(console) as watcher:
            proof = prove(overrides=overrides, folder=folder, run=run, use=use, config_dir=config_dir, kills=kills,
                          seed=seed, watcher=watcher)  # fmt: skip
        if json_file is not None:
            json_file.write_text(json.dumps(proof.to_json(), indent=1) + "\n", encoding="utf-8")
        show(proof, console)
        kept = keep or proof.verdict == "different"
    except BaseException:
        kept = keep
        raise
    finally:
        if kept:
            console.print(Text(f"both trainings are kept in {folder}"), soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    judge(proof)


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Tell a run's folder from `key=value` texts: it comes first and has no `=`, or is there."""
    if words and ("=" not in words[0] or Path(words[0]).is_dir()):
        return words[0], list(words[1:])
    return None, list(words)


def show(proof: Proof, console: Console) -> None:
    """Print the counts, the differences, and what was proved for which scope."""
    from paceline.run.scope import in_words

    found, most = proof.compared, max(proof.again, default=0)
    rows = [
        ("kills", f"{len(proof.kills)} of {proof.asked} hit the training (seed {proof.seed})"),
        ("in a save", str(sum(kill.in_save for kill in proof.kills))),
        ("resumes", str(len(proof.kills))),
        ("steps", f"{proof.steps}, and {sum(proof.again)} of them trained again (at most {most} by one resume)"),
        ("compared", f"{found.tensors} tensors, {found.lines} lines of the log, the samples of {found.steps} steps"),
        ("verdict", {"equal": "equal, bit for bit"}.get(proof.verdict, proof.verdict)),
    ]
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)
    shown = of_each_file(found.differences)
    for difference in shown:
        console.print(Text(f"differs: {difference}"), soft_wrap=True)
    if len(found.differences) > len(shown):
        console.print(Text(f"and {len(found.differences) - len(shown)} more"))
    if proof.verdict == "equal":
        console.print(Text(f"Proved for this configuration on: {in_words(proof.scope)}."), soft_wrap=True)
        console.print(Text("Elsewhere bits may differ; paceline resume says so before it goes on."), soft_wrap=True)


def of_each_file(differences: Sequence[str]) -> list[str]:
    """Return the first differences of every file; they begin with its name."""
    files = [difference.partition(": ")[0] for difference in differences]
    return [d for i, d in enumerate(differences) if files[:i].count(files[i]) < SHOWN]


def judge(proof: Proof) -> None:
    """Raise TrainingError unless the two trainings were shown to be the same."""
    if proof.verdict == "different":
        raise TrainingError(
            "the killed training is not the uninterrupted one", where=proof.compared.differences[0],
            hint="what draws random numbers or counts outside of the saved state? see docs/durable.md",
        )  # fmt: skip
    if proof.verdict != "equal":
        raise TrainingError("nothing was proved: no kill hit a training that had something to resume from",
                            got=f"{len(proof.kills)} kills in {proof.steps} steps",
                            hint="more training.num_epochs, or --kills")  # fmt: skip


class _Shown(Watcher):
    """Prints what happens, and on a terminal the steps as they are made."""

    def __init__(self, console: Console) -> None:
        self._console, self._said = console, 0.0
        self._status = console.status("building") if console.is_terminal else None

    def __enter__(self) -> _Shown:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def steps(self, name: str, done: int, total: int) -> None:
        if self._status is not None and time.monotonic() - self._said >= SECONDS:
            self._said = time.monotonic()
            self._status.update(f"{name}: step {done}" + (f" of {total}" if total else ""))
