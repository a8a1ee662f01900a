"""Power loss: every prefix of a recorded save, with and without what was not synced, must show the last saved state."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paceline.api.runs import resume
from paceline.checkpoint.state import read_state, write_state
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError
from paceline.run.folder import Run
from paceline.track.journal import Journal
from paceline.types import Record

from .disk import Choice, Disk, choices
from .forking import run_forked
from .outcome import Row
from .recording import Recorder
from .runs import Tiny, cohorts, differences

State = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Saves in a folder: `act(folder, saved)` calls `saved(name)` when one has returned; `check` judges a crash.

    `check(folder, name)` is given the last such name, None before the first; it returns what is wrong.
    """

    name: str
    act: Callable[[Path, Callable[[str], object]], object]
    check: Callable[[Path, str | None], str | None]


def state(number: int, size: int = 200) -> State:
    return {"weight": torch.arange(float(size)) + number, "number": number, "log": {}}


def scenarios(saves: int) -> list[Scenario]:
    """A store that prunes, one whose step is replaced, a published file, and a store beside a log that grows."""
    return [
        Scenario(name="store", act=lambda folder, saved: _save_all(folder, saved, saves), check=_check_store),
        Scenario(name="same step again", act=_replace, check=_check_store),
        Scenario(name="published file", act=_publish, check=_check_file),
        Scenario(name="log", act=lambda folder, saved: _log(folder, saved, saves), check=_check_log),
    ]


def power_loss(saves: int, drawn: int, resumes: int, share: float, *, seed: int, folder: Path) -> Row:
    """Replay each scenario at each prefix with five fixed crashes and so many drawn ones.

    A whole training as well, at this share of its prefixes; so many of its crashes are resumed to the end and compared.
    """
    row = Row(name="power loss", aim="with unsynced work")
    for scenario in scenarios(saves):
        _replay(row, scenario, drawn, random.Random(seed), folder / scenario.name.replace(" ", "-"))
    _training(row, drawn, resumes, share, random.Random(seed), folder / "training")
    without = Row(name="", aim="")
    _replay(without, scenarios(saves)[0], drawn, random.Random(seed), folder / "without", syncs=False)
    row.broken["a saver without fsync"] = without.lost
    row.planned = row.fired
    return row.judge(prefixes_had_unsynced_work=row.landed > 0)


def _training(row: Row, drawn: int, resumes: int, share: float, rng: random.Random, folder: Path) -> None:
    tiny = Tiny(folder=folder, engine="cohort", num_epochs=2)
    tiny.write_data()
    tiny.start("whole")
    crashes: list[Path] = []

    def check(crashed: Path, last: str | None) -> str | None:
        wrong = _check_run(Run(crashed / "run"), last)
        if last is not None and wrong is None and len(crashes) < 20 * resumes and rng.random() < 0.3:
            crashes.append(folder / f"crash{len(crashes)}")
            shutil.copytree(crashed / "run", crashes[-1])
        return wrong

    whole = Scenario(name="training", act=lambda live, saved: _train(tiny, live, saved), check=check)
    _replay(row, whole, drawn, rng, folder / "replay", share=share)
    for crash in rng.sample(crashes, min(resumes, len(crashes))):
        ended = run_forked(lambda crash=crash: resume(crash))
        found = differences(Run(crash), tiny.run("whole")) if ended.code == 0 else [f"{ended.error} {ended.text}"]
        row.outcomes["resumed to the same bits"] += not found
        for difference in found:
            row.lose(f"resumed after a power loss: {' '.join(difference.split())}")


def _train(tiny: Tiny, live: Path, saved: Callable[[str], object]) -> None:
    save = Store.save

    def marked(self: Store, step: int, *args: Any, **options: Any) -> Path:
        path = save(self, step, *args, **options)
        saved(str(step))
        return path

    Store.save = marked  # type: ignore[method-assign]
    try:
        tiny.start("run", live)
    finally:
        Store.save = save  # type: ignore[method-assign]


def _check_run(run: Run, last: str | None) -> str | None:
    if last is None:
        return None
    if not run.is_run():
        return f"step {last} was saved, and there is no run"
    (cohort,) = cohorts(run)
    found = Store(run.path / "checkpoints" / cohort).latest()
    if found is None or found[0] < int(last):
        return f"step {last} was saved, {found and found[0]} loads"
    path, size = run.path / "logs" / f"{cohort}.jsonl", found[1]["beside"]["log"]["records"]
    content = path.read_bytes()[:size] if path.exists() else b""
    return None if len(content) == size and b"\0" not in content else f"{len(content)} of {size} bytes of the log"


