"""The recipe `battery`: state of health of cells, from tables of cycles or check-ups."""

from __future__ import annotations

from pathlib import Path

from paceline.recipes.battery.config import MODELS
from paceline.recipes.battery.cycles import Cycles
from paceline.recipes.battery.estimators import ESTIMATORS
from paceline.recipes.battery.lg_m50t import LgM50t
from paceline.recipes.battery.synthetic import BatterySynthetic
from paceline.run.recipe import Recipe
from paceline.tasks.config import RegressionConfig

recipe = Recipe(
    name="battery",
    description="predict the state of health of cells from what is measured while they age",
    data={"battery_synthetic": BatterySynthetic, "cycles": Cycles, "lg_m50t": LgM50t},
    models={**MODELS, **ESTIMATORS},
    task=RegressionConfig,
    loss="mse",
    conf=Path(__file__).parent / "conf",
)
