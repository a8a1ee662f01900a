"""What a run leaves behind: its members' files, failures, the register of test openings, interruptions."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

import paceline
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError, ConfigError, DataError, InterruptedRunError, RunError
from paceline.run.folder import check_name, claim, create, new_name, open_run
from paceline.train.control import LoopControl
from tests.contracts.tiny import USE, result, train

pytestmark = pytest.mark.fast

TEST = "data.split.test_fraction=0.2"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds with a test part."""
    return train(tmp_path_factory.mktemp("runs"), "members.seeds=2", TEST, name="base")


def openings(runs) -> list[dict]:
    path = runs / "test_openings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_folder_has_the_files_of_the_design(run):
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    wanted = {
        "config.yaml", "plan.json", "environment.json", "splits.json", "summary.json", "members.csv", "log.jsonl",
        "timing.csv", "report.html", "logs/seed42.jsonl", "logs/seed42.timing.csv", "logs/seed42.done",
    }  # fmt: skip
    member = {"overrides.yaml", "history.csv", "history.json", "best.pt", "latest.pt", "predictions.npz"}
    assert wanted | {f"members/seed43/{name}" for name in member} <= names
    assert not [name for name in names if ".tmp" in name or ".making" in name]


@pytest.mark.parametrize("name", ["plan.json", "environment.json", "splits.json", "summary.json", "logs/seed42.done"])
def test_every_json_file_says_its_schema_version_and_holds_no_nan(run, name):
    text = (run.path / name).read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word))["schema_version"] == 1


def test_the_weights_file_has_all_that_prediction_needs_and_loads_without_code(run):
    """A70, A82, A83, A84, A86, X3."""
    best = torch.load(run.member_folder("seed42") / "best.pt", weights_only=True)
    assert {"schema_version", "model_state_dict", "epoch", "metrics", "selection", "config", "split_idx", "classes",
            "scaler", "channels", "shapes"} <= set(best)  # fmt: skip
    assert best["classes"] == ["a", "b", "c"]
    splits = json.loads((run.path / "splits.json").read_text())["splits"][0]
    assert {part: index.tolist() for part, index in best["split_idx"].items()} == {
        part: splits[part] for part in ("train", "val", "test")
    }
    assert best["config"]["model"] == {"name": "net", "hidden": 5, "dropout": 0.3}
    assert best["epoch"] == best["selection"]["epoch"]
    history = run.history("seed42")
    row = history["epoch"].index(best["epoch"])
    assert best["metrics"]["val_loss"] == history["val_loss"][row]
    latest = torch.load(run.member_folder("seed42") / "latest.pt", weights_only=True)
    assert latest["epoch"] == 3
    assert latest["optimizer_state_dict"]["param_groups"][0]["lr"] == 0.01
    assert "optimizer_state_dict" not in best


def test_workers_and_pinned_memory_change_nothing_for_data_in_memory_and_one_line_says_so(tmp_path, caplog):
    """A44, C79: the history with workers is that without."""
    plain = train(tmp_path, name="plain")
    assert caplog.messages == []
    other = train(tmp_path, "data.loader.num_workers=4", "data.loader.pin_memory=true", name="other")
    assert caplog.messages == ["data is in memory: workers are not used"]
    assert equal(result(plain), result(other)) == []


def test_the_rule_that_split_the_data_is_recorded_and_not_auto(run):
    assert run.config["data"]["split"]["rule"] == "auto"
    assert run.read_json("splits.json")["rule"] == "stratified"


def test_the_optimizer_of_the_best_epoch_is_kept_on_request(tmp_path):
    """A70."""
    run = train(tmp_path, "training.selection.keep_optimizer=true")
    state = run.best()["optimizer_state_dict"]["state"]
    steps_per_epoch = math.ceil(36 / 8)
    assert {float(moments["step"]) for moments in state.values()} == {run.best()["epoch"] * steps_per_epoch}


def test_the_summary_agrees_with_the_members_and_with_a_plain_mean(run):
    scores = [row["metrics"]["val_f1_macro"] for row in run.summary["members"]]
    metric = run.summary["metrics"]["val_f1_macro"]
    assert metric["mean"] == pytest.approx(np.mean(scores))
    assert metric["std"] == pytest.approx(np.std(scores, ddof=1))
    assert metric["n"] == 2
    low, high = metric["ci95"]
    assert low < metric["mean"] < high
    table = pd.read_csv(run.path / "members.csv")
    assert table["val_f1_macro"].tolist() == pytest.approx(scores)
    assert table["id"].tolist() == run.members


