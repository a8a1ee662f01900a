"""Hints are given where they would help, with the figures they rest on, and not where they would mislead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from paceline.config.tree import undot
from paceline.report.files import RunFiles
from paceline.report.findings import findings
from paceline.report.hints import Hint, hints

pytestmark = pytest.mark.fast

RISING = [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93]
SETTLED = [0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9, 0.9, 0.9]
FALLING = [1.1, 0.8, 0.6, 0.5, 0.42, 0.36, 0.33, 0.31, 0.3, 0.295]
CONFIG = {
    "training.learning_rate": 0.002, "training.num_epochs": 10, "training.weight_decay": 0.01, "model.dropout": 0.3,
    "loss.name": "cross_entropy", "loss.class_weights": "none", "training.gradient_clip.value": None,
    "training.selection.ema_alpha": 0.1, "task.name": "pain",
}  # fmt: skip


def run(
    *,
    members: int = 5,
    metric: str = "val_f1_macro",
    smoothing: str = "none",
    values: list[float] = SETTLED,
    chosen: int | None = None,
    config: dict[str, Any] | None = None,
    split: dict[str, Any] | None = None,
    per_class: dict[str, Any] | None = None,
    columns: dict[str, list[float]] | None = None,
    classes: Sequence[str] = ("x", "y", "z"),
    folds: bool = False,
    **member: Any,
) -> RunFiles:
    """A finished run of equal members; a sound one unless told otherwise."""
    mode = "min" if metric.endswith(("loss", "rmse")) else "max"
    best = (min if mode == "min" else max)(v for v in values if v == v)
    chosen = chosen or values.index(best) + 1
    selection = {"metric": metric, "mode": mode, "smoothing": smoothing, "epoch": chosen}
    base = {"status": "finished", "stopped": "all epochs done", "epochs": len(values), "metrics": {}, **member}
    rows = [
        {**base, "id": f"m{i}", "seed": i, "fold": i if folds else None, "selection": selection} for i in range(members)
    ]
    history = {"epoch": list(range(1, len(values) + 1)), metric: values, "lr": [0.002] * len(values),
               "train_loss": FALLING[: len(values)], "val_loss": FALLING[: len(values)], **(columns or {})}  # fmt: skip
    vary = (config or {}).get("members.vary", {})
    part = {"train": list(range(200)), "val": list(range(60)), "class_counts": {"train": [100, 100], "val": [30, 30]}}
    return RunFiles(
        folder="run", config="", plan={},
        summary={"members": rows, "per_class": {"val": per_class} if per_class else {}},
        environment={"config": {**undot(values_of(config)), "members": {"vary": vary}}},
        splits={"classes": list(classes), "splits": [{**part, **(split or {})}]},
        histories={row["id"]: history for row in rows},
    )  # fmt: skip


def values_of(config: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in {**CONFIG, **(config or {})}.items() if not key.startswith("members")}


def names(files: RunFiles) -> list[str]:
    return [hint.rule for hint in hints(files)]


def only(files: RunFiles) -> Hint:
    (hint,) = hints(files)
    return hint


def test_a_sound_training_gets_no_hint():
    assert findings(run()) == []


def test_a_run_that_has_not_finished_gets_no_hint():
    files = run()
    assert hints(RunFiles(**{**vars(files), "summary": {}})) == []


def test_every_hint_has_figures_a_reason_and_a_key():
    hint = only(run(members=1))
    assert hint.text == "There is one member: without spread there is no interval. Try members.seeds=5."


# ---- a training that did not work


def test_a_loss_that_is_not_finite_asks_for_smaller_steps():
    stopped = "the training loss was not finite in epoch 2"
    hint = hints(run(status="failed", stopped=stopped, values=[0.1, 0.1]))[0]
    assert hint.rule == "not_finite"
    assert "5 of 5 members" in hint.seen
    assert hint.change == "training.learning_rate=0.0002 (now 0.002) or training.gradient_clip.value=1"
    clipped = run(status="failed", stopped=stopped, config={"training.gradient_clip.value": 5.0})
    assert "clip" not in hints(clipped)[0].change


def test_a_member_whose_worker_died_says_nothing_about_its_steps():
    files = run(status="failed", stopped="the worker died: killed by SIGKILL")
    assert "not_finite" not in names(files)
    assert findings(files)[0].startswith("5 of 5 members failed, and no figure counts them: m0, m1, m2 …")


SLOW = [1.1 + 0.003 * (-1) ** i - 0.001 * i for i in range(10)]
WILD = [1.1 + 0.2 * (-1) ** i for i in range(10)]
GUESSING = {"val_accuracy": [0.5] * 10, "val_loss": [1.1] * 10}


@pytest.mark.parametrize(
    ("loss", "change"),
    [
        (SLOW, "training.learning_rate=0.02 (now 0.002) or the rate that paceline lr-find shows or a larger model"),
        (WILD, "training.learning_rate=0.0002 (now 0.002) or the rate that paceline lr-find shows"),
    ],
    ids=["it stands still", "it goes up and down"],
)
def test_a_flat_training_loss_without_skill_is_about_the_learning_rate(loss, change):
    """C81: a loss that stands still is about the learning rate, the data or the model's capacity."""
    hint = only(run(values=[0.4] * 10, columns={**GUESSING, "train_loss": loss}))
    assert (hint.rule, hint.change) == ("nothing_learned", change)
    assert hint.seen.endswith("and validation is no better than guessing")
    regression = only(run(metric="val_rmse", values=[1.0] * 10, columns={"train_loss": loss, "val_r2": [0.01] * 10},
                          split={"class_counts": {}}))  # fmt: skip
    assert (regression.rule, regression.change) == ("nothing_learned", change)
    assert ("the data do not tell the target, or the model is too small" in regression.why) == (loss is SLOW)


