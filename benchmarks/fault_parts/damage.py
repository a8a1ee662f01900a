"""Damaged checkpoints among undamaged ones: every one must be found, and no good one refused."""

from __future__ import annotations

import random
import shutil
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from paceline.checkpoint.state import read_state, write_state
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError, CheckpointMismatchError
from paceline.train.config import SaveConfig
from paceline.train.saving import SCHEMA_VERSION, Saver

from .outcome import Row

if TYPE_CHECKING:
    from paceline.train.cohort import CohortTraining

STEPS = (10, 20, 30)
RUNS = ("a", "b")
STATE, MANIFEST, FILE = "state.pt", "manifest.json", "best.pt"


@dataclass(frozen=True)
class Place:
    """Checkpoints of two runs, each with a published file, and what they hold."""

    folder: Path

    def store(self, run: str) -> Store:
        return Store(self.folder / run)

    def state(self, run: str, step: int) -> dict[str, object]:
        weight = torch.arange(1000.0) * step + RUNS.index(run)
        cohort = {"engine": {"weight": weight}, "step": step, "history": [0.5, 0.25], "names": {"x": (1, None)}}
        return {"schema_version": SCHEMA_VERSION, "identity": {"config": run}, "cohort": cohort, "beside": {}}

    def file(self, run: str) -> Path:
        return self.folder / f"{run}-{FILE}"

    def save(self) -> None:
        for run in RUNS:
            for step in STEPS:
                self.store(run).save(step, self.state(run, step), keep_last=len(STEPS))
            write_state(self.file(run), self.state(run, STEPS[-1]))

    def path(self, run: str, step: int, name: str) -> Path:
        return self.folder / run / f"step-{step}" / name


Damage = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit, anywhere."""
    return flip_bit(data, rng.randrange(8 * len(data)))


def flip_bit(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _extend(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 64))


def _zeros(data: bytes, rng: random.Random) -> bytes:
    """A block that never reached the disk, at a place where there was something else."""
    length = rng.randint(1, len(data))
    start = rng.randrange(len(data) - length + 1)
    changed = data[:start] + bytes(length) + data[start + length :]
    return changed if changed != data else flip(data, rng)


def _swap_bytes(data: bytes, rng: random.Random) -> bytes:
    """Two bytes that change places, unlike ones."""
    i = rng.randrange(len(data))
    others = [j for j in rng.sample(range(len(data)), min(40, len(data))) if data[j] != data[i]]
    changed, j = bytearray(data), others[0]
    changed[i], changed[j] = changed[j], changed[i]
    return bytes(changed)


CONTENT: dict[str, Damage] = {
    "flip": flip, "truncated": _truncate, "longer": _extend, "zeros": _zeros, "bytes swapped": _swap_bytes,
}  # fmt: skip


def damages(count: int, undamaged: int, flips: int, *, seed: int, folder: Path) -> Row:
    """Damage checkpoints so often, with undamaged ones in between; show which of so many flips `torch.load` accepts."""
    row, rng, place = Row(name="damaged files", aim="found"), random.Random(seed), Place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    place.save()
    order = [True] * count + [False] * undamaged
    rng.shuffle(order)
    good = 0
    for damaged in order:
        if damaged:
            row.planned += 1
            _one(row, place, rng)
        else:
            good += _undamaged(row, place, rng)
    row.notes["undamaged that loaded equal"] = f"{good:,} of {undamaged:,}"
    met = {"all_found": row.landed == row.fired == count, "all_undamaged_load": good == undamaged}
    for path in (place.path("a", 10, STATE), _of_a_training(folder)):
        _flips(row, path, flips, rng)
    return row.judge(**met)


def _one(row: Row, place: Place, rng: random.Random) -> None:
    """Damage one file, look, and put it back."""
    run, step = rng.choice(RUNS), rng.choice(STEPS)
    kind = rng.choice([*CONTENT, *CONTENT, "file of another"])
    name = rng.choice([STATE, STATE, MANIFEST, FILE] if kind in CONTENT else [STATE, MANIFEST, "both"])
    if name == "both":
        _whole_step_of_another(row, place, run, step, rng)
        return
    path = place.file(run) if name == FILE else place.path(run, step, name)
    data = path.read_bytes()
    changed = CONTENT[kind](data, rng) if kind in CONTENT else _another(place, run, step, name, rng).read_bytes()
    assert changed != data, (kind, name)
    path.write_bytes(changed)
    row.fired += 1
    found = _refused(lambda: read_state(path)) if name == FILE else _found(place, run, step)
    _count(row, found, f"{kind} of {name}", f"{kind} of {name} of {run}, step {step}, {len(changed)} bytes")
    path.write_bytes(data)


def _another(place: Place, run: str, step: int, name: str, rng: random.Random) -> Path:
    """A valid file of another step or run."""
    others = [(r, s) for r in RUNS for s in STEPS if (r, s) != (run, step)]
    return place.path(*rng.choice(others), name)


def _whole_step_of_another(row: Row, place: Place, run: str, step: int, rng: random.Random) -> None:
    """A whole step in another's place: under the name of another step, or of another run, which its identity tells."""
    target, aside = place.folder / run / f"step-{step}", place.folder / "aside"
    owner, other = rng.choice([(r, s) for r in RUNS for s in STEPS if (r, s) != (run, step)])
    target.rename(aside)
    shutil.copytree(place.folder / owner / f"step-{other}", target)
    row.fired += 1
    if other != step:
        found, kind = _found(place, run, step), "step under another's name"
    else:
        found, kind = _foreign(place, run, step), "step of another run"
    _count(row, found, kind, f"step {other} of run {owner} as step {step} of {run}")
    shutil.rmtree(target)
    aside.rename(target)


