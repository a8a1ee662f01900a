"""Oversampling in a run: after the split, of the training part alone, for arrays only."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

import paceline
from paceline.data.dataset import dataset
from paceline.data.split import make_splits
from paceline.errors import ConfigError
from paceline.recipes.pain.data import Npz
from paceline.run.inputs import InMemory, split_inputs
from paceline.train.config import TrainingConfig
from paceline.types import Member
from tests.contracts.tiny import USE, train

COUNTS = {"no_pain": 30, "low_pain": 12, "high_pain": 8}
CPU = torch.device("cpu")
MEMBER = Member(seed=3)


def inputs() -> InMemory:
    """50 sequences of three classes; the first value of each is its number."""
    y = np.repeat(list(COUNTS), list(COUNTS.values()))
    x = np.arange(50.0)[:, None, None] + np.zeros((50, 4, 2))
    data, config = dataset(x=x, y=y), Npz(path="none", scale="none")
    return split_inputs(data, make_splits(data, config.split)[0], config)


def classes(found: InMemory, **oversample: object) -> Counter[str]:
    rows = found.trained(TrainingConfig(oversample=oversample))
    return Counter(found.dataset.classes[label] for label in found.dataset.columns["y"][rows])


@pytest.mark.fast
def test_the_training_part_has_twice_as_many_of_the_chosen_class() -> None:
    """A102."""
    found = inputs()
    once, twice = classes(found), classes(found, factor=2, classes=["high_pain"])
    assert twice == {**once, "high_pain": 2 * once["high_pain"]}
    minorities = {**once, "high_pain": 2 * once["high_pain"], "low_pain": 2 * once["low_pain"]}
    assert classes(found, factor=2) == minorities
    balanced = classes(found, factor="balanced")
    assert max(balanced.values()) - min(balanced.values()) <= 6 and balanced["no_pain"] == once["no_pain"]


@pytest.mark.fast
def test_validation_test_and_scaling_know_nothing_of_it() -> None:
    """A102."""
    found, training = inputs(), TrainingConfig(oversample={"factor": 3})
    seen = [batch["x"][:, 0, 0].tolist() for batch in found.part("val", training, CPU)]
    assert [*chain(*seen)] == found.split.val.tolist()
    assert found.trained(training).size > found.split.train.size
    assert set(found.trained(training)) == set(found.split.train)
    assert found.spec == inputs().spec


@pytest.mark.fast
def test_an_epoch_has_every_repeat_in_an_order_of_its_own_seed_fold_and_epoch() -> None:
    training = TrainingConfig(oversample={"factor": 2, "classes": ["high_pain"]}, batch_size=8)

    def epochs(member: Member) -> list[list[float]]:
        feed = inputs().feed(member, training, CPU)
        (steps,) = feed.steps_per_epoch
        order = [feed.group(step)[0]["x"][0, :, 0, 0].tolist() for step in range(2 * steps)]
        return [[*chain(*order[:steps])], [*chain(*order[steps:])]]

    first, second = epochs(MEMBER)
    assert sorted(first) == sorted(second) == sorted(inputs().trained(training).tolist())
    assert first != second
    assert epochs(MEMBER) == [first, second]
    assert epochs(replace(MEMBER, fold=1))[0] != first


def test_class_weights_count_the_samples_as_often_as_they_come(workdir: Path) -> None:
    """A52: of the training part alone, and balanced again where repeats have balanced it already."""
    from paceline.run.build import member_job
    from paceline.run.config import resolve
    from tests.contracts.blobs import recipe

    found = inputs()
    config = resolve({"task": {"name": "blobs"}, "data": {"name": "blobs"}, "model": {"name": "net"},
                      "loss": {"name": "cross_entropy", "class_weights": "balanced"},
                      "training": {"oversample": {"factor": "balanced"}}}, recipe)  # fmt: skip
    counts = classes(found, factor="balanced")
    expected = np.array([1 / counts[name] for name in found.dataset.classes])
    np.testing.assert_allclose(
        member_job(MEMBER, config, found).task.loss.class_weights, expected / expected.mean(), rtol=1e-12
    )


def test_splits_and_audit_of_a_run_are_the_same(workdir: Path) -> None:
    options = ["training.num_epochs=1", "training.oversample.classes=[a]"]
    plain, repeated = (
        train(workdir / "runs", f"training.oversample.factor={n}", *options, name=f"n{n}") for n in (1, 3)
    )
    assert repeated.read_json("splits.json") == plain.read_json("splits.json")
    steps = [
        max(json.loads(line)["step"] for line in (run.path / "log.jsonl").read_text().splitlines())
        for run in (plain, repeated)
    ]
    assert steps[1] > steps[0]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("overrides", "message", "where"),
    [
        (["training.oversample.factor=2", "training.oversample.classes=[z]"], "no class of that name", "classes"),
        (["training.oversample.factor=0"], "a whole number from 1 on, or `balanced`", "factor"),
        (["training.oversample.factor=half"], "a whole number from 1 on, or `balanced`", "factor"),
        (["training.oversample.factor=1.5"], "a whole number from 1 on, or `balanced`", "factor"),
    ],
)
def test_oversampling_that_cannot_be_meant_is_refused_before_anything_is_written(
    workdir: Path, overrides: list[str], message: str, where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        paceline.train("blobs", overrides, use=[USE])
    assert message in caught.value.what
    assert caught.value.where == f"training.oversample.{where}"
    assert not Path("runs").exists()


@pytest.mark.fast
def test_numbers_and_loaders_have_no_classes_to_repeat(workdir: Path) -> None:
    x, y = torch.randn(20, 3), torch.randn(20)
    trainer = paceline.Trainer(torch.nn.Linear(3, 1), {"training.oversample.factor": 2})
    with pytest.raises(ConfigError, match="class labels"):
        trainer.fit((x, y), (x, y))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y))
    task = paceline.tasks.Regression()
    trainer = paceline.Trainer(torch.nn.Linear(3, 1), {"training.oversample.factor": 2}, task=task)
    with pytest.raises(ConfigError, match="chooses its own samples"):
        trainer.fit(loader, loader)
    assert not Path("runs").exists()
