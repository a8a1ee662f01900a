"""What every tracker owes, run over all there are: values in order, odd names, failures that stay its own."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from paceline.run.folder import Run
from paceline.track.config import TRACKERS, MlflowConfig, TensorBoardConfig, check_tracker
from paceline.track.mlflow_store import Place
from paceline.track.queue import TrackerQueue
from paceline.types import Record, Tracker
from tests.track import served
from tests.track.events import scalars

Points = dict[str, list[tuple[int, float]]]
HOSTILE = ["a/b", "../up", "=1+1", "größe 温度", "x\ny", "\ud800", " ", "<b>", "$x_1$", "%s{0}"]


@dataclass
class Memory:
    """Keeps the points of each member; `broken` makes every call raise."""

    points: dict[str, Points] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    broken: bool = False

    def scalars(self, rows: Sequence[Record]) -> None:
        self._call("scalars")
        for row in rows:
            for name, value in row.values.items():
                if not isinstance(value, list):
                    own = self.points.setdefault(row.member, {})
                    own.setdefault(f"{row.split}_{name}", []).append((row.epoch, value))

    def figure(self, name: str, path: str, step: int) -> None:
        self._call("figure")

    def artefact(self, name: str, path: str) -> None:
        self._call("artefact")

    def close(self, status: str) -> None:
        self._call(f"close {status}")

    def _call(self, name: str) -> None:
        if self.broken:
            raise OSError("the disk is full")
        self.calls.append(name)


@dataclass
class Kind:
    """How a tracker is made, broken, and read back."""

    make: Callable[[Path], Tracker]
    break_: Callable[[Path, Tracker], None]
    read: Callable[[Path, Tracker, str], Points]


def _in_the_way(folder: Path, tracker: Tracker) -> None:
    (folder / "tensorboard").write_text("a file where the folder would be")


def _set_broken(folder: Path, tracker: Memory) -> None:
    tracker.broken = True


def _mlflow(folder: Path) -> Tracker:
    """One store for all tests of this process: making one takes a second. Runs are told apart by their folders."""
    store = folder
    while not (store / "served-mlruns").exists() and store != store.parent:
        store = store.parent
    return MlflowConfig(uri=str(store / "served-mlruns"), every_seconds=0).build(folder)


def _no_place(folder: Path, tracker: object) -> None:
    """The store's folder is a file."""
    (folder / "in_the_way").write_text("")
    tracker._place = Place(uri="sqlite:////dev/null/mlflow.db", folder=folder / "in_the_way" / "store")


def _of_mlflow(folder: Path, tracker: object, member: str) -> Points:
    (parent,) = [run for run in served.parents(served.uri(Run(folder))) if run.info.run_id == tracker._remote.parent]
    return served.points(served.uri(Run(folder)), served.children(served.uri(Run(folder)), parent)[member])


KINDS = {
    "memory": Kind(lambda folder: Memory(), _set_broken, lambda folder, tracker, member: tracker.points[member]),
    "tensorboard": Kind(
        lambda folder: TensorBoardConfig(figure_every_epochs=None).build(folder),
        _in_the_way,
        lambda folder, tracker, member: scalars(folder / "tensorboard" / member),
    ),
    "mlflow": Kind(_mlflow, _no_place, _of_mlflow),
}
APART = {"wandb": "test_wandb.py"}  # what needs a second for every run has a file of its own


@pytest.fixture(params=[
    pytest.param(name, marks=[] if name == "mlflow" else pytest.mark.fast) for name in KINDS
])  # fmt: skip
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "mlflow":
        pytest.importorskip("mlflow")
        (tmp_path.parent / "served-mlruns").mkdir(exist_ok=True)
    return KINDS[request.param]


def written(folder: Path) -> list[Path]:
    """What is in a run folder beside the notes of what was sent."""
    return [path for path in folder.iterdir() if path.name != "tracking"]


def record(epoch: int, member: str = "seed42", split: str = "val", **values: object) -> Record:
    return Record(member=member, step=3 * epoch, epoch=epoch, split=split, values=values or {"loss": 1 / epoch})


