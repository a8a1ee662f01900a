"""What every engine owes: gradients of whole groups, noise of its member alone, real copies, a complete state.

Shapes: K members, B samples, T steps, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paceline.checkpoint.tree import check, equal
from paceline.losses.classification import CrossEntropy
from paceline.tasks import Classification
from paceline.train.learner import seeded_model
from paceline.types import Member
from tests.contracts.arms import Alone, InCohort, classifier, normalised
from tests.contracts.tiny import MEMBER, TwoTerms, points

pytestmark = pytest.mark.fast

SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
CLASS_WEIGHTS = (0.2, 1.0, 3.0)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
GROUPS = [[10], [5, 3, 2], [9, 1], [1] * 10]


@pytest.fixture(params=[Alone, InCohort], ids=["eager", "cohort"])
def make(request: pytest.FixtureRequest) -> Callable[..., Alone]:
    """Put a member into an engine: make(build, task, columns, member, **training)."""
    return request.param


def foreign() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))


TASK = Classification(n_classes=3)
NOISY = [
    pytest.param(Alone, classifier(dropout=0.5), id="eager, own dropout"),
    pytest.param(InCohort, classifier(dropout=0.5), id="cohort, own dropout"),
    pytest.param(Alone, foreign, id="eager, torch's dropout"),  # a cohort has one generator for all its members
]


def step_gradients(arm: Alone, sizes: Sequence[int]) -> dict[str, Tensor]:
    """Make one step of plain gradient descent at rate 1, whose change is the gradient."""
    before = arm.weights()
    arm.step(sizes, 1.0, 0)
    return {name: before[name] - value for name, value in arm.weights().items()}


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
    """C84: the weights after one step are those of the large batch, whatever the sizes of its micro-batches."""
    oracle, task, extra = LOSSES[kind]
    columns = {**points(10, dtype=dtype), **extra}
    arm, model = make(classifier(dtype), task, columns, **SGD), seeded_model(classifier(dtype), MEMBER)
    oracle(model, columns).backward()
    found = step_gradients(arm, sizes)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", GROUPS, ids=str)
def test_two_terms_with_different_denominators_keep_the_gradient_of_the_whole_batch(make, sizes, dtype):
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)

    columns = sequences(dtype)
    arm, model = make(build, TwoTerms(), columns, **SGD), seeded_model(build, MEMBER)
    two_term_loss(model, columns).backward()
    found = step_gradients(arm, sizes)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=TOLERANCE[dtype])


def test_averaging_the_batches_instead_would_be_noticed(make):
    """The tests above can fail: the mean of the batches' gradients is another one."""
    task = Classification(n_classes=3, loss=CrossEntropy(class_weights=CLASS_WEIGHTS))
    columns, build = points(10, dtype=torch.float64), classifier(torch.float64)
    whole = step_gradients(make(build, task, columns, **SGD), [10])
    averaged = torch.zeros_like(whole["0.weight"])
    for part in zip(*(column.split([5, 3, 2]) for column in columns.values()), strict=True):
        own = dict(zip(columns, part, strict=True))
        averaged += step_gradients(make(build, task, own, **SGD), [len(own["x"])])["0.weight"] / 3
    assert (averaged - whole["0.weight"]).abs().max() > 1e-3


def test_the_training_loss_is_the_mean_over_the_samples_of_the_steps(make):
    """X4."""
    columns = points(10)
    arm, model = make(classifier(), TASK, columns, **SGD), seeded_model(classifier(), MEMBER)
    expected = float(F.cross_entropy(model(columns["x"]), columns["y"]).detach())
    first_seven = float(F.cross_entropy(model(columns["x"][:7]), columns["y"][:7]).detach())
    arm.step([5, 3, 2], 0.0, 0)
    assert arm.loss() == pytest.approx(expected, rel=1e-6)
    arm.step([5, 3, 2], 0.0, 1)
    arm.step([4, 3], 0.0, 2)
    assert arm.loss() == pytest.approx((10 * expected + 7 * first_seven) / 17, rel=1e-6)