@pytest.mark.parametrize(
    ("model", "wider"),
    [
        ({"model.hidden_size": 32}, "model.hidden_size=64 (now 32)"),
        ({"model.hidden_dims": [64, 32]}, "model.hidden_dims=[128,64] (now [64,32])"),
        ({"model.hidden": [8]}, "model.hidden=[16] (now [8])"),
    ],
)
def test_a_model_that_may_be_too_small_is_named_by_its_own_key(model, wider):
    """C81."""
    hint = only(run(values=[0.4] * 10, columns={**GUESSING, "train_loss": SLOW}, config=model))
    assert hint.change.endswith(wider)


def test_a_training_loss_above_that_of_guessing_is_about_the_learning_rate():
    high = [5.0, 7.0, 8.0, 7.4, 7.6, 5.5, 3.6, 3.0, 2.6, 2.5]  # ln 3 is 1.10
    hint = only(run(columns={"train_loss": high}))
    assert hint.rule == "nothing_learned"
    assert "goes up and down (2.50 to 8.00) and is never below that of guessing, 1.10" in hint.seen
    assert hint.change.startswith("training.learning_rate=0.0002 (now 0.002) or ")
    assert names(run(columns={"train_loss": [*high[:-1], 1.0]})) == []
    assert names(run(columns={"train_loss": high}, config={"loss.name": "own"})) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"train_loss": FALLING, "val_accuracy": [0.5] * 10},
        {"train_loss": SLOW, "val_accuracy": [0.5, 0.6, 0.7, *[0.8] * 7]},
        {"train_loss": SLOW, "val_r2": [0.9] * 10},
        {"train_loss": SLOW},
    ],
    ids=["the loss falls", "better than guessing", "explains much", "nothing known of validation"],
)
def test_a_training_that_learns_is_not_called_flat(columns):
    assert "nothing_learned" not in names(run(columns=columns))


def test_a_training_loss_that_comes_back_asks_for_smaller_steps():
    hint = only(run(columns={"train_loss": [1.0, 0.5, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.8, 0.9]}))
    assert hint.rule == "unstable"
    assert "fell to 0.200 and came back to 0.850" in hint.seen
    assert hint.change.startswith("training.learning_rate=0.0006 (now 0.002)")


@pytest.mark.parametrize(
    "loss", [[1.0, 0.5, 0.2, 0.25, 0.2, 0.25, 0.2, 0.22, 0.25, 0.21], [1.0, 0.1, 0.001, *[0.002] * 7]],
    ids=["a little noise", "close to zero"],
)  # fmt: skip
def test_the_usual_ups_and_downs_are_not_unstable(loss):
    assert "unstable" not in names(run(columns={"train_loss": loss}))


WARM = {"training.schedule.warmup_epochs": 5}


