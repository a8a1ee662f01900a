"""`data=pain_synthetic`: the process, its likelihoods against brute force, the CSV files, the references.

Shapes: N samples, T steps, C classes, S hidden states.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score

import paceline
from paceline.errors import ConfigError, DataError
from paceline.evaluate.references import chances_of
from paceline.recipes.pain import synthetic, teacher
from paceline.recipes.pain.challenge import Challenge
from paceline.recipes.pain.synthetic import PainSynthetic, write_challenge

SMALL = (12, 6, 5)


@pytest.fixture(scope="module")
def data():
    return PainSynthetic().load()


def test_the_data_have_the_challenge_s_shape(data):
    assert data.columns["x"].shape == (661, 160, 38)
    assert data.classes == ("no_pain", "low_pain", "high_pain")
    assert np.bincount(data.columns["y"]).tolist() == [511, 94, 56]
    words = [data.channels.index(name) for name in ("n_legs", "n_hands", "n_eyes")]
    assert set(np.unique(data.columns["x"][:, :, words])) == {0, 1, 2}
    assert (data.columns["x"][:, :1, words] == data.columns["x"][:, :, words]).all()
    survey = data.columns["x"][:, :, [data.channels.index(f"pain_survey_{i}") for i in range(1, 5)]]
    assert set(np.unique(survey)) == {0, 1, 2} and (survey[:, 1:] == survey[:, :-1]).mean() > 0.9


def test_the_seed_is_all_that_the_data_depend_on(data):
    again, other = PainSynthetic(references=()).load(), PainSynthetic(seed=1, references=()).load()
    assert all((again.columns[name] == data.columns[name]).all() for name in data.columns)
    assert (other.columns["x"] != data.columns["x"]).mean() > 0.5
    assert again.posterior is None  # computed only where it is shown


def smooth_covariance(memory: float, steps: int) -> np.ndarray:
    return np.array([[memory ** abs(i - j) for j in range(steps)] for i in range(steps)])


def paths_of_pulses(steps: int, level: int):
    """Every hidden path from the quiet start, with its probability."""
    rate, first = teacher.RATE[level], teacher.FIRST[level]
    pulse = teacher.PULSE
    found = [((), 1.0, 0)]
    for _ in range(steps):
        longer = []
        for path, chance, state in found:
            if state in (0, pulse, 2 * pulse):
                nexts = [(0, 1 - rate), (1, rate * first), (1 + pulse, rate * (1 - first))]
            else:
                nexts = [(state + 1, 1.0)]
            longer += [((*path, new), chance * p, new) for new, p in nexts]
        found = longer
    return [(path, chance) for path, chance, _ in found]


def test_the_likelihood_of_events_is_the_sum_over_all_hidden_paths(monkeypatch):
    monkeypatch.setattr(teacher, "PULSE", 4)  # so that a pulse begins, turns, ends and begins again in eight steps
    monkeypatch.setattr(teacher, "HALF", 2)
    steps, rng = 8, np.random.default_rng(0)
    joints = teacher.draw_events(np.array([0, 2]), steps, rng) + 0.5 * rng.normal(size=(2, steps, 8))
    mean, _ = teacher.pulse_means()
    noise = smooth_covariance(teacher.EVENT_MEMORY, steps)
    wanted = np.empty((2, 3))
    for n, level in itertools.product(range(2), range(3)):
        terms = []
        for gain in teacher.GAINS:
            # One joint after another: the noise of joints is independent.
            densities = [multivariate_normal(np.zeros(steps), gain**2 * noise)] * 8
            for path, chance in paths_of_pulses(steps, level):
                around = joints[n] - gain * mean[list(path)]
                terms.append(np.log(chance / 5) + sum(d.logpdf(around[:, j]) for j, d in enumerate(densities)))
        wanted[n, level] = logsumexp(terms)
    assert np.allclose(teacher.log_events(joints), wanted, rtol=1e-10)


def test_the_likelihood_of_the_modulation_is_a_mixture_of_gaussians():
    steps, rng = 12, np.random.default_rng(1)
    joints = teacher.draw_sway(np.array([0, 1, 2]), steps, rng)
    t = np.arange(steps)
    wanted = np.empty((3, 3))
    for n, level in itertools.product(range(3), range(3)):
        weight = np.exp(-((teacher.CYCLES - teacher.CENTRE[level]) ** 2) / (2 * teacher.WIDTH**2))
        terms = []
        for cycles, share in zip(teacher.CYCLES, weight / weight.sum(), strict=True):
            wave = 2 * np.pi * cycles * t / 160
            covariance = smooth_covariance(teacher.SWAY_MEMORY, steps) + teacher.OFFSET**2
            both = [np.outer(part, part) for part in (np.cos(wave), np.sin(wave))]
            covariance += teacher.AMPLITUDE**2 * sum(both)
            density = multivariate_normal(np.zeros(steps), covariance)
            terms.append(np.log(share) + sum(density.logpdf(joints[n, :, j]) for j in range(4)))
        wanted[n, level] = logsumexp(terms)
    assert np.allclose(teacher.log_sway(joints), wanted, rtol=1e-9)


def test_the_likelihood_of_the_survey_is_the_sum_over_renewals():
    answers = np.array([[[0, 2, 1, 1], [0, 2, 1, 0], [1, 2, 1, 1], [1, 2, 0, 1]]])  # (1, 4, 4)
    wanted = np.zeros((1, 3))
    for level, question in itertools.product(range(3), range(4)):
        series, chances, renewed = answers[0, :, question], teacher.ANSWERS[level], teacher.RENEWED[level]
        total = 0.0
        for fresh in itertools.product([False, True], repeat=3):
            p = chances[series[0]]
            for before, now, new in zip(series, series[1:], fresh, strict=False):
                p *= renewed * chances[now] if new else (1 - renewed) * (before == now)
            total += p
        wanted[0, level] += np.log(total)
    assert np.allclose(teacher.log_survey(answers), wanted)


def test_the_posterior_is_bayes_rule_over_class_and_shown_levels():
    drawn = teacher.draw((1, 1, 0), [5], steps=20)
    prior = np.array([0.5, 0.3, 0.2])
    sources = [teacher.log_events(drawn.joints[:, :, :8]), teacher.log_sway(drawn.joints[:, :, 8:12])]
    sources.append(teacher.log_survey(drawn.survey))
    wanted = np.zeros((2, 3))
    for n, c in itertools.product(range(2), range(3)):
        words = np.prod([teacher.NUMBER[c, w] for w in drawn.words[n]])
        relative = [np.exp(s[n] - s[n].max()) @ teacher.SHOWN[c] for s in sources]
        wanted[n, c] = prior[c] * words * np.prod(relative)
    found = teacher.posterior(drawn, prior)
    assert np.allclose(found, wanted / wanted.sum(axis=1, keepdims=True))


def test_the_posterior_is_calibrated_and_leaves_room_above_and_below(data):
    y, posterior = data.columns["y"], data.posterior
    right = posterior.argmax(axis=1) == y
    error = np.sqrt((posterior.max(axis=1) * (1 - posterior.max(axis=1))).sum()) / len(y)
    assert abs(right.mean() - posterior.max(axis=1).mean()) < 4 * error
    assert 0.90 < f1_score(y, posterior.argmax(axis=1), average="macro") < 0.99
    train = np.arange(0, len(y), 2)
    forest = chances_of("forest", data, train, seed=0)[1::2].argmax(axis=1)
    assert 0.4 < f1_score(y[1::2], forest, average="macro") < 0.8


def test_mean_and_spread_of_the_slow_modulation_are_the_same_for_all_frequencies():
    variances = {tuple(np.diag(teacher.sway_covariance(int(c), 160)).round(12)) for c in teacher.CYCLES}
    assert len(variances) == 1


def test_the_csv_files_load_to_the_same_arrays(tmp_path, monkeypatch):
    """A98: 40 columns and 160 steps a sample, words as integers, (N, 160, 38), ids with zeros in front."""
    monkeypatch.setattr(synthetic, "COUNTS", SMALL)
    monkeypatch.setattr(synthetic, "TEST_COUNTS", (2, 1, 1))
    folder = write_challenge(tmp_path / "csv", seed=3)
    assert sorted(p.name for p in folder.iterdir()) == [
        "sample_submission.csv", "test.csv", "test_labels.csv", "train.csv", "train_labels.csv"
    ]  # fmt: skip
    train = pd.read_csv(folder / "train.csv", dtype={"sample_index": str})
    assert train.shape == (23 * 160, 40) and set(train["n_legs"]) <= {"zero", "one", "two"}
    submission = pd.read_csv(folder / "sample_submission.csv", dtype=str)
    assert list(submission.columns) == ["sample_index", "label"]
    assert list(submission["sample_index"]) == ["000", "001", "002", "003"]
    drawn = PainSynthetic(seed=3, references=()).load()
    read = Challenge(path=str(folder), classes=drawn.classes).load()
    used = [i for i, name in enumerate(drawn.channels) if not name.startswith("n_")]
    assert read.columns["x"].shape == (23, 160, 38) and read.channels == drawn.channels
    assert (read.columns["x"][:, :, used] == drawn.columns["x"][:, :, used]).all()  # bit for bit
    assert (read.columns["y"] == drawn.columns["y"]).all()
    for name in ("n_legs", "n_hands", "n_eyes"):  # a word that never occurs has no code
        column = drawn.columns["x"][:, :, drawn.channels.index(name)]
        codes = np.searchsorted(np.unique(column), column)
        assert (read.columns["x"][:, :, read.channels.index(name)] == codes).all()


def test_the_test_file_holds_other_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "COUNTS", SMALL)
    monkeypatch.setattr(synthetic, "TEST_COUNTS", SMALL)
    folder = write_challenge(tmp_path / "csv")
    first, second = (pd.read_csv(folder / f"{name}.csv")["joint_00"].to_numpy() for name in ("train", "test"))
    assert (first != second).mean() > 0.99


def test_a_folder_that_holds_something_is_not_filled(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        write_challenge(tmp_path)
    command = [sys.executable, "-m", "paceline.recipes.pain.synthetic", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2 and "not empty" in found.stderr and "Traceback" not in found.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three folds of a model that hardly learns: what counts stands beside it."""
    overrides = ["data=pain_synthetic", "model=gru", "model.hidden_size=4", "model.num_layers=1", "device=cpu"]
    overrides += ["training.num_epochs=1", "training.batch_size=256", "members.folds=3", "numerics.threads=1"]
    return paceline.train("pain", overrides, runs=tmp_path_factory.mktemp("runs"), name="synthetic")