@pytest.mark.parametrize(("make", "build"), NOISY)
def test_random_numbers_drawn_between_steps_change_nothing(make, build):
    """Noise is a function of (seed, fold, purpose, step)."""
    quiet, disturbed = make(build, TASK, points(10)), make(build, TASK, points(10))
    for step in range(4):
        quiet.step([5, 5], 0.1, step)
        torch.manual_seed(step)
        torch.rand(17)
        disturbed.step([5, 5], 0.1, step)
    assert equal(quiet.weights(), disturbed.weights()) == []


@pytest.mark.parametrize(("make", "build"), NOISY)
@pytest.mark.parametrize(
    ("member", "first"),
    [(Member(seed=43), 0), (Member(seed=42, fold=1), 0), (MEMBER, 1)],
    ids=["another seed", "another fold", "another step"],
)
def test_noise_differs_between_seeds_folds_and_steps(make, build, member, first):
    one, other = make(build, TASK, points(10)), make(build, TASK, points(10), member)
    other.engine.load_state_dict(one.engine.state_dict())  # from the same weights
    one.step([10], 0.1, 0)
    other.step([10], 0.1, first)
    assert equal(one.weights(), other.weights()) != []


def test_the_batches_of_a_group_have_masks_of_their_own(make):
    """Two equal batches in one group: with one mask for both, their mean loss would be that of the first."""
    columns = {name: torch.cat([column, column]) for name, column in points(5).items()}
    once, twice = (make(classifier(dropout=0.5), TASK, columns) for _ in range(2))
    once.step([5], 0.1, 0)
    twice.step([5, 5], 0.1, 0)
    assert abs(once.loss() - twice.loss()) > 1e-4


def test_the_noise_does_not_depend_on_the_variant(make):
    arms = [make(classifier(dropout=0.5), TASK, points(10), m) for m in (MEMBER, Member(variant="lstm", seed=42))]
    for arm in arms:
        arm.step([10], 0.1, 0)
    assert equal(arms[0].weights(), arms[1].weights()) == []


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_engine_gives_the_member_the_result_that_it_has_alone(make, optimizer):
    """Up to rounding, with dropout and clipping on."""
    options = {"optimizer": optimizer, "gradient_clip": {"value": 0.1}}
    columns, build = points(10, dtype=torch.float64), classifier(torch.float64, dropout=0.5)
    arm, alone = make(build, TASK, columns, **options), Alone(build, TASK, columns, **options)
    for step in range(20):
        for each in (arm, alone):
            each.step([6, 4], 0.1 / (step + 1), step)
    for name, value in alone.weights().items():
        torch.testing.assert_close(arm.weights()[name], value, rtol=0, atol=1e-9)
    assert arm.loss() == pytest.approx(alone.loss(), abs=1e-9)
    (found,), (expected,) = arm.engine.evaluate("val", [arm.place]), alone.engine.evaluate("val", [0])
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-9)
    assert found["confusion"] == expected["confusion"]


def test_the_best_weights_are_copies_that_later_steps_do_not_touch(make):
    """A71, X3."""
    arm = make(normalised, TASK, points(10))
    arm.step([10], 0.1, 0)
    for member in range(arm.place + 1):
        arm.engine.keep(member)
    kept = arm.weights()
    arm.step([10], 0.1, 1)
    assert equal(arm.weights("best"), kept) == []
    assert equal(arm.weights(), kept) != []
    last = arm.weights()
    (at_last,) = arm.engine.evaluate("val", [arm.place])
    arm.engine.use_best()
    assert equal(arm.weights("best"), kept) == []
    assert equal(arm.weights(), last) == []  # `current` still is where training ended
    (at_best,) = arm.engine.evaluate("val", [arm.place])
    assert at_best["loss"] != at_last["loss"]
    model = normalised().eval()
    model.load_state_dict(kept)
    with torch.no_grad():
        expected = model(points(10)["x"])
    assert at_best["loss"] == pytest.approx(float(F.cross_entropy(expected, points(10)["y"])), rel=1e-5)
    assert arm.engine.predict("val", arm.place)["prediction"].tolist() == expected.argmax(1).tolist()


