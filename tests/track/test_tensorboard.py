"""TensorBoard's files of real runs, read back by TensorBoard: tags, points, pictures, resume, what is missing."""

from __future__ import annotations

import io
import json
import logging
import math
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import paceline
from paceline.api.runs import resume
from paceline.checkpoint.tree import equal
from paceline.errors import ConfigError
from paceline.run.folder import Run
from paceline.track import event_file
from paceline.track.config import TensorBoardConfig
from paceline.track.names import Names
from paceline.types import Record
from tests.contracts.tiny import USE, result, train
from tests.e2e.forked import forked
from tests.track.events import differences, pictures, scalars

ON = "tracking=tensorboard"
GROUP = {
    "train_loss": "Loss/train",
    "val_loss": "Loss/val",
    "val_f1_macro": "F1/macro",
    "val_f1_macro_smoothed": "F1/macro_ema",
    "lr": "LR",
}


def folder(run: Run, member: str = "seed42") -> Path:
    return run.path / "tensorboard" / member


def event_files(run: Run) -> list[Path]:
    return [path for path in (run.path / "tensorboard").rglob("*tfevents*") if path.stat().st_size]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds of blobs, with a test part."""
    return train(tmp_path_factory.mktemp("runs"), ON, "members.seeds=2", "data.split.test_fraction=0.2")


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="paceline")
    return lambda: caplog.messages


def test_each_member_has_its_own_folder_with_the_values_of_its_history(run):
    for member in ("seed42", "seed43"):
        assert differences(run, member) == []
    assert sorted(path.parent.name for path in event_files(run)) == ["seed42", "seed43"]
    one, other = (scalars(folder(run, member)) for member in ("seed42", "seed43"))
    assert one.keys() == other.keys()
    assert one["train_loss"] != other["train_loss"]


def test_the_selected_state_is_one_point_of_validation_and_of_test(run):
    found, best = scalars(folder(run)), run.best("seed42")
    assert found["best_loss"] == [(3, pytest.approx(best["metrics"]["val_loss"], rel=1e-6))]
    assert found["test_f1_macro"] == [(3, pytest.approx(run.summary["members"][0]["metrics"]["test_f1_macro"]))]
    assert not [tag for tag in found if tag.startswith("last_")]


def test_classes_have_their_names_and_averages_are_none_of_them(run):
    """A77."""
    tags = {tag for tag in scalars(folder(run)) if tag.startswith("val_f1_class/")}
    assert tags == {"val_f1_class/a", "val_f1_class/b", "val_f1_class/c"}
    points = scalars(folder(run))
    means = np.mean([[value for _, value in points[tag]] for tag in sorted(tags)], axis=0)
    assert means == pytest.approx(run.history("seed42")["val_f1_macro"], rel=1e-6)


def test_every_epoch_has_its_confusion_matrix(run):
    """A78."""
    found = pictures(folder(run))
    assert [epoch for epoch, _ in found["val_confusion"]] == [1, 2, 3]
    assert {tag: len(points) for tag, points in found.items()} == {
        "val_confusion": 3, "best_confusion": 1, "test_confusion": 1
    }  # fmt: skip
    sizes = {Image.open(io.BytesIO(png)).size for points in found.values() for _, png in points}
    assert len(sizes) == 1


def test_the_group_of_the_recipe_gets_its_own_tags(tmp_path):
    """A76."""
    run = paceline.train("pain", ["tracking=tensorboard_pain", "training.num_epochs=2", "training.batch_size=64",
        "model=gru", "model.hidden_size=4", "model.num_layers=1", "numerics.threads=1", "data.split.open_test=false",
        ], runs=tmp_path, name="pain")  # fmt: skip
    assert differences(run, "seed42", GROUP) == []
    tags = set(scalars(folder(run)))
    assert {*GROUP.values(), *(f"F1_class/{name}" for name in run.best()["classes"])} <= tags
    assert not tags & {*GROUP, "val_f1_class/1"}
    assert [epoch for epoch, _ in pictures(folder(run))["ConfusionMatrix"]] == [1, 2]


@pytest.mark.parametrize("off", [[], ["tracking.tensorboard.enabled=false"]], ids=["not named", "disabled"])
def test_without_it_there_is_no_event_file_and_nothing_is_imported(tmp_path, monkeypatch, off):
    """A28, A80."""
    for name in ("tensorboard", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    run = train(tmp_path, *off)
    assert not (run.path / "tensorboard").exists()
    assert not list(run.path.rglob("*tfevents*"))


def test_it_changes_no_bit_of_the_training(run, tmp_path):
    quiet = train(tmp_path, "members.seeds=2", "data.split.test_fraction=0.2")
    assert equal(result(run), result(quiet)) == []


def test_the_epoch_at_which_a_member_stops_is_there_too(tmp_path):
    """A73."""
    run = train(tmp_path, ON, "training.num_epochs=20", "training.learning_rate=1e-9",
                "training.selection.metric=val_accuracy", "training.early_stopping.patience=2")  # fmt: skip
    assert run.summary["members"][0]["status"] == "stopped"
    assert [epoch for epoch, _ in scalars(folder(run))["val_loss"]] == [1, 2, 3]
    assert differences(run, "seed42") == []


def test_without_matplotlib_there_are_scalars_and_one_warning(tmp_path, monkeypatch, warnings):
    """A79."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = train(tmp_path, ON, "members.seeds=2")
    assert run.summary["status"] == "finished"
    assert differences(run, "seed42") == differences(run, "seed43") == []
    assert pictures(folder(run)) == {}
    (warning,) = warnings()
    assert warning.startswith("TensorBoard gets no confusion matrices: ModuleNotFoundError: ")


