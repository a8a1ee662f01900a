"""`Trainer`: a model and data of one's own, in any of the forms that torch users have them."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import paceline
from paceline import Trainer
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError, ConfigError, DataError, ModelError, RunError
from paceline.models.dropout import Dropout
from paceline.run.folder import Run, open_run
from tests.contracts.tiny import TwoTerms, points, result, train

pytestmark = pytest.mark.fast

CONFIG = {"training.num_epochs": 3, "training.batch_size": 8, "training.learning_rate": 0.05, "numerics.threads": 1}


def net() -> nn.Module:
    """Equal weights at every call, so that results can be compared."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Dropout(0.3), nn.Linear(6, 3))


def tensors(n: int, seed: int) -> tuple[Tensor, Tensor]:
    columns = points(n, seed=seed)
    return columns["x"], columns["y"]


TRAIN, VAL, TEST = tensors(30, 1), tensors(12, 2), tensors(9, 3)


def arrays(part: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return part[0].numpy(), part[1].numpy()


class MapStyle(Dataset):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i], int(self.y[i])


FORMS = {
    "arrays": arrays,
    "float64 arrays": lambda part: (part[0].double().numpy(), part[1].numpy()),
    "tensors": lambda part: part,
    "lists": lambda part: (part[0].tolist(), part[1].tolist()),
    "dict": lambda part: {"x": part[0], "y": part[1].numpy()},
    "TensorDataset": lambda part: TensorDataset(*part),
    "map-style dataset": lambda part: MapStyle(*part),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("reference")
    return Trainer(net(), CONFIG, folder=folder, name="run").fit(TRAIN, VAL, TEST)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_bits(reference, tmp_path, form):
    make = FORMS[form]
    run = Trainer(net(), CONFIG, folder=tmp_path, name="run").fit(make(TRAIN), make(VAL), make(TEST))
    assert equal(result(run), result(reference)) == []


def test_the_run_has_the_folder_and_summary_of_any_run(reference):
    assert reference.summary["status"] == "finished"
    assert reference.summary["test_openings"] == 1
    assert {"val_loss", "val_f1_macro", "test_accuracy"} <= set(reference.summary["metrics"])
    assert reference.history()["epoch"] == [1, 2, 3]
    for name in ("report.html", "splits.json", "members/seed42/best.pt", "log.jsonl"):
        assert (reference.path / name).stat().st_size > 0


def loaders(batch_size: int = 8, **options) -> tuple[DataLoader, DataLoader]:
    return (
        DataLoader(TensorDataset(*TRAIN), batch_size=batch_size, shuffle=True, **options),
        DataLoader(TensorDataset(*VAL), batch_size=5),
    )


def classification():
    from paceline.tasks import Classification

    return Classification(n_classes=3)


def test_loaders_train_and_twice_the_same_gives_the_same_bits(tmp_path):
    """The loader's own randomness is the member's."""
    runs = []
    for name in ("a", "b"):
        torch.manual_seed(len(name) + ord(name))
        runs.append(Trainer(net(), CONFIG, task=classification(), folder=tmp_path, name=name).fit(*loaders()))
    assert equal(result(runs[0]), result(runs[1])) == []
    assert runs[0].history()["epoch"] == [1, 2, 3]


def test_the_evaluation_of_a_loader_equals_that_of_arrays(tmp_path):
    options = {**CONFIG, "training.learning_rate": 1e-30, "training.weight_decay": 0.0, "training.num_epochs": 1}
    by_loader = Trainer(net(), options, task=classification(), folder=tmp_path, name="a").fit(*loaders())
    by_array = Trainer(net(), options, folder=tmp_path, name="b").fit(TRAIN, VAL)
    for name in ("val_loss", "val_accuracy", "val_f1_macro"):
        assert by_loader.history()[name] == pytest.approx(by_array.history()[name], rel=1e-6)


def test_a_passed_instance_gets_the_best_weights(tmp_path):
    """A75."""
    model = net()
    options = {
        **CONFIG,
        "training.num_epochs": 8,
        "training.learning_rate": 0.5,
        "training.selection.metric": "val_loss",
    }
    run = Trainer(model, options, folder=tmp_path, name="run").fit(TRAIN, VAL)
    losses = run.history()["val_loss"]
    assert losses.index(min(losses)) < 7  # the best epoch is not the last
    model.eval()
    loss = nn.functional.cross_entropy(model(VAL[0]), VAL[1])
    assert float(loss.detach()) == pytest.approx(min(losses), rel=1e-6)
    assert equal(dict(model.state_dict()), run.best()["model_state_dict"]) == []


def test_an_instance_starts_from_the_weights_that_it_came_with(tmp_path):
    model = net()
    options = {**CONFIG, "training.num_epochs": 1, "training.learning_rate": 1e-30, "training.weight_decay": 0.0}
    before = copy.deepcopy(model.state_dict())
    Trainer(model, options, folder=tmp_path, name="run").fit(TRAIN, VAL)
    assert equal(dict(model.state_dict()), dict(before)) == []


def test_fitting_twice_makes_two_runs_from_the_same_fresh_state(reference, tmp_path):
    trainer = Trainer(net(), CONFIG, folder=tmp_path)
    first, second = trainer.fit(TRAIN, VAL, TEST), trainer.fit(TRAIN, VAL, TEST)
    assert first.path != second.path
    assert equal(result(first), result(reference)) == []
    assert equal(result(second), result(reference)) == []


def test_a_factory_gives_a_model_per_seed(tmp_path):
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

    run = Trainer(build, {**CONFIG, "members.seeds": 3}, folder=tmp_path, name="run").fit(TRAIN, VAL)
    assert run.members == ["seed42", "seed43", "seed44"]
    assert run.summary["metrics"]["val_accuracy"]["n"] == 3
    weights = [run.best(member)["model_state_dict"]["0.weight"] for member in run.members]
    assert len({tuple(w.flatten().tolist()) for w in weights}) == 3
    alone = Trainer(build, {**CONFIG, "members.seeds": [43]}, folder=tmp_path, name="alone").fit(TRAIN, VAL)
    assert equal(alone.best("seed43")["model_state_dict"], run.best("seed43")["model_state_dict"]) == []


def test_a_run_is_named_after_the_class_of_the_model_that_a_factory_builds(tmp_path):
    run = Trainer(lambda: net(), CONFIG, folder=tmp_path).fit(TRAIN, VAL)
    assert run.name.startswith("trainer-Sequential-")
    assert run.summary["model"] == "Sequential"
    page = (run.path / "report.html").read_text()
    assert "<dd>Sequential</dd>" in page
    assert "<dd>given</dd>" not in page.partition("<nav")[0]
    assert "paceline resume" not in page and "paceline train" not in page  # the command line cannot


def test_classes_without_names_are_called_by_their_index(tmp_path):
    run = Trainer(net(), CONFIG, folder=tmp_path, name="run").fit(TRAIN, VAL)
    assert run.summary["per_class"]["val"]["classes"] == ["0", "1", "2"]
    assert sum(map(sum, run.summary["confusion"]["val"]["counts"])) == len(VAL[1])


def test_a_class_is_a_factory_too(tmp_path):
    class Net(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)

    run = Trainer(Net, {**CONFIG, "members.seeds": 2}, folder=tmp_path, name="run").fit(TRAIN, VAL)
    assert len(run.members) == 2


def test_floats_are_regression_and_a_task_of_ones_own_is_used_as_it_is(tmp_path):
    x, y = TRAIN[0], TRAIN[0].sum(1)
    run = Trainer(nn.Linear(4, 1), CONFIG, folder=tmp_path, name="regression").fit((x, y), (x[:9], y[:9]))
    assert {"val_rmse", "val_r2"} <= set(run.summary["metrics"])

    part = {"x": torch.randn(9, 7, 4), "y": torch.randn(9, 7), "mask": torch.ones(9, 7, dtype=torch.bool)}
    run = Trainer(nn.Linear(4, 1), CONFIG, task=TwoTerms(), folder=tmp_path, name="own").fit(part, part)
    history = run.history()
    for epoch in range(3):
        terms = history["train_loss_error"][epoch] + history["train_loss_smoothness"][epoch]
        assert history["train_loss"][epoch] == pytest.approx(terms)


def test_callbacks_and_a_tracker_see_every_record(tmp_path):
    seen, rows = [], []

    class Tracker:
        def scalars(self, records):
            rows.extend(records)

        def figure(self, name, path, step): ...

        def artefact(self, name, path): ...

        def close(self, status):
            rows.append(status)

    run = Trainer(
        net(), CONFIG, callbacks=[lambda record, control: seen.append(record)], tracker=Tracker(), folder=tmp_path
    ).fit(TRAIN, VAL)
    logged = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [(record.step, record.split) for record in seen] == [(row["step"], row["split"]) for row in logged]
    assert rows == [*seen, "finished"]


class NoClose:
    def scalars(self, rows): ...

    def figure(self, name, path, step): ...

    def artefact(self, name, path): ...


def test_a_tracker_that_lacks_a_method_is_refused_at_once():
    with pytest.raises(ConfigError, match="no method close") as caught:
        Trainer(net(), CONFIG, tracker=NoClose())
    assert caught.value.got == "NoClose"


@pytest.mark.parametrize("kind", ["arrays", "loaders"])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, kind):
    """In the middle of an epoch too: the third step of four."""
    parts = (TRAIN, VAL) if kind == "arrays" else loaders()
    task = None if kind == "arrays" else classification()
    config = {**CONFIG, "training.save.every_steps": 3}
    whole = Trainer(net(), config, task=task, folder=tmp_path, name="whole").fit(*parts)

    def fail(record, control):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(net(), config, task=task, folder=tmp_path, name="parts", callbacks=[fail]).fit(*parts)
    assert Store(tmp_path / "parts" / "checkpoints" / "seed42").steps() == [3, 6]
    model = net()
    torch.manual_seed(99)
    done = Trainer(model, config, task=task, folder=tmp_path).resume(tmp_path / "parts", *parts)
    assert equal(result(done), result(whole)) == []
    assert equal(dict(model.state_dict()), done.best()["model_state_dict"]) == []