def _replay(
    row: Row,
    scenario: Scenario,
    drawn: int,
    rng: random.Random,
    folder: Path,
    syncs: bool = True,
    share: float = 1.0,
) -> None:
    live, crashed = folder / "live", folder / "crashed"
    live.mkdir(parents=True)
    recorder = Recorder(live, syncs=syncs)
    with recorder.recording():
        scenario.act(live, lambda name: recorder.mark(name))
    disk, last = Disk(), None
    for number, operation in enumerate(recorder.operations):
        if operation[0] == "mark":
            last = operation[1]
        else:
            disk.apply(operation)
        if rng.random() >= share:
            continue
        unsynced = any(node.pending for node in disk.nodes.values())
        for choice in choices(rng, drawn) if unsynced else choices(rng, 0)[:1]:
            row.fired += 1
            row.landed += unsynced
            _crash(row, disk, choice, crashed, scenario, last, f"{scenario.name}, after operation {number}")
    shutil.rmtree(folder)


def _crash(row: Row, disk: Disk, choice: Choice, crashed: Path, scenario: Scenario, last: str | None, at: str) -> None:
    crashed.mkdir()
    disk.show(crashed, choice)
    wrong = scenario.check(crashed, last)
    row.outcomes["the last saved state or a newer one" if wrong is None else "lost"] += 1
    if wrong is not None:
        row.lose(f"{at}, {choice.name}: {wrong}")
    shutil.rmtree(crashed)


def _save_all(folder: Path, saved: Callable[[str], object], saves: int) -> None:
    for number in range(1, saves + 1):
        Store(folder / "checkpoints" / "c0").save(number, dict(state(number)), keep_last=2, keep_every=3)
        saved(str(number))


def _replace(folder: Path, saved: Callable[[str], object]) -> None:
    store = Store(folder / "checkpoints" / "c0")
    for number, step in ((1, 1), (2, 2), (3, 2), (4, 2)):
        store.save(step, dict(state(number)), keep_last=1)
        saved(str(number))


def _check_store(folder: Path, last: str | None) -> str | None:
    found = Store(folder / "checkpoints" / "c0").latest()
    if found is None:
        return None if last is None else f"save {last} had returned, nothing loads"
    number = found[1]["number"]
    if last is not None and number < int(last):
        return f"save {last} had returned, {number} loads"
    return "; ".join(equal(found[1], state(number))) or None


def _publish(folder: Path, saved: Callable[[str], object]) -> None:
    for number in (1, 2, 3):
        write_state(folder / "best.pt", state(number))
        saved(str(number))


def _check_file(folder: Path, last: str | None) -> str | None:
    try:
        number = read_state(folder / "best.pt")["number"] if (folder / "best.pt").exists() else 0
    except CheckpointError as error:
        return " ".join(str(error).split())
    return f"save {last} had returned, {number} loads" if last is not None and number < int(last) else None


def _log(folder: Path, saved: Callable[[str], object], saves: int) -> None:
    """As a run saves: the log's lengths are part of the state, and the log is durable before the checkpoint is."""
    journal, store = Journal(folder / "logs", "c0"), Store(folder / "checkpoints" / "c0")
    for number in range(1, saves + 1):
        for split in ("train", "val"):
            journal.write(Record(member="m", step=number, epoch=number, split=split, values={"loss": 1 / number}))
        lengths = journal.state_dict()
        journal.sync()
        store.save(number, {**state(number), "log": lengths}, keep_last=1)
        saved(str(number))
    journal.close()


def _check_log(folder: Path, last: str | None) -> str | None:
    found = Store(folder / "checkpoints" / "c0").latest()
    if found is None:
        return None if last is None else f"save {last} had returned, nothing loads"
    number, saved = found[1]["number"], found[1]["log"]
    if last is not None and number < int(last):
        return f"save {last} had returned, {number} loads"
    path = folder / "logs" / "c0.jsonl"
    content = path.read_bytes()[: saved["records"]] if path.exists() else b""
    lines = content.splitlines()
    whole = len(content) == saved["records"] and len(lines) == 2 * number and b"\0" not in content
    return None if whole else f"step {number} counts {saved['records']} bytes of the log, {len(content)} are there"
