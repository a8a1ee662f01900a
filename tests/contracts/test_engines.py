"""What every engine owes: gradients of whole groups, noise of its member alone, real copies, a complete state.

Shapes: K members, B samples, T steps, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paceline.checkpoint.tree import equal
from paceline.losses.classification import CrossEntropy
from paceline.models.dropout import Dropout
from paceline.tasks import Classification
from paceline.train.config import TrainingConfig
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import seeded_model
from paceline.types import Member
from tests.contracts.tiny import CPU, MEMBER, TwoTerms, points

pytestmark = pytest.mark.fast

SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
CLASS_WEIGHTS = (0.2, 1.0, 3.0)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
GROUPS = [[10], [5, 3, 2], [9, 1], [1] * 10]

Build = Callable[..., Any]


def eager(build_model: Build, task: Any, member: Member = MEMBER, **training: Any) -> EagerEngine:
    config = TrainingConfig(**training)
    return EagerEngine(seeded_model(build_model, member), task, config, member, CPU)


@pytest.fixture(params=[eager], ids=["eager"])
def make(request: pytest.FixtureRequest) -> Build:
    """Build an engine of one member: make(build_model, task, member, **training)."""
    return request.param


def classifier(dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> Build:
    return lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Dropout(dropout), nn.Linear(6, 3)).to(dtype)


def foreign() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))


def batches(columns: Mapping[str, Tensor], sizes: Sequence[int]) -> list[dict[str, Tensor]]:
    """Cut columns into batches of these sizes, with a leading member axis."""
    parts = {name: torch.split(column, list(sizes)) for name, column in columns.items()}
    return [{name: part[i].unsqueeze(0) for name, part in parts.items()} for i in range(len(sizes))]


def weights(engine: Any, which: str = "current") -> dict[str, Tensor]:
    return {name: value.clone() for name, value in engine.weights(0, which)["model"].items()}


def step_gradients(engine: Any, group: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Make one step of plain gradient descent at rate 1, whose change is the gradient."""
    before = weights(engine)
    engine.step(group, [1.0], 0)
    return {name: before[name] - value for name, value in weights(engine).items()}


def sequences(dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([7, 2, 5, 1, 3, 7, 4, 6, 1, 2])
    x = torch.randn(10, 7, 4, generator=generator, dtype=dtype)
    return {"x": x, "y": x.sum(-1).sin(), "mask": torch.arange(7) < lengths[:, None]}


def plain_loss(model: nn.Module, c: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(c["x"]), c["y"], label_smoothing=0.1)


def weighted_loss(model: nn.Module, c: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(c["x"]), c["y"], torch.tensor(CLASS_WEIGHTS, dtype=c["x"].dtype))


def masked_loss(model: nn.Module, c: Mapping[str, Tensor]) -> Tensor:
    kept = c["sample_mask"]
    return F.cross_entropy(model(c["x"][kept]), c["y"][kept])


def two_term_loss(model: nn.Module, c: Mapping[str, Tensor]) -> Tensor:
    """Sample by sample, from the definition."""
    error, rough, pairs = torch.tensor(0.0, dtype=c["x"].dtype), torch.tensor(0.0, dtype=c["x"].dtype), 0
    for x, y, mask in zip(c["x"], c["y"], c["mask"], strict=True):
        out, length = model(x[mask])[:, 0], int(mask.sum())
        error = error + (out - y[mask]).square().mean()
        rough, pairs = rough + (out[1:] - out[:-1]).square().sum(), pairs + length - 1
    return error / len(c["x"]) + 0.1 * rough / pairs


KEPT = torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 1, 1], dtype=torch.bool)  # the middle batch of [5, 3, 2] has none
LOSSES = {
    "plain": (plain_loss, Classification(n_classes=3, loss=CrossEntropy(label_smoothing=0.1)), {}),
    "class weights": (weighted_loss, Classification(n_classes=3, loss=CrossEntropy(class_weights=CLASS_WEIGHTS)), {}),
    "masked samples": (masked_loss, Classification(n_classes=3), {"sample_mask": KEPT}),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", GROUPS, ids=str)
@pytest.mark.parametrize("kind", LOSSES)
def test_the_gradient_of_an_accumulated_ragged_group_is_that_of_the_whole_batch(make, kind, sizes, dtype):
    oracle, task, extra = LOSSES[kind]
    columns = {**points(10, dtype=dtype), **extra}
    engine = make(classifier(dtype), task, **SGD)
    model = seeded_model(classifier(dtype), MEMBER)
    oracle(model, columns).backward()
    found = step_gradients(engine, batches(columns, sizes))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", GROUPS, ids=str)
def test_two_terms_with_different_denominators_keep_the_gradient_of_the_whole_batch(make, sizes, dtype):
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)

    columns = sequences(dtype)
    engine, model = make(build, TwoTerms(), **SGD), seeded_model(build, MEMBER)
    two_term_loss(model, columns).backward()
    found = step_gradients(engine, batches(columns, sizes))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=TOLERANCE[dtype])