def png() -> bytes:
    """A picture of one black pixel."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\0")),
        (b"IEND", b""),
    ]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def same(found: Sequence[tuple[int, float]], expected: Sequence[tuple[int, float]]) -> bool:
    return [step for step, _ in found] == [step for step, _ in expected] and all(
        a == pytest.approx(b, rel=1e-6, nan_ok=True) for (_, a), (_, b) in zip(found, expected, strict=True)
    )


def test_every_built_in_tracker_is_in_this_suite_or_has_one():
    assert set(TRACKERS) <= {*KINDS, *APART}
    assert all(Path(__file__).with_name(name).is_file() for name in APART.values())


def test_it_has_the_methods_of_a_tracker(kind, tmp_path):
    check_tracker(kind.make(tmp_path), where="here")


def test_members_values_arrive_apart_in_order_and_once(kind, tmp_path):
    tracker = kind.make(tmp_path)
    rows = [record(e, member, loss=e + len(member)) for e in (1, 2, 3, 4) for member in ("seed1", "seed42")]
    tracker.scalars(rows[:3])
    tracker.scalars(rows[3:])
    tracker.scalars([])
    tracker.close("finished")
    for member in ("seed1", "seed42"):
        points = kind.read(tmp_path, tracker, member)["val_loss"]
        assert same(points, [(e, e + len(member)) for e in (1, 2, 3, 4)])


def test_trackers_with_the_same_values_agree(tmp_path):
    """C67."""
    pytest.importorskip("mlflow")
    (tmp_path.parent / "served-mlruns").mkdir(exist_ok=True)
    rows = [record(e, split=split, loss=1 / e, f1_macro=e / 7) for e in (1, 2, 3) for split in ("train", "val")]
    found = {}
    for name, kind in KINDS.items():
        (tmp_path / name).mkdir()
        tracker = kind.make(tmp_path / name)
        tracker.scalars(rows)
        tracker.close("finished")
        found[name] = kind.read(tmp_path / name, tracker, "seed42")
    first, *others = found.values()
    for other in others:
        assert first.keys() == other.keys()
        assert all(same(other[tag], first[tag]) for tag in first)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 0, 3, True], ids=str)
def test_a_value_that_is_not_an_ordinary_float_neither_raises_nor_hides_others(kind, tmp_path, value):
    tracker = kind.make(tmp_path)
    tracker.scalars([record(1, loss=value, accuracy=0.5), record(2, loss=0.25, accuracy=0.5)])
    tracker.close("finished")
    found = kind.read(tmp_path, tracker, "seed42")
    assert same(found["val_accuracy"], [(1, 0.5), (2, 0.5)])
    assert found["val_loss"][1] == (2, 0.25)
    first = found["val_loss"][0][1]
    assert math.isnan(first) if math.isnan(value) else first == value or abs(value) > 1e38 or abs(first - value) < 1e-38


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_may_be_anything(kind, tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    tracker = kind.make(folder)
    tracker.scalars([record(1, **{name: 0.5, "loss": 1.0})])
    path = folder / "picture.png"
    path.write_bytes(png())
    tracker.figure(name, str(path), 1)
    tracker.artefact(name, str(path))
    tracker.close("finished")
    found = kind.read(folder, tracker, "seed42")
    assert len(found) == 2
    assert found["val_loss"] == [(1, 1.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing is written elsewhere"


def test_values_that_are_lists_do_no_harm(kind, tmp_path):
    tracker = kind.make(tmp_path)
    lists = {"f1_class": [0.1, None], "confusion": [[1, 0], [0, 1]], "empty": [], "deep": [[[1]]], "ragged": [[1], []]}
    tracker.scalars([record(1, loss=0.5, **lists)])
    tracker.close("finished")
    assert kind.read(tmp_path, tracker, "seed42")["val_loss"] == [(1, 0.5)]


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_it_closes_with_any_status_even_without_a_value(kind, tmp_path, status):
    kind.make(tmp_path).close(status)
    assert written(tmp_path) == []


def test_its_failure_is_one_warning_and_no_other_tracker_s(kind, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="paceline")
    (tmp_path / "broken").mkdir()
    broken, sound = kind.make(tmp_path / "broken"), Memory()
    kind.break_(tmp_path / "broken", broken)
    queue = TrackerQueue({"broken": broken, "sound": sound})
    for epoch in (1, 2, 3):
        queue.put(record(epoch))
    queue.artefact("summary.json", tmp_path / "summary.json")
    queue.close("finished")
    assert len(sound.points["seed42"]["val_loss"]) == 3
    assert sound.calls[-2:] == ["artefact", "close finished"]
    assert caplog.messages[0].startswith("tracker broken failed and is tried again: ")
    assert caplog.messages[1:] == ["tracker broken misses 3 record(s) of this run"]
