"""A user's mistakes: one clear error of at most four lines on stderr, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.contracts.tiny import USE, train

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 5, 2)).astype(np.float32)
Y = np.arange(30) % 3


def npz(**arrays: object) -> Callable[[], None]:
    """A step that writes data.npz: X and y as above, with these arrays in place of theirs."""
    content = {"X": X, "y": Y, **arrays}
    return lambda: np.savez("data.npz", **{name: value for name, value in content.items() if value is not None})


def spoiled(value: float) -> np.ndarray:
    x = X.copy()
    x[4, 2, 1] = value
    return x


def text(name: str, content: str | bytes = "") -> Callable[[], None]:
    """A step that writes a file, and its folder."""

    def write() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


TRAIN = ["train", "task=pain"]
OWN = ["train", "--use", str(USE)]
NPZ = [*TRAIN, "data=npz", "data.path=data.npz"]


NUMBERS = """
import numpy as np, paceline, torch
class Data(paceline.DataConfig):
    def load(self): return paceline.dataset(x=np.ones((20, 2)) * np.arange(20)[:, None], y=np.arange(20) / 3)
class Net(paceline.ModelConfig):
    def build(self, spec): return torch.nn.Linear(2, 1)
recipe = paceline.Recipe(name="numbers", data={"data": Data}, models={"net": Net}, task=paceline.RegressionConfig,
                         loss="mse")