def test_predictions_are_those_of_the_selected_weights(run):
    with np.load(run.member_folder("seed42") / "predictions.npz") as stored:
        y, predicted, index = stored["test_y"], stored["test_prediction"], stored["test_index"]
    assert len(index) == 9
    accuracy = run.summary["members"][0]["metrics"]["test_accuracy"]
    assert (y == predicted).mean() == pytest.approx(accuracy)


def test_evaluating_again_gives_the_numbers_of_the_run(run):
    found = paceline.evaluate(run, use=[USE])
    for name, row in found["metrics"].items():
        assert row == {key: run.summary["metrics"][name][key] for key in row}
    stored = json.loads((run.path / "evaluation_val.json").read_text())
    assert stored == found


def test_evaluating_several_variants_keeps_them_apart(tmp_path):
    run = train(tmp_path, "members.vary.model=[net,foreign]", "training.num_epochs=1")
    found = paceline.evaluate(run, use=[USE])
    assert [variant["name"] for variant in found["variants"]] == ["net", "foreign"]
    by_name = {variant["name"]: variant["metrics"] for variant in run.summary["variants"]}
    for variant in found["variants"]:
        assert variant["metrics"]["val_loss"]["mean"] == by_name[variant["name"]]["val_loss"]["mean"]


def test_predicting_raw_input_gives_the_mean_of_the_members(run):
    with np.load(run.member_folder("seed42") / "predictions.npz") as one:
        index, first = one["val_index"], one["val_probability"]
    with np.load(run.member_folder("seed43") / "predictions.npz") as other:
        second = other["val_probability"]
    x = _raw()[index]
    table = paceline.predict(run, {"x": x}, use=[USE])
    np.testing.assert_allclose(table[["p_a", "p_b", "p_c"]].to_numpy(), (first + second) / 2, atol=1e-6)
    assert table["prediction"].tolist() == [("a", "b", "c")[k] for k in ((first + second) / 2).argmax(1)]
    alone = paceline.predict(run, {"x": x}, members=["seed43"], use=[USE])
    np.testing.assert_allclose(alone[["p_a", "p_b", "p_c"]].to_numpy(), second, atol=1e-6)


def _raw() -> np.ndarray:
    from paceline.run.use import load_extension

    return np.array(load_extension(USE).recipe.data["blobs"](name="blobs").load().columns["x"])


def test_a_member_that_fails_does_not_stop_the_others(tmp_path):
    """X4: its loss was not finite; the summary says so and leaves it out."""
    run = train(tmp_path, "members.vary.training.learning_rate=[1e30,0.01]", "members.seeds=2", TEST)
    bad, good = ["learning_rate1e_30", "learning_rate0.01"]
    status = {row["id"]: row["status"] for row in run.summary["members"]}
    assert Counter(status.values()) == {"failed": 2, "finished": 2}
    assert set(run.summary["failed"]) == {member for member, word in status.items() if word == "failed"}
    assert run.summary["status"] == "finished"
    assert run.summary["variant"] == good
    assert "not finite" in run.summary["members"][0]["stopped"]
    assert (run.path / "report.html").exists()
    assert bad.split("1e")[0] in run.summary["failed"][0]
    assert paceline.evaluate(run, use=[USE])["members"][0]["metrics"]["val_loss"] is None


def test_a_run_of_which_all_members_fail_is_failed_and_still_has_its_files(tmp_path):
    run = train(tmp_path, "training.learning_rate=1e30")
    assert run.summary["status"] == "failed"
    assert run.summary["metrics"] == {}
    assert (run.path / "report.html").exists()


def test_a_report_that_fails_is_a_warning_and_the_training_is_done(tmp_path, caplog):
    def in_the_way(record, control):
        (tmp_path / "run" / "report.html").mkdir(exist_ok=True)

    run = train(tmp_path, callbacks=[in_the_way])
    assert run.summary["status"] == "finished"
    (entry,) = caplog.records
    assert "the report could not be written" in entry.getMessage()
    assert f"paceline report {run.path}" in entry.getMessage()


def test_an_opening_of_the_test_data_is_recorded_once_per_run(tmp_path):
    run = train(tmp_path, "members.seeds=2", TEST, name="a")
    assert [(line["run"], line["by"]) for line in openings(tmp_path)] == [("a", "train")]
    assert run.summary["test_openings"] == 1
    paceline.resume(run, use=[USE])
    paceline.evaluate(run, "val", use=[USE])
    assert len(openings(tmp_path)) == 1
    paceline.evaluate(run, "test", use=[USE])
    paceline.evaluate(run, "test", use=[USE])
    assert [line["by"] for line in openings(tmp_path)] == ["train", "evaluate"]