def test_ceiling_and_forest_are_measured_on_the_members_own_folds(trained, data):
    references = trained.summary["references"]
    assert list(references) == ["ceiling", "forest"]
    x, y = data.columns["x"].astype(np.float64), data.columns["y"]
    features = np.hstack([x.mean(1), x.std(1), x.min(1), x.max(1), x[:, -1] - x[:, 0]])
    folds = trained.read_json("splits.json")["splits"]
    wanted = {"ceiling": [], "forest": []}
    for fold in folds:
        train, val = fold["train"], fold["val"]
        wanted["ceiling"].append(data.posterior[val].argmax(axis=1))
        forest = RandomForestClassifier(300, random_state=42).fit(features[train], y[train])
        wanted["forest"].append(forest.predict(features[val]))
    for name, predicted in wanted.items():
        pairs = [(y[fold["val"]], each) for fold, each in zip(folds, predicted, strict=True)]
        metrics = references[name]["metrics"]
        for metric, score in (
            ("val_accuracy", accuracy_score),
            ("val_f1_macro", lambda a, b: f1_score(a, b, average="macro")),
        ):
            values = [score(a, b) for a, b in pairs]
            assert metrics[metric]["mean"] == pytest.approx(np.mean(values), abs=0.012 if name == "forest" else 1e-9)
            assert metrics[metric]["n"] == 3
    members = [m["metrics"]["val_f1_macro"] for m in trained.summary["members"]]
    pair = references["ceiling"]["difference"]["val_f1_macro"]
    assert pair["mean"] == pytest.approx(np.mean(members) - references["ceiling"]["metrics"]["val_f1_macro"]["mean"])
    assert pair["ci95"][0] < pair["mean"] < pair["ci95"][1] and "corrected" in pair["method"]
    assert "val_log_loss" in references["ceiling"]["metrics"] and "val_log_loss" not in references["forest"]["metrics"]


