"""`training.init_from`: weights to begin with, from a run, a file of ours or another's; what does not fit is named."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import paceline
from paceline.api.checkpoints import publish
from paceline.checkpoint.safetensors import read_safetensors, write_safetensors
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointCorruptError, CheckpointError, CheckpointMismatchError, PacelineError, RunError
from paceline.run.use import file_sha256
from tests.contracts.tiny import USE, result, train

STILL = ["training.learning_rate=1e-30", "training.weight_decay=0", "training.num_epochs=1"]


@pytest.fixture(scope="module")
def before(tmp_path_factory: Any) -> Any:
    """A run of two members, to begin from."""
    return train(tmp_path_factory.mktemp("before"), "members.seeds=2", name="before")


def weights(run: Any, member: str | None = None) -> dict[str, Any]:
    return run.best(member)["model_state_dict"]


@pytest.mark.parametrize("engine", ["eager", "cohort"])
@pytest.mark.parametrize("source", ["run", "best.pt", "state dict", "safetensors"])
def test_a_training_begins_with_the_weights_that_it_is_given(before, tmp_path, engine, source):
    """C78: shown by a learning rate that moves nothing."""
    best = before.member_folder("seed42") / "best.pt"
    path = {"run": before.path, "best.pt": best}.get(source, tmp_path / source)
    if source == "state dict":
        net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Identity(), nn.Linear(5, 3))
        net.load_state_dict(weights(before, "seed42"))
        torch.save(net.state_dict(), path)  # as anyone's script would
    elif source == "safetensors":
        (folder, _) = publish(before, tmp_path / "published")
        path = folder / "model.safetensors"
    run = train(tmp_path, *STILL, f"training.init_from={path}", f"training.engine={engine}", "training.compile=false",
                "members.seeds=2", "training.processes=1")  # fmt: skip
    assert equal(weights(run, "seed42"), weights(before, "seed42")) == []
    theirs = weights(before, "seed43" if source == "run" else "seed42")  # of a run, each member its own
    assert equal(weights(run, "seed43"), theirs) == []
    entry = run.read_json("environment.json")["init_from"]["seed42"]
    file = best if source == "run" else path
    assert (entry["file"], entry["sha256"]) == (str(file), file_sha256(file))


def test_a_resume_does_not_need_the_file(before, tmp_path):
    """C78: neither where the training was cut off before its first checkpoint, nor later; and to the same bits."""
    path = tmp_path / "gone.pt"
    shutil.copy(before.member_folder("seed42") / "best.pt", path)
    whole = train(tmp_path, f"training.init_from={path}", name="whole")
    for at in (0, 2):
        run = tmp_path / f"parts{at}"
        with pytest.raises(paceline.errors.InterruptedRunError):
            train(tmp_path, f"training.init_from={path}", name=run.name, callbacks=[stop_at(2)])
        if at == 0:
            shutil.rmtree(run / "checkpoints" / "seed42")
        kept = path.rename(tmp_path / "elsewhere.pt")
        assert equal(result(paceline.resume(run, use=[USE])), result(whole)) == []
        kept.rename(path)


def stop_at(epoch: int) -> Any:
    def stop(record: Any, control: Any) -> None:
        if record.epoch == epoch:
            control.interrupt(130)

    return stop


def test_variants_may_begin_with_and_without_in_one_cohort(before, tmp_path):
    best = before.member_folder("seed42") / "best.pt"
    grid = f"members.vary={{training.init_from: [null, {best}]}}"
    run = train(tmp_path, grid, *STILL, "training.engine=cohort", "training.compile=false", "training.processes=1")
    assert len(run.read_json("plan.json")["cohorts"]) == 1
    same = [equal(weights(run, member), weights(before, "seed42")) == [] for member in run.members]
    assert sorted(same) == [False, True]
    assert list(run.read_json("environment.json")["init_from"]) == [run.members[same.index(True)]]


def test_weights_of_another_shape_are_refused_by_name_and_nothing_is_written(before, tmp_path):
    """C78."""
    best = before.member_folder("seed42") / "best.pt"
    with pytest.raises(CheckpointMismatchError) as info:
        train(tmp_path, f"training.init_from={best}", "model.hidden=7")
    assert info.value.what == "the weights do not fit model=net"
    assert info.value.changed[0] == "0.weight: (5, 6), not (7, 6)"
    assert info.value.hint == "model.hidden=5, as in the file"
    assert "init_from" in info.value.where and len(str(info.value).splitlines()) <= 4
    with pytest.raises(CheckpointMismatchError, match=r"missing: 1\.weight, 1\.bias and"):
        train(tmp_path, f"training.init_from={best}", "model=foreign")
    assert not (tmp_path / "run").exists()


class Trap:
    """Would run code where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("trapped"),))


def test_files_that_hold_no_weights_are_refused_and_run_no_code(before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"model_state_dict": Trap()}))
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    torch.save({"model_state_dict": Trap()}, tmp_path / "zip.pt")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 30)
    (tmp_path / "folder").mkdir()
    bad = {name: value.clone() for name, value in weights(before).items()}
    bad["0.bias"][0] = np.nan
    torch.save(bad, tmp_path / "nan.pt")
    for name, words in {
        "trap.pt": "damaged", "zip.pt": "damaged", "numbers.pt": "holds no weights", "a.safetensors": "safetensors",
        "nothing.pt": "cannot be read", "folder": "not a run", "nan.pt": "not finite",
    }.items():  # fmt: skip
        with pytest.raises(PacelineError, match=words):
            train(tmp_path, f"training.init_from={tmp_path / name}")
    assert not (tmp_path / "trapped").exists() and not (tmp_path / "run").exists()


def test_a_run_of_other_members_says_which_file_to_take(before, tmp_path):
    with pytest.raises(RunError, match=r"members/seed42/best\.pt") as info:
        train(tmp_path, f"training.init_from={before.path}", "members.seeds=[7]")
    assert info.value.got == "seed7"
    run = train(tmp_path, name="cut", callbacks=[])
    (run.member_folder("seed42") / "best.pt").unlink()
    with pytest.raises(RunError, match="no weights yet"):
        train(tmp_path, f"training.init_from={run.path}", name="next")


def test_a_trainer_begins_with_given_weights_too(before, tmp_path):
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Identity(), nn.Linear(5, 3))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 6)), np.arange(30) % 3
    options = {"training.learning_rate": 1e-30, "training.weight_decay": 0.0, "training.num_epochs": 1,
               "training.init_from": str(before.member_folder("seed43") / "best.pt")}  # fmt: skip
    run = paceline.Trainer(net, options, folder=tmp_path).fit((x, y), (x[:9], y[:9]))
    assert equal(weights(run), weights(before, "seed43")) == []
    assert equal(dict(net.state_dict()), weights(before, "seed43")) == []


@pytest.mark.fast
def test_safetensors_are_read_as_they_were_written(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True), "c": torch.empty(0, 4),
               "d": torch.tensor([1.5], dtype=torch.bfloat16)}  # fmt: skip
    write_safetensors(tmp_path / "a", tensors, {"format": "pt"})
    assert equal(read_safetensors(tmp_path / "a"), tensors) == []


@pytest.mark.fast
@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}},
        {"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 1 << 66]}},
        {"a": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}},
        {"a": 1},
        [],
    ],
    ids=str,
)
def test_safetensors_of_another_form_are_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(CheckpointCorruptError, match="safetensors format"):
        read_safetensors(tmp_path / "a")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_safetensors(tmp_path / "missing")