def test_a_run_that_replaces_another_opens_the_test_data_again(tmp_path):
    """Otherwise the same name could be trained until the test likes it."""
    train(tmp_path, TEST, name="a")
    again = train(tmp_path, TEST, name="a", overwrite=True)
    assert len(openings(tmp_path)) == 2
    assert again.summary["test_openings"] == 2


def test_openings_of_other_data_do_not_count(tmp_path):
    train(tmp_path, TEST, name="a")
    other = train(tmp_path, TEST, "data.shift=0.5", name="b")
    assert other.summary["test_openings"] == 1
    assert len(openings(tmp_path)) == 2


def test_a_closed_test_part_is_never_evaluated(tmp_path):
    run = train(tmp_path, TEST, "data.split.open_test=false")
    assert openings(tmp_path) == []
    assert not [name for name in run.summary["metrics"] if name.startswith("test_")]
    assert '"test"' not in (run.path / "log.jsonl").read_text()
    with np.load(run.member_folder("seed42") / "predictions.npz") as stored:
        assert not [name for name in stored if name.startswith("test")]
    paceline.evaluate(run, "test", use=[USE])  # the user's own decision, on record
    assert [line["by"] for line in openings(tmp_path)] == ["evaluate"]


def interrupted(folder, *overrides, member="seed42", epoch=2, code=130):
    """Train until a record of the member at that epoch, then interrupt."""
    control = LoopControl()

    def interrupt(record, _):
        if record.member == member and record.epoch == epoch and record.split == "train":
            control.interrupt(code)

    with pytest.raises(InterruptedRunError) as caught:
        train(folder, *overrides, callbacks=[interrupt], control=control)
    assert caught.value.exit_code == code
    assert caught.value.hint == f"paceline resume {folder / 'run'} --use {USE}"
    return open_run(folder / "run")


@pytest.mark.parametrize("engine", ["eager", "cohort"])
@pytest.mark.parametrize(("member", "epoch"), [("seed42", 1), ("seed43", 2), ("seed44", 3)])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, member, epoch, engine):
    options = ["members.seeds=3", f"training.engine={engine}", "training.processes=1", TEST]
    whole = train(tmp_path / "whole", *options)
    begun = interrupted(tmp_path, *options, member=member, epoch=epoch)
    assert not (begun.path / "summary.json").exists()
    published = begun.member_folder(member) / "latest.pt"
    assert torch.load(published, weights_only=True)["epoch"] == epoch  # there is something to look at
    (cohort,) = [c["id"] for c in begun.read_json("plan.json")["cohorts"] if member in c["members"]]
    assert Store(begun.path / "checkpoints" / cohort).steps()[-1] == 4 * epoch
    done = paceline.resume(begun, use=[USE])
    assert equal(result(done), result(whole)) == []
    assert (done.path / "members.csv").read_bytes() == (whole.path / "members.csv").read_bytes()


def test_a_finished_run_resumed_changes_nothing(run):
    before = {name: (run.path / name).read_bytes() for name in ("log.jsonl", "summary.json", "members.csv")}
    paceline.resume(run, use=[USE])
    assert {name: (run.path / name).read_bytes() for name in before} == before


def test_a_callback_that_raises_ends_the_run_which_goes_on_from_its_last_checkpoint(tmp_path):
    whole = train(tmp_path / "whole")
    seen = []

    def fail(record, control):
        seen.append(record.step)
        if record.epoch == 2:
            raise KeyError("a bug of the user")
        control.save()

    with pytest.raises(KeyError, match="a bug of the user"):
        train(tmp_path, callbacks=[fail])
    assert Store(tmp_path / "run" / "checkpoints" / "seed42").steps() == [5]  # closing never saves
    done = paceline.resume(tmp_path / "run", use=[USE])
    assert equal(result(done), result(whole)) == []
    assert (done.path / "logs" / "seed42.jsonl.tail").exists()


