"""The same config gives the same bits; a member's numbers are its own, whoever trains beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import paceline
from paceline.checkpoint.tree import equal
from paceline.config.tree import merge, read_yaml, to_yaml
from paceline.types import Control, Record
from tests.contracts.tiny import USE, member_result, result, train

pytestmark = pytest.mark.fast

BUSY = [
    "training.gradient_accumulation_steps=2", "training.schedule.name=plateau", "training.schedule.patience=0",
    "training.selection.metric=val_f1_macro", "training.selection.smoothing=median_ema",
    "training.gradient_clip.value=1", "data.split.test_fraction=0.2",
]  # fmt: skip


THREE = ["members.seeds=3", "training.processes=1", *BUSY]


@pytest.fixture(scope="module", params=["eager", "cohort"])
def engine(request):
    """Each test that asks for it runs with both engines."""
    return f"training.engine={request.param}"


@pytest.fixture(scope="module")
def reference(engine, tmp_path_factory):
    """Three seeds of the model with dropout."""
    return train(tmp_path_factory.mktemp("reference"), *THREE, engine)


def test_the_run_has_the_cohorts_that_were_asked_for(reference, engine):
    cohorts = reference.read_json("plan.json")["cohorts"]
    assert len(cohorts) == (3 if engine.endswith("eager") else 1)


def test_the_same_config_twice_gives_the_same_bits(reference, engine, tmp_path):
    """A35, X1: weights, optimizer, histories, log."""
    again = train(tmp_path, *THREE, engine)
    assert equal(result(again), result(reference)) == []


def test_a_run_repeated_from_its_config_file_gives_the_same_bits_and_plan(reference, tmp_path):
    again = paceline.train(config=reference.path / "config.yaml", use=[USE], runs=tmp_path, name="again")
    assert equal(result(again), result(reference)) == []
    for name in ("config.yaml", "plan.json", "splits.json", "members.csv", "log.jsonl"):
        assert (again.path / name).read_bytes() == (reference.path / name).read_bytes()


def test_another_seed_gives_other_bits(reference):
    first, second, third = (member_result(reference, member)["best.pt"] for member in reference.members)
    for one, other in ((first, second), (second, third)):
        assert equal(one["model_state_dict"], other["model_state_dict"]) != []


@pytest.mark.parametrize("model", ["net", "foreign"])
def test_a_member_alone_is_the_member_among_others(tmp_path, model):
    together = train(tmp_path, f"model={model}", "members.seeds=[42,43]", name="together")
    alone = train(tmp_path, f"model={model}", "members.seeds=[43]", name="alone")
    assert equal(member_result(together, "seed43"), member_result(alone, "seed43")) == []


def test_a_fold_alone_is_the_fold_among_others(tmp_path):
    folds = train(tmp_path, "members.folds=3", "members.seeds=[1,2]", name="folds")
    again = train(tmp_path, "members.folds=3", "members.seeds=[2]", name="again")
    assert equal(member_result(folds, "seed2-fold1"), member_result(again, "seed2-fold1")) == []


def test_a_variant_starts_from_the_weights_of_the_plain_member(tmp_path):
    """So variants are compared on the same noise."""
    varied = train(tmp_path, "members.vary.training.learning_rate=[0.01,0.3]", name="varied")
    plain = train(tmp_path, name="plain")
    first, second, only = varied.members[0], varied.members[1], plain.members[0]
    one, other = (member_result(run, member)["best.pt"] for run, member in ((varied, first), (plain, only)))
    assert equal({**one, "member": ""}, {**other, "member": ""}) == []
    assert equal(varied.best(second)["model_state_dict"], one["model_state_dict"]) != []


def test_stopping_a_neighbour_changes_nothing(reference, engine, tmp_path):
    stopped = []

    def stop_the_first(record: Record, control: Control) -> None:
        if record.member == "seed42" and record.epoch == 1:
            control.stop("seed42")
            stopped.append(record.step)

    run = train(tmp_path, *THREE, engine, callbacks=[stop_the_first])
    assert stopped
    assert run.history("seed42")["epoch"] == [1]
    for member in ("seed43", "seed44"):
        assert equal(member_result(run, member), member_result(reference, member)) == []


def test_random_numbers_drawn_by_a_callback_change_nothing(reference, engine, tmp_path):
    drawn = []

    def draw(record: Record, control: Control) -> None:
        torch.manual_seed(len(drawn))
        drawn.append(float(torch.rand(5).sum()))

    run = train(tmp_path, *THREE, engine, callbacks=[draw])
    assert len(drawn) > 10
    assert equal(result(run), result(reference)) == []


@pytest.mark.parametrize("model", ["net", "foreign"])
def test_the_random_state_of_the_process_changes_nothing(tmp_path, model):
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(train(tmp_path, f"model={model}", name=f"run{seed}"))
    assert equal(result(runs[0]), result(runs[1])) == []


def test_the_process_is_as_it_was_after_a_run(tmp_path):
    torch.manual_seed(5)
    state, threads, precision = torch.get_rng_state(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    train(tmp_path, "numerics.threads=2", "numerics.matmul_precision=medium", "training.num_epochs=1")
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, precision)


def test_a_config_with_values_on_top_does_not_reuse_a_plan_for_other_members(reference, tmp_path):
    run = paceline.train(
        config=reference.path / "config.yaml", overrides=["members.seeds=[42,7]", "numerics.threads=2"],
        use=[USE], runs=tmp_path, name="more",
    )  # fmt: skip
    assert run.members == ["seed42", "seed7"]
    assert run.read_json("plan.json")["threads"] == 2
    assert [member["status"] for member in run.summary["members"]] == ["finished", "finished"]


def test_a_config_that_was_edited_beside_its_old_plan_gets_a_plan_of_its_own(reference, tmp_path):
    folder = tmp_path / "edited"
    folder.mkdir()
    edited = merge(read_yaml(reference.path / "config.yaml"), {"members": {"seeds": [5]}})
    (folder / "config.yaml").write_text(to_yaml(edited))
    (folder / "plan.json").write_bytes((reference.path / "plan.json").read_bytes())
    run = paceline.train(config=folder / "config.yaml", use=[USE], runs=tmp_path, name="run")
    assert run.members == ["seed5"]


def test_the_log_holds_the_members_one_after_another_and_every_line_once(reference):
    rows = [json.loads(line) for line in (reference.path / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(row["member"] for row in rows)) == reference.members  # the order of the plan
    keys = [(row["member"], row["step"], row["split"]) for row in rows]
    assert len(set(keys)) == len(keys)
    own = [row["split"] for row in rows if row["member"] == "seed43"]
    assert own == ["train", "val"] * 3 + ["last", "best", "test"]
    assert "seconds" not in (reference.path / "log.jsonl").read_text()


def test_histories_have_columns_of_equal_length_with_an_entry_per_epoch(reference):
    """A74."""
    history = reference.history()
    assert {len(column) for column in history.values()} == {3}
    assert history["epoch"] == [1, 2, 3]
    wanted = {"train_loss", "val_loss", "val_accuracy", "val_f1_macro", "val_f1_macro_smoothed", "lr"}
    assert wanted <= set(history)
    table = Path(reference.member_folder("seed42") / "history.csv").read_text().splitlines()
    assert table[0].split(",") == list(history)
    assert len(table) == 4
