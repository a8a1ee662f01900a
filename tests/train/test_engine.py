"""The eager engine's own matters: mixed precision, gradient scaling, clipping. What every engine owes: `contracts`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paceline.errors import ConfigError
from paceline.tasks import Classification
from paceline.train.config import AmpConfig, TrainingConfig
from paceline.train.engine_eager import EagerEngine
from paceline.train.runtime import amp_enabled, resolve_device
from tests.contracts.tiny import CPU, MEMBER, points

pytestmark = pytest.mark.fast

SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
TASK = Classification(n_classes=3)


class Linear(nn.Module):
    """Zero weights; remembers the type of its last outputs."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, dtype=dtype)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.seen: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x)
        self.seen = logits.dtype
        return logits


def eager(model: nn.Module, **training: object) -> EagerEngine:
    return EagerEngine(model, TASK, TrainingConfig(**training), MEMBER, {"val": [points(10)]}, CPU)


def group(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    columns = points(10, dtype=dtype)
    return [{"x": scale * columns["x"].unsqueeze(0), "y": columns["y"].unsqueeze(0)}]


def gradient(scale: float = 1.0) -> dict[str, Tensor]:
    """The gradient at zero weights, by autograd."""
    model, batch = Linear(torch.float64), group(scale, torch.float64)[0]
    F.cross_entropy(model(batch["x"][0]), batch["y"][0]).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def change(scale: float = 1.0, **training: object) -> dict[str, Tensor]:
    """The change of zero weights by one step of plain gradient descent at rate 1: the gradient as it was used."""
    engine = eager(Linear(torch.float64), **SGD, **training)
    engine.step(group(scale, torch.float64), [1.0], 0)
    return {name: -value for name, value in engine.weights(0, "current")["model"].items()}


def norm(tree: dict[str, Tensor]) -> float:
    return float(torch.cat([value.flatten() for value in tree.values()]).norm())


def test_clipping_by_norm_bounds_a_huge_gradient_and_keeps_its_direction():
    """A59, C59: the norm is what is bounded, unless another mode is asked for."""
    assert TrainingConfig().gradient_clip.mode == "norm"
    huge, used = gradient(1e4), change(1e4, gradient_clip={"mode": "norm", "value": 5.0})
    assert norm(huge) > 1000
    assert norm(used) == pytest.approx(5.0, rel=1e-6)
    for name, value in used.items():
        torch.testing.assert_close(value, huge[name] * 5.0 / norm(huge), rtol=1e-6, atol=1e-12)


def test_clipping_by_norm_leaves_a_small_gradient_alone():
    for name, value in change(gradient_clip={"mode": "norm", "value": 5.0}).items():
        torch.testing.assert_close(value, gradient()[name], rtol=0, atol=1e-12)


def test_clipping_by_value_bounds_each_element():
    """A59, C59."""
    expected = {name: value.clamp(-0.05, 0.05) for name, value in gradient().items()}
    assert any((value != gradient()[name]).any() for name, value in expected.items())
    for name, value in change(gradient_clip={"mode": "value", "value": 0.05}).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("off", [None, 0.0])
def test_no_value_or_zero_turns_clipping_off(off):
    """A59, C59."""
    assert norm(change(1e4, gradient_clip={"mode": "norm", "value": off})) == pytest.approx(norm(gradient(1e4)))


def test_gradients_are_unscaled_before_they_are_clipped():
    """A58, C60, X2: a scale of 65536 changes nothing, where clipping before would leave a norm of 5 / 65536."""
    engine = eager(Linear(), **SGD, gradient_clip={"mode": "norm", "value": 5.0})
    # The scaler of float16 on CUDA, which also runs here.
    engine._scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, enabled=True)
    engine._scaled = True
    engine.step(group(1e4), [1.0], 0)
    used = {name: -value for name, value in engine.weights(0, "current")["model"].items()}
    assert engine._scaler.get_scale() == 65536.0
    assert norm(used) == pytest.approx(5.0, rel=1e-4)


def test_bfloat16_on_a_cpu_is_used_when_asked_for():
    model = Linear()
    engine = eager(model, amp={"enabled": True})
    engine.step(group(), [0.01], 0)
    assert model.seen is torch.bfloat16
    assert model.linear.weight.dtype is torch.float32
    (values,) = engine.evaluate("val", [0])
    assert 0 < values["loss"] < 2
    assert model.seen is torch.bfloat16


def test_mixed_precision_is_off_on_a_cpu_unless_asked_for():
    """A57, X2."""
    model = Linear()
    engine = eager(model)
    engine.step(group(), [0.01], 0)
    assert model.seen is torch.float32
    assert not engine._scaler.is_enabled()
    assert amp_enabled(AmpConfig(), torch.device("cuda"))  # A97: on with CUDA, without being asked


def test_float16_without_cuda_is_refused():
    with pytest.raises(ConfigError, match="float16 needs CUDA"):
        amp_enabled(AmpConfig(enabled=True, dtype="float16"), CPU)


def test_the_cpu_is_used_where_it_is_asked_for_on_a_machine_with_cuda(monkeypatch):
    """C85: `auto` would take the CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["xpu", "meta", "cpu:1", "cuda:99", "mps:5"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match="no such device"):
        resolve_device(name)


def test_a_word_that_is_no_device_is_refused():
    with pytest.raises(ConfigError, match="unknown device"):
        resolve_device("gpu")


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weight_decay_shows_at_zero_gradient(decay):
    """Decoupled, as AdamW has it: w x (1 - rate x decay)."""
    model = nn.Sequential(nn.Linear(4, 3))
    nn.init.ones_(model[0].weight)
    # An input of zeros: the gradient of the weights is zero, that of the bias is not.
    columns = {"x": torch.zeros(1, 9, 4), "y": torch.arange(9).unsqueeze(0) % 3}
    engine = eager(model, weight_decay=decay)
    engine.step([columns], [0.1], 0)
    torch.testing.assert_close(engine.weights(0, "current")["model"]["0.weight"], torch.full((3, 4), 1 - 0.1 * decay))


def test_frozen_parameters_stay_as_they_are():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    engine = eager(model, gradient_clip={"value": 1.0})
    engine.step(group(), [0.1], 0)
    assert torch.equal(model[0].weight, before)


def test_the_gradients_are_gone_after_a_step():
    """A60: set to None, not to zero."""
    model = Linear()
    eager(model).step([*group(), *group()], [0.1], 0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_kept_optimizer_is_a_copy_in_the_layout_of_torch():
    """A70, A71."""
    engine = eager(Linear(), selection={"keep_optimizer": True})
    engine.step(group(), [0.1], 0)
    engine.keep(0)
    kept = engine.weights(0, "best")["optimizer"]
    engine.step(group(), [0.1], 1)
    assert [float(moments["step"]) for moments in kept["state"].values()] == [1.0, 1.0]
    again = engine.weights(0, "best")["optimizer"]
    assert [float(moments["step"]) for moments in again["state"].values()] == [1.0, 1.0]
    torch.optim.AdamW(Linear().parameters()).load_state_dict(kept)


def test_evaluation_is_without_gradients_and_in_evaluation_mode():
    """A62."""
    seen: list[tuple[bool, bool]] = []

    class Watching(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            seen.append((self.training, logits.requires_grad))
            return logits

    engine = eager(Watching(4, 3))
    engine.evaluate("val", [0])
    engine.predict("val", 0)
    engine.step(group(), [0.1], 0)
    assert seen == [(False, False), (False, False), (True, True)]
