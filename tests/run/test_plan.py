"""Plans: engines, processes, memory, compilation that fails, and plans by a stopwatch."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from paceline.api.runs import configure, train
from paceline.checkpoint.tree import equal
from paceline.cli.app import app
from paceline.errors import PacelineError
from paceline.run.build import build
from paceline.run.folder import Run
from paceline.run.memory import need
from paceline.run.plan import make_plan
from paceline.train.learner import seeded_model
from paceline.types import Plan

RECIPE = Path(__file__).parents[1] / "train" / "double_recipe.py"
MLP = Path(__file__).parents[2] / "benchmarks" / "arms" / "mlp_recipe.py"
CPU = torch.device("cpu")


def planned(*overrides: str) -> Plan:
    config, recipe = configure(overrides=["task=double", "data=rows", "model=mlp", *overrides], use=[RECIPE])
    return build(config, recipe).plan


def test_members_that_do_not_fit_the_memory_become_cohorts_that_do() -> None:
    config, recipe = configure(overrides=["task=double", "data=rows", "model=mlp", "members.seeds=7"], use=[RECIPE])
    jobs = build(config, recipe).jobs
    needed = need(jobs, seeded_model(jobs[0].build_model, jobs[0].member))
    room = (needed.process + 2.5 * needed.member) / 1e9
    plan = planned("members.seeds=7", "training.engine=cohort", "training.processes=1", f"training.memory_gb={room}")
    assert [len(cohort.members) for cohort in plan.cohorts] == [2, 2, 1, 2]
    assert [m for cohort in plan.cohorts for m in cohort.members] == [job.member.id for job in jobs]
    whole = planned("members.seeds=7", "training.engine=cohort", "training.processes=1")
    assert [len(cohort.members) for cohort in whole.cohorts] == [7]


MEASURE = """
import sys

import torch
import torch._dynamo  # it is counted per process
from paceline.api.runs import configure
from paceline.run.assemble import assemble
from paceline.run.build import build
from paceline.run.memory import need
from paceline.train.learner import seeded_model
from paceline.types import Cohort


def peak():  # getrusage would answer with the parent's peak, which a child inherits
    status = open("/proc/self/status").read()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


torch.set_num_threads(1)
config, recipe = configure(overrides=[*sys.argv[2:], "training.num_epochs=1"], use=[sys.argv[1]])
jobs = build(config, recipe).jobs
needed = need(jobs, seeded_model(jobs[0].build_model, jobs[0].member))
before = peak()
made = assemble(Cohort(id="c", members=tuple(j.member.id for j in jobs), engine="cohort"), jobs, torch.device("cpu"),
                lambda: None)
for step in range(2):
    made.engine.step(made.feed.group(step), [1e-3] * len(jobs), step)
for k in range(len(jobs)):
    made.engine.keep(k)
for part in made.engine.parts:
    made.engine.evaluate(part, range(len(jobs)))