def _foreign(place: Place, run: str, step: int) -> bool:
    """Whether going on from a step of another run, which is whole, is refused, before anything takes its state."""
    saver = Saver(Store(place.folder / "alone"), SaveConfig(), {}, {"config": run})
    shutil.copytree(place.folder / run / f"step-{step}", place.folder / "alone" / f"step-{step}")
    try:
        saver.restore(cast("CohortTraining", None))
    except CheckpointMismatchError as error:
        return error.changed == ("config",)
    finally:
        shutil.rmtree(place.folder / "alone")
    return False


def _found(place: Place, run: str, step: int) -> bool:
    """Whether the damage is found by a check, by loading, and by going on, which takes another step."""
    store = place.store(run)
    latest = store.latest()
    passed_over = latest is not None and latest[0] != step and not equal(latest[1], place.state(run, latest[0]))
    is_last = step == STEPS[-1]
    return store.verify(step) is not None and _refused(lambda: store.load(step)) and (passed_over or not is_last)


def _refused(load: Callable[[], object]) -> bool:
    try:
        load()
    except CheckpointError:
        return True
    return False


def _count(row: Row, found: bool, kind: str, words: str) -> None:
    row.outcomes[kind] += 1
    row.landed += found
    if not found:
        row.lose(f"not found: {words}")


def _undamaged(row: Row, place: Place, rng: random.Random) -> bool:
    run, step = rng.choice(RUNS), rng.choice(STEPS)
    good = place.store(run).verify(step) is None and not equal(place.store(run).load(step), place.state(run, step))
    good = good and not equal(read_state(place.file(run)), place.state(run, STEPS[-1]))
    if not good:
        row.lose(f"refused though undamaged: {run}, step {step}")
    return good


def _of_a_training(folder: Path) -> Path:
    """Save a state of 1 MB, as a training has it: weights, two moments of each, the best weights."""
    model = nn.Sequential(nn.Linear(128, 384), nn.ReLU(), nn.Linear(384, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 128)).square().mean().backward()
    optimizer.step()
    best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    engine = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict(), "best": best}
    state = {"schema_version": SCHEMA_VERSION, "identity": {}, "cohort": {"engine": engine}, "beside": {}}
    return Store(folder / "training").save(1, state) / STATE


def _flips(row: Row, path: Path, count: int, rng: random.Random) -> None:
    """Flip single bits of a state: say where plain `torch.load` accepts them, and lose those that `Store` does."""
    data, parts = path.read_bytes(), parts_of(path)
    store, step = Store(path.parent.parent), int(path.parent.name.removeprefix("step-"))
    hit, accepted = Counter[str](), Counter[str]()
    for _ in range(count):
        bit = rng.randrange(8 * len(data))
        part = PARTS[parts[bit // 8]]
        hit[part] += 1
        path.write_bytes(flip_bit(data, bit))
        accepted[part] += accepts(path)
        if not _refused(lambda: store.load(step)):
            row.lose(f"not found: a flip in {path.name}, {part}")
    path.write_bytes(data)
    shares = [
        f"{part} {accepted[part]:,} of {hit[part]:,} ({parts.count(code) / len(data):.1%} of the file)"
        for code, part in enumerate(PARTS)
    ]
    note = f"single flips that torch.load(weights_only=True) accepts in a state of {len(data) / 1000:,.0f} kB"
    row.notes[note] = f"{accepted.total():,} of {count:,}: {', '.join(shares)}"
    row.broken["plain torch.load"] = row.broken.get("plain torch.load", 0) + accepted.total()


PARTS = ("tensors", "their structure (a pickle)", "padding", "the rest of the archive")


def parts_of(path: Path) -> bytes:
    """Return for each byte of a file of torch.save which of PARTS it belongs to."""
    data = path.read_bytes()
    found = bytearray([3]) * len(data)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
            begin = entry.header_offset + 30 + name
            found[begin : begin + extra] = bytes([2]) * extra
            code = 0 if "/data/" in entry.filename else 1 if entry.filename.endswith(".pkl") else 3
            found[begin + extra : begin + extra + entry.file_size] = bytes([code]) * entry.file_size
    return bytes(found)


def accepts(path: Path) -> bool:
    """Whether plain `torch.load(weights_only=True)` loads a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a flip may hit the pickle's version
            torch.load(path, weights_only=True)
    except Exception:  # torch raises many kinds for a damaged file
        return False
    return True