"""
NUMBERS_OWN = ["train", "--use", "own.py"]


def as_is() -> None:
    """Leave the folder as it is."""


# name: (what is there, the command, words of the error)
ROWS: dict[str, tuple[Callable[[], object], list[str], list[str]]] = {
    # keys, choices, types
    "unknown key": (as_is, [*TRAIN, "training.bach_size=3"], ["unknown config key", "training.batch_size"]),
    "unknown section": (as_is, [*TRAIN, "trainng.batch_size=3"], ["unknown config key", "training"]),
    "a key without its section": (as_is, [*TRAIN, "num_epochs=2"], ["unknown config key", "training.num_epochs"]),
    "a key of another section": (as_is, [*TRAIN, "training.seeds=2"], ["unknown config key", "try: members.seeds"]),
    "unknown task": (as_is, ["train", "task=pian"], ["no task of that name", "pain"]),
    "unknown model": (as_is, [*TRAIN, "model=gruu"], ["no model of that name", "gru"]),
    "unknown data": (as_is, [*TRAIN, "data=vowel"], ["no data of that name", "vowels"]),
    "unknown loss": (as_is, [*TRAIN, "loss=ce"], ["no loss of that name", "cross_entropy"]),
    "unknown training option": (as_is, [*TRAIN, "training=fast"], ["no training of that name", "fast"]),
    "unknown tracker": (as_is, [*TRAIN, "tracking.wnadb.enabled=true"], ["no tracker of that name", "wnadb"]),
    "no task": (as_is, ["train", "model=gru"], ["no task was chosen", "task=pain"]),
    "wrong type": (as_is, [*TRAIN, "training.num_epochs=many"], ["training.num_epochs", "integer", "many"]),
    "wrong choice": (as_is, [*TRAIN, "training.optimizer=adamm"], ["training.optimizer", "'adamw'", "adamm"]),
    "a section as a value": (as_is, [*TRAIN, "training.schedule=cosine"], ["training.schedule", "cosine"]),
    "negative rate": (as_is, [*TRAIN, "training.learning_rate=-0.1"], ["training.learning_rate", "greater than 0"]),
    "infinite rate": (as_is, [*TRAIN, "training.learning_rate=inf"], ["training.learning_rate", "finite"]),
    "no key": (as_is, [*TRAIN, "gru"], ["not of the form key=value", "gru"]),
    "not parseable": (as_is, [*TRAIN, "model.channels=[8"], ["cannot be parsed", "model.channels=[8"]),
    "several values": (as_is, [*TRAIN, "training.batch_size=8,16"], ["several values", "members.vary.training"]),
    "a computed value": (as_is, [*TRAIN, "data.path=${oc.env:HOME}"], ["never computed", "${oc.env:HOME}"]),
    # members
    "repeated seeds": (as_is, [*TRAIN, "members.seeds=[1,2,1]"], ["members.seeds", "1 is given twice"]),
    "zero seeds": (as_is, [*TRAIN, "members.seeds=0"], ["members.seeds", "at least one seed"]),
    "negative seed": (as_is, [*TRAIN, "members.seeds=[-3]"], ["members.seeds", "greater than or equal to 0"]),
    "one fold": (as_is, [*TRAIN, "members.folds=1"], ["members.folds", "greater than or equal to 2"]),
    "variants of data": (as_is, [*OWN, "members.vary.data.samples=[30,60]"], ["data cannot vary"]),
    "unknown variant": (as_is, [*OWN, "members.vary.model=[net,lstm]"], ["members.vary.model", "lstm"]),
    "a variant out of range": (
        as_is, [*OWN, "members.vary.training.learning_rate=[-1]"], ["members.vary.training.learning_rate", "greater"]
    ),
    "unknown key to vary": (as_is, [*OWN, "members.vary.num_epochs=[3]"], ["members.vary.num_epochs", "training."]),
    # selection, device
    "unknown metric": (as_is, [*OWN, "training.selection.metric=val_f1"], ["no metric of that name", "val_f1_macro"]),
    "a metric of training": (as_is, [*OWN, "training.selection.metric=train_loss"], ["starts with val_"]),
    "contradicting mode": (
        as_is, [*OWN, "training.selection.metric=val_loss", "training.selection.mode=max"], ["better when lower"]
    ),
    "no such device": (as_is, [*OWN, "device=cuda:77"], ["no such device", "cuda:77"]),
    "unknown device": (as_is, [*OWN, "device=gpu"], ["unknown device", "cuda"]),
    "float16 on a CPU": (
        as_is, [*OWN, "device=cpu", "training.amp={enabled: true, dtype: float16}"], ["float16 needs CUDA"]
    ),
    "a loss for numbers": (as_is, [*OWN, "loss=mse"], ["the loss is for numbers, and the targets are classes"]),
    # classes: losses, decisions
    "negative gamma": (as_is, [*OWN, "loss=focal", "loss.gamma=-1"], ["loss.gamma", "greater than or equal to 0"]),
    "nothing but smoothing": (as_is, [*OWN, "loss.label_smoothing=1"], ["loss.label_smoothing", "less than 1"]),
    "gamma of another loss": (as_is, [*OWN, "loss.gamma=1"], ["unknown config key", "loss.gamma"]),
    "unknown decision": (as_is, [*OWN, "task.decision.thresholds=yes"], ["task.decision.thresholds", "'tuned'"]),
    "a decision about numbers": (
        text("own.py", NUMBERS), [*NUMBERS_OWN, "task.decision.temperature=fitted"], ["task.decision", "regression"]
    ),
    "class weights for numbers": (
        text("own.py", NUMBERS), [*NUMBERS_OWN, "loss=focal", "loss.class_weights=balanced"], ["loss.class_weights"]
    ),
    "the focal loss for numbers": (text("own.py", NUMBERS), [*NUMBERS_OWN, "loss=focal"], ["for classes", "Focal"]),
    # data
    "no path": (as_is, [*TRAIN, "data=npz"], ["required config value is missing", "data.path"]),
    "missing file": (as_is, NPZ, ["no such file", "data.npz"]),
    "a folder": (lambda: Path("data.npz").mkdir(), NPZ, ["not a file", "data.npz"]),
    "not an npz": (text("data.npz", "hello"), NPZ, ["not a sound .npz", "data.npz"]),
    "a damaged npz": (text("data.npz", b"PK\x03\x04 broken"), NPZ, ["not a sound .npz"]),
    "pickled": (npz(y=np.array(["a", None, 3] * 10, dtype=object)), NPZ, ["pickled Python objects"]),
    "NaN": (npz(X=spoiled(np.nan)), NPZ, ["not finite", "sample 4, step 2, channel 1"]),
    "infinite": (npz(X=spoiled(np.inf)), NPZ, ["not finite", "sample 4"]),
    "labels outside the classes": (
        npz(y=np.array(["a", "b", "z"] * 10), classes=["a", "b"]), NPZ, ["outside the class list", "'z'"]
    ),
    "no steps": (npz(X=X[:, 0]), NPZ, ["needs sequences (samples, steps, channels)", "(samples, 2)"]),
    "numeric targets": (npz(y=Y / 2), NPZ, ["classification needs class labels", "numeric targets"]),
    "one class": (npz(y=Y * 0), NPZ, ["same label"]),
    "a class too small": (npz(y=np.r_[Y[:-1], 3]), NPZ, ["at least 2 samples of each class", "'3' has 1"]),
    "a class too small for folds": (npz(), [*NPZ, "members.folds=11"], ["at least 11 samples", "members.folds"]),
    "empty split": (npz(), [*NPZ, "data.split.val_fraction=0.01"], ["data.split.val_fraction", "classes"]),
    "no groups": (npz(), [*NPZ, "data.split.rule=group"], ["no groups to split by", "data.split.rule"]),
    "lengths beyond T": (npz(lengths=np.full(30, 6)), NPZ, ["outside 1..5", "6 at sample 0"]),
    "lengths of another number": (npz(lengths=[5, 5]), NPZ, ["do not fit the 30 samples"]),
    "labels of another number": (npz(y=Y[:-1]), NPZ, ["differ in their number of samples"]),
    "channels of another number": (npz(channels=["a"]), NPZ, ["1 channel names for 2 channels"]),
    "a misspelt array": (npz(Lengths=np.full(30, 5)), NPZ, ["rename it to lengths"]),
    "equal samples in two parts": (npz(X=np.repeat(X[:3], 10, axis=0)), NPZ, ["repeat an input of another part"]),
    "a second test part": (
        npz(test=[0, 1, 2]), [*NPZ, "data.split.test_fraction=0.2"], ["official test part already"]
    ),
    # folders and files
    "a name with separators": (as_is, [*TRAIN, "--name", "a/b"], ["run's name must be", "a/b"]),
    "a name upwards": (as_is, [*TRAIN, "--name", ".."], ["run's name must be"]),
    "runs in a file": (text("runs.txt"), [*OWN, "--runs", "runs.txt"], ["run folder cannot be made"]),
    "config missing": (as_is, ["train", "--config", "no.yaml"], ["cannot be read", "no.yaml"]),
    "config not YAML": (text("c.yaml", "a: [1"), ["train", "--config", "c.yaml"], ["not valid YAML", "c.yaml"]),
    "config not a mapping": (text("c.yaml", "- 1"), ["train", "--config", "c.yaml"], ["must hold a mapping"]),
    "config without a task": (text("c.yaml", "device: cpu"), ["train", "--config", "c.yaml"], ["no task was chosen"]),
    "config with a group": (
        text("c.yaml", "task: {name: pain}"), ["train", "--config", "c.yaml", "model=gru"], ["group cannot be chosen"]
    ),
    "config-dir missing": (as_is, [*TRAIN, "--config-dir", "nowhere"], ["config folder does not exist", "nowhere"]),
    "a broken option": (text("configs/model/m.yaml", "a: [1"), [*TRAIN, "model=m"], ["not valid YAML", "m.yaml"]),
    # --use
    "use missing": (as_is, ["train", "--use", "own.py"], ["file does not exist", "own.py"]),
    "use fails": (
        text("own.py", "import torch\nimport nothing_there\n"),
        ["train", "--use", "own.py", "task=pain"],
        ["fails to import", "No module named 'nothing_there'", "own.py:2"],
    ),
    "use defines nothing": (text("own.py", "x = 1"), ["train", "--use", "own.py"], ["defines nothing to use"]),
    "use defines a wrong type": (
        text("own.py", "models = {'m': 3}"), ["train", "--use", "own.py", "task=pain"], ["other than a ModelConfig"]
    ),
    # runs
    "resume nothing": (as_is, ["resume", "runs/none"], ["no such run", "runs/none"]),
    "resume a folder": (lambda: Path("some").mkdir(), ["resume", "some"], ["not a run", "some"]),
    "evaluate nothing": (as_is, ["evaluate", "runs/none"], ["no such run"]),
    "predict nothing": (as_is, ["predict", "runs/none", "a.npz"], ["no such run"]),
    "report nothing": (as_is, ["report", "runs/none"], ["no such run"]),
    # new
    "new not a name": (as_is, ["new", "my-recipe"], ["Python identifier", "my-recipe"]),
    "new a keyword": (as_is, ["new", "class"], ["Python identifier"]),
    "new hides a module": (as_is, ["new", "numpy"], ["Python module has that name", "my_numpy"]),
    "new exists": (text("mine.py", "x = 1"), ["new", "mine"], ["exists already", "mine.py"]),
    "new without a folder": (as_is, ["new", "mine", "--folder", "nowhere"], ["folder does not exist"]),
    # the command line itself
    "unknown command": (as_is, ["trian"], ["No such command 'trian'"]),
    "unknown option": (as_is, [*TRAIN, "--nmae", "a"], ["No such option", "--nmae"]),
    "missing argument": (as_is, ["resume"], ["Missing argument"]),
}  # fmt: skip


def check(done, *words: str) -> None:
    """One error for a user: exit code 2, nothing on stdout, few lines, no traceback."""
    assert done.code == 2, done.err or done.out
    assert done.out == ""
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 4, done.err
    for word in words:
        assert word in done.err


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", ROWS)
def test_a_mistake_is_one_clear_error_and_nothing_is_written(cli, workdir, name):
    prepare, command, words = ROWS[name]
    prepare()
    before = tree(workdir)
    check(cli(*command), *words)
    assert tree(workdir) == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run with a test part, to be copied."""
    return train(tmp_path_factory.mktemp("trained"), "data.split.test_fraction=0.2", "training.num_epochs=1", name="a")