def test_without_the_package_there_is_one_error_before_anything_is_written(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="tensorboard is not installed") as caught:
        train(tmp_path, ON)
    assert (caught.value.where, caught.value.hint) == ("tracking.tensorboard", "pip install tensorboard")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_shown_as_such(tmp_path):
    run = paceline.train("blobs", [ON, "training.learning_rate=1e30", "training.optimizer=sgd"], use=[USE],
                         runs=tmp_path, name="failed")  # fmt: skip
    assert run.summary["failed"] == ["seed42"]
    assert math.isnan(scalars(folder(run))["train_loss"][-1][1])
    assert differences(run, "seed42") == []


def test_points_may_be_plotted_over_steps_and_pictures_be_fewer(tmp_path):
    run = train(tmp_path, ON, "tracking.tensorboard.axis=step", "tracking.tensorboard.figure_every_epochs=2")
    steps = run.history()["step"]
    assert [step for step, _ in scalars(folder(run))["val_loss"]] == steps
    assert [step for step, _ in pictures(folder(run))["val_confusion"]] == [steps[1]]
    none = train(tmp_path, ON, "tracking.tensorboard.figure_every_epochs=null", name="none")
    assert pictures(folder(none)) == {}


def test_a_tag_may_be_changed_or_left_out_and_one_without_a_value_is_a_warning(tmp_path, warnings):
    tags = ["val_loss: Loss/val", "lr: null", "val_confusion: null", "val_f1_micro: F1/micro"]
    run = train(tmp_path, ON, f"tracking.tensorboard.tags={{{', '.join(tags)}}}")
    found = scalars(folder(run))
    assert "Loss/val" in found
    assert not {"val_loss", "lr"} & set(found)
    assert "val_confusion" not in pictures(folder(run))
    (warning,) = warnings()
    assert "val_f1_micro (try val_f1_macro)" in warning


