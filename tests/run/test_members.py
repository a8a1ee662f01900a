"""The members of a run: variants x seeds x folds, each with its own config, split and noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paceline.api.runs import configure
from paceline.config.tree import read_yaml
from paceline.errors import ConfigError, DataError
from paceline.run.build import Prepared, build
from paceline.run.config import resolve
from paceline.run.start import create_run, reopen
from tests.contracts.tiny import USE, train

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def _empty_folder(workdir: Path) -> None:
    """No ./configs from elsewhere."""


def prepare(*overrides: str) -> tuple[Prepared, object]:
    config, recipe = configure("blobs", list(overrides), use=[USE])
    return build(config, recipe), recipe


def ids(prepared: Prepared) -> list[str]:
    return [job.member.id for job in prepared.jobs]


def without_members(config) -> dict:
    return {name: value for name, value in config.tree().items() if name != "members"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["seed42"]),
        (["members.seeds=3"], ["seed42", "seed43", "seed44"]),
        (["members.seeds=[7,3]"], ["seed7", "seed3"]),
        (["members.folds=2"], ["seed42-fold0", "seed42-fold1"]),
        (["members.seeds=[1,2]", "members.folds=2"], ["seed1-fold0", "seed1-fold1", "seed2-fold0", "seed2-fold1"]),
        (["members.vary.model=[foreign,net]"], ["foreign-seed42", "net-seed42"]),
        (
            ["members.vary.model=[net,foreign]", "members.vary.training.batch_size=[4,8]"],
            [f"{model}-batch_size{size}-seed42" for model in ("net", "foreign") for size in (4, 8)],
        ),
        (["members.vary.training.learning_rate=[1e-5]"], ["learning_rate1e-05-seed42"]),
        (["members.vary.task.inputs=[[x]]"], ["inputs_x-seed42"]),
        (["members.vary.model.hidden=[3,5]", "members.seeds=2"],
         ["hidden3-seed42", "hidden3-seed43", "hidden5-seed42", "hidden5-seed43"]),
    ],
    ids=str,
)  # fmt: skip
def test_members_are_spanned_in_order_variant_seed_fold(overrides, expected):
    prepared, _ = prepare(*overrides)
    assert ids(prepared) == expected
    assert [cohort.id for cohort in prepared.plan.cohorts] == expected


def test_a_variant_changes_its_own_keys_and_nothing_else():
    prepared, _ = prepare("members.vary.training.learning_rate=[0.5,0.25]", "training.num_epochs=7")
    assert [job.config.training.learning_rate for job in prepared.jobs] == [0.5, 0.25]
    for job in prepared.jobs:
        overrides = prepared.overrides(job)
        assert overrides == {"training": {"learning_rate": job.config.training.learning_rate}}


def test_another_model_replaces_the_section_whole_and_keeps_what_the_user_changed_of_common_keys():
    prepared, _ = prepare("members.vary.model=[net,foreign]")
    net, foreign = prepared.jobs
    assert foreign.config.model.model_dump() == {"name": "foreign", "width": 4}
    assert net.config.model.model_dump() == {"name": "net", "hidden": 5, "dropout": 0.3}
    assert prepared.overrides(foreign) == {"model": {"name": "foreign", "width": 4}}
    assert prepared.overrides(net) == {}


def test_what_the_user_changed_is_carried_over_to_a_model_with_that_key():
    config, recipe = configure(
        "pain", ["model=gru", "model.hidden_size=9", "model.num_layers=1", "members.vary.model=[gru,conv_gru]"]
    )
    prepared = build(config, recipe)
    gru, conv = (job.config.model for job in prepared.jobs)
    assert (gru.hidden_size, conv.hidden_size) == (9, 9)
    assert (conv.name, conv.channels) == ("conv_gru", (64, 64))


@pytest.mark.parametrize(
    "overrides",
    [
        ["members.vary.model=[net,foreign]", "members.seeds=2"],
        ["members.vary.training.schedule.name=[none,cosine]", "members.vary.training.learning_rate=[1e-5,3e-2]"],
        ["members.vary.training.save.every_seconds=[null,5]", "members.folds=2"],
        ["members.vary.task.inputs=[[x]]"],
        ["members.seeds=2", "members.split_seed=per_seed"],
    ],
    ids=str,
)
def test_a_reopened_run_has_the_members_that_it_was_made_with(workdir, overrides):
    prepared, recipe = prepare(*overrides)
    run = create_run(workdir / "runs" / "made", prepared, [USE])
    again = reopen(run, recipe)
    assert ids(again) == ids(prepared) == run.members
    assert again.plan == prepared.plan
    for made, reloaded in zip(prepared.jobs, again.jobs, strict=True):
        assert without_members(reloaded.config) == without_members(made.config)
        assert without_members(resolve(run.member_config(made.member.id), recipe)) == without_members(made.config)
        assert reloaded.inputs.split.train.tolist() == made.inputs.split.train.tolist()


def test_folds_are_stratified_and_each_sample_validates_once():
    prepared, _ = prepare("members.folds=3")
    y = prepared.dataset.columns["y"]
    parts = [job.inputs.split for job in prepared.jobs]
    assert sorted(i for split in parts for i in split.val.tolist()) == list(range(45))
    for split in parts:
        assert not set(split.train) & set(split.val)
        assert np.bincount(y[split.val]).tolist() == [5, 5, 5]


def test_grouped_folds_keep_every_group_in_one_part():
    prepared, _ = prepare("members.folds=5", "data.split.rule=group")
    group = prepared.dataset.group
    for job in prepared.jobs:
        split = job.inputs.split
        assert not set(group[split.train]) & set(group[split.val])


@pytest.mark.parametrize("rule", ["stratified", "group"])
def test_the_split_is_one_for_all_seeds_unless_it_is_redrawn_for_each(rule):
    common = ["members.seeds=3", "data.split.test_fraction=0.2", f"data.split.rule={rule}"]
    fixed = [job.inputs.split for job in prepare(*common)[0].jobs]
    redrawn = [job.inputs.split for job in prepare(*common, "members.split_seed=per_seed")[0].jobs]
    assert len({tuple(split.val) for split in fixed}) == 1
    assert len({tuple(split.val) for split in redrawn}) == 3
    assert len({tuple(split.test) for split in [*fixed, *redrawn]}) == 1  # no member trains on another's test samples


def test_scaling_is_fitted_on_the_members_own_training_part():
    """A85."""
    prepared, _ = prepare("members.folds=3")
    for job in prepared.jobs:
        x = prepared.dataset.columns["x"][job.inputs.split.train]
        np.testing.assert_allclose(job.inputs.preparation.scaler.mean, x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(job.inputs.preparation.scaler.std, x.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["members.vary.model=[net,nothing]"], "no model of that name"),
        (["members.vary.model=[net,net]"], "two variants are the same"),
        (["members.vary.training.learning_rate=[0.001,1e-3]"], "two variants are the same"),
        (["members.vary.training.lerning_rate=[1,2]"], "unknown config key"),
        (["members.vary.training.learning_rate=[1,-2]"], "greater than 0"),
        (["members.vary.data.samples=[30,45]"], "data cannot vary"),
        (["members.vary.device=[cpu,auto]"], "cannot vary within a run"),
        (["members.vary.numerics.threads=[1,2]"], "cannot vary within a run"),
        (["members.vary.tracking=[a,b]"], "cannot vary within a run"),
        (["members.vary.model.width=[3,4]"], "unknown config key"),
        (["members.seeds=10001"], "at most 10,000 seeds"),
        (["members.seeds=5001", "members.folds=2"], "more than 10000 members"),
        (["members.folds=16"], "16 folds needs at least 16 samples of each class"),
    ],
    ids=str,
)
def test_what_cannot_be_spanned_is_refused(overrides, message):
    with pytest.raises((ConfigError, DataError), match=message):
        prepare(*overrides)


def test_the_files_of_the_members_say_what_differs(workdir):
    run = train(workdir / "runs", "members.vary.model=[net,foreign]", "training.num_epochs=1")
    foreign = {"name": "foreign", "width": 4}
    assert read_yaml(run.member_folder("foreign-seed42") / "overrides.yaml") == {"model": foreign}
    assert read_yaml(run.member_folder("net-seed42") / "overrides.yaml") == {}
    assert run.best("foreign-seed42")["config"]["model"] == foreign
    plan = json.loads((run.path / "plan.json").read_text())
    assert [cohort["members"] for cohort in plan["cohorts"]] == [["net-seed42"], ["foreign-seed42"]]
