"""Going on under another scope, with other values or other data: refused, or allowed and kept on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import paceline
from paceline.api.runs import open_with_recipe
from paceline.checkpoint.tree import equal
from paceline.cli.app import app
from paceline.errors import ConfigError, DataError, InterruptedRunError, RunError
from paceline.report.files import read
from paceline.report.reproduce import amended
from paceline.run.amend import Allowed, amend
from paceline.run.folder import Run, open_run
from paceline.run.lineage import Change, append, read_lineage
from paceline.run.scope import differing, in_words, libraries, scope_of
from paceline.types import Cohort, Plan
from tests.contracts.tiny import USE, result, train

ENGINES = pytest.mark.parametrize("engine", ["eager", "cohort"])
TWO = ["members.seeds=2", "training.processes=1", "training.compile=false"]


def half(runs: Path, *overrides: str, name: str = "run") -> Run:
    """A run that was interrupted after its first epoch, at step 5."""

    def interrupt(record: Any, control: Any) -> None:
        control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        train(runs, *overrides, name=name, callbacks=[interrupt])
    return open_run(runs / name)


def resume(run: Run, *overrides: str, **options: Any) -> Run:
    return paceline.resume(run, list(overrides), use=[USE], **options)


def made_elsewhere(run: Run, **scope: Any) -> None:
    """Say on record that the run was made in another scope."""
    content = run.read_json("environment.json")
    content["scope"] |= scope
    (run.path / "environment.json").write_text(json.dumps(content))


@pytest.mark.fast
def test_the_scope_names_what_chooses_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    plan = Plan(cohorts=(Cohort(id="a", members=("a",)),), device="cpu", threads=3, processes=2)
    scope = scope_of(plan)
    assert scope["torch"] == torch.__version__ and scope["MKL_CBWR"] == "AVX2"
    assert scope["instructions"].split()[0] == torch.backends.cpu.get_cpu_capability()
    assert (scope["device"], scope["threads"], scope["processes"]) == ("cpu", 3, 2)
    assert scope["processor"] and "ATEN_CPU_CAPABILITY" not in scope and "compiler" not in scope
    assert "3 threads, 2 processes" in in_words(scope)


@pytest.mark.fast
def test_a_compiled_step_depends_on_the_compiler_too() -> None:
    plan = Plan(cohorts=(Cohort(id="a", members=("a",), compile=True),), device="cpu", threads=1)
    assert scope_of(plan)["compiler"]


@pytest.mark.fast
def test_the_libraries_are_read_from_what_torch_says_of_its_build() -> None:
    build = (
        "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64\n"
        "  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80af)\n  - Build settings: BLAS_INFO=mkl, COMMIT_SHA=cf30153c4c13ff\n"
    )
    assert libraries(build) == "MKL 2024.2-Product Build 20240605, oneDNN 3.12.0, BLAS mkl, commit cf30153c4c13"
    assert libraries("no such words") == "not known"


@pytest.mark.fast
def test_scopes_differ_in_what_is_set_in_one_of_them_alone() -> None:
    assert differing({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == {"b": [2, 3], "c": [None, 4]}


def test_another_processor_is_refused_and_with_inexact_kept_on_record(tmp_path: Path) -> None:
    run = half(tmp_path)
    made_elsewhere(run, processor="Other CPU 9000", MKL_CBWR="COMPATIBLE")
    before = sorted(path.relative_to(run.path) for path in run.path.rglob("*"))
    with pytest.raises(RunError) as caught:
        resume(run)
    assert "processor: Other CPU 9000 -> " in caught.value.got and "MKL_CBWR: COMPATIBLE -> None" in caught.value.got
    assert "--inexact" in caught.value.hint
    assert sorted(path.relative_to(run.path) for path in run.path.rglob("*")) == before
    done = CliRunner().invoke(app, ["resume", str(run.path), "--use", str(USE), "--inexact"])
    assert done.exit_code == 0 and "inexact" in done.output
    (change,) = read_lineage(run)
    assert change.steps == {"seed42": 5} and set(change.scope) == {"processor", "MKL_CBWR"}
    assert change.scope["processor"][0] == "Other CPU 9000"
    (line,) = [text for _, text in amended(read(run.path))]
    assert line.startswith("from step 5 of seed42: processor Other CPU 9000 → ")
    assert "inexact" in line and "Other CPU 9000" in (run.path / "report.html").read_text()


def test_a_scope_once_accepted_is_the_run_s_own(tmp_path: Path) -> None:
    run = half(tmp_path)
    made_elsewhere(run, torch="1.0")
    append(run, Change(steps={"seed42": 5}, scope={"torch": ["1.0", torch.__version__]}))
    resume(run)
    assert len(read_lineage(run)) == 1


def test_a_run_with_nothing_left_to_train_has_no_scope_to_keep(tmp_path: Path) -> None:
    run = train(tmp_path)
    made_elsewhere(run, torch="1.0")
    resume(run)
    assert read_lineage(run) == []


def test_threads_can_be_changed_inexactly(tmp_path: Path) -> None:
    run = half(tmp_path)
    with pytest.raises(RunError) as caught:
        resume(run, "numerics.threads=2")
    assert caught.value.got == "threads: 1 -> 2"
    resume(run, "numerics.threads=2", inexact=True)
    assert run.read_json("plan.json")["threads"] == 2 and run.config["numerics"]["threads"] == 2


def test_the_number_of_processes_may_change(tmp_path: Path) -> None:
    run, recipe = open_with_recipe(half(tmp_path, *TWO), [USE])
    amend(run, recipe, {"training": {"processes": 2}}, Allowed())
    assert read_lineage(run)[0].scope == {"processes": [1, 2]}
    assert run.read_json("plan.json")["processes"] == 2


@ENGINES
def test_more_epochs_train_on_as_if_they_had_been_asked_for_at_once(tmp_path: Path, engine: str) -> None:
    options = [*TWO, f"training.engine={engine}", "training.early_stopping.patience=3"]
    whole = train(tmp_path, *options, "training.num_epochs=6", name="whole")
    run = train(tmp_path, *options, "training.num_epochs=3")
    assert equal(result(whole), result(run)) != []
    resume(run, "training.num_epochs=6")
    assert equal(result(whole), result(run)) == []
    assert run.config == whole.config
    assert read_lineage(run)[0].config == {"training.num_epochs": [3, 6]}


def test_a_value_changed_twice_is_still_known_as_it_was(tmp_path: Path) -> None:
    run = half(tmp_path)
    made_elsewhere(run)

    def again(record: Any, control: Any) -> None:
        control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        resume(run, "training.num_epochs=5", "training.learning_rate=0.02", callbacks=[again])
    resume(run, "training.learning_rate=0.04")
    assert [change.steps for change in read_lineage(run)] == [{"seed42": 5}, {"seed42": 10}]
    assert run.history()["lr"] == pytest.approx([0.01, 0.02, 0.04, 0.04, 0.04])
    lines = [text for _, text in amended(read(run.path))]
    assert lines == ["from step 5 of seed42: training.num_epochs 3 → 5, training.learning_rate 0.01 → 0.02",
                     "from step 10 of seed42: training.learning_rate 0.02 → 0.04"]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("model.hidden=9", "model.hidden"),
        ("training.batch_size=9", "training.batch_size"),
        ("training.optimizer=sgd", "training.optimizer"),
        ("training.weight_decay=0.5", "training.weight_decay"),
        ("members.seeds=3", "members.seeds"),
        ("data.split.seed=1", "data.split.seed"),
        ("training.selection.metric=val_accuracy", "training.selection.metric"),
        ("training.num_epoch=9", "training.num_epoch"),
        ("model=foreign", "command line"),
    ],
)
def test_what_decides_shapes_samples_or_members_cannot_change(half_of_all: Run, override: str, where: str) -> None:
    before = (half_of_all.path / "config.yaml").read_bytes()
    with pytest.raises(ConfigError) as caught:
        resume(half_of_all, override)
    assert caught.value.where == where
    assert (half_of_all.path / "config.yaml").read_bytes() == before and read_lineage(half_of_all) == []


@pytest.fixture(scope="module")
def half_of_all(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return half(tmp_path_factory.mktemp("half"))


def test_a_value_that_the_members_have_of_their_own_cannot_change(tmp_path: Path) -> None:
    run = half(tmp_path, "members.vary.training.learning_rate=[0.01,0.02]", "training.processes=1")
    with pytest.raises(ConfigError) as caught:
        resume(run, "training.learning_rate=0.5")
    assert caught.value.where == "training.learning_rate"


def test_a_finished_run_says_that_a_value_would_change_nothing(tmp_path: Path) -> None:
    run = train(tmp_path)
    with pytest.raises(ConfigError, match="would change nothing"):
        resume(run, "training.early_stopping.patience=2")
    assert read_lineage(run) == []


def test_members_that_ended_before_their_cohort_are_not_extended(tmp_path: Path) -> None:
    folds = ["members.folds=2", "data.samples=33", "training.batch_size=2", "training.engine=cohort", *TWO[1:]]
    run = train(tmp_path, *folds)
    ends = {row["step"] for row in map(json.loads, (run.path / "log.jsonl").read_text().splitlines())
            if row["split"] == "last"}  # fmt: skip
    assert len(ends) == 2, "the folds should be of different length"
    with pytest.raises(ConfigError) as caught:
        resume(run, "training.num_epochs=4")
    assert caught.value.where == "training.num_epochs" and "fold" in caught.value.got
    assert run.summary["failed"] == []  # still finished


def test_other_data_are_refused_unless_they_are_accepted(tmp_path: Path) -> None:
    """The file at the same path has other numbers."""
    import numpy as np

    rng, path = np.random.default_rng(0), tmp_path / "data.npz"
    x, y = rng.normal(size=(40, 3)), np.arange(40) % 2

    def write(x: Any, y: Any) -> None:
        np.savez(path, X=x[:, None], y=y)

    write(x, y)
    options = ["data=npz", f"data.path={path}", "model=conv_gru", "model.channels=[4]", "model.hidden_size=4",
               "training.num_epochs=3", "numerics.threads=1", "training.compile=false"]  # fmt: skip

    def interrupt(record: Any, control: Any) -> None:
        control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        paceline.train("pain", options, runs=tmp_path, name="run", callbacks=[interrupt])
    run = open_run(tmp_path / "run")
    write(x + 1, y)
    with pytest.raises(DataError, match="--accept-changed-data"):
        paceline.resume(run)
    write(x[:30], y[:30])
    with pytest.raises(DataError, match="not of this data"):
        paceline.resume(run, accept_changed_data=True)
    assert read_lineage(run) == []
    write(x + 1, y)
    before = run.read_json("splits.json")
    paceline.resume(run, accept_changed_data=True)
    (change,) = read_lineage(run)
    now = run.read_json("splits.json")
    assert change.data == [before["fingerprint"], now["fingerprint"]] and change.data[0] != change.data[1]
    assert [s["train"] for s in now["splits"]] == [s["train"] for s in before["splits"]]
    assert "the data" in amended(read(run.path))[0][1]


def test_a_resume_that_was_killed_while_it_wrote_its_changes_is_finished_by_the_next(tmp_path: Path) -> None:
    options = [*TWO, "training.num_epochs=3"]
    whole, run = train(tmp_path, *TWO, "training.num_epochs=6", name="whole"), half(tmp_path, *options)
    append(run, Change(steps={"seed42": 5, "seed43": 0}, config={"training.num_epochs": [3, 6]}))
    resume(run)
    assert run.config == whole.config and equal(result(whole), result(run)) == []


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 1, "changes": [{"steps": {"a": -1}}]}',
                                  '{"schema_version": 1, "changes": [7]}', "{"])  # fmt: skip
def test_a_damaged_lineage_is_an_error_that_names_it(half_of_all: Run, text: str) -> None:
    path = half_of_all.path / "lineage.json"
    path.write_text(text)
    try:
        with pytest.raises(RunError) as caught:
            resume(half_of_all)
        assert "lineage" in str(caught.value)
    finally:
        path.unlink()


def test_an_edited_config_is_still_refused(tmp_path: Path) -> None:
    run = half(tmp_path)
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace("num_epochs: 3", "num_epochs: 4"))
    with pytest.raises(ConfigError) as caught:
        resume(run)
    assert "training.num_epochs: 3 -> 4" in caught.value.got and "KEY=VALUE" in caught.value.hint


def test_a_trainer_refuses_another_scope_too(tmp_path: Path) -> None:
    x, y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 2

    def trainer(*callbacks: Any) -> paceline.Trainer:
        config = {"training.num_epochs": 3, "numerics.threads": 1, "training.compile": False}
        return paceline.Trainer(lambda: torch.nn.Linear(4, 2), config, folder=tmp_path, name="run",
                                callbacks=callbacks)  # fmt: skip

    with pytest.raises(InterruptedRunError):
        trainer(lambda record, control: control.interrupt(130)).fit((x, y), (x + 0.1, y))
    run = open_run(tmp_path / "run")
    made_elsewhere(run, instructions="NEON")
    with pytest.raises(RunError, match="instructions: NEON"):
        trainer().resume(run, (x, y), (x + 0.1, y))
    trainer().resume(run, (x, y), (x + 0.1, y), inexact=True)
    assert read_lineage(run)[0].scope["instructions"][0] == "NEON"