def test_patience_that_ends_in_the_warmup_is_too_short():
    stopped = {"status": "stopped", "stopped": "no improvement for 2 evaluations", "values": SETTLED[:4]}
    hint = only(run(**stopped, config=WARM))
    assert hint.rule == "stopped_in_warmup"
    assert "at epoch 4, in the warm-up of 5 epochs" in hint.seen
    assert hint.change.startswith("training.early_stopping.patience=10 or ")
    assert names(run(**stopped, config={"training.schedule.warmup_ratio": 0.6})) == ["stopped_in_warmup"]


@pytest.mark.parametrize(
    "files",
    [
        run(status="stopped", stopped="no improvement for 2 evaluations", config=WARM),
        run(status="stopped", stopped="no improvement for 2 evaluations", values=SETTLED[:4]),
        run(status="stopped", stopped="stopped by a callback", values=SETTLED[:4], config=WARM),
    ],
    ids=["after it", "no warm-up", "by a callback"],
)  # fmt: skip
def test_other_early_stops_are_not_about_the_warmup(files):
    assert "stopped_in_warmup" not in names(files)


@pytest.mark.parametrize("length", [2, 3, 10])
def test_a_metric_that_still_improves_at_the_last_epoch_asks_for_longer_training(length):
    values = RISING[:length]
    hint = only(run(values=values))
    assert hint.seen == "5 of 5 members still improved in the last epochs"
    assert hint.change == f"training.num_epochs={2 * length}"
    assert names(run(metric="val_rmse", values=[1 - value for value in values])) == ["too_short"]


@pytest.mark.parametrize(
    "options",
    [
        {"values": [*RISING[:4], *[0.9] * 6]},
        {"values": [*RISING[:5], 0.9, 0.901, 0.9, 0.901, 0.9005]},
        {"values": RISING[::-1]},
        {"values": RISING, "columns": {"lr": [0.01, *[0.02] * 7, 0.005, 0.001]}},
        {"values": RISING, "chosen": 9},
        {"values": RISING, "status": "stopped"},
        {"values": [0.5]},
    ],
    ids=["tie", "flat", "worse", "annealed", "not the last", "stopped", "one epoch"],
)
def test_longer_training_is_not_proposed_where_it_would_not_help(options):
    assert names(run(**options)) == []


def test_a_hint_needs_most_of_the_members():
    files = run(values=RISING)
    flat = {"epoch": list(range(1, 11)), "val_f1_macro": SETTLED, "train_loss": FALLING, "val_loss": FALLING}
    for share, expected in ((2, ["too_short"]), (3, [])):
        histories = {name: flat if int(name[1:]) < share else rows for name, rows in files.histories.items()}
        assert names(RunFiles(**{**vars(files), "histories": histories})) == expected


def test_without_histories_nothing_is_said_about_the_curves():
    assert hints(RunFiles(**{**vars(run(values=RISING)), "histories": {}})) == []


# ---- a training that worked

OVERFIT = {"train_loss": FALLING, "val_loss": [1.1, 0.8, 0.6, 0.62, 0.66, 0.7, 0.75, 0.8, 0.9, 1.0]}


@pytest.mark.parametrize("metric", ["val_f1_macro", "val_rmse"])
def test_a_validation_loss_that_rises_while_training_goes_on_is_overfitting(metric):
    """C82: the gap is given, and dropout, weight decay and patience are named; of a regression too."""
    values = SETTLED if metric == "val_f1_macro" else [1 - value for value in SETTLED]
    hint = only(run(metric=metric, values=values, columns=OVERFIT))
    assert hint.rule == "overfitting"
    assert "rose from 0.600 to 0.950 while the training loss fell, to a gap of 0.652 between them" in hint.seen
    decay = "training.weight_decay=0.1 (now 0.01)"
    assert hint.change == f"model.dropout=0.5 (now 0.3) or {decay}"
    more = {"model.dropout": 0.6, "training.early_stopping.patience": 20}
    change = only(run(metric=metric, values=values, columns=OVERFIT, config=more)).change
    assert change == f"{decay} or training.early_stopping.patience=10 (now 20)"


@pytest.mark.parametrize(
    "columns",
    [
        {"train_loss": FALLING, "val_loss": [*FALLING[:6], 0.37, 0.38, 0.37, 0.38]},
        {"train_loss": [1.0] * 10, "val_loss": OVERFIT["val_loss"]},
        {"train_loss": FALLING, "val_loss": [*FALLING[:8], 0.5, 0.9]},
        {"train_loss": FALLING[:5], "val_loss": OVERFIT["val_loss"][:5]},
    ],
    ids=["a little", "training stands still", "only at the end", "few epochs"],
)
def test_other_losses_are_not_overfitting(columns):
    assert "overfitting" not in names(run(columns=columns))