def test_averaging_the_batches_instead_would_be_noticed(make):
    """The test above can fail: the mean of the batches' means is another gradient."""
    columns = points(10, dtype=torch.float64)
    task = Classification(n_classes=3, loss=CrossEntropy(class_weights=CLASS_WEIGHTS))
    whole = step_gradients(make(classifier(torch.float64), task, **SGD), batches(columns, [10]))
    parts = [
        step_gradients(make(classifier(torch.float64), task, **SGD), [batch]) for batch in batches(columns, [5, 3, 2])
    ]
    averaged = sum(part["0.weight"] for part in parts) / 3
    assert (averaged - whole["0.weight"]).abs().max() > 1e-3


def test_the_sums_and_weights_of_a_step_are_those_of_its_batches(make):
    columns = points(10)
    engine = make(classifier(), Classification(n_classes=3), **SGD)
    model = seeded_model(classifier(), MEMBER)
    expected = F.cross_entropy(model(columns["x"]), columns["y"], reduction="none").split([5, 3, 2])
    done = engine.step(batches(columns, [5, 3, 2]), [0.1], 0)
    assert [weight["cross_entropy"] for _, weight in done] == [5, 3, 2]
    for (sums, _), values in zip(done, expected, strict=True):
        torch.testing.assert_close(sums["cross_entropy"], values.sum())
        assert not sums["cross_entropy"].requires_grad


@pytest.mark.parametrize("build", [classifier(dropout=0.5), foreign], ids=["own dropout", "torch's dropout"])
def test_random_numbers_drawn_between_steps_change_nothing(make, build):
    """Noise is a function of (seed, fold, purpose, step)."""
    task, group = Classification(n_classes=3), batches(points(10), [5, 5])
    quiet, disturbed = make(build, task), make(build, task)
    for step in range(4):
        quiet.step(group, [0.1], step)
        torch.manual_seed(step)
        torch.rand(17)
        disturbed.step(group, [0.1], step)
    assert equal(weights(quiet), weights(disturbed)) == []


@pytest.mark.parametrize("build", [classifier(dropout=0.5), foreign], ids=["own dropout", "torch's dropout"])
@pytest.mark.parametrize(
    ("member", "first"),
    [(Member(seed=43), 0), (Member(seed=42, fold=1), 0), (MEMBER, 1)],
    ids=["another seed", "another fold", "another step"],
)
def test_noise_differs_between_seeds_folds_and_steps(make, build, member, first):
    task, group = Classification(n_classes=3), batches(points(10), [10])
    one, other = make(build, task), make(build, task, member)
    other.load_state_dict(one.state_dict())  # from the same weights
    one.step(group, [0.1], 0)
    other.step(group, [0.1], first)
    assert equal(weights(one), weights(other)) != []


def test_the_batches_of_a_group_have_masks_of_their_own(make):
    """Two equal batches in one group: the same mask would give the sum of the first twice."""
    columns = points(5)
    engine = make(classifier(dropout=0.5), Classification(n_classes=3), **SGD)
    twice = {name: torch.cat([column, column]) for name, column in columns.items()}
    (first, _), (second, _) = engine.step(batches(twice, [5, 5]), [0.1], 0)
    assert first["cross_entropy"] != second["cross_entropy"]