@pytest.mark.parametrize("kind", ["arrays", "loaders", "loader with a generator"])
def test_the_users_random_state_and_threads_are_as_before(tmp_path, kind):
    torch.manual_seed(11)
    parts = {
        "arrays": lambda: (TRAIN, VAL),
        "loaders": loaders,
        "loader with a generator": lambda: loaders(generator=torch.Generator().manual_seed(1)),
    }[kind]()
    trainer = Trainer(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)), {**CONFIG, "numerics.threads": 2},
        task=classification(), folder=tmp_path,
    )  # fmt: skip
    state, numpy_state, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    trainer.fit(*parts)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.get_num_threads() == threads == 1


def test_the_state_is_as_before_even_after_an_error(tmp_path):
    torch.manual_seed(11)
    state = torch.get_rng_state()

    def fail(record, control):
        raise KeyError

    with pytest.raises(KeyError):
        Trainer(net(), {**CONFIG, "numerics.threads": 2}, folder=tmp_path, callbacks=[fail]).fit(TRAIN, VAL)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 1


def test_an_instance_with_several_seeds_is_refused():
    with pytest.raises(ConfigError, match="model instance is one member") as caught:
        Trainer(net(), {"members.seeds": 3})
    assert "factory" in caught.value.hint


X, Y = TRAIN
BAD_PARTS = {
    "empty": ((X[:0], Y[:0]), "a part is empty"),
    "lengths": ((X, Y[:-1]), "differ in length"),
    "NaN": ((torch.where(X > 2, torch.nan, X), Y), "not finite"),
    "infinite": ((X / 0, Y), "not finite"),
    "text": ((X, ["a"] * len(X)), "array of numbers"),
    "scalar": ((5.0, 3), "array of numbers"),
    "x alone": (X, "neither arrays nor a loader"),
    "nothing": (None, "neither arrays nor a loader"),
    "stream": (type("S", (IterableDataset,), {"__iter__": lambda self: iter([])})(), "neither arrays nor a loader"),
    "other columns": ({"x": X, "age": Y}, "different columns"),
    "other features": ((X[:, :3], Y), "do not fit together"),
    "other type": ((X.double(), Y), "different types"),
    "negative label": ((X, Y - 1), "count from 0"),
}


