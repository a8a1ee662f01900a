"""`paceline checkpoint`, and what the other commands say of damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointCorruptError
from paceline.run.folder import open_run
from tests.contracts.tiny import USE, result, train

TRAINED = ["members.seeds=2", "training.num_epochs=3", "training.save.every_epochs=1", "training.save.keep_last=9"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), *TRAINED, "training.engine=eager").path


@pytest.fixture
def run(trained: Path, workdir: Path) -> Path:
    """A run of two members in cohorts of their own, each with three checkpoints."""
    shutil.copytree(trained, workdir / "runs" / "run")
    return Path("runs/run")


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def steps(run: Path, cohort: str) -> list[int]:
    return Store(run / "checkpoints" / cohort).steps()


def test_verify_reads_everything_and_its_exit_code_says_whether_something_is_damaged(cli, run):
    done = cli("checkpoint", "verify", run)
    assert (done.code, done.err) == (0, "")
    assert done.out == "6 checkpoints and 4 files of weights read, 0 damaged\n"

    last = steps(run, "seed43")[-1]
    damage(run / f"checkpoints/seed43/step-{last}/state.pt")
    damage(run / "members/seed42/latest.pt")
    done = cli("checkpoint", "verify", run)
    assert done.code == 1
    lines = done.out.splitlines()
    assert f"checkpoints/seed43/step-{last}" in lines[0] and "SHA-256" in lines[0]
    assert "members/seed42/latest.pt" in lines[1] and lines[2].endswith("2 damaged")


def test_list_shows_each_step_and_what_is_wrong_with_it(cli, run):
    first, middle, last = steps(run, "seed42")
    damage(run / f"checkpoints/seed42/step-{last}/state.pt")
    damage(run / f"checkpoints/seed42/step-{middle}/manifest.json")
    Store(run / "checkpoints/seed42").recover()
    damage(run / f"checkpoints/seed42/step-{first}/state.pt")
    done = cli("checkpoint", "list", run)
    assert done.code == 0
    header, *rows = done.out.splitlines()
    assert header.split() == ["cohort", "step", "bytes", "written", "ok"]
    text = " ".join(rows)
    assert text.count("set aside by a resume") == 2 and text.count("yes") == 3
    size = sum(file.stat().st_size for file in (run / f"checkpoints/seed42/step-{first}").iterdir())
    assert rows[0].split()[:3] == ["seed42", str(first), f"{size:,}"] and "state.pt is not" in rows[0]


def test_a_damaged_step_is_set_aside_on_resume_and_the_run_ends_at_the_same_bits(cli, run):
    whole = result(open_run(run))
    first, middle, last = steps(run, "seed42")
    damage(run / f"checkpoints/seed42/step-{last}/state.pt")
    (run / "logs/seed42.done").unlink()
    done = cli("resume", run, "--use", USE)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert f"step {last} is damaged (state.pt is not what its manifest says (SHA-256))" in said
    assert f"going on from step {middle}, {last - middle} steps are trained again" in said
    assert equal(result(open_run(run)), whole) == []
    assert steps(run, "seed42") == [first, middle, last]
    assert (run / f"checkpoints/seed42/step-{last}.damaged/state.pt").is_file()
    assert cli("checkpoint", "verify", run).code == 0  # what was put aside does not count


def test_prune_keeps_the_last_ones_and_never_the_last_good_one_goes(cli, run):
    damage(run / f"checkpoints/seed42/step-{steps(run, 'seed42')[-1]}/state.pt")
    before = steps(run, "seed42")
    done = cli("checkpoint", "prune", run, "--keep-last", 1)
    assert done.code == 0 and "3 checkpoints removed" in done.out
    assert steps(run, "seed42") == before[1:] and steps(run, "seed43") == before[-1:]
    assert cli("checkpoint", "prune", run, "--keep-last", 1).out == "0 checkpoints removed\n"
    done = cli("checkpoint", "prune", run, "--keep-last", 0)
    assert done.code == 2 and "the last good checkpoint stays" in done.err
    assert steps(run, "seed42") == before[1:]


def test_publish_writes_the_best_weights_and_what_is_needed_to_use_them(cli, run):
    done = cli("checkpoint", "publish", run)
    assert done.code == 0 and "runs/run/published/seed42" in done.out
    for member in ("seed42", "seed43"):
        best, folder = open_run(run).best(member), run / "published" / member
        data = (folder / "model.safetensors").read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        assert header.pop("__metadata__") == {"format": "pt", "run": "run", "member": member}
        for name, weight in best["model_state_dict"].items():
            start, end = header[name]["data_offsets"]
            read = torch.frombuffer(bytearray(data[8 + size :][start:end]), dtype=weight.dtype)
            assert torch.equal(read.reshape(weight.shape), weight)
        beside = json.loads((folder / "model.json").read_text())
        assert beside["classes"] == ["a", "b", "c"] and beside["config"] == best["config"]
        assert beside["epoch"] == best["epoch"] and beside["scaler"] is not None
    assert cli("checkpoint", "publish", run, "-o", "elsewhere").code == 0
    assert sorted(path.name for path in Path("elsewhere/seed42").iterdir()) == ["model.json", "model.safetensors"]


def test_damaged_weights_are_one_clear_error_and_can_be_derived_again(cli, run):
    before = open_run(run).best("seed43")
    damage(run / "members/seed43/best.pt")
    done = cli("checkpoint", "publish", run)
    assert done.code == 2 and len(done.err.splitlines()) == 4
    assert "the file is damaged" in done.err and "members/seed43/best.pt" in done.err
    assert "delete runs/run/logs/seed43.done; paceline resume runs/run" in done.err
    (run / "logs/seed43.done").unlink()
    assert cli("resume", run, "--use", USE).code == 0
    assert equal(open_run(run).best("seed43"), before) == []


@pytest.mark.parametrize("other", ["members/seed42/best.pt", "members/seed43/latest.pt"])
def test_a_whole_file_in_the_wrong_place_is_found(run, other):
    shutil.copy(run / other, run / "members/seed43/best.pt")
    with pytest.raises(CheckpointCorruptError, match="not what its name says"):
        open_run(run).best("seed43")


@pytest.mark.parametrize("command", ["verify", "list", "publish"])
def test_what_is_no_run_is_said(cli, command):
    done = cli("checkpoint", command, "nowhere")
    assert done.code == 2 and "there is no such run" in done.err
