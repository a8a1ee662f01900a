"""The contract of core models: members trained together are what each would be alone, with noise on. K members."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from paceline.losses.classification import cross_entropy
from paceline.models.config import WindowsConfig
from paceline.models.dropout import Dropout
from paceline.models.keyed import noise_sites, set_keys
from paceline.models.mlp import MLP
from paceline.models.pooling import masked_max, masked_mean
from paceline.models.vectorise import is_recurrent, why_not
from paceline.recipes.pain.config import ConvGru, Gru, Lstm, Rnn, Statistics
from paceline.recipes.pain.model import ConvBlock
from paceline.types import DataSpec
from tests.models.members import alone, assert_same, stack, together

pytestmark = pytest.mark.fast

K, B, T, F, C = 3, 4, 9, 4, 3
SPEC = DataSpec(shapes={"x": (T, F), "mask": (T,)}, classes=("a", "b", "c"))
SMOOTHING = torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)
RATE = 0.5


class Pooled(nn.Module):
    """Convolution block and MLP on the mean and maximum of each sequence; no recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ConvBlock(F, 6, kernel_size=3, dropout=0.3)
        self.mlp = MLP([12, 8, C], dropout=0.3)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        x = self.block(x_BTF, mask_BT)
        return self.mlp(torch.cat([masked_mean(x, mask_BT), masked_max(x, mask_BT)], 1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: Gru(hidden_size=6).build(SPEC),
    "gru, both directions": lambda: Gru(hidden_size=6, bidirectional=True).build(SPEC),
    "conv_gru": lambda: ConvGru(channels=(5, 6), hidden_size=4, num_layers=2).build(SPEC),
    "conv_gru, mean": lambda: ConvGru(channels=(5,), hidden_size=4, pooling="mean").build(SPEC),
    "conv_gru, last": lambda: ConvGru(channels=(5,), hidden_size=4, pooling="last").build(SPEC),
    "lstm": lambda: Lstm(hidden_size=5).build(SPEC),
    "lstm, both directions": lambda: Lstm(hidden_size=5, bidirectional=True).build(SPEC),
    "rnn, both directions": lambda: Rnn(hidden_size=5, bidirectional=True).build(SPEC),
    "statistics": lambda: Statistics(hidden_sizes=(6,), bins=3).build(SPEC),
    "gru, windows": lambda: Gru(hidden_size=6, windows=WindowsConfig(size=4)).build(SPEC),
    "conv_gru, windows": lambda: ConvGru(channels=(5,), hidden_size=4, windows=WindowsConfig(size=5)).build(SPEC),
    "convolution and mlp": Pooled,
}


def members(name: str) -> list[nn.Module]:
    torch.manual_seed(1)
    return [MODELS[name]().double().train() for _ in range(K)]


def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(T) < torch.randint(1, T + 1, (K, B, 1))
    x = torch.randn(K, B, T, F, dtype=torch.float64).masked_fill(~mask[..., None], float("nan"))
    return x, mask, torch.randint(C, (K, B))


def objective(logits: Tensor, y: Tensor, smoothing: Tensor) -> Tensor:
    return cross_entropy(logits, y, label_smoothing=smoothing).mean()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])
def test_members_trained_together_are_what_each_is_alone(name: str, masked: bool) -> None:
    models, (x, mask, y) = members(name), batch()
    inputs = [x, mask] if masked else [x.nan_to_num()]
    for step in range(3):
        for k, model in enumerate(models):
            set_keys(model, seed=k, step=step)
        got = together(models, inputs, objective, (y, SMOOTHING))
        assert_same(got, alone(models, inputs, objective, (y, SMOOTHING)), 1e-12)
        for k, model in enumerate(models):
            values = dict(model.named_buffers())
            with torch.no_grad():
                for parameter_name, parameter in model.named_parameters():
                    parameter -= RATE * got[1][parameter_name][k]
                for buffer_name, buffer in values.items():
                    buffer.copy_(got[1][buffer_name][k])


@pytest.mark.parametrize("name", MODELS)
def test_members_evaluated_together_are_what_each_is_alone(name: str) -> None:
    models, (x, mask, _) = members(name), batch()
    for model in models:
        model.eval()
    with torch.no_grad():
        logits = vmap(lambda p, b, x, m: functional_call(models[0], (p, b), (x, m)))(*stack(models), x, mask)
        for k, model in enumerate(models):
            torch.testing.assert_close(logits[k], model(x[k], mask[k]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_members_may_differ_in_their_dropout_rate(name: str) -> None:
    models, (x, mask, y) = members(name), batch()
    for k, model in enumerate(models):
        set_keys(model, seed=k, step=0)
        for _, site in noise_sites(model):
            if isinstance(site, Dropout):
                site.set_rate(torch.tensor(0.2 * k, dtype=torch.float64))
    inputs, targets = [x, mask], (y, SMOOTHING)
    assert_same(together(models, inputs, objective, targets), alone(models, inputs, objective, targets), 1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_member_s_result_does_not_depend_on_its_neighbours(name: str) -> None:
    models, (x, mask, y) = members(name), batch()
    for k, model in enumerate(models):
        set_keys(model, seed=k, step=0)
    values, left = together(models, [x, mask], objective, (y, SMOOTHING))
    changed = copy.deepcopy(models)
    for parameter in changed[0].parameters():
        parameter.data.mul_(3)
    x2 = x.clone()
    x2[0] = 7
    values2, left2 = together(changed, [x2, mask], objective, (y, SMOOTHING))
    assert not torch.equal(values[0], values2[0])
    assert torch.equal(values[1:], values2[1:])
    assert all(torch.equal(value[1:], left2[name][1:]) for name, value in left.items())


@pytest.mark.parametrize("name", MODELS)
def test_running_as_a_member_leaves_the_template_and_the_names_of_its_state_alone(name: str) -> None:
    models, (x, mask, y) = members(name), batch()
    before = {key: value.clone() for key, value in models[0].state_dict().items()}
    together(models, [x, mask], objective, (y, SMOOTHING))
    after = models[0].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert set(after) == set(dict(MODELS[name]().named_parameters())) | {key for key in after if "running" in key}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_keeps_core_models_from_being_stacked(name: str) -> None:
    model = MODELS[name]()
    assert why_not(model) is None
    assert is_recurrent(model) is (name not in ("convolution and mlp", "statistics"))
