"""The recipe's models keep the contract of core models: padding, dropout and members change no result."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from paceline.errors import ConfigError, DataError
from paceline.losses.classification import cross_entropy
from paceline.models.config import ModelConfig, WindowsConfig
from paceline.models.dropout import Dropout
from paceline.models.keyed import noise_sites, set_keys, signed32
from paceline.models.mlp import MLP
from paceline.models.pooling import AttentionPooling, masked_mean
from paceline.models.recurrent import reverse_valid
from paceline.models.windows import Windowed
from paceline.recipes.pain.config import MODELS, ConvGru, Gru, Lstm, Rnn, Statistics
from paceline.recipes.pain.model import ConvBlock
from paceline.types import DataSpec

pytestmark = pytest.mark.fast

SPEC = DataSpec(shapes={"x": (9, 4), "mask": (9,)}, classes=("a", "b", "c"))
LENGTHS = torch.tensor([9, 2, 5, 7])
SMALL = {
    "gru": Gru(hidden_size=6, num_layers=2),
    "gru, both directions": Gru(hidden_size=6, num_layers=2, bidirectional=True),
    "conv_gru": ConvGru(channels=(5, 6), hidden_size=4, num_layers=2),
    "conv_gru, mean": ConvGru(channels=(5,), hidden_size=4, pooling="mean"),
    "conv_gru, last": ConvGru(channels=(5,), hidden_size=4, pooling="last"),
    "lstm": Lstm(hidden_size=5),
    "lstm, both directions": Lstm(hidden_size=5, bidirectional=True),
    "rnn": Rnn(hidden_size=5),
    "statistics": Statistics(hidden_sizes=(6,), bins=3),
    "statistics, no bins": Statistics(hidden_sizes=(), bins=0),
    "gru, windows": Gru(hidden_size=6, windows=WindowsConfig(size=4, stride=2)),
    "conv_gru, windows": ConvGru(channels=(5,), hidden_size=4, windows=WindowsConfig(size=5, aggregate="logsumexp")),
}


class PooledMlp(nn.Module):
    """An MLP on the mean of each sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = MLP([4, 16, 3], dropout=0.3)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        return self.mlp(masked_mean(x_BTF, mask_BT))


BUILDERS: dict[str, Callable[[], nn.Module]] = {name: lambda c=config: c.build(SPEC) for name, config in SMALL.items()}
BUILDERS["pooled mlp"] = PooledMlp


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, mask = torch.randn(4, 9, 4, dtype=dtype), torch.arange(9) < LENGTHS[:, None]
    return torch.where(mask[:, :, None], x, 0), mask, torch.tensor([0, 1, 2, 1])


