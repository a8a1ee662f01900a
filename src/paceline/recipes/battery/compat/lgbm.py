"""`LGBMModel`: the recipe's boosted trees, called with arrays. Shapes: N samples, F features."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paceline.checkpoint.files import write_text_atomic
from paceline.config.reading import read_text
from paceline.config.validate import validate
from paceline.errors import DataError, ModelError, RunError
from paceline.recipes.battery.estimators import Lgbm
from paceline.recipes.battery.trees import from_lightgbm

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from paceline.recipes.battery.trees import Trees

Floats = Any  # NDArray[np.float64]


class MissingPackageError(ModelError, ImportError):
    """A package that a model needs is not installed."""


class LGBMModel:
    """Gradient-boosted trees by LightGBM for one number per sample; the same data and seed give the same trees.

    Keywords are called as in LightGBM, with the defaults of `model=lgbm` (docs/config.md), and `random_state`. Raises
    ConfigError for an unknown one, naming the nearest, and ImportError with the line to install it without lightgbm.
    """

    def __init__(self, *, random_state: int = 42, **params: Any) -> None:
        if importlib.util.find_spec("lightgbm") is None:
            raise MissingPackageError("LGBMModel needs the package lightgbm", hint="pip install lightgbm")
        self._section = validate(Lgbm, params, "LGBMModel")
        self._seed = random_state
        self._trees: Trees | None = None
        self._text = ""
        self.best_iteration = 0
        self.history: dict[str, list[float]] = {"train_rmse": [], "val_rmse": []}

    @property
    def params(self) -> dict[str, Any]:
        """All parameters by name."""
        return {**self._section.model_dump(exclude={"name"}), "random_state": self._seed}

    def fit(  # the guide's names
        self,
        X_train: ArrayLike,  # noqa: N803
        y_train: ArrayLike,
        X_val: ArrayLike | None = None,  # noqa: N803
        y_val: ArrayLike | None = None,
    ) -> LGBMModel:
        """Grow trees on (N, F) and (N,) or (N, 1); return self.

        With a validation part it stops when its RMSE has not fallen for `early_stopping_rounds`, and keeps the trees of
        the best round. Raises DataError for several targets, other shapes, and values that are not finite.
        """
        x, y = _features(X_train, "X_train"), _targets(y_train, "y_train")
        if (X_val is None) != (y_val is None):
            raise DataError("the validation part needs features and targets", where="X_val, y_val")
        x_val = x[:0] if X_val is None else _features(X_val, "X_val")
        targets = y[:0] if y_val is None else _targets(y_val, "y_val")
        for a, b, part in ((x, y, "train"), (x_val, targets, "val")):
            if len(a) != len(b) or a.shape[1] != x.shape[1]:
                raise DataError("features and targets do not fit together", where=part,
                                got=f"X {a.shape}, y {b.shape}")  # fmt: skip
        self._grow(x, y, x_val, targets)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return (N, 1) predictions."""
        trees, x = self._fitted("predict"), _features(X, "X")
        if x.shape[1] != trees.n_features:
            raise DataError("the features are not those of the training", where="X", got=f"{x.shape[1]} features",
                            hint=f"{trees.n_features} features")  # fmt: skip
        return trees.predict(x)[:, None]

    @property
    def feature_importances_(self) -> NDArray[np.int64]:
        """How often each feature splits a node, (F,)."""
        trees = self._fitted("feature_importances_")
        return np.bincount(trees.feature[trees.feature >= 0], minlength=trees.n_features)

    def save(self, path: str | Path) -> Path:
        """Write the trees as LightGBM's text."""
        self._fitted("save")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(target, self._text)
        return target

    def load(self, path: str | Path) -> LGBMModel:
        """Read what `save` wrote; return self. Raises ModelError for anything else."""
        try:
            self._text = read_text(Path(path))
            self._trees = from_lightgbm(self._text)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError("the file is no model of LightGBM", where=str(path), got=str(error)) from None
        self.best_iteration = self._trees.rounds
        return self

    def _grow(self, x: Floats, y: Floats, x_val: Floats, y_val: Floats) -> None:
        best, best_value, waited = None, math.inf, 0
        estimator = self._section.build(None)  # type: ignore[arg-type]  # it depends on no data
        self.history = {"train_rmse": [], "val_rmse": []}
        watched, patience = len(x_val) > 0, estimator.patience
        # LightGBM wants some rows to look at: without a validation part those of the training, which stop nothing.
        for fitted, on_train, on_val in estimator.fit(x, y, x_val if watched else x[:1], every=1, seed=self._seed):
            self.history["train_rmse"].append(_rmse(on_train, y))
            value = -fitted.rounds if not watched else _rmse(on_val, y_val)
            if watched:
                self.history["val_rmse"].append(value)
            best, best_value, waited = (fitted, value, 0) if value < best_value else (best, best_value, waited + 1)
            if watched and patience is not None and waited >= patience:
                break
        assert best is not None, "the first round is better than none"
        self._text = best.to_text()
        self._trees = from_lightgbm(self._text)
        self.best_iteration = best.rounds

    def _fitted(self, who: str) -> Trees:
        if self._trees is None:
            raise RunError("the model is not fitted yet", where=f"LGBMModel.{who}", hint="fit or load")
        return self._trees


def _features(values: Any, name: str) -> Floats:
    x = _array(values, name)
    if x.ndim != 2 or not x.size:
        raise DataError("features must have the shape (samples, features)", where=name, got=f"shape {x.shape}",
                        hint="np.vstack([s.x for s in samples])")  # fmt: skip
    return x


def _targets(values: Any, name: str) -> Floats:
    y = _array(values, name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError("LGBMModel learns one number per sample", where=name, got=f"shape {y.shape}",
                        hint="a model per target")  # fmt: skip
    return y


def _array(values: Any, name: str) -> Floats:
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DataError("values must be numbers", where=name, got=f"{array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError("a value is not finite", where=name, got=f"row {int(np.argwhere(~np.isfinite(array))[0][0])}")
    return array


def _rmse(prediction: Floats, y: Floats) -> float:
    return float(np.sqrt(np.mean((prediction - y) ** 2)))
