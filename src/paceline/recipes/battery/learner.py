"""The estimators themselves: pure functions of data, settings and seed. Each reads what it wrote, as text.

Shapes: N samples, M samples of validation, F features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.reading import parse_json
from paceline.recipes.battery.trees import LEAF, Trees, from_json, from_lightgbm, joined

if TYPE_CHECKING:
    from paceline.recipes.battery.estimators import Forest, Lgbm

Floats = NDArray[np.float64]
TEXT, JSON = "model.txt", "model.json"


@dataclass(frozen=True, kw_only=True)
class Linear:
    """intercept + x @ coefficients; without coefficients a constant."""

    intercept: float
    coefficients: tuple[float, ...] = ()
    rounds: int = 1

    def predict(self, x: Any) -> Floats:
        """Return (N,) predictions for (N, F) features. Raises ValueError for another number of features."""
        x_NF = np.asarray(x, dtype=np.float64)
        if not self.coefficients:
            return np.full(len(x_NF), self.intercept)
        return np.asarray(x_NF @ np.array(self.coefficients) + self.intercept)

    def to_text(self) -> str:
        """Return JSON with every number to the last bit."""
        own = {"intercept": self.intercept, "coefficients": list(self.coefficients)}
        return json.dumps({"schema_version": 1, "kind": "linear", **own}) + "\n"


def read_linear(text: str) -> Linear:
    """Read what `Linear.to_text` wrote. Raises ValueError for anything else."""
    content = parse_json(text)
    if not isinstance(content, dict) or content.get("kind") != "linear" or content.get("schema_version") != 1:
        raise ValueError("this is no linear model")
    numbers = [content.get("intercept"), *(content.get("coefficients") or [])]
    if any(type(number) not in (int, float) for number in numbers):
        raise ValueError("this is no linear model")
    intercept, *coefficients = map(float, numbers)
    return Linear(intercept=intercept, coefficients=tuple(coefficients))


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """Minimise the sum of squared errors plus ridge x the squared coefficients; the intercept is free."""

    ridge: float = 0.0
    rounds: int = 1
    patience: int | None = None
    isolated: bool = False
    file: str = JSON

    def fit(self, x: Any, y: Any, x_val: Any, *, every: int, seed: int) -> Iterator[tuple[Linear, Floats, Floats]]:
        """Yield once: the problem has one solution (of several, the one of the smallest coefficients)."""
        x_NF, y_N = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        mean_F, mean = x_NF.mean(axis=0), float(y_N.mean())
        penalty_FF = np.sqrt(self.ridge) * np.eye(x_NF.shape[1])
        left = np.concatenate([x_NF - mean_F, penalty_FF]) if self.ridge else x_NF - mean_F
        right = np.concatenate([y_N - mean, np.zeros(x_NF.shape[1])]) if self.ridge else y_N - mean
        found_F = np.linalg.lstsq(left, right, rcond=None)[0]
        fitted = Linear(intercept=mean - float(mean_F @ found_F), coefficients=tuple(found_F.tolist()))
        yield fitted, fitted.predict(x), fitted.predict(x_val)

    def read(self, text: str) -> Linear:
        return read_linear(text)


@dataclass(frozen=True, kw_only=True)
class MeanOnly:
    """The mean of the training targets, whatever the features."""

    rounds: int = 1
    patience: int | None = None
    isolated: bool = False
    file: str = JSON

    def fit(self, x: Any, y: Any, x_val: Any, *, every: int, seed: int) -> Iterator[tuple[Linear, Floats, Floats]]:
        """Yield once."""
        fitted = Linear(intercept=float(np.asarray(y, dtype=np.float64).mean()))
        yield fitted, fitted.predict(x), fitted.predict(x_val)

    def read(self, text: str) -> Linear:
        return read_linear(text)


@dataclass(frozen=True)
class RandomForest:
    """Trees on bootstrap samples, averaged; grown at once, by scikit-learn in one thread."""

    config: Forest
    patience: int | None = None
    isolated: bool = False
    file: str = JSON

    @property
    def rounds(self) -> int:
        return self.config.n_estimators

    def fit(self, x: Any, y: Any, x_val: Any, *, every: int, seed: int) -> Iterator[tuple[Trees, Floats, Floats]]:
        """Yield once: the trees do not depend on each other, so there is nothing to choose among."""
        from sklearn.ensemble import RandomForestRegressor

        own = self.config
        forest = RandomForestRegressor(
            n_estimators=own.n_estimators, min_samples_leaf=own.min_samples_leaf, max_features=own.max_features,
            random_state=seed, n_jobs=1,
        ).fit(x, y)  # fmt: skip
        fitted = joined([_of_sklearn(each.tree_) for each in forest.estimators_], n_features=np.shape(x)[1],
                        divisor=float(own.n_estimators), single=True)  # fmt: skip
        yield fitted, fitted.predict(x), fitted.predict(x_val)

    def read(self, text: str) -> Trees:
        return from_json(text)


def _of_sklearn(tree: Any) -> dict[str, Any]:
    """Its nodes stand in the order of a walk, so that children come after their parent."""
    leaf = tree.children_left < 0
    return {
        "feature": np.where(leaf, LEAF, tree.feature),
        "threshold": np.where(leaf, 0.0, tree.threshold),
        "left": np.where(leaf, 0, tree.children_left),
        "right": np.where(leaf, 0, tree.children_right),
        "value": np.where(leaf, tree.value[:, 0, 0], 0.0),
    }


@dataclass(frozen=True)
class Grown:
    """A booster's first `rounds` trees; it may have grown more since."""

    booster: Any
    rounds: int

    def predict(self, x: Any) -> Floats:
        """Return (N,) predictions for (N, F) features, as whoever reads the text has them."""
        return from_lightgbm(self.to_text()).predict(x)

    def to_text(self) -> str:
        """Return LightGBM's own text, which `lightgbm.Booster(model_file=...)` reads too."""
        text: str = self.booster.model_to_string(num_iteration=self.rounds)
        return text