@pytest.fixture
def run(trained, workdir):
    """That run as runs/a of the current folder."""
    shutil.copytree(trained.path.parent, "runs")
    return Path("runs/a")


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


USED = ["--use", str(USE)]
ON_A_RUN: dict[str, tuple[Callable[[Path], object], list[str], list[str]]] = {
    "it exists": (lambda run: None, [*OWN, "--name", "a"], ["exists already", "--overwrite", "resume runs/a"]),
    "a folder that is no run": (
        lambda run: text("runs/b/mine.txt")(), [*OWN, "--name", "b", "--overwrite"], ["not a run", "runs/b"]
    ),
    "a changed config": (
        lambda run: edit(run / "config.yaml", "batch_size: 8", "batch_size: 9"),
        ["resume", "runs/a", *USED], ["config changed", "training.batch_size: 8 -> 9"],
    ),
    "no use file": (lambda run: None, ["resume", "runs/a"], ["made with --use blobs.py"]),
    "another use file": (
        lambda run: text("blobs.py", USE.read_text() + "#\n")(),
        ["resume", "runs/a", "--use", "blobs.py"], ["made with --use blobs.py", "as it was then"],
    ),
    "a damaged plan": (
        lambda run: (run / "plan.json").write_text("{}"), ["resume", "runs/a", *USED],
        ["plan.json of the run is damaged", "cohorts"],
    ),
    "a damaged config": (
        lambda run: (run / "config.yaml").write_text("a: [1"), ["resume", "runs/a", *USED], ["not valid YAML"]
    ),
    "damaged splits": (
        lambda run: (run / "splits.json").write_text("{"), ["evaluate", "runs/a", *USED], ["splits.json", "read"]
    ),
    "no summary": (lambda run: (run / "summary.json").unlink(), ["report", "runs/a"], ["no summary.json", "resume"]),
    "no such part": (lambda run: None, ["evaluate", "runs/a", "--part", "foo", *USED], ["no such part", "val or test"]),
    "no test part": (
        lambda run: train(Path("runs"), "training.num_epochs=1", name="b"),
        ["evaluate", "runs/b", "--part", "test", *USED], ["no test part", "data.split.test_fraction"],
    ),
    "weights are gone": (
        lambda run: (run / "members/seed42/best.pt").unlink(),
        ["evaluate", "runs/a", *USED], ["no weights", "seed42", "paceline resume runs/a"],
    ),
    "weights are damaged": (
        lambda run: (run / "members/seed42/best.pt").write_bytes(b"PK damaged"),
        ["evaluate", "runs/a", *USED], ["damaged", "best.pt"],
    ),
    "no input": (lambda run: None, ["predict", "runs/a", "new.npz", *USED], ["no such file", "new.npz"]),
    "input without x": (
        lambda run: np.savez("new.npz", y=[1]), ["predict", "runs/a", "new.npz", *USED], ["no array 'x'"]
    ),
    "input of other features": (
        lambda run: np.savez("new.npz", x=np.ones((3, 5))),
        ["predict", "runs/a", "new.npz", *USED], ["(3, 5)", "(samples, 6)"],
    ),
    "input with steps": (
        lambda run: np.savez("new.npz", x=np.ones((3, 4, 6))),
        ["predict", "runs/a", "new.npz", *USED], ["(3, 4, 6)", "(samples, 6)"],
    ),
    "input with NaN": (
        lambda run: np.savez("new.npz", x=np.full((2, 6), np.nan)),
        ["predict", "runs/a", "new.npz", *USED], ["not finite"],
    ),
    "no such member": (
        lambda run: np.savez("new.npz", x=np.ones((2, 6))),
        ["predict", "runs/a", "new.npz", "--member", "seed7", *USED], ["seed7"],
    ),
    "output in no folder": (
        lambda run: np.savez("new.npz", x=np.ones((2, 6))),
        ["predict", "runs/a", "new.npz", "-o", "nowhere/out.csv", *USED], ["nowhere"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_A_RUN)
def test_a_mistake_with_a_run_is_one_clear_error_and_leaves_it_as_it_is(cli, run, workdir, name):
    prepare, command, words = ON_A_RUN[name]
    prepare(run)
    before = tree(workdir)
    check(cli(*command), *words)
    assert tree(workdir) == before


def test_resuming_with_a_changed_data_file_says_so(cli, workdir):
    npz()()
    small = ["model=gru", "model.hidden_size=4", "model.num_layers=1", "training.num_epochs=1", "numerics.threads=1"]
    assert cli(*NPZ, *small, "--name", "a").code == 0
    npz(X=X + 1)()
    before = tree(workdir)
    check(cli("resume", "runs/a"), "data changed since the run was made")
    assert tree(workdir) == before
    npz()()
    assert cli("resume", "runs/a").code == 0


def test_an_existing_run_is_replaced_on_request(cli, run):
    before = (run / "environment.json").read_text()
    assert cli(*OWN, "--name", "a", "--overwrite", "training.num_epochs=1").code == 0
    assert (run / "environment.json").read_text() != before


def test_an_existing_run_is_resumed_instead(cli, run):
    assert cli("resume", "runs/a", *USED).code == 0


def test_a_mistake_does_not_cost_the_run_that_it_would_have_replaced(cli, run, workdir):
    before = tree(workdir)
    check(cli(*OWN, "--name", "a", "--overwrite", "training.selection.metric=val_f1"), "no metric of that name")
    assert tree(workdir) == before
