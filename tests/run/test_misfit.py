"""A layer that was made for another size: which one, both sizes, where, and what to try."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import paceline
from paceline.errors import ModelError
from paceline.models.norm import MaskedBatchNorm1d
from paceline.models.recurrent import Recurrent
from paceline.run.misfit import sizes_explained
from tests.contracts.tiny import USE

pytestmark = pytest.mark.fast

HEAD = """import torch
import paceline

class Net(torch.nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.lstm = torch.nn.LSTM(features, 16, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(16, classes)

    def forward(self, x, mask=None):
        outputs, _ = self.lstm(x)
        return self.head(outputs.mean(1))

class Own(paceline.ModelConfig):
    def build(self, spec):
        return Net(spec.n_features, spec.n_classes)

models = {"own": Own}
"""
SEQUENCES = (torch.randn(12, 5, 4), torch.arange(12) % 3)


class Directions(nn.Module):
    def __init__(self, directions: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.layers, self.head = directions, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.layers(x)
        return self.head(found[1] if isinstance(self.layers, Recurrent) else found[0][:, -1])


def fails(model: nn.Module, *shape: int) -> ModelError:
    with pytest.raises(ModelError) as caught, sizes_explained(model):
        model(torch.randn(*shape))
    assert len(str(caught.value).splitlines()) <= 4
    return caught.value


@pytest.mark.parametrize(
    ("layer", "shape", "words", "hint"),
    [
        (nn.Linear(5, 3), (2, 4), "1 is made for 5 features and gets 4", "in_features=4"),
        (nn.LSTM(5, 3, batch_first=True), (2, 7, 4), "made for 5 features and gets 4", "input_size=4"),
        (nn.GRU(5, 3, batch_first=True), (2, 7, 4), "made for 5 features and gets 4", "input_size=4"),
        (nn.Conv1d(5, 3, 2), (2, 4, 7), "made for 5 features and gets 4", "in_channels=4"),
        (nn.BatchNorm1d(5), (2, 4, 7), "made for 5 features and gets 4", "num_features=4"),
        (nn.LayerNorm(5), (2, 7, 4), "made for 5 features and gets 4", "normalized_shape=4"),
        (Recurrent("gru", 5, 3), (2, 7, 4), "1.forward_layers.0 is made for 5 features and gets 4", "input_size=4"),
        (MaskedBatchNorm1d(5), (2, 7, 4), "made for 5 features and gets 4", "features=4"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_layer_is_named_with_both_sizes(layer, shape, words, hint) -> None:
    error = fails(nn.Sequential(nn.Identity(), layer), *shape)
    assert words in error.what
    assert error.hint == hint
    assert str(shape) in error.got
    assert Path(error.where.split(":")[0]).name == Path(__file__).name


@pytest.mark.parametrize(
    "layers",
    [nn.GRU(4, 8, batch_first=True, bidirectional=True), Recurrent("lstm", 4, 8, bidirectional=True)],
    ids=["torch's", "the core's"],
)
def test_a_head_that_forgets_the_second_direction_is_told_so(layers: nn.Module) -> None:
    error = fails(Directions(layers, nn.Linear(8, 3)), 2, 5, 4)
    assert error.what == "head is made for 8 features and gets 16"
    assert error.hint == "in_features=16: layers has two directions, which give 2 * hidden_size"


def test_another_mistake_of_a_layer_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="dtype"), sizes_explained(nn.Linear(4, 3)) as _:
        nn.Linear(4, 3)(torch.randn(2, 4, dtype=torch.float64))
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match="dtype"), sizes_explained(model):
        model(torch.randn(2, 4, dtype=torch.float64))


def test_a_model_of_a_use_file_whose_head_does_not_fit_ends_with_code_2_and_no_run(workdir: Path) -> None:
    from typer.testing import CliRunner

    from paceline.cli.app import app

    Path("own.py").write_text(HEAD)
    rng = np.random.default_rng(0)
    np.savez("a.npz", x=rng.normal(size=(60, 5, 4)), y=np.arange(60) % 3)
    arguments = ["train", "--use", "own.py", "task=pain", "model=own", "data=npz", "data.path=a.npz"]
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, ModelError) and error.exit_code == 2
    assert str(error).splitlines() == [
        "head is made for 16 features and gets 32",
        "where: own.py:12",
        "got: Linear(in_features=16, out_features=3, bias=True) called with (2, 32)",
        "try: in_features=32: lstm has two directions, which give 2 * hidden_size",
    ]
    assert not Path("runs").exists()


def test_a_factory_given_to_trainer_whose_head_does_not_fit_is_told_the_same(workdir: Path) -> None:
    def build_model() -> nn.Module:
        return Directions(nn.GRU(4, 8, batch_first=True, bidirectional=True), nn.Linear(8, 3))

    with pytest.raises(ModelError, match="head is made for 8 features and gets 16") as caught:
        paceline.Trainer(build_model).fit(SEQUENCES, SEQUENCES)
    assert "two directions" in caught.value.hint
    assert not Path("runs").exists()


def test_a_head_for_another_number_of_classes_is_told_the_shape(workdir: Path) -> None:
    Path("own.py").write_text(HEAD.replace("Linear(16, classes)", "Linear(6, 2)").replace("self.lstm(x)", "x, None")
                              .replace("outputs.mean(1)", "outputs"))  # fmt: skip
    with pytest.raises(ModelError, match="logits of shape") as caught:
        paceline.train("blobs", {"model": "own"}, use=[USE, "own.py"])
    assert (caught.value.got, caught.value.hint) == ("(2, 2)", "a tensor (2, 3)")