WEAK = {"classes": ["x", "y", "z"], "recall": [0.1, 0.9, 0.9], "support": [9, 9, 9]}


def test_a_class_of_low_recall_asks_for_weights_or_the_focal_loss():
    """A96."""
    hint = only(run(per_class=WEAK))
    assert hint.seen == "Class “x” has a recall of 0.10 (mean of the others 0.90)"
    assert hint.change == "loss.class_weights=balanced or loss=focal"


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({"loss.class_weights": "balanced"}, "training.oversample.factor=balanced"),
        ({"loss.name": "focal"}, "training.oversample.factor=balanced"),
        ({"members.vary": {"loss.class_weights": ["none", "balanced"]}}, "loss=focal"),
        ({"loss.name": "own"}, "training.oversample.factor=balanced"),
        ({"loss.name": "focal", "training.oversample.factor": "balanced"}, None),
        ({"members.vary": {"loss": ["cross_entropy", "focal"]}}, None),
    ],
    ids=["weighted", "focal", "weights are varied", "another loss", "all in use", "the loss is varied"],
)
def test_a_hint_proposes_nothing_that_is_in_use_or_varied(config, change):
    """A96."""
    assert [hint.change for hint in hints(run(per_class=WEAK, config=config))] == ([] if change is None else [change])


@pytest.mark.parametrize(
    ("recall", "support", "trained", "weak"),
    [
        ([0.2, 0.9, 0.95], [30, 30, 30], [50, 50, 50], True),  # the others are well
        ([0.2, 0.4, 0.55], [30, 30, 30], [12, 60, 60], True),  # rare
        ([0.2, 0.4, 0.45], [5, 60, 60], [50, 50, 50], False),  # the whole training is weak
        ([0.6, 0.9, 0.95], [5, 60, 60], [12, 60, 60], False),
        ([0.0, 0.9, 0.95], [0, 60, 60], [12, 60, 60], False),  # nothing to find
    ],
)
def test_class_weights_are_proposed_for_a_rare_class_or_a_lone_weak_one(recall, support, trained, weak):
    """A96."""
    table = {"classes": ["x", "y", "z"], "recall": recall, "support": support}
    split = {"class_counts": {"train": trained, "val": [30, 30, 30]}}
    found = [hint.seen.partition(" (")[0] for hint in hints(run(per_class=table, split=split))]
    assert found == (["Class “x” has a recall of 0.20"] if weak else [])


def test_several_weak_classes_are_one_hint():
    """A96."""
    table = {"classes": list("abcdefgh"), "recall": [0.2, 0.1, 0.3, 0.9, 0.9, 1.0, 1.0, 0.4], "support": [9] * 8}
    split = {"class_counts": {"train": [12, 12, 12, 60, 60, 60, 60, 12], "val": [30] * 8}}
    seen = only(run(per_class=table, split=split, classes=list("abcdefgh"))).seen
    listed = "Class “b” has a recall of 0.10, “a” of 0.20, “c” of 0.30 and 1 more of less than 0.50"
    assert seen == f"{listed} (mean of the others 0.95)"


def test_a_weak_class_waits_for_the_end_of_the_training():
    assert names(run(values=RISING, per_class=WEAK)) == ["too_short"]
    assert names(run(values=SETTLED, per_class=WEAK)) == ["weak_class"]


PEAK = [0.3, 0.6, 0.8, 0.9, 0.91, 0.9, 0.85, 0.8, 0.78, 0.75]


def test_a_smoothed_metric_that_chooses_long_after_the_peak_lags():
    hint = only(run(values=PEAK, smoothing="ema", chosen=9))
    assert hint.rule == "lagging_selection"
    assert "an epoch 5 evaluations after the best stretch of validation macro F1, 0.120 worse" in hint.seen
    assert hint.change == "training.selection.ema_alpha=0.3 (now 0.1) or training.selection.smoothing=median_ema"
    assert "median_ema" not in only(run(values=PEAK, smoothing="median_ema", chosen=9)).change
    assert names(run(metric="val_rmse", values=[1 - v for v in PEAK], smoothing="ema", chosen=9)) == [
        "lagging_selection"
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"values": PEAK, "smoothing": "none", "chosen": 9},
        {"values": PEAK, "smoothing": "ema", "chosen": 6},
        {"values": [*SETTLED[:3], 0.99, *SETTLED[4:]], "smoothing": "ema", "chosen": 9},
        {"values": [0.5, 0.8, 0.9, 0.9, 0.9, 0.9, 0.895, 0.895, 0.89, 0.89], "smoothing": "ema", "chosen": 9},
        {"values": PEAK, "smoothing": "ema", "chosen": 9, "split": {"val": list(range(15))}},
        {"values": [*PEAK[:4], math.nan, *PEAK[5:]], "smoothing": "ema", "chosen": 9},
    ],
    ids=["not smoothed", "near the peak", "a lone spike", "hardly worse", "few samples", "NaN between"],
)
def test_a_choice_near_the_best_stretch_does_not_lag(options):
    assert "lagging_selection" not in names(run(**options))


