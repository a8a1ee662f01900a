"""The classes that are said to work for stacked members do; the others are named with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parametrizations

from paceline.models.dropout import Dropout
from paceline.models.mlp import MLP
from paceline.models.norm import MaskedBatchNorm1d
from paceline.models.pooling import AttentionPooling
from paceline.models.recurrent import Recurrent
from paceline.models.vectorise import ACTIVATIONS, CONTAINERS, KNOWN, is_recurrent, why_not
from tests.models.members import alone, assert_same, stack, together

pytestmark = pytest.mark.fast

SEQUENCE, IMAGE, VOLUME = (2, 4, 6), (2, 4, 6, 6), (2, 2, 4, 4, 4)
TOKENS = "tokens"
EXAMPLES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "linear": (lambda: nn.Linear(6, 5), SEQUENCE),
    "embedding": (lambda: nn.Embedding(7, 5, padding_idx=2), TOKENS),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular", dilation=2), SEQUENCE),
    "conv1d in groups": (lambda: nn.Conv1d(4, 8, 3, stride=2, groups=2), SEQUENCE),
    "conv2d": (lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), VOLUME),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(4, 3, 3, stride=2), SEQUENCE),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1), IMAGE),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(2, 2, 3), VOLUME),
    "layer norm": (lambda: nn.LayerNorm(6), SEQUENCE),
    "rms norm": (lambda: nn.RMSNorm(6), SEQUENCE),
    "group norm": (lambda: nn.GroupNorm(2, 4), SEQUENCE),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True), SEQUENCE),
    "instance norm 2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "local response norm": (lambda: nn.LocalResponseNorm(2), IMAGE),
    "batch norm 1d": (lambda: nn.BatchNorm1d(4), SEQUENCE),
    "batch norm 1d without statistics": (lambda: nn.BatchNorm1d(4, track_running_stats=False), SEQUENCE),
    "batch norm 2d": (lambda: nn.BatchNorm2d(4), IMAGE),
    "batch norm 3d": (lambda: nn.BatchNorm3d(2), VOLUME),
    "prelu": (lambda: nn.PReLU(), SEQUENCE),
    "max pool 1d": (lambda: nn.MaxPool1d(2), SEQUENCE),
    "max pool 2d": (lambda: nn.MaxPool2d(2), IMAGE),
    "max pool 3d": (lambda: nn.MaxPool3d(2), VOLUME),
    "average pool 1d": (lambda: nn.AvgPool1d(2), SEQUENCE),
    "average pool 2d": (lambda: nn.AvgPool2d(2), IMAGE),
    "average pool 3d": (lambda: nn.AvgPool3d(2), VOLUME),
    "adaptive average pool 1d": (lambda: nn.AdaptiveAvgPool1d(4), SEQUENCE),
    "adaptive average pool 2d": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive average pool 3d": (lambda: nn.AdaptiveAvgPool3d(3), VOLUME),
    "adaptive max pool 1d": (lambda: nn.AdaptiveMaxPool1d(4), SEQUENCE),
    "adaptive max pool 2d": (lambda: nn.AdaptiveMaxPool2d(1), IMAGE),
    "adaptive max pool 3d": (lambda: nn.AdaptiveMaxPool3d(3), VOLUME),
    "identity": (nn.Identity, SEQUENCE),
    "flatten": (nn.Flatten, SEQUENCE),
    "unflatten": (lambda: nn.Unflatten(1, (2, 2)), SEQUENCE),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), IMAGE),
    "pixel unshuffle": (lambda: nn.PixelUnshuffle(2), IMAGE),
    "zero pad 1d": (lambda: nn.ZeroPad1d(2), SEQUENCE),
    "zero pad 2d": (lambda: nn.ZeroPad2d(2), IMAGE),
    "constant pad 1d": (lambda: nn.ConstantPad1d(2, 1.5), SEQUENCE),
    "constant pad 2d": (lambda: nn.ConstantPad2d(2, 1.5), IMAGE),
    "reflection pad 1d": (lambda: nn.ReflectionPad1d(2), SEQUENCE),
    "reflection pad 2d": (lambda: nn.ReflectionPad2d(2), IMAGE),
    "replication pad 1d": (lambda: nn.ReplicationPad1d(2), SEQUENCE),
    "replication pad 2d": (lambda: nn.ReplicationPad2d(2), IMAGE),
    "circular pad 1d": (lambda: nn.CircularPad1d(2), SEQUENCE),
    "circular pad 2d": (lambda: nn.CircularPad2d(2), IMAGE),
    "dropout of rate 0": (lambda: nn.Dropout(0.0), SEQUENCE),
}
ARGUMENTS = {nn.Threshold: (0.1, 20.0), nn.Softmax: (-1,), nn.LogSoftmax: (-1,), nn.Softmin: (-1,)}
EXAMPLES |= {
    kind.__name__: (lambda k=kind: k(*ARGUMENTS.get(k, ())), IMAGE if kind is nn.Softmax2d else SEQUENCE)
    for kind in ACTIVATIONS
}


class Tied(nn.Module):
    """A class of one's own: containers, a parameter of its own, one weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"first": nn.Linear(6, 6), "second": nn.Linear(6, 6)})
        self.parts["second"].weight = self.parts["first"].weight
        self.scales = nn.ParameterList([torch.ones(6), torch.ones(6)])
        self.named = nn.ParameterDict({"shift": torch.zeros(6)})

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.parts["first"](x).tanh() * self.scales[0] + self.named["shift"]
        return self.parts["second"](hidden) * self.scales[1]