@pytest.mark.parametrize("bad", BAD_PARTS)
def test_parts_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path, bad):
    part, message = BAD_PARTS[bad]
    with pytest.raises(DataError, match=message) as caught:
        Trainer(net(), CONFIG, folder=tmp_path / "runs").fit(TRAIN, part)
    assert len(str(caught.value).splitlines()) <= 4
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (lambda: (loaders()[0], VAL), DataError, "different kinds"),
        (loaders, ConfigError, "does not say what is learned"),
        (lambda: ({"x": X}, {"x": X}), ConfigError, "does not say what is learned"),
    ],
    ids=["mixed", "loaders without a task", "no target"],
)
def test_parts_that_leave_something_open_are_refused(tmp_path, parts, error, message):
    with pytest.raises(error, match=message):
        Trainer(net(), CONFIG, folder=tmp_path / "runs").fit(*parts())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"trainig.num_epochs": 3}, "takes no such config section"),
        ({"model": "gru"}, "takes no such config section"),
        ({"num_epochs": 3}, "try: training.num_epochs"),
        ({"training.nun_epochs": 3}, "unknown config key"),
        ({"training": 5}, "is a section, not a value"),
        ({"training.num_epochs": -1}, "greater than 0"),
        ({"members.folds": 3}, "trains on the parts it is given"),
        ({"members.vary": {"training.learning_rate": [0.1, 0.2]}}, "trains on the parts it is given"),
        ({"device": 5}, "valid string"),
    ],
    ids=str,
)
def test_a_config_that_is_not_valid_is_refused_at_once(config, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(lambda: net(), config)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(7, 3), "is made for 7 features and gets 4"),
        (lambda: nn.Linear(4, 2), "logits of shape"),
        (lambda: 5, "not a torch.nn.Module"),
        (lambda x: x, "cannot be built"),
    ],
    ids=["features", "classes", "no module", "argument"],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, model, message):
    with pytest.raises(ModelError, match=message):
        Trainer(model, CONFIG, folder=tmp_path / "runs").fit(TRAIN, VAL)
    assert not (tmp_path / "runs").exists()


