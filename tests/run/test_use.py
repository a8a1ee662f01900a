"""`--use FILE.py`: a loss, a model and a tracker of one's own in a few lines each, and what a mistake in them says."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

import paceline
from paceline.checkpoint.tree import equal
from paceline.errors import ConfigError, ModelError
from paceline.run.use import load_extension
from tests.contracts.tiny import USE, result, train

pytestmark = pytest.mark.fast

LOSS = """
import torch
import paceline

class Focal(paceline.LossConfig):
    gamma: float = 2.0

    def build(self, spec):
        def focal(outputs, batch):
            minus_log_p = torch.nn.functional.cross_entropy(outputs, batch["y"], reduction="none")
            return (1 - torch.exp(-minus_log_p)) ** self.gamma * minus_log_p
        return paceline.PerSample(focal)

losses = {"focal": Focal}
"""

MODEL = """
import torch
import paceline

class Mean(paceline.ModelConfig):
    def build(self, spec):
        return MeanNet(spec.n_features, spec.n_classes)

class MeanNet(torch.nn.Linear):
    def forward(self, x, mask):
        return super().forward((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

models = {"mean": Mean}
"""

TRACKER = """
import json
import paceline

class Lines(paceline.TrackerConfig):
    def build(self, run_folder):
        self_path = run_folder / "lines.jsonl"
        class Tracker:
            def scalars(self, rows):
                with self_path.open("a") as file:
                    file.writelines(json.dumps([r.member, r.step, r.split]) + "\\n" for r in rows)
            def figure(self, name, path, step): pass
            def artefact(self, name, path): pass
            def close(self, status): self_path.with_name("status.txt").write_text(status)
        return Tracker()

trackers = {"lines": Lines}
"""

FAILING = TRACKER.replace('with self_path.open("a") as file:', 'raise OSError("the server is away")').replace(
    'file.writelines(json.dumps([r.member, r.step, r.split]) + "\\n" for r in rows)', "")  # fmt: skip

TINY_PAIN = ["training.num_epochs=2", "numerics.threads=1", "training.selection.smoothing=none"]


@pytest.fixture
def write(workdir):
    """Write a file into the current folder."""

    def write(text: str, name: str = "own.py") -> Path:
        path = Path(name)
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("text", [LOSS, MODEL, TRACKER], ids=["loss", "model", "tracker"])
def test_an_extension_takes_few_lines(text):
    assert len([line for line in text.splitlines() if line.strip()]) <= 15


def test_ones_own_loss_and_model_train_the_built_in_task(write):
    use = [write(LOSS, "loss.py"), write(MODEL, "model.py")]
    overrides = [*TINY_PAIN, "loss=focal", "loss.gamma=1.5", "model=mean"]
    run = paceline.train("pain", overrides, use=use, runs="runs", name="own")
    assert run.config["loss"] == {"name": "focal", "gamma": 1.5}
    assert run.config["model"] == {"name": "mean"}
    recorded = run.read_json("environment.json")["use"]
    assert [entry["file"] for entry in recorded] == ["loss.py", "model.py"]
    # The recorded loss is the focal loss of the recorded weights, by its formula.
    best = run.best()
    found = paceline.evaluate(run, use=use)["metrics"]["val_loss"]["mean"]
    data = paceline.api.runs.configure("pain", use=use)[0].data.load()
    rows = best["split_idx"]["val"]
    x, mask, y = (torch.from_numpy(data.columns[name][rows].copy()) for name in ("x", "mask", "y"))
    scaler = paceline.data.scale.Scaler.from_dict(best["scaler"])
    x = torch.from_numpy(scaler.apply(x.numpy(), mask.numpy()))
    pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    weights = best["model_state_dict"]
    p = (pooled @ weights["weight"].T + weights["bias"]).softmax(1)[torch.arange(len(y)), y]
    assert found == pytest.approx(float((-((1 - p) ** 1.5) * p.log()).mean()), rel=1e-5)


def test_ones_own_tracker_gets_every_record_once_and_in_order(write):
    run = paceline.train(
        "blobs", ["tracking.lines.enabled=true", "members.seeds=2"], use=[USE, write(TRACKER)], name="own"
    )
    found = [tuple(json.loads(line)) for line in (run.path / "lines.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert found == [(row["member"], row["step"], row["split"]) for row in rows]
    assert (run.path / "status.txt").read_text() == "finished"


@pytest.mark.parametrize(
    ("overrides", "built"),
    [
        ([], False),
        (["tracking.lines.note=x"], True),
        (["tracking.lines.note=x", "tracking.lines.enabled=false"], False),
    ],
)
def test_a_tracker_is_built_where_its_section_is_named_unless_it_is_disabled(write, overrides, built):
    head = "class Lines(paceline.TrackerConfig):\n"
    text = TRACKER.replace(head, head + '    note: str = ""\n')
    run = paceline.train("blobs", overrides, use=[USE, write(text)], name="own")
    assert (run.path / "lines.jsonl").exists() == built


def test_a_tracker_that_raises_is_a_warning_and_changes_no_bit(write, tmp_path, caplog):
    """A79."""
    caplog.set_level(logging.WARNING, logger="paceline")
    overrides = ["tracking.lines.enabled=true", "members.seeds=2"]
    failing = paceline.train("blobs", overrides, use=[USE, write(FAILING)], name="failing")
    rows = len((failing.path / "log.jsonl").read_text().splitlines())
    assert [entry.getMessage() for entry in caplog.records] == [
        "tracker lines failed and is tried again: OSError: the server is away",
        f"tracker lines misses {rows} record(s) of this run: paceline resume {failing.path} sends them",
    ]
    assert (failing.path / "status.txt").read_text() == "finished"
    quiet = train(tmp_path / "quiet", "members.seeds=2")
    assert equal(result(failing), result(quiet)) == []


def test_a_tracker_that_cannot_be_started_is_one_error(write):
    text = TRACKER.replace('self_path = run_folder / "lines.jsonl"', 'raise OSError("no route to host")')
    with pytest.raises(ConfigError, match="tracker cannot be started: OSError: no route to host") as caught:
        paceline.train("blobs", ["tracking.lines.enabled=true"], use=[USE, write(text)], name="own")
    assert caught.value.where == "tracking.lines"
    assert not Path("runs/own").exists()


def test_a_tracker_without_a_method_is_one_error_before_anything_is_written(write):
    text = TRACKER.replace('def close(self, status): self_path.with_name("status.txt").write_text(status)', "")
    with pytest.raises(ConfigError, match=r"tracker has no method close\(status\)") as caught:
        paceline.train("blobs", ["tracking.lines.enabled=true"], use=[USE, write(text)], name="own")
    assert caught.value.where == "tracking.lines"
    assert not Path("runs/own").exists()


def test_a_recipe_of_ones_own_may_bear_the_name_of_a_built_in_one(write):
    text = USE.read_text().replace('name="blobs"', 'name="pain"')
    run = paceline.train("pain", ["training.num_epochs=1"], use=[write(text)], name="own")
    assert run.config["data"]["name"] == "blobs"


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'", "own.py:1"),
        ("x = 1\n\ny = x / 0\n", "ZeroDivisionError: division by zero", "own.py:3"),
        ("def f(:\n", "SyntaxError", "own.py:1"),
        ("def f():\n    raise KeyError('k')\n\n\nf()\n", "KeyError: 'k'", "own.py:2"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", "own.py:2"),
        ("import paceline\n\nclass A(paceline.ModelConfig):\n    hidden = 3\n", "PydanticUserError", "own.py:3"),
        ("import paceline\nrecipe = paceline.Recipe(name='a b', data={}, models={})\n", "letters, digits", "own.py:2"),
        ("import paceline\nrecipe = paceline.Recipe(name='a', data={}, models={})\n", "at least one data", "own.py:2"),
        ("import paceline\nrecipe = paceline.Recipe(nam='a')\n", "TypeError", "own.py:2"),
        ("x = 1\n", "the file defines nothing to use", "own.py"),
        ("", "the file defines nothing to use", "own.py"),
        ("recipe = 5\n", "`recipe` is not a paceline.Recipe", "own.py"),
        ("models = [1]\n", "`models` must be a dict", "own.py"),
        ("models = {'a': 5}\n", "something other than a ModelConfig", "own.py: a"),
        ("import paceline\nlosses = {'a': paceline.ModelConfig}\n", "other than a LossConfig", "own.py: a"),
        ("trackers = {'a': print}\n", "other than a TrackerConfig", "own.py: a"),
        ("import paceline\nmodels = {'a': paceline.ModelConfig}\n", "`build`", "own.py: a"),
        ("import paceline\nclass A(paceline.LossConfig):\n    pass\nlosses = {'a': A}\n", "`build`", "own.py: a"),
        ("import paceline\nclass A(paceline.ModelConfig):\n    def build(self, spec): pass\nmodels = {'a b': A}\n",
         "letters, digits and underscores", "own.py: a b"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_that_cannot_be_used_says_what_and_where(write, text, what, where, absolute):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_extension(path.resolve() if absolute else path)
    assert what in caught.value.what
    assert where in caught.value.where
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize("name", ["missing.py", "folder"])
def test_a_file_that_is_not_there_says_so(workdir, name):
    Path("folder").mkdir()
    with pytest.raises(ConfigError, match="file does not exist"):
        load_extension(Path(name))


def test_a_file_that_is_no_python_file_says_so(write):
    with pytest.raises(ConfigError, match="not a Python file"):
        load_extension(write("recipe = 5", "own.txt"))


MODEL_MISTAKES = {
    "fails when built": ("def build(self, spec): return torch.nn.Linear(spec.nothing, 3)", "cannot be built"),
    "no module": ("def build(self, spec): return 5", "not a torch.nn.Module"),
    "wrong width": ("def build(self, spec): return torch.nn.Linear(7, 3)", "is made for 7 features and gets"),
    "typo in forward": (
        "def build(self, spec):\n"
        "        class Net(torch.nn.Module):\n"
        "            def forward(self, x): return self.lnear(x)\n"
        "        return Net()",
        "fails on two samples of the data: AttributeError: 'Net' object has no attribute 'lnear'",
    ),
    "not logits": ("def build(self, spec): return torch.nn.Linear(6, 2)", "logits of shape"),
}


@pytest.mark.parametrize("mistake", MODEL_MISTAKES)
def test_a_model_that_does_not_fit_is_found_before_anything_is_written(write, mistake):
    body, message = MODEL_MISTAKES[mistake]
    text = f"import torch\nimport paceline\n\nclass A(paceline.ModelConfig):\n    {body}\n\nmodels = {{'a': A}}\n"
    with pytest.raises(ModelError, match=message) as caught:
        paceline.train("blobs", ["model=a"], use=[USE, write(text)], name="own")
    assert len(str(caught.value).splitlines()) <= 4
    assert not Path("runs").exists()
