"""Where memory runs out: smaller micro-batches of the same effective batch, then the CPU; on record and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import paceline
from paceline.checkpoint.tree import equal
from paceline.errors import InterruptedRunError, TrainingError
from paceline.run import execute
from paceline.run.plan import read_plan
from paceline.train.micro import MicroBatches, out_of_memory
from paceline.types import Cohort
from tests.contracts.tiny import points, result

USE = Path(__file__).with_name("hungry.py")


def run(folder: Path, *overrides: str, name: str = "run", **options: Any) -> Any:
    return paceline.train("hungry", ["training.engine=eager", *overrides], use=[USE], runs=folder, name=name, **options)


def losses(run: Any) -> list[float]:
    history = run.history()
    return [*history["train_loss"], *history["val_loss"]]


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_effective_batch_stays(tmp_path, caplog):
    """X7, C83: 16 samples are tried, then 8, 4 and 2; each is logged and in the plan."""
    small = run(tmp_path, "model.most=3", "training.gradient_clip.value=1.0")
    said = [text for text in caplog.messages if "out of memory" in text]
    assert [text.split("micro-batches of ")[1].split(",")[0] for text in said] == ["8", "4", "2"]
    plan = small.read_json("plan.json")
    assert plan["cohorts"][0]["micro_batches"] == [[0, 8], [0, 4], [0, 2]]
    assert [(c["step"], c["micro_batch"]) for c in plan["changes"]] == [(0, 8), (0, 4), (0, 2)]
    assert plan["changes"][0]["reason"] == "CUDA out of memory. Tried to allocate 3.00 GiB."
    whole = run(tmp_path, "model.most=99", "training.gradient_clip.value=1.0", name="whole")
    assert losses(small) == pytest.approx(losses(whole), abs=1e-9)
    for name, value in whole.best()["model_state_dict"].items():
        torch.testing.assert_close(small.best()["model_state_dict"][name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", [["model.dropout=0.5"], ["model.norm=true"]], ids=["dropout", "batch norm"])
def test_what_an_attempt_left_behind_is_gone(tmp_path, model):
    """X7: a training that knows the size from the start has the same bits, statistics of normalisation too."""
    found = run(tmp_path, "model.most=5", *model)
    known = run(tmp_path, "model.most=99", *model, name="known", plan=found.path / "plan.json")
    assert equal(known.best()["model_state_dict"], found.best()["model_state_dict"]) == []
    assert known.read_json("plan.json") == found.read_json("plan.json")


def test_a_resume_keeps_the_size_and_the_bits(tmp_path):
    """C83: cut off before and after the step in which memory ran out."""
    options = ["model.most=4", "model.dropout=0.3", "model.norm=true"]
    whole = run(tmp_path, *options, name="whole")

    def stop(record: Any, control: Any) -> None:
        if record.epoch == 2:
            control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        run(tmp_path, *options, name="parts", callbacks=[stop])
    again = paceline.resume(tmp_path / "parts", use=[USE])
    assert equal(result(again), result(whole)) == []
    assert len(again.read_json("plan.json")["changes"]) == 2, "it ran out of memory again"


def test_where_not_even_one_sample_fits_training_goes_on_on_the_cpu(tmp_path, monkeypatch, caplog):
    """C83, X7: the device is a stand-in; everything else is real."""
    here = torch.device("cpu")
    monkeypatch.setattr(execute, "resolve_device", lambda name: here)
    plan = tmp_path / "plan.json"
    first = run(tmp_path, "model.most=99", name="first")
    plan.write_text((first.path / "plan.json").read_text().replace('"device": "cpu"', '"device": "cuda:0"'))
    assert read_plan(plan).device == "cuda:0"
    monkeypatch.setenv("HUNGRY_ERRORS_LEFT", "5")  # for 16, 8, 4, 2 and 1 sample
    moved = run(tmp_path, "model.most=0", name="moved", plan=plan)
    (cohort,) = moved.read_json("plan.json")["cohorts"]
    assert (cohort["device"], cohort["micro_batches"]) == ("cpu", [])
    changes = moved.read_json("plan.json")["changes"]
    assert [c.get("micro_batch", c.get("device")) for c in changes] == [8, 4, 2, 1, "cpu"]
    assert "training goes on on cpu" in caplog.text
    assert losses(moved) == losses(first)


def test_on_the_cpu_a_sample_that_does_not_fit_is_an_error_and_not_a_traceback(tmp_path):
    with pytest.raises(TrainingError, match="not enough memory for a single sample") as info:
        run(tmp_path, "model.most=0")
    assert info.value.exit_code == 1


def test_a_cohort_that_does_not_fit_says_what_to_do(tmp_path):
    """X7: its step may be half made, so that it ends; the last checkpoint is there."""
    with pytest.raises(TrainingError, match=r"training\.memory_gb=<less>") as info:
        run(tmp_path, "training.engine=cohort", "training.compile=false", "members.seeds=2")
    assert "2 members together" in info.value.where


def test_an_evaluation_that_does_not_fit_names_the_key_of_its_batches(tmp_path):
    with pytest.raises(TrainingError, match="an evaluation on val") as info:
        run(tmp_path, "model.most=99", "model.looked=5")
    assert "training.evaluate.batch_size" in info.value.hint
    run(tmp_path, "model.most=99", "model.looked=5", "training.evaluate.batch_size=5", "training.num_epochs=1",
        name="small")  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: ..."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error, full):
    assert (out_of_memory(error) is not None) == full


@pytest.mark.fast
def test_pieces_are_views_and_sizes_hold_from_their_step_on():
    batch = points(10)
    micro = MicroBatches([(5, 8), (7, 3)])
    assert [len(p["y"]) for p in micro.pieces([batch], 4)] == [10]
    assert [len(p["y"]) for p in micro.pieces([batch], 6)] == [8, 2]
    pieces = micro.pieces([batch, batch], 7)
    assert [len(p["y"]) for p in pieces] == [3, 3, 3, 1] * 2
    assert pieces[0]["x"].data_ptr() == batch["x"].data_ptr()
    assert Cohort(id="a", members=("a",)).micro_batches == ()