class Broken(nn.Module):
    def forward(self, x):
        return self.nothing(x)


class BrokenTask(TwoTerms):
    def loss_sums(self, outputs, batch):
        return outputs


@pytest.mark.parametrize(
    ("model", "task", "message", "where"),
    [
        (Broken(), None, "AttributeError: 'Broken' object has no attribute 'nothing'", r"test_trainer\.py:\d+$"),
        (nn.Linear(7, 3), None, "is made for 7 features and gets 4", "^model=Linear$"),
        (lambda: nn.Linear(7, 3), None, "is made for 7 features and gets 4", "^model=Linear$"),
        (lambda: 5, None, "not a torch.nn.Module", "^model=factory$"),
        (nn.Linear(4, 1), BrokenTask(), "`sums` of the loss must be a dict", "^task=BrokenTask$"),
    ],
)
def test_whatever_fails_is_named_by_its_line_or_class(tmp_path, model, task, message, where):
    part = {"x": torch.randn(9, 7, 4), "y": torch.randn(9, 7), "mask": torch.ones(9, 7, dtype=torch.bool)}
    parts = (part, part) if task else (TRAIN, VAL)
    with pytest.raises(ModelError, match=message) as caught:
        Trainer(model, CONFIG, task=task, folder=tmp_path / "runs").fit(*parts)
    assert re.search(where, caught.value.where)


INPUTS = {
    "array": lambda x: x.numpy(),
    "tensor": lambda x: x,
    "list": lambda x: x.tolist(),
    "columns": lambda x: {"x": x},
    "loader": lambda x: DataLoader(TensorDataset(x), batch_size=4),
}


@pytest.mark.parametrize("form", INPUTS)
def test_predictions_are_those_of_the_selected_weights_averaged_over_the_members(tmp_path, form):
    trainer = Trainer(lambda: net(), {**CONFIG, "members.seeds": 2}, folder=tmp_path, name="run")
    run = trainer.fit(TRAIN, VAL)
    found = trainer.predict(run, INPUTS[form](VAL[0]))
    each = []
    for member in run.members:
        model = net().eval()
        model.load_state_dict(run.best(member)["model_state_dict"])
        each.append(model(VAL[0]).softmax(1).detach().numpy())
    expected = np.mean(each, axis=0)
    assert found["prediction"].tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(found[["p_0", "p_1", "p_2"]].to_numpy(), expected, rtol=1e-5)
    new = Trainer(lambda: net())  # as another process has it
    alone = new.predict(run.path, INPUTS[form](VAL[0]), members=["seed43"])
    np.testing.assert_allclose(alone[["p_0", "p_1", "p_2"]].to_numpy(), each[1], rtol=1e-5)