class Counting:
    """A callback with a state of its own: counts the records it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, record, control) -> None:
        self.seen += 1
        if record.epoch == 2 and record.split == "val":
            control.save()

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_the_state_of_a_callback_is_part_of_the_checkpoint(tmp_path):
    whole = Counting()
    train(tmp_path / "whole", callbacks=[whole])
    control = LoopControl()
    first = Counting()

    def interrupt(record, _):
        if record.epoch == 2:
            control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        train(tmp_path, callbacks=[first, interrupt], control=control)
    second = Counting()
    paceline.resume(tmp_path / "run", use=[USE], callbacks=[second])
    assert second.seen == whole.seen


def test_resuming_with_a_changed_config_says_which_key(tmp_path):
    begun = interrupted(tmp_path)
    path = begun.path / "config.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    with pytest.raises(ConfigError, match=r"training\.learning_rate: 0\.01 -> 0\.02"):
        paceline.resume(begun, use=[USE])


def test_resuming_with_changed_data_says_so(tmp_path, monkeypatch):
    source = tmp_path / "own.py"
    source.write_text(USE.read_text())
    begun = interrupted_with(source, tmp_path)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: np.random.Generator(np.random.PCG64(seed + 1)))
    with pytest.raises(DataError, match="the data changed since the run was made"):
        paceline.resume(begun, use=[source])


def interrupted_with(source, folder):
    control = LoopControl()
    with pytest.raises(InterruptedRunError):
        paceline.train(use=[source], runs=folder, name="run", control=control,
                       callbacks=[lambda record, _: control.interrupt(130)])  # fmt: skip
    return open_run(folder / "run")


def test_a_use_file_must_be_the_one_that_the_run_was_made_with(tmp_path):
    source = tmp_path / "own.py"
    source.write_text(USE.read_text())
    begun = interrupted_with(source, tmp_path)
    with pytest.raises(RunError, match=r"made with --use own\.py"):
        paceline.resume(begun)
    source.write_text(USE.read_text() + "\n# changed\n")
    with pytest.raises(RunError, match="another or no such file"):
        paceline.resume(begun, use=[source])
    renamed = tmp_path / "renamed.py"
    renamed.write_text(USE.read_text())
    assert paceline.resume(begun, use=[renamed]).summary["status"] == "finished"


def test_a_plan_for_a_device_that_is_gone_is_refused(tmp_path):
    begun = interrupted(tmp_path)
    path = begun.path / "plan.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda:77"'))
    with pytest.raises(ConfigError, match="no such device"):
        paceline.resume(begun, use=[USE])


def test_a_checkpoint_of_another_config_is_not_loaded(tmp_path):
    mine, other = interrupted(tmp_path / "a"), interrupted(tmp_path / "b", "training.learning_rate=0.5")
    foreign = Store(other.path / "checkpoints" / "seed42").load(10)
    Store(mine.path / "checkpoints" / "seed42").save(11, foreign)
    with pytest.raises(CheckpointError, match="belongs to another config"):
        paceline.resume(mine, use=[USE])


@pytest.mark.parametrize(
    "name", ["", "a/b", "/a", "..", ".", ".hidden", "-a", "a b", "ä", "a\n", "a" * 101, "a\\b", "con:"]
)
def test_a_name_that_is_no_plain_folder_name_is_refused(name):
    with pytest.raises(RunError, match="run's name must be"):
        check_name(name)


def test_the_default_name_is_a_valid_one_and_new_each_time():
    names = {check_name(new_name("pain", "conv_gru")) for _ in range(20)}
    assert len(names) == 20


def test_only_a_run_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("file", "data"):
        with pytest.raises(RunError, match="exists already"):
            claim(tmp_path, name, overwrite=False)
        with pytest.raises(RunError, match="not a run"):
            claim(tmp_path, name, overwrite=True)
    assert claim(tmp_path, "empty", overwrite=True) == tmp_path / "empty"
    assert (tmp_path / "file").read_text() == (tmp_path / "data" / "mine.txt").read_text() == "mine"


def test_a_run_is_made_whole_or_not_at_all(tmp_path):
    with pytest.raises(paceline.PacelineError):
        create(tmp_path / "run", {"config.yaml": "a: 1\n", "x" * 300: "name too long"})
    assert list(tmp_path.iterdir()) == []
    run = create(tmp_path / "run", {"config.yaml": "a: 1\n"})
    with pytest.raises(paceline.PacelineError):
        create(tmp_path / "run", {"config.yaml": "a: 2\n", "x" * 300: "name too long"})
    assert run.config == {"a": 1}  # the old one is still there


@pytest.mark.parametrize("text", ["", "{", "[1]", "5"])
def test_a_damaged_file_of_a_run_is_one_error_that_names_it(tmp_path, text):
    create(tmp_path / "run", {"config.yaml": "a: 1\n", "summary.json": text})
    with pytest.raises(RunError, match=r"summary\.json"):
        _ = open_run(tmp_path / "run").summary


def test_a_member_that_is_not_there_is_named_with_those_that_are(run):
    with pytest.raises(RunError, match="no such member") as caught:
        run.history("seed99")
    assert caught.value.hint == "seed42, seed43"
