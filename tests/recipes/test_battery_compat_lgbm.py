"""`LGBMModel` of the battery group's guide."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.errors import ConfigError, DataError, ModelError, RunError
from paceline.recipes.battery.compat import LGBMModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 3))
Y = (np.sin(X[:, :1]) + 0.1 * RNG.normal(size=(240, 1))).astype(np.float32)
TRAIN, VAL = slice(0, 160), slice(160, None)


@pytest.fixture(scope="module")
def fitted() -> LGBMModel:
    pytest.importorskip("lightgbm")
    return LGBMModel(n_estimators=500, learning_rate=0.05).fit(X[TRAIN], Y[TRAIN], X[VAL], Y[VAL])


def test_it_stops_on_validation_and_predicts_a_column(fitted):
    """C25: the trees kept are those of the best round."""
    found = fitted.predict(X[VAL])
    assert found.shape == (80, 1)
    rmse = np.sqrt(np.mean((found - Y[VAL]) ** 2))
    scores = fitted.history["val_rmse"]
    assert rmse == pytest.approx(min(scores), rel=1e-6) and rmse < 0.5 * Y[VAL].std()
    assert fitted.best_iteration == 1 + int(np.argmin(scores))
    assert len(scores) == min(500, fitted.best_iteration + 50)


def test_the_defaults_are_the_group_s():
    """C26."""
    pytest.importorskip("lightgbm")
    wanted = {"n_estimators": 1000, "max_depth": 6, "num_leaves": 31, "reg_alpha": 0.1, "reg_lambda": 0.1,
              "early_stopping_rounds": 50, "random_state": 42}  # fmt: skip
    assert wanted.items() <= LGBMModel().params.items()


def test_a_saved_model_predicts_the_same(fitted, tmp_path):
    """C26: and the feature that matters splits most."""
    fitted.save(tmp_path / "deep/model.txt")
    other = LGBMModel().load(tmp_path / "deep/model.txt")
    assert np.array_equal(other.predict(X), fitted.predict(X))
    assert fitted.feature_importances_.argmax() == 0 and len(fitted.feature_importances_) == 3
    (tmp_path / "other.txt").write_text("no trees")
    with pytest.raises(ModelError, match="no model of LightGBM"):
        other.load(tmp_path / "other.txt")


def test_without_lightgbm_there_is_the_line_to_install_it(monkeypatch):
    """C27."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install lightgbm"):
        LGBMModel()


def test_what_it_cannot_learn_is_refused(fitted):
    """C27: several targets are no number per sample."""
    model = LGBMModel(n_estimators=2)
    for arrays, said in (
        ((X, np.hstack([Y, Y])), "one number per sample"),
        ((X[:5], Y), "do not fit together"),
        ((X[:, 0], Y), r"\(samples, features\)"),
        ((np.where(X > 2, np.nan, X), Y), "not finite"),
        ((X, Y, X), "features and targets"),
    ):
        with pytest.raises(DataError, match=said):
            model.fit(*arrays)
    with pytest.raises(RunError, match="not fitted yet"):
        model.predict(X)
    with pytest.raises(DataError, match="not those of the training"):
        fitted.predict(X[:, :2])
    with pytest.raises(ConfigError, match=r"try: .*n_estimators"):
        LGBMModel(n_estimator=5)


def test_without_validation_all_rounds_are_kept():
    pytest.importorskip("lightgbm")
    model = LGBMModel(n_estimators=20).fit(X, Y.ravel())
    assert model.best_iteration == 20 and model.history["val_rmse"] == []