def test_numbers_and_the_outputs_of_ones_own_task_are_predicted(tmp_path):
    x, y = TRAIN[0], TRAIN[0].sum(1)
    trainer = Trainer(nn.Linear(4, 1), CONFIG, folder=tmp_path, name="numbers")
    state = torch.get_rng_state()
    found = trainer.predict(trainer.fit((x, y), (x[:9], y[:9])), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(found) == ["prediction"]
    np.testing.assert_allclose(found["prediction"], trainer._instance(x)[:, 0].detach(), rtol=1e-5)

    part = {"x": torch.randn(9, 7, 4), "y": torch.randn(9, 7), "mask": torch.ones(9, 7, dtype=torch.bool)}
    trainer = Trainer(nn.Linear(4, 1), CONFIG, task=TwoTerms(), folder=tmp_path, name="own")
    run = trainer.fit(part, part)
    assert trainer.predict(run, part["x"]).shape == (9, 7)
    assert trainer.predict(run, part["x"][:, :5]).shape == (9, 5)  # other lengths


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, :3], "does not look like the training data"),
        (X[:, 0], "does not look like the training data"),
        (X[:0], "a part is empty"),
        (X / 0, "not finite"),
        ("text", "array of numbers"),
    ],
    ids=str,
)
def test_input_that_does_not_fit_is_refused(reference, x, message):
    with pytest.raises(DataError, match=message):
        Trainer(net(), CONFIG).predict(reference, x)


def test_predicting_needs_a_finished_run_of_a_trainer_and_its_model(reference, begun, tmp_path):
    with pytest.raises(RunError, match="not finished"):
        Trainer(net(), CONFIG).predict(begun, X)
    with pytest.raises(CheckpointError, match="do not fit the model"):
        Trainer(nn.Linear(4, 3), CONFIG).predict(reference, X)
    run = train(tmp_path, "training.num_epochs=1", name="recipe")
    with pytest.raises(RunError, match="not made by Trainer"):
        Trainer(net(), CONFIG).predict(run, X)


def test_a_name_is_used_once_unless_it_is_overwritten(tmp_path):
    trainer = Trainer(net(), CONFIG, folder=tmp_path, name="one")
    trainer.fit(TRAIN, VAL)
    with pytest.raises(RunError, match="exists already"):
        trainer.fit(TRAIN, VAL)
    trainer.fit(TRAIN, VAL, overwrite=True)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["one"]


@pytest.fixture
def begun(tmp_path) -> Run:
    def fail(record, control):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(net(), CONFIG, folder=tmp_path, name="begun", callbacks=[fail]).fit(TRAIN, VAL)
    return open_run(tmp_path / "begun")


def test_resuming_with_another_config_or_model_says_what_changed(begun):
    with pytest.raises(ConfigError, match=r"training\.num_epochs: 3 -> 4"):
        Trainer(net(), {**CONFIG, "training.num_epochs": 4}).resume(begun, TRAIN, VAL)
    with pytest.raises(ConfigError, match=r"model\.name: Sequential -> Linear"):
        Trainer(nn.Linear(4, 3), CONFIG).resume(begun, TRAIN, VAL)


def test_resuming_with_other_data_says_so(begun):
    for other in ((TRAIN, TEST), ((X + 1, Y), VAL)):
        with pytest.raises(DataError, match="the data changed"):
            Trainer(net(), CONFIG).resume(begun, *other)
    with pytest.raises(DataError, match="the data changed"):
        Trainer(net(), CONFIG, task=classification()).resume(begun, *loaders())


def test_the_command_line_cannot_resume_a_run_of_python_objects(begun):
    with pytest.raises(RunError, match="made by Trainer in Python"):
        paceline.resume(begun)
