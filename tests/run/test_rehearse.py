"""Before anything is written: whose code fails on two samples, and on which line of which file."""

from __future__ import annotations

from pathlib import Path

import pytest

import paceline
from paceline.errors import DataError, ModelError
from tests.contracts.tiny import USE

pytestmark = pytest.mark.fast

OWN = """import numpy as np
import torch
import paceline

class Own:
    def __init__(self, weight, function): self.weight, self.function = weight, function

    def weights(self, batch): return {"a": self.weight}

    def sums(self, outputs, batch): return self.function(outputs)


class Loss(paceline.LossConfig):
    def build(self, spec):
        LOSS

class Model(paceline.ModelConfig):
    def build(self, spec):
        MODEL

class Data(paceline.DataConfig):
    def load(self):
        DATA

losses, models = {"a": Loss}, {"m": Model}
recipe = paceline.Recipe(name="own", data={"d": Data}, models=models)
"""
SOUND = {"LOSS": "return Own(1, lambda o: {'a': o.sum()})", "MODEL": "return torch.nn.Linear(6, 3)", "DATA": "pass"}


def fails(error: type[paceline.PacelineError], task: str, **parts: str) -> paceline.PacelineError:
    """Train with these parts, see the error, and that nothing was written."""
    text = OWN
    for name, body in {**SOUND, **parts}.items():
        text = text.replace(name, body)
    Path("own.py").write_text(text)
    groups = {"loss": "a", "model": "m"} if task == "blobs" else {}
    with pytest.raises(error) as caught:
        paceline.train(task, groups, use=[USE, "own.py"], name="own")
    assert len(str(caught.value).splitlines()) <= 4
    assert not Path("runs").exists()
    return caught.value


@pytest.mark.parametrize(
    ("body", "message", "where"),
    [
        ("return torch.nn.Linear(spec.nothing, 3)", "model cannot be built: AttributeError", "own.py:19"),
        ("return torch.nn.Conv2d(6, 3, 1)", "model fails on two samples of the data: RuntimeError", "model=m"),
        ("return torch.nn.Linear(7, 3)", "the model is made for 7 features and gets 6", "model=m"),
        ("return torch.nn.Linear(6, 2)", "logits of shape", "model=m"),
        ("return 5", "not a torch.nn.Module", "model=m"),
        (
            "class Net(torch.nn.Module):\n            def forward(self, x): assert x.ndim == 3\n        return Net()",
            "model fails on two samples of the data: AssertionError",
            "own.py:20",
        ),
    ],
)
def test_a_models_mistake_names_its_line_or_else_the_model(workdir, body, message, where):
    error = fails(ModelError, "blobs", MODEL=body)
    assert message in error.what
    assert error.where == where


@pytest.mark.parametrize(
    ("body", "message", "where"),
    [
        ("return spec.nothing", "loss cannot be built: AttributeError", "own.py:15"),
        ("return paceline.PerSample(lambda o, b: b['z'])", "loss fails on two samples of the data: Key", "own.py:15"),
        ("return paceline.PerSample(lambda o, b: None)", "one value per sample", "own.py:15"),
        ("return paceline.PerSample(lambda o, b: o.sum())", "one value per sample", "own.py:15"),
        ("return 5", "loss fails on two samples", "loss=a"),
        ("return Own(1, lambda o: o.sum())", "`sums` of the loss must be a dict", "loss=a"),
        ("return Own(1, lambda o: {'a': 3.0})", "loss term 'a' must be one number", "loss=a"),
        ("return Own(1, lambda o: {'a': o.sum(1)})", "loss term 'a' must be one number", "loss=a"),
        ("return Own(1, lambda o: {'a': o.argmax()})", "loss term 'a' must be one number", "loss=a"),
        ("return Own('1', lambda o: {'a': o.sum()})", "loss term 'a' needs a weight", "loss=a"),
        ("return Own(1, lambda o: {'a': o.detach().sum()})", "does not depend on the model", "loss=a"),
    ],
)
def test_a_loss_that_is_none_is_named_and_not_the_model(workdir, body, message, where):
    error = fails(ModelError, "blobs", LOSS=body)
    assert message in error.what
    assert error.where == where


@pytest.mark.parametrize(
    ("body", "message", "where"),
    [
        ("raise KeyError('k')", "data cannot be loaded: KeyError: 'k'", "own.py:23"),
        ("open('no.csv')", "data cannot be loaded: FileNotFoundError", "own.py:23"),
        ("pass", "something other than a data set", "own.py:22"),
        ("return [1], [2]", "something other than a data set", "own.py:22"),
        ("return paceline.dataset(x=[1.0], y=[1.0])", "wrong number of axes", "own.py:23: x"),
    ],
)
def test_data_that_cannot_be_loaded_says_why_and_where(workdir, body, message, where):
    error = fails(DataError, "own", DATA=body)
    assert message in error.what
    assert error.where == where
