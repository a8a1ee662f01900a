"""Losses and metrics of a real model equal scikit-learn's, whatever the size of the evaluation's batches.

Shapes: N samples, T steps, F channels, C classes.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import nn

from paceline.data.loader import ArrayPass
from paceline.evaluate.passes import evaluate, predict
from paceline.losses.classification import CrossEntropy
from paceline.recipes.pain.config import ConvGru, Gru
from paceline.tasks import Classification, Regression
from paceline.types import DataSpec
from tests.contracts.tiny import points

pytestmark = pytest.mark.fast

N, C, F = 37, 5, 4
SIZES = [1, 2, 7, 36, 37, 1000]
SPEC = DataSpec(shapes={"x": (9, F), "mask": (9,)}, classes=tuple("abcde"), class_counts=(1,) * C)
MODELS = {"gru": Gru(hidden_size=8), "conv_gru": ConvGru(channels=(8,), hidden_size=8)}


def sequences() -> dict[str, torch.Tensor]:
    """Class 3 has no sample."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(2, 10, (N,), generator=generator)
    y = torch.randint(0, C, (N,), generator=generator)
    x = torch.randn(N, 9, F, generator=generator) + y[:, None, None]
    return {"x": x, "y": torch.where(y == 3, 4, y), "mask": torch.arange(9) < lengths[:, None]}


@pytest.fixture(params=MODELS, scope="module")
def classifier(request: pytest.FixtureRequest) -> nn.Module:
    """A model with dropout and normalisation whose predictions leave class 0 out."""
    torch.manual_seed(0)
    model = MODELS[request.param].build(SPEC)
    with torch.no_grad():
        model.head.weight *= 5
        model.head.bias[0] = -15
    return model


@pytest.mark.parametrize("size", SIZES)
def test_classification_metrics_equal_those_of_scikit_learn_for_any_batch_size(classifier, size):
    """A61, A63: an absent and an unpredicted class count 0, without a warning."""
    columns = sequences()
    task = Classification(n_classes=C, inputs=("x", "mask"), loss=CrossEntropy(label_smoothing=0.1))
    found = evaluate(classifier, task, ArrayPass(columns, size), nullcontext())
    with torch.no_grad():
        logits = classifier.eval()(columns["x"], columns["mask"])
    classifier.train()
    y, predicted, labels = columns["y"].numpy(), logits.argmax(1).numpy(), range(C)
    assert {0} - set(predicted)
    expected = {
        "loss": float(nn.functional.cross_entropy(logits, columns["y"], label_smoothing=0.1)),
        "accuracy": sk.accuracy_score(y, predicted),
        "f1_macro": sk.f1_score(y, predicted, labels=labels, average="macro", zero_division=0),
        "precision_macro": sk.precision_score(y, predicted, labels=labels, average="macro", zero_division=0),
        "recall_macro": sk.recall_score(y, predicted, labels=labels, average="macro", zero_division=0),
        "log_loss": sk.log_loss(y, logits.double().softmax(1).numpy(), labels=labels),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=2e-6)
    assert found["confusion"] == sk.confusion_matrix(y, predicted, labels=labels).tolist()
    per_class = sk.f1_score(y, predicted, labels=labels, average=None, zero_division=0)
    assert found["f1_class"] == pytest.approx(per_class.tolist(), abs=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_metrics_equal_those_of_scikit_learn_for_any_batch_size(size, outputs):
    torch.manual_seed(0)
    model = nn.Linear(4, outputs).double()
    columns = points(N, dtype=torch.float64)
    columns["y"] = (columns["x"][:, :outputs] ** 2)[:, 0] if outputs == 1 else columns["x"][:, :outputs] ** 2
    found = evaluate(model, Regression(), ArrayPass(columns, size), nullcontext())
    with torch.no_grad():
        predicted = model(columns["x"]).reshape(columns["y"].shape).numpy()
    y = columns["y"].numpy()
    assert found["loss"] == pytest.approx(sk.mean_squared_error(y, predicted), rel=1e-9)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, predicted), rel=1e-9)
    assert found["rmse"] == pytest.approx(np.sqrt(sk.mean_squared_error(y, predicted)), rel=1e-9)
    if outputs == 1:
        assert found["r2"] == pytest.approx(sk.r2_score(y, predicted), rel=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_predictions_keep_the_order_of_the_samples(classifier, size):
    columns = sequences()
    task = Classification(n_classes=C, inputs=("x", "mask"))
    found = predict(classifier, task, ArrayPass(columns, size), nullcontext())
    whole = predict(classifier, task, [columns], nullcontext())
    assert found["prediction"].tolist() == whole["prediction"].tolist()
    np.testing.assert_allclose(found["probability"], whole["probability"], atol=1e-6)
    np.testing.assert_allclose(found["probability"].sum(1), 1, atol=1e-6)


def test_the_model_is_put_back_into_its_mode_even_after_an_error(classifier):
    task = Classification(n_classes=C + 1, inputs=("x", "mask"))
    for mode in (True, False):
        classifier.train(mode)
        with pytest.raises(Exception, match="logits of shape"):
            evaluate(classifier, task, [sequences()], nullcontext())
        assert classifier.training is mode
