"""Who trains on batches by length: the rule, the trial, the words of a refusal, and what it does to a training.

Shapes: N samples, T steps, F features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paceline import Trainer
from paceline.api.runs import configure, train
from paceline.checkpoint.tree import equal
from paceline.data.loader import ArrayFeed
from paceline.data.rows import RowFeed, Rows
from paceline.errors import ConfigError
from paceline.run.build import build
from paceline.tasks import Classification
from paceline.train.config import TrainingConfig
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import seeded_model
from paceline.types import DataSpec, Member
from tests.contracts.tiny import CPU
from tests.run.padding_recipe import F, Model, N, T, sequences
from tests.train.double_recipe import DoubleConvGru

RECIPES = [Path(__file__).with_name("padding_recipe.py"), Path(__file__).parents[1] / "train" / "double_recipe.py"]
TASK = Classification(n_classes=2, inputs=("x", "mask"))


def planned(*overrides: str, task: str = "double") -> list[str]:
    use = [path for path in RECIPES if path.name == f"{task}_recipe.py"]
    config, recipe = configure(task, ["training.processes=1", *overrides], use=use)
    return [cohort.batches for cohort in build(config, recipe).plan.cohorts]


@pytest.mark.parametrize("engine", ["eager", "cohort"])
@pytest.mark.parametrize("model", ["double_gru", "double_conv_gru"])
def test_auto_cuts_batches_where_lengths_vary_whatever_the_engine(engine, model):
    shared = ["data=sequences", f"model={model}", f"training.engine={engine}", "members.seeds=2"]
    assert set(planned(*shared)) == {"cut"}
    assert set(planned(*shared, "data.loader.bucket_by_length=true")) == {"by_length"}
    assert set(planned(*shared, "data.loader.bucket_by_length=false")) == {"whole"}


def test_auto_leaves_samples_of_one_length_alone_and_true_says_so():
    assert planned("data=rows", "model=mlp") == ["whole"]
    with pytest.raises(ConfigError, match="all samples have the same length") as caught:
        planned("data=rows", "model=mlp", "data.loader.bucket_by_length=true")
    assert caught.value.where == "data.loader.bucket_by_length"


@pytest.mark.parametrize(
    ("kind", "batches"), [("masked_mean", "cut"), ("plain_mean", "whole"), ("batch_norm", "whole"), ("flat", "whole")]
)
def test_a_trial_finds_out_which_models_padding_reaches(kind, batches):
    assert planned(f"model.kind={kind}", task="padding") == [batches]


@pytest.mark.parametrize(
    "data", ["data.shortest=10", "data.shortest=12", "data.shift=1"], ids=["similar", "equal", "padding first"]
)
def test_auto_needs_lengths_that_differ_and_padding_at_the_end(data):
    assert planned(data, task="padding") == ["whole"]


def test_true_takes_lengths_that_differ_little_and_no_padding_before_valid_steps():
    assert planned("data.shortest=10", "data.loader.bucket_by_length=true", task="padding") == ["by_length"]
    with pytest.raises(ConfigError, match="padding stands before valid steps"):
        planned("data.shift=1", "data.loader.bucket_by_length=true", task="padding")


@pytest.mark.parametrize(
    ("kind", "words"), [("plain_mean", "depends on the padding"), ("flat", "RuntimeError: mat1 and mat2")]
)
def test_true_with_a_model_that_padding_reaches_is_one_clear_error(tmp_path, kind, words):
    overrides = ["data.loader.bucket_by_length=true", f"model.kind={kind}"]
    with pytest.raises(ConfigError, match=f"there can be no batches by length: .*{words}") as caught:
        train("padding", overrides, use=RECIPES[:1], runs=tmp_path / "runs")
    assert len(str(caught.value).splitlines()) <= 4
    assert not (tmp_path / "runs").exists()


def test_a_loader_keeps_its_own_batches(tmp_path):
    columns = [torch.from_numpy(column) for column in sequences().values()]
    loader = DataLoader(TensorDataset(*columns), batch_size=8)
    trainer = Trainer(lambda: Model("masked_mean"), {"training.num_epochs": 1}, task=TASK, folder=tmp_path)
    (cohort,) = trainer.fit(loader, loader).read_json("plan.json")["cohorts"]
    assert cohort["batches"] == "whole"


def test_the_same_batches_cut_or_not_train_the_same_weights_in_both_engines():
    """With dropout, batch normalisation and clipping on."""
    lengths = np.random.default_rng(3).integers(2, T + 1, N)
    spec = DataSpec(shapes={"x": (T, F), "mask": (T,)}, classes=("a", "b"), class_counts=(12, 12))
    columns = {name: torch.from_numpy(column) for name, column in sequences().items()}
    columns |= {"x": columns["x"].double(), "mask": torch.from_numpy(np.arange(T) < lengths[:, None])}
    config = TrainingConfig(gradient_clip={"value": 0.5})
    members = [Member(seed=1), Member(seed=2)]

    def net(member: Member) -> nn.Module:
        return seeded_model(lambda: DoubleConvGru(dropout=0.3).build(spec), member)

    feed = RowFeed([Rows(member=m, rows=np.arange(N)) for m in members], 6, 1, CPU, lengths=lengths, by_length=True)
    cut, uncut = (
        CohortEngine([net(m) for m in members], [TASK] * 2, [config] * 2, members, columns, {}, CPU, compiled=False)
        for _ in range(2)
    )
    alone = EagerEngine(net(members[1]), TASK, config, members[1], {}, CPU)
    own = ArrayFeed(columns, members[1], 6, 1, lengths, by_length=True)
    for step in range(16):
        cut.step(feed.group(step), [0.01] * 2, step)
        uncut.step([{"rows": batch["rows"]} for batch in feed.group(step)], [0.01] * 2, step)
        alone.step(own.group(step), [0.01], step)
    weights = [engine.weights(k, "current")["model"] for engine, k in ((cut, 1), (uncut, 1), (alone, 0))]
    for other in weights[1:]:
        for name, value in weights[0].items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=1e-9)
    assert equal(weights[0], weights[1]) != [], "nothing was cut"