# ---- how it was judged


def test_accuracy_as_the_criterion_of_unequal_classes_is_named():
    unequal = {"class_counts": {"train": [511, 94], "val": [30, 30]}}
    hint = only(run(metric="val_accuracy", split=unequal))
    assert hint.seen == "Epochs are chosen by accuracy, and 511 of 605 training samples are of class “x”"
    assert hint.change == "training.selection.metric=val_f1_macro"
    assert names(run(metric="val_f1_macro", split=unequal)) == []
    assert names(run(metric="val_accuracy", split={"class_counts": {"train": [100, 50], "val": [30, 30]}})) == []


@pytest.mark.parametrize(("members", "folds", "given"), [(1, False, 1), (2, False, 1), (3, False, 0), (2, True, 0)])
def test_one_or_two_seeds_are_few(members, folds, given):
    assert names(run(members=members, folds=folds)) == ["few_members"] * given


def test_a_validation_part_of_few_samples_asks_for_folds():
    few = {"val": list(range(20)), "class_counts": {"train": [100, 100], "val": [16, 4]}}
    hint = only(run(split=few))
    assert hint.seen == "Validation has 20 samples, 4 of the rarest class"
    assert hint.why == "one of them moves an accuracy by 0.050"
    assert hint.change == "members.folds=5"
    regression = {"val": list(range(20)), "class_counts": {"train": [], "val": []}}
    assert only(run(split=regression)).seen == "Validation has 20 samples"


def test_a_class_of_few_training_samples_asks_for_folds_as_many_as_it_allows():
    hint = only(run(split={"class_counts": {"train": [100, 3], "val": [40, 1]}}))
    assert (hint.rule, hint.seen) == ("few_samples", "Training has 3 samples of class “y”")
    assert hint.change == "members.folds=4"
    assert names(run(split={"class_counts": {"train": [100, 1], "val": [40, 0]}})) == [], "no fold would have the class"
    assert names(run(split={"class_counts": {"train": [100, 10], "val": [40, 1]}})) == []


@pytest.mark.parametrize("config", [{"task.name": "given"}, {"data.split.rule": "value"}], ids=["Trainer", "by value"])
def test_folds_are_not_proposed_where_there_can_be_none(config):
    few = {"val": list(range(20)), "class_counts": {"train": [100, 100], "val": [16, 4]}}
    assert names(run(split=few, config=config)) == []
    files = run(split=few)
    two = {**files.splits, "splits": files.splits["splits"] * 2}
    assert names(RunFiles(**{**vars(files), "splits": two})) == [], "there are folds"


def test_the_most_useful_come_first_and_failures_are_always_named():
    few = {"val": list(range(20)), "class_counts": {"train": [511, 94], "val": [16, 4]}}
    files = run(members=2, metric="val_accuracy", split=few, per_class=WEAK, columns=OVERFIT)
    order = ["overfitting", "weak_class", "accuracy_of_imbalance", "few_members", "few_samples"]
    assert names(files) == order
    assert findings(files, most=3) == [hint.text for hint in hints(files)][:3]
    failed = {**files.summary, "members": [*files.summary["members"], {"id": "x", "status": "failed"}]}
    known = findings(RunFiles(**{**vars(files), "summary": failed}), most=1)
    assert known[0] == "1 of 3 members failed, and no figure counts them: x."
    assert len(known) == 2


def test_names_of_classes_cannot_drive_a_terminal():
    table = {"classes": ["\x1b[31mx\n", "y"], "recall": [0.1, 0.9], "support": [9, 9]}
    (hint,) = hints(run(per_class=table))
    assert "\x1b" not in hint.text
    assert "\n" not in hint.text
