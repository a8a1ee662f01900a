"""Tasks keep their contract: sums that add up over any cut into batches, metrics and predictions under their names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.classification import CrossEntropy
from paceline.losses.regression import Quantile
from paceline.metrics import merge, values
from paceline.tasks import Classification, Regression
from paceline.types import Task

pytestmark = pytest.mark.fast

CLASSIFICATION = Classification(n_classes=3, loss=CrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5)))


def classification_batch(n: int = 11) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"x": torch.randn(n, 4, dtype=torch.float64), "y": torch.arange(n) % 3}


def regression_batch(n: int = 11) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"x": torch.randn(n, 4, dtype=torch.float64), "y": torch.randn(n, dtype=torch.float64)}


CASES = [(CLASSIFICATION, classification_batch(), 3), (Regression(), regression_batch(), 1)]


@pytest.mark.parametrize(("task", "batch", "width"), CASES)
def test_sums_and_weights_add_up_over_batches_and_masks(task: Task, batch: dict[str, Tensor], width: int) -> None:
    model = nn.Linear(4, width).double()
    whole = values(task.metric_sums(task.forward(model, batch), batch))
    totals, weights, states = {}, {}, {}
    for part in (slice(0, 2), slice(2, 3), slice(3, 11)):
        piece = {name: column[part] for name, column in batch.items()}
        padded = {name: torch.cat([column, column[:2]]) for name, column in piece.items()}
        padded["sample_mask"] = torch.arange(len(padded["y"])) < len(piece["y"])
        outputs = task.forward(model, padded)
        for term, total in task.loss_sums(outputs, padded).items():
            totals[term] = totals.get(term, 0) + total
            weights[term] = weights.get(term, 0) + task.weights(padded)[term]
        states = merge(states, task.metric_sums(outputs, padded))
    for term, total in task.loss_sums(task.forward(model, batch), batch).items():
        expected = total / task.weights(batch)[term]
        torch.testing.assert_close(totals[term] / weights[term], expected, rtol=1e-13, atol=0)
    assert values(states).keys() == whole.keys()
    for name, value in values(states).items():
        assert np.allclose(value, whole[name], rtol=1e-12), name


def test_classification_names_its_metrics_and_log_loss_is_scikit_learns() -> None:
    batch = classification_batch()
    logits = torch.randn(11, 3, dtype=torch.float64)
    got = values(CLASSIFICATION.metric_sums(logits, batch))
    assert set(got) == {"accuracy", "confusion", "log_loss"} | {
        f"{m}_{kind}" for m in ("f1", "precision", "recall") for kind in ("macro", "class")
    }
    assert got["log_loss"] == pytest.approx(sk.log_loss(batch["y"], logits.softmax(1), labels=range(3)), rel=1e-12)


def test_classification_predicts_classes_and_probabilities() -> None:
    logits = torch.randn(5, 3).bfloat16()
    got = CLASSIFICATION.predict(logits)
    assert got["prediction"].dtype == torch.int64 and torch.equal(got["prediction"], logits.argmax(1))
    assert got["probability"].dtype == torch.float32
    torch.testing.assert_close(got["probability"].sum(1), torch.ones(5))


def test_regression_names_its_metrics_and_predicts_one_number_per_sample() -> None:
    batch = regression_batch()
    task = Regression()
    outputs = task.forward(nn.Linear(4, 1).double(), batch)
    got = values(task.metric_sums(outputs, batch))
    assert set(got) == {"mse", "rmse", "mae", "mape", "max_ae", "r2"} and got["rmse"] == math.sqrt(got["mse"])
    del batch["y"]
    for model in (nn.Linear(4, 1).double(), nn.Linear(4, 2).double()):
        outputs = model(batch["x"])
        prediction = task.predict(task.forward(model, batch))["prediction"]
        assert torch.equal(prediction, outputs.squeeze(1))  # which leaves two columns as they are


class PerStep(nn.Module):
    """One linear layer on every step, NaN on padding."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width).double()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask[:, :, None], self.linear(x), math.nan).squeeze(2)


def steps_batch() -> dict[str, Tensor]:
    """Sequences of 5, 9 and 2 steps with a target at every step."""
    torch.manual_seed(0)
    mask = torch.arange(9) < torch.tensor([5, 9, 2])[:, None]
    y = torch.where(mask, 2 + torch.randn(3, 9, dtype=torch.float64), 0)
    return {"x": torch.randn(3, 9, 4, dtype=torch.float64), "y": y, "mask": mask}