def test_terminal_and_report_show_them_beside_the_models(trained):
    from rich.console import Console

    from paceline.report.table import terminal_tables

    console = Console(width=80, record=True, file=io.StringIO())
    for part in terminal_tables(trained.summary):
        console.print(part)
    text = console.export_text()
    assert "models minus it" in text and "forest   val_f1_macro" in text and "ceiling  val_f1_macro" in text
    page = (trained.path / "report.html").read_text()
    assert "Beside the models" in page and "random forest of 300 trees" in page


def test_a_reference_that_the_data_do_not_allow_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match="ceiling of these data is not known") as caught:
        paceline.train("pain", ["data=vowels", "data.references=[ceiling]"], runs=tmp_path, name="r")
    assert caught.value.where == "data.references" and not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="references"):
        paceline.train("pain", ["data=vowels", "data.references=[oracle]"], runs=tmp_path, name="r")


def test_the_summary_without_references_has_none(tmp_path):
    x = np.random.default_rng(0).normal(size=(24, 6, 2))
    path = tmp_path / "small.npz"
    np.savez(path, X=x, y=np.arange(24) % 2)
    small = ["data=npz", f"data.path={path}", "model=gru", "model.hidden_size=2", "training.num_epochs=1", "device=cpu"]
    run = paceline.train("pain", small, runs=tmp_path, name="none")
    assert json.loads((run.path / "summary.json").read_text())["references"] == {}
    assert "Beside the models" not in (run.path / "report.html").read_text()
