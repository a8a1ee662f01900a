"""What every loss owes: sums and weights that add up over batches, weights known from the data alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from paceline.losses import LOSSES
from paceline.losses.per_sample import PerSample
from paceline.recipes.battery.compat import MAELoss, MSELoss
from paceline.recipes.battery.compat.criterion import OfCriterion
from paceline.types import DataSpec
from tests.contracts.tiny import points

pytestmark = pytest.mark.fast

SPEC = DataSpec(shapes={"x": (4,)}, classes=("a", "b", "c"), class_counts=(5, 3, 1))
N = 12


def built_in(name: str, **options: Any) -> Any:
    return LOSSES[name](name=name, **options).build(SPEC)


OF_NUMBERS = ("mse", "physics_informed", "huber", "mape", "mae", "quantile", "of a registry", "of a registry, reduced")
LOSS = {
    **{name: built_in(name) for name in LOSSES},
    "balanced": built_in("cross_entropy", class_weights="balanced", label_smoothing=0.1),
    "balanced focal": built_in("focal", class_weights="balanced", label_smoothing=0.1, gamma=0.5),
    "of a registry": OfCriterion(MSELoss(reduction="none")),
    "of a registry, reduced": OfCriterion(MAELoss()),
    "one's own": PerSample(lambda outputs, batch: (outputs[:, 0] - batch["x"][:, 0]).abs()),
}


@pytest.fixture(params=LOSS)
def case(request: pytest.FixtureRequest) -> tuple[Any, Tensor, dict[str, Tensor]]:
    """A loss, outputs and a batch that fit it."""
    columns = points(N, dtype=torch.float64)
    outputs = torch.randn(N, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    if request.param in OF_NUMBERS:
        columns["y"] = columns["x"][:, 0] if request.param == "quantile" else columns["x"][:, :3]
    return LOSS[request.param], outputs, columns


def totals(loss: Any, outputs: Tensor, columns: dict[str, Tensor], sizes: list[int]) -> tuple[Any, Any]:
    parts = {name: column.split(sizes) for name, column in columns.items()}
    batches = [{name: part[i] for name, part in parts.items()} for i in range(len(sizes))]
    sums = [loss.sums(out, batch) for out, batch in zip(outputs.split(sizes), batches, strict=True)]
    weights = [loss.weights(batch) for batch in batches]
    return _added([{t: v.detach() for t, v in row.items()} for row in sums]), _added(weights)


def _added(rows):
    return {term: float(sum(row[term] for row in rows)) for term in rows[0]}


@pytest.mark.parametrize("masked", [False, True])
def test_sums_and_weights_add_up_over_batches(case, masked):
    loss, outputs, columns = case
    if masked:
        columns = {**columns, "sample_mask": torch.arange(N) % 3 != 1}
    whole = totals(loss, outputs, columns, [N])
    for sizes in ([5, 4, 3], [1] * N):
        sums, weights = totals(loss, outputs, columns, sizes)
        assert sums == pytest.approx(whole[0], rel=1e-12)
        assert weights == pytest.approx(whole[1], rel=1e-12)


def test_terms_of_sums_and_weights_are_the_same(case):
    loss, outputs, columns = case
    assert list(loss.sums(outputs, columns)) == list(loss.weights(columns))


def test_a_sample_that_is_masked_out_counts_nothing_even_if_it_is_not_finite(case):
    loss, outputs, columns = case
    mask = torch.arange(N) != 4
    spoiled = outputs.detach().clone()
    spoiled[4] = torch.nan
    without = {name: column[mask] for name, column in columns.items()}
    sums = loss.sums(spoiled, {**columns, "sample_mask": mask})
    expected = loss.sums(outputs[mask], without)
    for term, value in sums.items():
        torch.testing.assert_close(value, expected[term].detach())
    assert {t: float(w) for t, w in loss.weights({**columns, "sample_mask": mask}).items()} == pytest.approx(
        {t: float(w) for t, w in loss.weights(without).items()}
    )


def test_sums_are_scalars_that_can_be_differentiated(case):
    loss, outputs, columns = case
    for value in loss.sums(outputs, columns).values():
        assert value.shape == ()
        value.backward(retain_graph=True)
    assert torch.isfinite(outputs.grad).all()