STATES = [
    pytest.param(make, build, id=name)
    for name, make, build in (
        ("eager", Alone, normalised),
        ("cohort", InCohort, normalised),
        ("eager, torch's dropout", Alone, foreign),
    )
]


@pytest.mark.parametrize(("make", "build"), STATES)
@pytest.mark.parametrize("average", ["none", "ema", "swa"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_restored_engine_goes_on_bit_for_bit(make, build, optimizer, average):
    """X5."""
    options = {"optimizer": optimizer, "weight_average": {"name": average}}
    whole, first, second = (make(build, TASK, points(10), **options) for _ in range(3))
    for arm, steps in ((whole, range(5)), (first, range(2)), (second, range(2, 5))):
        if arm is second:
            second.engine.load_state_dict(first.engine.state_dict())
        for step in steps:
            arm.step([6, 4], 0.1 / (step + 1), step)
            if average == "swa":
                arm.engine.average([arm.place], [1 / (step + 1)])
    assert equal(second.engine.state_dict(), whole.engine.state_dict()) == []
    assert second.loss() == whole.loss()


@pytest.mark.parametrize("average", ["none", "ema"])
def test_a_state_may_be_stored(make, average):
    arm = make(normalised, TASK, points(10), weight_average={"name": average})
    arm.step([10], 0.1, 0)
    arm.engine.keep(arm.place)
    check(arm.engine.state_dict())


def test_a_step_is_made_at_the_rate_that_it_is_given(make):
    columns, build = points(10, dtype=torch.float64), classifier(torch.float64)
    at_one = step_gradients(make(build, TASK, columns, **SGD), [10])
    arm = make(build, TASK, columns, **SGD)
    before = arm.weights()
    arm.step([10], 0.25, 0)
    for name, value in arm.weights().items():
        torch.testing.assert_close(before[name] - value, 0.25 * at_one[name], rtol=1e-12, atol=1e-15)


def test_evaluations_change_nothing(make):
    """A62: not the weights, the statistics of the normalisation, the gradients or the noise."""
    quiet, watched = make(normalised, TASK, points(10)), make(normalised, TASK, points(10))
    for step in range(3):
        quiet.step([10], 0.1, step)
        watched.step([10], 0.1, step)
        watched.engine.evaluate("val", [watched.place])
        watched.engine.predict("val", watched.place)
    assert equal(watched.engine.state_dict(), quiet.engine.state_dict()) == []


@pytest.mark.parametrize("average", ["none", "ema"])
def test_evaluation_and_prediction_make_no_graph_and_training_does(make, average):
    """A62: in evaluation mode, and torch notes nothing for a backward pass, of averaged weights either."""
    seen: list[tuple[bool, bool, bool]] = []

    class Watching(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            seen.append((self.training, torch.is_grad_enabled(), logits.requires_grad))
            return logits

    arm = make(lambda: Watching(4, 3), TASK, points(10), weight_average={"name": average})
    arm.engine.evaluate("val", [arm.place])
    arm.engine.predict("val", arm.place)
    assert len(seen) == 6  # batches of 4, 4 and 2, all members at once
    assert set(seen) == {(False, False, False)}
    arm.step([10], 0.1, 0)
    assert seen[6:] == [(True, True, True)]
    for member in range(arm.place + 1):
        arm.engine.keep(member)
    tensors = [
        value for which in ("best", "current") for value in arm.engine.weights(arm.place, which)["model"].values()
    ]
    assert not any(value.requires_grad for value in tensors)


def test_a_retired_neighbour_keeps_every_bit_and_the_member_goes_on_as_before():
    cohort, undisturbed = (InCohort(normalised, TASK, points(10)) for _ in range(2))
    for step in range(2):
        cohort.step([10], 0.1, step)
        undisturbed.step([10], 0.1, step)
    cohort.engine.retire(0)
    neighbour = cohort.engine.weights(0, "current")
    for step in range(2, 5):
        cohort.step([10], 0.1, step)
        undisturbed.step([10], 0.1, step)
    assert equal(cohort.engine.weights(0, "current"), neighbour) == []
    assert equal(undisturbed.engine.weights(0, "current"), neighbour) != []
    assert equal(cohort.weights(), undisturbed.weights()) == []
