"""bfloat16 on a CPU: a cohort and its member alone have the same curves up to the rounding of that type.

Shapes: B samples, T steps, F features, C classes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from paceline.recipes.pain.config import ConvGru, Gru
from paceline.tasks import Classification
from paceline.types import DataSpec
from tests.contracts.arms import Alone, InCohort, classifier
from tests.contracts.tiny import points

SPEC = DataSpec(shapes={"x": (9, 4), "mask": (9,)}, classes=("a", "b", "c"), class_counts=(8, 8, 8))
STEPS = 12
KINDS = {
    "mlp": classifier(dropout=0.3),
    "gru": lambda: Gru(hidden_size=8).build(SPEC),
    "conv_gru": lambda: ConvGru(channels=(8,), hidden_size=8).build(SPEC),
}


def sequences(n: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    lengths, y = torch.randint(2, 10, (n,), generator=generator), torch.arange(n) % 3
    x = torch.randn(n, 9, 4, generator=generator) + torch.eye(3, 4)[y][:, None]
    mask = torch.arange(9) < lengths[:, None]
    return {"x": torch.where(mask[:, :, None], x, 0), "y": y, "mask": mask}


def curve(make: Any, kind: str, **training: Any) -> list[float]:
    """The loss of each step, then that of an evaluation."""
    columns = points(24) if kind == "mlp" else sequences(24)
    task = Classification(n_classes=3, inputs=("x",) if kind == "mlp" else ("x", "mask"))
    arm = make(KINDS[kind], task, columns, **training)
    found = []
    for step in range(STEPS):
        arm.step([24], 0.02, step)
        found.append(arm.loss())
        if step == 0:
            dtypes = {value.dtype for value in arm.weights().values() if value.is_floating_point()}
            assert dtypes == {torch.float32}
    return [*found, arm.engine.evaluate("val", [arm.place])[0]["loss"]]


def assert_same_curve_but_for_rounding(together: list[float], alone: list[float], exact: list[float]) -> None:
    """Two curves agree within 2 %, and neither is that of float32."""
    assert together == pytest.approx(alone, rel=2e-2)
    assert alone[-1] < alone[0], "nothing was learned"
    for rounded in (together, alone):
        assert max(abs(a / b - 1) for a, b in zip(rounded, exact, strict=True)) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_cohort_in_bfloat16_has_the_curve_of_its_member_alone(kind):
    rounded = {"amp": {"enabled": True, "dtype": "bfloat16"}}
    together, alone = (curve(make, kind, **rounded) for make in (InCohort, Alone))
    assert_same_curve_but_for_rounding(together, alone, curve(Alone, kind))


class Compiled(InCohort):
    compiled = True


@pytest.mark.slow
def test_a_compiled_cohort_in_bfloat16_has_it_too():
    rounded = {"amp": {"enabled": True, "dtype": "bfloat16"}}
    together, alone = (curve(make, "mlp", **rounded) for make in (Compiled, Alone))
    assert_same_curve_but_for_rounding(together, alone, curve(Alone, "mlp"))
