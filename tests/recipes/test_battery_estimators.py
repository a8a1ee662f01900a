"""Models that are no networks: against LightGBM, scikit-learn and hand-worked numbers; and text that is no model."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from paceline.errors import ModelError
from paceline.recipes.battery import estimators
from paceline.recipes.battery.estimators import ESTIMATORS, Forest, Lgbm, Mean, Ols
from paceline.recipes.battery.trees import Trees, from_json, from_lightgbm
from paceline.types import DataSpec

SPEC = DataSpec(shapes={"x": (3,), "y": ()})
SMALL = {"lgbm": {"n_estimators": 25, "min_child_samples": 3}, "forest": {"n_estimators": 7}, "ols": {}, "mean": {}}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(90, 3)).astype(np.float32)
    y = (x[:, 0] ** 2 - x[:, 1] + 0.1 * rng.normal(size=90)).astype(np.float32)
    return x[:60], y[:60], x[60:], y[60:]


@pytest.fixture(scope="module", params=SMALL)
def estimator(request):
    return ESTIMATORS[request.param](**SMALL[request.param]).build(SPEC)


def last_of(estimator, table, every=5, seed=1):
    x, y, x_val, _ = table
    return list(estimator.fit(x, y, x_val, every=every, seed=seed))[-1]


def test_what_is_read_back_predicts_the_same_to_the_last_bit(estimator, table):
    """C26."""
    fitted, _, _ = last_of(estimator, table)
    again = estimator.read(fitted.to_text())
    assert np.array_equal(again.predict(table[2]), fitted.predict(table[2]))
    assert again.rounds == fitted.rounds


def test_what_is_said_on_the_way_is_what_the_fitted_model_predicts(estimator, table):
    x, y, x_val, _ = table
    for fitted, on_train, on_val in list(estimator.fit(x, y, x_val, every=5, seed=1)):
        np.testing.assert_allclose(fitted.predict(x), on_train, rtol=1e-12)
        np.testing.assert_allclose(fitted.predict(x_val), on_val, rtol=1e-12)


def test_fitting_again_gives_the_same_text(estimator, table):
    assert last_of(estimator, table)[0].to_text() == last_of(estimator, table)[0].to_text()


def test_boosting_is_what_lightgbm_does(table):
    """C25."""
    import lightgbm

    x, y, x_val, y_val = table
    config = Lgbm(n_estimators=500, learning_rate=0.05, min_child_samples=3)
    model = lightgbm.LGBMRegressor(
        n_estimators=500, learning_rate=0.05, max_depth=6, num_leaves=31, min_child_samples=3, reg_alpha=0.1,
        reg_lambda=0.1, deterministic=True, force_row_wise=True, num_threads=1, verbosity=-1,
    )  # fmt: skip
    model.fit(x, y, eval_X=(x_val,), eval_y=(y_val,), callbacks=[lightgbm.early_stopping(50, verbose=False)])
    steps = list(config.build(SPEC).fit(x, y, x_val, every=1, seed=0))
    errors = [float(((on_val - y_val) ** 2).mean()) for _, _, on_val in steps]
    best = int(np.argmin(errors[: model.best_iteration_ + 50]))
    assert best + 1 == model.best_iteration_
    np.testing.assert_array_equal(steps[best][0].predict(x_val), model.predict(x_val))


def test_the_own_reader_of_lightgbms_text_predicts_what_lightgbm_does(table):
    import lightgbm

    fitted, _, _ = last_of(Lgbm(**SMALL["lgbm"]).build(SPEC), table)
    text = fitted.to_text()
    wide = np.random.default_rng(0).normal(scale=3, size=(500, 3)).astype(np.float32)
    expected = lightgbm.Booster(model_str=text).predict(wide)
    np.testing.assert_array_equal(from_lightgbm(text).predict(wide), expected)


def test_a_forest_is_scikit_learns(table):
    from sklearn.ensemble import RandomForestRegressor

    x, y, x_val, _ = table
    config = Forest(n_estimators=20, min_samples_leaf=2, max_features=0.7)
    fitted, _, _ = last_of(config.build(SPEC), table, seed=9)
    forest = RandomForestRegressor(20, min_samples_leaf=2, max_features=0.7, random_state=9).fit(x, y)
    np.testing.assert_allclose(fitted.predict(x_val), forest.predict(x_val), rtol=1e-14)


@pytest.mark.parametrize("ridge", [0.0, 2.5])
def test_least_squares_is_scikit_learns(table, ridge):
    from sklearn.linear_model import LinearRegression, Ridge

    x, y, x_val, _ = table
    fitted, _, _ = last_of(Ols(ridge=ridge).build(SPEC), table)
    model = (Ridge(alpha=ridge) if ridge else LinearRegression()).fit(x.astype(float), y.astype(float))
    np.testing.assert_allclose(fitted.predict(x_val), model.predict(x_val.astype(float)), rtol=1e-9)


def test_the_mean_is_that_of_training(table):
    fitted, _, on_val = last_of(Mean().build(SPEC), table)
    assert fitted.intercept == pytest.approx(float(table[1].astype(float).mean()))
    assert set(on_val) == {fitted.intercept}


def test_lightgbms_defaults_are_those_the_group_uses():
    """C26."""
    config = Lgbm()
    expected = {"n_estimators": 1000, "max_depth": 6, "num_leaves": 31, "reg_alpha": 0.1, "reg_lambda": 0.1,
                "early_stopping_rounds": 50}  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected


def test_trees_by_hand_go_left_up_to_the_threshold():
    own = {"n_features": 2, "divisor": 2.0, "single": False, "roots": [0, 3], "feature": [1, -1, -1, -1],
           "threshold": [0.5, 0, 0, 0], "left": [1, 0, 0, 0], "right": [2, 0, 0, 0],
           "value": [0, 10, 20, 4]}  # fmt: skip
    trees = from_json(json.dumps({"schema_version": 1, "kind": "trees", **own}))
    assert trees.predict([[9, 0.5], [9, 0.51]]).tolist() == [7.0, 12.0]
    assert from_json(trees.to_text()).to_text() == trees.to_text()


def changed(**values):
    own = {"schema_version": 1, "kind": "trees", "n_features": 2, "divisor": 2.0, "single": False, "roots": [0],
           "feature": [1, -1, -1], "threshold": [0.5, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0],
           "value": [0, 1, 2]}  # fmt: skip
    return json.dumps({**own, **values})


HOSTILE = {
    "a walk without end": changed(left=[0, 0, 0]),
    "a walk out of the tree": changed(right=[7, 0, 0]),
    "another feature": changed(feature=[2, -1, -1]),
    "a root outside": changed(roots=[3]),
    "no roots": changed(roots=[]),
    "unequal lengths": changed(value=[0, 1]),
    "text for a number": changed(value=[0, "1", 2]),
    "no divisor": changed(divisor=0),
    "no number": changed(divisor=None),
    "a number too large": changed(left=[10**30, 0, 0]),
    "another kind": changed(kind="linear"),
    "no JSON": "tree",
    "a list": "[]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_that_is_no_forest_is_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        from_json(text)


def test_text_that_is_no_boosting_is_refused_whatever_is_changed_in_it(table):
    """C26: every line of a model damaged in turn ends in an error or in trees whose walks end."""
    text = last_of(Lgbm(n_estimators=2, min_child_samples=10).build(SPEC), table)[0].to_text()
    head, _, body = text.partition("\nTree=0\n")
    words = {"-5", "999999999", "nan", "", "1 1 1", "x"}
    refused = 0
    for part, whole in ((head, False), (body.partition("\nend of trees")[0], True)):
        for line in {line for line in part.split("\n") if "=" in line}:
            for word in words:
                new = part.replace(line, f"{line.partition('=')[0]}={word}")
                damaged = f"{head}\nTree=0\n{new}\nend of trees\n" if whole else f"{new}\nTree=0\n{body}"
                try:
                    found = from_lightgbm(damaged)
                except (ValueError, LookupError, OverflowError):
                    refused += 1
                else:
                    assert isinstance(found, Trees)
                    if found.n_features <= 3:  # else no input has so many
                        assert np.isfinite(found.predict(np.zeros((2, found.n_features)))).all()
    assert refused > 40


def test_without_lightgbm_there_is_a_line_to_install_it_and_the_rest_works(monkeypatch):
    """C27."""
    found = estimators.importlib.util.find_spec
    monkeypatch.setattr(estimators.importlib.util, "find_spec", lambda n: None if n == "lightgbm" else found(n))
    with pytest.raises(ModelError) as error:
        Lgbm().build(SPEC)
    assert "pip install lightgbm" in str(error.value)
    assert len(str(error.value).splitlines()) <= 4
    assert Ols().build(SPEC).rounds == 1


def test_sections_of_estimators_import_neither_torch_nor_what_they_stand_for():
    """C27."""
    code = (
        "import sys, paceline.recipes.battery.estimators as e; e.Forest(); e.Lgbm();"
        "print([m for m in ('torch', 'lightgbm', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