def test_a_resume_neither_doubles_nor_loses_a_point(tmp_path):
    """Each member is killed once, in its last epoch; the first one's event files are left worse than they were."""
    options = [ON, "members.seeds=2", "model=signalling", f"model.number={int(signal.SIGKILL)}", "model.at=13",
               "training.num_epochs=3", "training.save.every_steps=5", "training.processes=1"]  # fmt: skip
    killed = Run(tmp_path / "run")
    assert forked(lambda: train(tmp_path, *options)) is None  # each member would make 15 steps
    assert killed.is_run()
    whole = train(tmp_path, *[o for o in options if not o.startswith("model.")], "model=signalling", name="whole")
    # What a kill can leave: a last record cut short, records beyond the checkpoint, a second file.
    content = max(folder(whole).glob("*tfevents*")).read_bytes()
    own = folder(killed)
    own.mkdir(parents=True, exist_ok=True)
    for path in own.glob("*tfevents*"):
        path.unlink()
    (own / "events.out.tfevents.0000000007.elsewhere").write_bytes(content[: len(content) // 2])
    (own / "events.out.tfevents.0000000008.elsewhere").write_bytes(content[: len(content) // 3])
    assert forked(lambda: resume(killed, use=[USE])) is None  # in the second member
    run = resume(killed, use=[USE])
    assert [differences(run, member) for member in run.members] == [[], []]
    for member in run.members:
        ours, theirs = scalars(folder(run, member)), scalars(folder(whole, member))
        assert ours == theirs
        ours, theirs = pictures(folder(run, member)), pictures(folder(whole, member))
        assert ours == theirs
    assert len(event_files(run)) == 2


@pytest.mark.parametrize("harm", ["cut short", "a point twice", "gone"])
def test_a_finished_run_that_is_resumed_is_brought_up_to_its_journal_and_else_left_alone(tmp_path, harm):
    run = train(tmp_path, ON, "members.seeds=2")
    first, second = sorted(event_files(run))
    before = first.read_bytes()
    if harm == "cut short":
        second.write_bytes(second.read_bytes()[:900])
    elif harm == "a point twice":
        event_file.append(second, [body for _, body in event_file.read(second)][4:5])
    else:
        second.unlink()
    assert (differences(run, "seed43") if second.exists() else harm) != []
    resume(run, use=[USE])
    assert differences(run, "seed42") == differences(run, "seed43") == []
    assert first.read_bytes() == before
    assert len(event_files(run)) == 2


def test_records_that_the_queue_dropped_are_there_in_the_end(tmp_path, monkeypatch, warnings):
    monkeypatch.setattr("paceline.track.queue.CAPACITY", 0)
    run = train(tmp_path, ON)
    assert warnings() == []  # the journal has them
    assert differences(run, "seed42") == []


@pytest.mark.slow
def test_workers_send_their_records_home(tmp_path):
    run = train(tmp_path, ON, "members.seeds=2", "training.processes=2")
    assert run.read_json("plan.json")["processes"] == 2
    assert differences(run, "seed42") == differences(run, "seed43") == []
    assert [len(pictures(folder(run, member))["val_confusion"]) for member in run.members] == [3, 3]
    assert len(event_files(run)) == 2


def test_a_worker_that_is_started_again_leaves_no_point_twice(run, tmp_path):
    """Its records come again from the checkpoint on, while the journal has been cut back."""
    for name in ("plan.json", "splits.json"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    (tmp_path / "logs").mkdir()
    journal = tmp_path / "logs" / "seed42.jsonl"
    lines = (run.path / "logs" / "seed42.jsonl").read_text().splitlines(keepends=True)
    tracker = TensorBoardConfig().build(tmp_path)

    def send(first: int, last: int) -> None:
        for at in range(first, last):
            journal.write_text("".join(lines[: at + 1]))
            tracker.scalars(rows[at : at + 1])

    rows = [Record(**json.loads(line)) for line in lines]
    send(0, 5)
    send(2, len(rows))
    tracker.close("finished")
    assert scalars(tmp_path / "tensorboard" / "seed42") == scalars(folder(run))


def test_variants_are_folders_and_no_name_leads_out_of_the_run(tmp_path):
    run = train(tmp_path, ON, "members.vary={model: [net, foreign]}")
    assert sorted(path.parent.name for path in event_files(run)) == ["foreign-seed42", "net-seed42"]
    tracker = TensorBoardConfig().build(tmp_path / "other")
    for member in ("../../up", "..", "a/b", "größe"):
        tracker.scalars([Record(member=member, step=1, epoch=1, split="val", values={"loss": 1.0})])
    found = {path.parent.relative_to(tmp_path).as_posix() for path in (tmp_path / "other").rglob("*tfevents*")}
    assert found == {f"other/tensorboard/{name}" for name in (".._.._up", "_", "a_b", "größe")}


@pytest.mark.fast
def test_the_points_of_a_record_by_hand():
    names = Names(tags={"val_f1_class": "F1_class", "val_loss": None}, classes=("low", "high/very"))
    values = {"loss": 1.0, "accuracy": 0.5, "f1_class": [0.25, None], "confusion": [[1, 0], [2, 3]], "odd": [1.0]}
    record = Record(member="m", step=4, epoch=2, split="val", values=values)
    found = names.points(record)
    assert [tag for tag, _ in found] == ["val_accuracy", "F1_class/low", "F1_class/high/very", "val_confusion",
                                         "val_odd/0"]  # fmt: skip
    assert dict(found)["F1_class/low"] == 0.25
    assert math.isnan(dict(found)["F1_class/high/very"])
    assert "val_confusion" not in dict(names.points(record, figures=False))
    train = Record(member="m", step=4, epoch=2, split="train", values={"loss": 1.0, "lr": 0.1})
    assert names.points(train) == [("train_loss", 1.0), ("lr", 0.1)]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("tags", "message"),
    [({"a": "X", "b": "X"}, "two values have the tag 'X'"), ({"a": " "}, "a tag is empty"), ({"a": 3}, "valid string")],
)
def test_tags_that_cannot_be_meant_are_refused(tags, message):
    with pytest.raises(ConfigError, match=message) as caught:
        paceline.api.runs.configure("pain", {"tracking": {"tensorboard": {"tags": tags}}})
    assert caught.value.where.startswith("tracking.tensorboard.tags")