print(peak() - before, len(jobs) * needed.member)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["task=mlp", "members.seeds=8", "model.widths=[1000,1000]", "training.batch_size=256"],
        ["task=pain", "model=gru", "members.seeds=8", "model.hidden_size=192", "training.batch_size=256"],
        ["task=pain", "model=conv_gru", "members.seeds=8", "training.batch_size=128"],
    ],
    ids=["mlp", "gru", "conv_gru"],
)
def test_the_estimate_of_memory_is_above_what_a_cohort_takes_and_not_far_above(overrides: list[str]) -> None:
    command = [sys.executable, "-c", MEASURE, str(MLP), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, estimated = map(float, done.stdout.split())
    assert taken > 100e6, "too small to tell from noise"
    assert taken < estimated < 6 * taken


@pytest.mark.fast
def test_members_whose_training_is_long_train_one_after_another_in_as_many_processes_as_asked() -> None:
    plan = planned("members.seeds=4", "training.engine=eager", "training.processes=2")
    assert [(c.engine, len(c.members)) for c in plan.cohorts] == [("eager", 1)] * 4
    assert plan.processes == 2
    alone = planned("members.seeds=4", "training.engine=eager", "training.num_epochs=1")
    assert alone.processes == 1, "starting a process costs more than these trainings"


@pytest.mark.slow
def test_eager_members_in_workers_have_the_bits_of_those_in_one_process(tmp_path: Path) -> None:
    words = ["task=double", "data=rows", "model=mlp", "members.seeds=2", "training.engine=eager",
             "training.num_epochs=2", "training.processes=2", "numerics.threads=1"]  # fmt: skip
    apart = train(overrides=words, use=[RECIPE], runs=tmp_path, name="apart")
    here = train(overrides=words, use=[RECIPE], runs=tmp_path, name="here", callbacks=[lambda record, control: None])
    assert apart.read_json("plan.json")["processes"] == 2
    assert (apart.path / "log.jsonl").read_bytes() == (here.path / "log.jsonl").read_bytes()
    assert all(equal(apart.best(m), here.best(m)) == [] for m in apart.members)


def test_a_model_of_the_package_is_planned_without_a_trial_step() -> None:
    """The trial imports the compiler, a second that every start would pay."""
    script = (
        "import sys; from paceline.api.runs import configure; from paceline.run.build import build;"
        "c, r = configure('pain', ['members.seeds=3', 'training.engine=cohort']);"
        "assert build(c, r).plan.cohorts[0].engine == 'cohort'; print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


BROKEN = """
import torch
from torch import nn

import paceline


class Net(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x):
        torch._dynamo.graph_break()  # nothing to vmap, and what a single graph cannot hold
        return self.layer(x)


class Config(paceline.ModelConfig):
    def build(self, spec):
        return Net(spec.n_features, spec.n_classes)


class Data(paceline.DataConfig):
    def load(self):
        x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0)).numpy()
        return paceline.dataset(x=x, y=(x[:, 0] > 0).astype(int))


recipe = paceline.Recipe(name="broken", data={"d": Data}, models={"m": Config})
"""
COMPILED = ["task=broken", "members.seeds=4", "training.engine=cohort", "training.compile=true",
            "training.num_epochs=3", "training.gradient_clip.value=1"]  # fmt: skip


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN, encoding="utf-8")
    return path


def test_a_step_that_cannot_be_compiled_is_one_line_and_a_change_of_the_plan(
    broken: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="paceline"):
        run = train(overrides=[*COMPILED, "training.processes=1"], use=[broken], runs=tmp_path, name="run")
    (line,) = [r.getMessage() for r in caplog.records if "cannot be compiled" in r.getMessage()]
    assert line.startswith("seed42-to-seed45: the step cannot be compiled and runs as it is: ")
    assert "\n" not in line
    plan = run.read_json("plan.json")
    assert plan["cohorts"][0]["compile"] is False
    (change,) = plan["changes"]
    assert (change["cohort"], change["step"], change["compile"]) == ("seed42-to-seed45", 0, False)
    plain = train(
        overrides=[*COMPILED, "training.processes=1", "training.compile=false"], use=[broken], runs=tmp_path,
        name="plain",
    )  # fmt: skip
    assert all(equal(run.best(m)["model_state_dict"], plain.best(m)["model_state_dict"]) == [] for m in run.members)


@pytest.mark.slow
def test_workers_that_cannot_compile_change_the_plan_of_their_own_cohorts(broken: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paceline", "train", "--use", str(broken), *COMPILED, "training.processes=2",
               "--runs", str(tmp_path), "--name", "run"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = Run(tmp_path / "run").read_json("plan.json")
    assert [cohort["compile"] for cohort in plan["cohorts"]] == [False, False]
    assert {change["cohort"] for change in plan["changes"]} == {cohort["id"] for cohort in plan["cohorts"]}
    assert done.stdout.count("cannot be") == 2


def test_a_plan_by_the_stopwatch_can_be_written_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paceline.run.probe.SECONDS", 0.05)
    words = ["--use", str(RECIPE), "task=double", "data=rows", "model=mlp", "members.seeds=3",
             "training.compile=false", "training.num_epochs=2"]  # fmt: skip
    done = CliRunner().invoke(app, ["plan", *words, "--probe", "-o", "plan.json"])
    assert done.exit_code == 0, done.output
    assert "us per member and step" in done.output
    assert "eager, 1 at once" in done.output
    assert "cohort, 3 at once" in done.output
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    plan["threads"] = 1
    plan["cohorts"] = [{"id": f"c-{m}", "members": [m], "engine": "cohort", "compile": False}
                       for m in ("seed42", "seed43", "seed44")]  # fmt: skip
    Path("mine.json").write_text(json.dumps(plan), encoding="utf-8")
    used = CliRunner().invoke(app, ["train", *words, "--plan", "mine.json", "--name", "run"])
    assert used.exit_code == 0, used.output
    assert [c["id"] for c in Run(Path("runs/run")).read_json("plan.json")["cohorts"]] == [
        "c-seed42", "c-seed43", "c-seed44"
    ]  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize(
    ("content", "what"),
    [(None, "cannot be read"), ("{", "cannot be read"), ("[]", "is damaged"), ('{"cohorts": 3}', "is damaged"),
     ('{"cohorts": [{"id": "c", "members": ["seed7"]}], "device": "cpu", "threads": 1}', "other members")],
    ids=["missing", "damaged", "a list", "no cohorts", "of others"],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused_before_a_folder_is_made(
    tmp_path: Path, content: str | None, what: str
) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content, encoding="utf-8")
    with pytest.raises(PacelineError, match=what):
        train(overrides=["task=double", "data=rows", "model=mlp"], use=[RECIPE], plan=tmp_path / "plan.json",
              runs=tmp_path / "runs")  # fmt: skip
    assert not (tmp_path / "runs").exists()


@pytest.mark.fast
def test_a_plan_is_not_written_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(app, ["plan", "task=pain", "-o", "plan.json"])
    assert "exists already" in str(done.exception)
    assert Path("plan.json").read_text(encoding="utf-8") == "mine"


@pytest.mark.fast
def test_the_same_members_have_the_same_plan_every_time() -> None:
    config, recipe = configure(overrides=["task=double", "data=rows", "model=mlp", "members.seeds=4"], use=[RECIPE])
    jobs = build(config, recipe).jobs
    assert make_plan(jobs, CPU) == make_plan(jobs, CPU)