def test_the_noise_does_not_depend_on_the_variant(make):
    task, group = Classification(n_classes=3), batches(points(10), [10])
    plain = make(classifier(dropout=0.5), task)
    variant = make(classifier(dropout=0.5), task, Member(variant="lstm", seed=42))
    for engine in (plain, variant):
        engine.step(group, [0.1], 0)
    assert equal(weights(plain), weights(variant)) == []


def test_the_best_weights_are_copies_that_later_steps_do_not_touch(make):
    """A71, X3."""
    engine = make(foreign, Classification(n_classes=3))
    group = batches(points(10), [10])
    engine.step(group, [0.1], 0)
    engine.keep(0)
    kept = weights(engine)
    engine.step(group, [0.1], 1)
    assert equal(weights(engine, "best"), kept) == []
    assert equal(weights(engine), kept) != []
    last = weights(engine)
    engine.use_best(0)
    assert equal(weights(engine, "best"), kept) == []
    assert equal(weights(engine), last) == []  # `current` still is where training ended


def test_the_kept_optimizer_is_a_copy_in_the_layout_of_torch(make):
    """A71."""
    engine = make(classifier(), Classification(n_classes=3), selection={"keep_optimizer": True})
    group = batches(points(10), [10])
    engine.step(group, [0.1], 0)
    engine.keep(0)
    kept = engine.weights(0, "best")["optimizer"]
    steps = [float(state["step"]) for state in kept["state"].values()]
    engine.step(group, [0.1], 1)
    assert steps == [1.0] * 4
    assert [float(s["step"]) for s in engine.weights(0, "best")["optimizer"]["state"].values()] == steps
    torch.optim.AdamW(classifier()().parameters()).load_state_dict(kept)


@pytest.mark.parametrize("build", [classifier(dropout=0.5), foreign], ids=["own dropout", "torch's dropout"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_restored_engine_goes_on_bit_for_bit(make, build, optimizer):
    """X5."""
    task, group = Classification(n_classes=3), batches(points(10), [6, 4])
    whole, first, second = (make(build, task, optimizer=optimizer) for _ in range(3))
    for step in range(5):
        whole.step(group, [0.1 / (step + 1)], step)
    for step in range(2):
        first.step(group, [0.1 / (step + 1)], step)
    second.load_state_dict(first.state_dict())
    for step in range(2, 5):
        second.step(group, [0.1 / (step + 1)], step)
    assert equal(second.state_dict(), whole.state_dict()) == []


def test_the_gradients_are_gone_after_a_step(make):
    """A60: set to None, not to zero."""
    model = classifier()()
    engine = make(lambda: model, Classification(n_classes=3))
    engine.step(batches(points(10), [5, 5]), [0.1], 0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_step_is_made_at_the_rate_that_it_is_given(make):
    group = batches(points(10, dtype=torch.float64), [10])
    task = Classification(n_classes=3)
    at_one = step_gradients(make(classifier(torch.float64), task, **SGD), group)
    engine = make(classifier(torch.float64), task, **SGD)
    before = weights(engine)
    engine.step(group, [0.25], 0)
    for name, value in weights(engine).items():
        torch.testing.assert_close(before[name] - value, 0.25 * at_one[name], rtol=1e-12, atol=1e-15)


def test_evaluation_leaves_training_mode_weights_and_gradients_alone(make):
    """A62."""
    seen: list[tuple[bool, bool]] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.linear(x)
            seen.append((self.training, logits.requires_grad))
            return logits

    engine = make(Watching, Classification(n_classes=3))
    before = weights(engine)
    engine.evaluate(0, [points(10)])
    engine.predict(0, [points(10)])
    engine.step(batches(points(10), [10]), [0.1], 0)
    assert seen == [(False, False), (False, False), (True, True)]
    assert equal(before, weights(engine)) != []  # the step, not the evaluations: see the next line
    again = make(Watching, Classification(n_classes=3))
    again.step(batches(points(10), [10]), [0.1], 0)
    assert equal(weights(again), weights(engine)) == []
