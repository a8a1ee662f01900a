"""Models of the recipe that are no networks: boosted trees, least squares, a forest, the mean. Imports no torch.

Shapes: N samples, F features.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from paceline.errors import ModelError
from paceline.models.config import EstimatorConfig
from paceline.types import DataSpec

if TYPE_CHECKING:
    from paceline.types import Estimator


class Lgbm(EstimatorConfig):
    """Gradient-boosted trees by LightGBM (Ke et al., 2017), grown for the squared error; deterministic, one thread.

    n_estimators: rounds at most. early_stopping_rounds: rounds without improvement of the selection metric after which
    it stops; null for none. The other keys are called as in LightGBM. Members of other seeds only differ where
    `subsample` or `colsample_bytree` is below 1.
    """

    name: Literal["lgbm"] = "lgbm"
    n_estimators: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=0.05, gt=0.0)
    max_depth: int = Field(default=6, ge=-1)
    num_leaves: int = Field(default=31, ge=2, le=131072)
    min_child_samples: int = Field(default=20, ge=1)
    reg_alpha: float = Field(default=0.1, ge=0.0)
    reg_lambda: float = Field(default=0.1, ge=0.0)
    subsample: float = Field(default=1.0, gt=0.0, le=1.0)
    colsample_bytree: float = Field(default=1.0, gt=0.0, le=1.0)
    early_stopping_rounds: int | None = Field(default=50, ge=1)

    def build(self, spec: DataSpec) -> Estimator:
        """Return `learner.Boosting`. Raises ModelError without lightgbm."""
        if importlib.util.find_spec("lightgbm") is None:
            raise ModelError("model=lgbm needs the package lightgbm", where="model", hint="pip install lightgbm")
        from paceline.recipes.battery.learner import Boosting

        return Boosting(self)


class Ols(EstimatorConfig):
    """Ordinary least squares. ridge: a penalty on squared coefficients, as scikit-learn's `Ridge` has it."""

    name: Literal["ols"] = "ols"
    ridge: float = Field(default=0.0, ge=0.0)

    def build(self, spec: DataSpec) -> Estimator:
        """Return `learner.LeastSquares`."""
        from paceline.recipes.battery.learner import LeastSquares

        return LeastSquares(ridge=self.ridge)


class Forest(EstimatorConfig):
    """A random forest (Breiman, 2001) of scikit-learn, its seed the member's."""

    name: Literal["forest"] = "forest"
    n_estimators: int = Field(default=300, ge=1)
    min_samples_leaf: int = Field(default=1, ge=1)
    max_features: float = Field(default=1.0, gt=0.0, le=1.0)

    def build(self, spec: DataSpec) -> Estimator:
        """Return `learner.RandomForest`."""
        from paceline.recipes.battery.learner import RandomForest

        return RandomForest(self)


class Mean(EstimatorConfig):
    """The mean of the training targets: what any other model has to beat."""

    name: Literal["mean"] = "mean"

    def build(self, spec: DataSpec) -> Estimator:
        """Return `learner.MeanOnly`."""
        from paceline.recipes.battery.learner import MeanOnly

        return MeanOnly()


ESTIMATORS: dict[str, type[EstimatorConfig]] = {"lgbm": Lgbm, "ols": Ols, "forest": Forest, "mean": Mean}