@dataclass(frozen=True)
class Boosting:
    """LightGBM, one round after another. Patience is what whoever asks for rounds keeps."""

    config: Lgbm
    isolated: bool = True
    file: str = TEXT

    @property
    def rounds(self) -> int:
        return self.config.n_estimators

    @property
    def patience(self) -> int | None:
        return self.config.early_stopping_rounds

    def fit(self, x: Any, y: Any, x_val: Any, *, every: int, seed: int) -> Iterator[tuple[Grown, Floats, Floats]]:
        """Yield every `every` rounds, and after the last; earlier where no further split is found."""
        import lightgbm

        settings = parameters(self.config, seed)
        train = lightgbm.Dataset(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), params=settings)
        booster = lightgbm.Booster(settings, train)
        empty = np.zeros(len(x_val))
        booster.add_valid(lightgbm.Dataset(np.asarray(x_val, dtype=np.float64), empty, reference=train), "val")
        found: list[Floats] = []

        def keep(scores: Floats, _: Any) -> tuple[str, float, bool]:
            found.append(np.array(scores))
            return "kept", 0.0, False

        shown = 0
        for done in range(1, self.rounds + 1):
            ended, grown = booster.update(), booster.current_iteration()
            if (done % every == 0 or done == self.rounds or ended) and grown > shown:
                found.clear()
                booster.eval_train(keep)
                booster.eval_valid(keep)
                shown = grown
                yield Grown(booster, grown), found[0], found[1]
            if ended:
                return

    def read(self, text: str) -> Trees:
        return from_lightgbm(text)


def parameters(config: Lgbm, seed: int) -> dict[str, Any]:
    """Return LightGBM's parameters: one thread, and nothing that depends on the machine."""
    return {
        "objective": "regression",
        "metric": "none",
        "learning_rate": config.learning_rate,
        "max_depth": config.max_depth,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_child_samples,
        "lambda_l1": config.reg_alpha,
        "lambda_l2": config.reg_lambda,
        "bagging_fraction": config.subsample,
        "bagging_freq": int(config.subsample < 1),
        "feature_fraction": config.colsample_bytree,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