EXAMPLES["a class of one's own"] = (Tied, SEQUENCE)


def members(build: Callable[[], nn.Module], shape: Any) -> tuple[list[nn.Module], Tensor]:
    torch.manual_seed(0)
    models = [build().double() for _ in range(3)]
    for parameter in (p for model in models for p in model.parameters()):
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    x = torch.randint(7, (3, 2, 4)) if shape == TOKENS else torch.randn(3, *shape, dtype=torch.float64)
    return models, x


def squares(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return outputs.square().sum() if isinstance(outputs, Tensor) else sum(each.square().sum() for each in outputs)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_known_class_gives_stacked_members_what_each_has_alone(name: str) -> None:
    models, x = members(*EXAMPLES[name])
    assert why_not(models[0]) is None
    assert_same(together(models, [x], squares), alone(models, [x], squares), 1e-11)
    for model in models:
        model.eval()
    evaluated = vmap(lambda p, b, x: squares(functional_call(models[0], (p, b), (x,))))(*stack(models), x)
    torch.testing.assert_close(evaluated, torch.stack([squares(m(x[k])) for k, m in enumerate(models)]))


def test_every_known_class_has_an_example() -> None:
    shown = {type(EXAMPLES[name][0]()) for name in EXAMPLES}
    assert KNOWN - set(CONTAINERS) == shown - {Tied, nn.Dropout}


class Wrapper(nn.Module):
    """A class of one's own around some module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class OwnGru(nn.GRU):
    """Derived from a class that does not work."""


class OwnLinear(nn.Linear):
    """Derived from a class that works."""


def hooked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    "model",
    [
        MLP([3, 4, 2], dropout=0.1), Recurrent("gru", 3, 4), Recurrent("lstm", 3, 4, num_layers=2, bidirectional=True),
        AttentionPooling(4, 3), MaskedBatchNorm1d(3), Dropout(0.5), nn.Sequential(OwnLinear(2, 2), nn.ReLU()),
        Wrapper(nn.ModuleList([nn.Linear(2, 2)])),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_nothing_is_said_against_core_models_and_own_classes(model: nn.Module) -> None:
    assert why_not(model) is None


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (nn.Dropout(0.1), r"inner \(Dropout\) draws .* use paceline.models.dropout.Dropout"),
        (nn.Sequential(nn.ReLU(), nn.AlphaDropout(0.1)), r"inner\.1 \(AlphaDropout\) draws"),
        (nn.GRU(2, 2), r"inner \(GRU\) has no batching rule .* use paceline.models.recurrent.Recurrent"),
        (OwnGru(2, 2), r"inner \(OwnGru\) has no batching rule"),
        (nn.GRUCell(2, 2), r"inner \(GRUCell\) has no batching rule"),
        (nn.LSTM(2, 2), r"inner \(LSTM\) has no batching rule"),
        (nn.MultiheadAttention(4, 2), r"inner \(MultiheadAttention\) has fused attention"),
        (nn.TransformerEncoderLayer(4, 2), r"inner \(TransformerEncoderLayer\) has fused attention"),
        (nn.BatchNorm1d(3, momentum=None), r"inner \(BatchNorm1d\) reads back .* give it a momentum"),
        (nn.Embedding(3, 2, max_norm=1.0), r"inner \(Embedding\) renormalises its weight in place"),
        (nn.Embedding(3, 2, sparse=True), r"inner \(Embedding\) has sparse gradients"),
        (nn.LazyLinear(3), r"inner \(LazyLinear\) has no shape yet"),
        (nn.Bilinear(2, 2, 2), r"inner \(Bilinear\) is not known to work"),
        (nn.RReLU(), r"inner \(RReLU\) is not known to work"),
        (parametrizations.spectral_norm(nn.Linear(3, 3)), r"inner \(Linear\) has a parametrized weight"),
        (hooked(), r"inner \(Linear\) has hooks"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_vectorised_is_named_with_the_reason(inner: nn.Module, reason: str) -> None:
    assert re.match(reason, why_not(Wrapper(inner)) or "")


def test_the_model_itself_and_the_layers_of_a_recurrent_stack_are_looked_at() -> None:
    assert why_not(nn.RReLU()) == "the model (RReLU) is not known to work for stacked members"
    layers = Recurrent("gru", 3, 4)
    layers.forward_layers[0].register_forward_pre_hook(lambda *_: None)
    assert why_not(Wrapper(layers)) == ("inner.forward_layers.0 (GRU) has hooks, which would see all members at once")


@pytest.mark.parametrize("inner", [Recurrent("gru", 3, 4), nn.LSTM(3, 4), nn.GRUCell(3, 4), OwnGru(3, 4)])
def test_recurrent_models_are_recognised(inner: nn.Module) -> None:
    assert is_recurrent(inner)
    assert is_recurrent(Wrapper(nn.Sequential(inner)))
    assert not is_recurrent(MLP([3, 4, 2]))