def step(model: nn.Module, x: Tensor, mask: Tensor | None, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of a training pass, and what it leaves: gradients and buffers."""
    model = copy.deepcopy(model).train()
    set_keys(model, seed=42, step=3)
    logits = model(x, mask)
    cross_entropy(logits[: len(y)], y).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return logits[: len(y)], gradients | dict(model.named_buffers())


def assert_same(a: tuple[Tensor, dict[str, Tensor]], b: tuple[Tensor, dict[str, Tensor]], tolerance: float) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=tolerance, atol=tolerance)
    assert a[1].keys() == b[1].keys()
    for name, value in a[1].items():
        torch.testing.assert_close(value, b[1][name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["fp64", "fp32"])
def test_padding_changes_no_logit_and_no_gradient(name: str, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    model = BUILDERS[name]().to(dtype)
    assert noise_sites(model)
    x, mask, y = batch(dtype)
    longer = torch.cat([x, torch.full((4, 7, 4), float("nan"), dtype=dtype)], 1)
    expected = step(model, x, mask, y)
    got = step(model, longer, torch.cat([mask, torch.zeros(4, 7, dtype=torch.bool)], 1), y)
    assert_same(got, expected, tolerance)
    # Samples without a single valid step may fill up a batch, too.
    more = torch.cat([x, torch.full((2, 9, 4), float("nan"), dtype=dtype)])
    got = step(model, more, torch.cat([mask, torch.zeros(2, 9, dtype=torch.bool)]), y)
    assert_same(got, expected, tolerance)


@pytest.mark.parametrize("name", BUILDERS)
def test_no_mask_means_that_all_steps_are_valid(name: str) -> None:
    torch.manual_seed(1)
    model = BUILDERS[name]().double()
    x, mask, y = batch()
    assert_same(step(model, x, None, y), step(model, x, torch.ones_like(mask), y), 1e-12)


@pytest.mark.parametrize("name", BUILDERS)
def test_dropout_is_on_in_training_and_off_in_evaluation(name: str) -> None:
    torch.manual_seed(1)
    model = BUILDERS[name]().double()
    x, mask, _ = batch()
    set_keys(model, seed=1, step=1)
    first = model(x, mask)
    set_keys(model, seed=1, step=2)
    assert not torch.equal(first, model(x, mask))
    model.eval()
    assert torch.equal(model(x, mask), model(x, mask))


@pytest.mark.parametrize("name", BUILDERS)
def test_padding_changes_no_logit_at_evaluation(name: str) -> None:
    torch.manual_seed(1)
    model = BUILDERS[name]().double().eval()
    x, mask, _ = batch()
    longer = torch.cat([x, torch.full((4, 7, 4), float("nan"), dtype=torch.float64)], 1)
    got = model(longer, torch.cat([mask, torch.zeros(4, 7, dtype=torch.bool)], 1))
    torch.testing.assert_close(got, model(x, mask), rtol=1e-12, atol=1e-12)


KINDS = {"gru": (Gru, nn.GRU), "lstm": (Lstm, nn.LSTM), "rnn": (Rnn, nn.RNN)}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"{kind} (A4)") for kind in KINDS])
def test_a_model_is_of_the_kind_and_size_that_its_config_says(kind: str) -> None:
    section, layer = KINDS[kind]
    model = section(hidden_size=7, num_layers=2).build(SPEC)
    assert [type(each) for each in model.recurrent.forward_layers] == [layer, layer]
    whole = layer(4, 7, 2)
    expected = sum(p.numel() for p in whole.parameters()) + 7 * 3 + 3
    assert sum(p.numel() for p in model.parameters()) == expected


def test_the_default_gru_has_256_units_in_two_layers_of_one_direction() -> None:
    """A5, A87: the head stands on the last state, of both directions if there are two."""
    model = Gru().build(SPEC)
    expected = sum(p.numel() for p in nn.GRU(4, 256, 2).parameters()) + 256 * 3 + 3
    assert sum(p.numel() for p in model.parameters()) == expected
    assert [layer.hidden_size for layer in model.recurrent.forward_layers] == [256, 256]
    assert not model.recurrent.backward_layers
    assert model.head.in_features == 256
    assert Gru(bidirectional=True, num_layers=1).build(SPEC).head.in_features == 512
    assert {site.p for _, site in noise_sites(model)} == {0.3}
    x, mask, _ = batch()
    model = model.double().eval()
    outputs, _ = model.recurrent(x, mask)
    last = outputs[torch.arange(4), LENGTHS - 1]
    torch.testing.assert_close(model(x, mask), model.head(last), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_flipping_the_sequence_swaps_what_the_head_of_two_tied_directions_sees(kind: str) -> None:
    """A88: both halves are final states, which have seen every step."""
    torch.manual_seed(1)
    model = KINDS[kind][0](hidden_size=5, num_layers=1, bidirectional=True).build(SPEC).double().eval()
    model.recurrent.backward_layers.load_state_dict(model.recurrent.forward_layers.state_dict())
    x, mask, _ = batch()
    plain = model(x, mask)
    with torch.no_grad():
        model.head.weight.copy_(model.head.weight.roll(5, dims=1))  # swap the two halves of the head
    torch.testing.assert_close(model(reverse_valid(x, mask), mask), plain, rtol=1e-12, atol=1e-12)
    for step in (0, 8):
        changed = x.clone()
        changed[0, step] += 1
        state = model.recurrent(changed, mask)[1][0] - model.recurrent(x, mask)[1][0]
        assert state[:5].abs().max() > 0 and state[5:].abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_with_dropout_gives_no_warning_and_drops_before_the_head_only(kind: str) -> None:
    """A89."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KINDS[kind][0](hidden_size=8, num_layers=1, dropout=0.3, bidirectional=True).build(SPEC)
        model(torch.randn(2, 9, 4))
    assert [(path, site.p) for path, site in noise_sites(model)] == [("dropout", 0.3)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_one_direction_is_causal(kind: str) -> None:
    """A94: what it says after step t, and the logits of a sequence that ends there, know no later step."""
    torch.manual_seed(1)
    model = KINDS[kind][0](hidden_size=6).build(SPEC).double().eval()
    x, _, _ = batch()
    for t in range(1, 9):
        changed = x.clone()
        changed[:, t:] += torch.randn(4, 9 - t, 4, dtype=torch.float64)
        before, after = model.recurrent(x)[0], model.recurrent(changed)[0]
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.equal(before[:, t], after[:, t])
        until = (torch.arange(9) < t).expand(4, -1)
        assert torch.equal(model(x, until), model(changed, until))


@pytest.mark.parametrize(("name", "section"), MODELS.items())
def test_models_are_chosen_by_name_and_build_for_the_data(name: str, section: type[ModelConfig]) -> None:
    model = section.model_validate({"name": name}).build(SPEC)
    assert model(torch.randn(2, 9, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    "bad", [{"kernel_size": 4}, {"channels": []}, {"dropout": 1.0}, {"pooling": "max"}, {"width": 1}]
)
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConvGru.model_validate(bad)


@pytest.mark.parametrize(("name", "section"), MODELS.items())
def test_windows_are_a_choice_of_every_model_and_fit_the_data(name: str, section: type[ModelConfig]) -> None:
    assert type(section.model_validate({"windows": {"size": 4}}).build(SPEC)) is Windowed
    with pytest.raises(ConfigError, match="longer than the longest sequence"):
        section.model_validate({"windows": {"size": 10}}).build(SPEC)
    with pytest.raises(DataError, match="needs sequences"):
        section.model_validate({"name": name}).build(DataSpec(shapes={"x": (4,)}, classes=("a", "b")))


class ConvAttention(nn.Module):
    """The parts of ConvGru without its GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ConvBlock(4, 6, kernel_size=3, dropout=0.3)
        self.pool = AttentionPooling(6, 5)
        self.dropout = Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        return self.head(self.dropout(self.pool(self.block(x_BTF, mask_BT), mask_BT)))


def test_members_stacked_under_vmap_train_as_they_would_alone() -> None:
    torch.manual_seed(1)
    models = [ConvAttention().double() for _ in range(3)]
    x, mask, y = batch()
    xs = torch.stack([x, 2 * x, -x])
    template = copy.deepcopy(models[0]).train()
    for k, model in enumerate(models):
        for j, (_, site) in enumerate(noise_sites(model)):
            site.key.fill_(signed32(1_000_003 * k + j))
    parameters, buffers = stack_module_state(models)
    buffers = {name: value.clone() for name, value in buffers.items()}

    def loss(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        logits = functional_call(template, (parameters, buffers), (x, mask))
        return cross_entropy(logits, y).sum(), (logits, buffers)

    gradients, (_, (logits, updated)) = vmap(grad_and_value(loss, has_aux=True))(parameters, buffers, xs)
    for k, model in enumerate(models):
        alone = model.train()(xs[k], mask)
        cross_entropy(alone, y).sum().backward()
        own = {name: parameter.grad for name, parameter in model.named_parameters()} | dict(model.named_buffers())
        together = {name: value[k] for name, value in (gradients | updated).items()}
        assert_same((logits[k], together), (alone, own), 1e-12)