def test_targets_at_every_step_count_where_the_steps_are_valid() -> None:
    """C15: metrics are scikit-learn's over the 16 valid steps of three sequences; every step is predicted."""
    task, model, batch = Regression(inputs=("x", "mask")), PerStep(), steps_batch()
    outputs = task.forward(model, batch)
    y, guess = (v[batch["mask"]].detach().numpy() for v in (batch["y"], outputs))
    got = values(task.metric_sums(outputs, batch))
    assert len(y) == 16 and got["r2"] == pytest.approx(sk.r2_score(y, guess), rel=1e-12)
    assert got["mape"] == pytest.approx(100 * sk.mean_absolute_percentage_error(y, guess), rel=1e-12)
    assert got["max_ae"] == sk.max_error(y, guess)
    loss = task.loss_sums(outputs, batch)["mse"] / task.weights(batch)["mse"]
    assert loss.item() == pytest.approx(got["mse"], rel=1e-12) == pytest.approx(sk.mean_squared_error(y, guess))
    assert task.predict(outputs)["prediction"].shape == (3, 9)
    masked = {**batch, "sample_mask": torch.tensor([True, False, True])}
    kept = batch["mask"] & masked["sample_mask"][:, None]
    y, guess = (v[kept].detach().numpy() for v in (batch["y"], outputs))
    assert values(task.metric_sums(outputs, masked))["mae"] == pytest.approx(sk.mean_absolute_error(y, guess))


@pytest.mark.parametrize("steps", [False, True], ids=["samples", "steps"])
def test_of_several_quantiles_the_middle_one_is_the_prediction(steps: bool) -> None:
    task = Regression(loss=Quantile(levels=(0.1, 0.4, 0.9)), inputs=("x", "mask"), levels=(0.1, 0.4, 0.9))
    batch = steps_batch() if steps else regression_batch()
    torch.manual_seed(3)
    model = PerStep(3) if steps else nn.Linear(4, 3).double()
    outputs = task.forward(model, batch) if steps else model(batch["x"])
    counts = batch["mask"] if steps else torch.ones(11, dtype=torch.bool)
    y, (low, middle, high) = batch["y"][counts], outputs.detach()[counts].unbind(-1)
    got = values(task.metric_sums(outputs, batch))
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(y, middle), rel=1e-12)
    assert got["coverage"] == pytest.approx(float(((low <= y) & (y <= high)).double().mean()), rel=1e-12)
    assert list(task.predict(outputs)) == ["prediction", "quantile_0.1", "quantile_0.4", "quantile_0.9"]
    assert torch.equal(task.predict(outputs)["prediction"].nan_to_num(), outputs[..., 1].nan_to_num())
    pairs = zip(task.levels, (low, middle, high), strict=True)
    pinball = np.mean([sk.mean_pinball_loss(y, q, alpha=a) for a, q in pairs])
    loss = task.loss_sums(outputs, batch)["quantile"] / task.weights(batch)["quantile"]
    assert loss.item() == pytest.approx(pinball, rel=1e-12)


@pytest.mark.parametrize("task", [Regression(), Regression(levels=(0.1, 0.9))])
def test_predicted_numbers_are_at_least_float32(task: Regression) -> None:
    found = task.predict(torch.randn(5, 2).bfloat16())
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert task.predict(torch.randn(5, 2).double())["prediction"].dtype == torch.float64


class Recorder(nn.Module):
    """Returns the inputs it was called with, as logits."""

    def forward(self, *inputs: Tensor | None) -> Tensor:
        self.seen = inputs
        return torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("present", "expected"), [("xmg", "xmg"), ("xm", "xm"), ("xg", "x-g"), ("x", "x")], ids=lambda s: s
)
def test_the_model_gets_the_named_columns_and_none_for_one_that_is_missing(present: str, expected: str) -> None:
    batch = {name: torch.full((2,), float(i)) for i, name in enumerate(present)}
    model = Recorder()
    Classification(n_classes=3, inputs=("x", "m", "g")).forward(model, batch)
    assert ["-" if column is None else present[int(column[0])] for column in model.seen] == list(expected)


def test_a_batch_without_the_first_input_is_refused() -> None:
    with pytest.raises(ModelError, match="lacks the model's input"):
        CLASSIFICATION.forward(nn.Linear(4, 3), {"y": torch.zeros(2)})


def test_outputs_that_do_not_fit_the_task_are_refused_with_their_shape() -> None:
    batch = classification_batch()
    with pytest.raises(ModelError, match=r"got: \(11, 2\)"):
        CLASSIFICATION.forward(nn.Linear(4, 2).double(), batch)
    with pytest.raises(ModelError, match="got: tuple"):
        CLASSIFICATION.forward(nn.GRU(4, 3).double(), batch)
    with pytest.raises(ModelError, match=r"outputs \(11, 2\), targets \(11,\)"):
        Regression().forward(nn.Linear(4, 2).double(), regression_batch())
