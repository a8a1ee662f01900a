"""A member of a cohort has the result that it would have alone: with noise, folds, and neighbours that stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paceline.api.runs import train
from paceline.checkpoint.store import read_state
from paceline.checkpoint.tree import equal
from paceline.run.folder import Run

RECIPE = Path(__file__).parent / "double_recipe.py"
KINDS = {
    "mlp": ["data=rows", "model=mlp"],
    "gru": ["data=sequences", "model=double_gru"],
    "conv_gru with batch norm": ["data=sequences", "model=double_conv_gru"],
}
EIGHT = [
    "members.seeds=[3]", "members.folds=2", "training.optimizer=adamw",
    "members.vary={training.learning_rate:[0.003,0.02],model.dropout:[0.0,0.25]}",
]  # fmt: skip


def run(folder: Path, name: str, engine: str, *overrides: str) -> Run:
    texts = ["task=double", f"training.engine={engine}", "training.compile=false", "training.processes=1", *overrides]
    return train(overrides=texts, use=[RECIPE], runs=folder, name=name)


def rows(run: Run) -> dict[tuple[str, int, str], dict[str, float]]:
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    return {(line["member"], line["epoch"], line["split"]): line["values"] for line in lines}


def assert_same_results(together: Run, alone: Run, members: list[str] | None = None) -> None:
    ours, theirs = rows(together), rows(alone)
    keys = [key for key in theirs if members is None or key[0] in members]
    assert set(keys) <= set(ours)
    assert len(keys) > 6
    for key in keys:
        assert ours[key]["loss"] == pytest.approx(theirs[key]["loss"], abs=1e-9), key
    selected = {m["id"]: (m["selection"]["epoch"], m["status"]) for m in together.summary["members"]}
    for member in alone.summary["members"]:
        if members is None or member["id"] in members:
            assert selected[member["id"]] == (member["selection"]["epoch"], member["status"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["training.schedule.name=cosine"], id="cosine"),
        pytest.param(["training.early_stopping.patience=1", "training.schedule.name=plateau",
                      "training.schedule.patience=0"], id="early stops and plateaus"),
        pytest.param(["training.gradient_clip.value=0.5", "training.gradient_accumulation_steps=2"],
                     id="clipping and accumulation"),
        pytest.param(["loss.label_smoothing=0.1", "training.weight_average.name=ema",
                      "training.weight_average.decay=0.8"], id="label smoothing and an EMA of the weights"),
        pytest.param(["training.weight_average.name=swa", "training.weight_average.start_epoch=0.4",
                      "training.early_stopping.patience=2"], id="SWA and early stops"),
    ],
)  # fmt: skip
def test_eight_members_together_are_the_eight_alone(kind: str, extra: list[str], tmp_path: Path) -> None:
    together = run(tmp_path, "together", "cohort", *KINDS[kind], *EIGHT, *extra)
    plan = together.read_json("plan.json")
    assert [len(cohort["members"]) for cohort in plan["cohorts"]] == [8]
    assert_same_results(together, run(tmp_path, "alone", "eager", *KINDS[kind], *EIGHT, *extra))


def test_folds_with_class_weights_of_their_own_are_cohorts_of_their_own(tmp_path: Path) -> None:
    extra = [*KINDS["mlp"], "data.samples=47", "members.seeds=2", "members.folds=3", "loss.class_weights=balanced"]
    together = run(tmp_path, "together", "cohort", *extra)
    assert len(together.read_json("plan.json")["cohorts"]) > 1
    assert_same_results(together, run(tmp_path, "alone", "eager", *extra))


DRAWN = [
    "data=sequences", "model=double_gru", "model.windows.size=4", "training.oversample.factor=2",
    "training.oversample.classes=[1]", "training.augment.jitter=0.2", "training.augment.scale=0.1",
    "training.augment.shift=0.1", "training.augment.flip=time", "training.augment.time_mask=0.4",
    "training.augment.classes=[0,1]",
]  # fmt: skip


def test_windows_augmentation_and_repeats_are_those_of_each_member_alone(tmp_path: Path) -> None:
    """A101, A102."""
    extra = [*DRAWN, "members.seeds=[3]", "members.folds=3", "data.samples=47"]
    together = run(tmp_path, "together", "cohort", *extra)
    assert [len(cohort["members"]) for cohort in together.read_json("plan.json")["cohorts"]] == [3]
    assert_same_results(together, run(tmp_path, "alone", "eager", *extra))
    without = run(tmp_path, "without", "eager", *extra, "training.augment.probability=0.01")
    key = ("seed3-fold0", 1, "train")
    assert rows(without)[key] != rows(together)[key]


@pytest.mark.parametrize("engine", ["eager", "cohort"])
def test_windows_augmentation_and_repeats_go_on_bit_for_bit_after_an_interruption(engine: str, tmp_path: Path) -> None:
    from paceline.api.runs import resume
    from paceline.errors import InterruptedRunError

    texts = ["task=double", f"training.engine={engine}", "training.compile=false", "training.processes=1", *DRAWN,
             "training.num_epochs=3"]  # fmt: skip
    whole = train(overrides=texts, use=[RECIPE], runs=tmp_path, name="whole")
    with pytest.raises(InterruptedRunError):
        train(overrides=texts, use=[RECIPE], runs=tmp_path, name="cut", callbacks=[InterruptAt(2)])
    cut = resume(tmp_path / "cut", use=[RECIPE])
    assert (cut.path / "log.jsonl").read_bytes() == (whole.path / "log.jsonl").read_bytes()
    assert equal(cut.best("seed42"), whole.best("seed42")) == []


def test_the_focal_loss_with_smoothing_and_weights_is_that_of_each_member_alone(tmp_path: Path) -> None:
    extra = [*KINDS["mlp"], "members.seeds=3", "loss=focal", "loss.gamma=1.5", "loss.label_smoothing=0.1",
             "loss.class_weights=balanced"]  # fmt: skip
    together = run(tmp_path, "together", "cohort", *extra)
    assert len(together.read_json("plan.json")["cohorts"]) == 1
    assert_same_results(together, run(tmp_path, "alone", "eager", *extra))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_is_torch_s_own(optimizer: str, tmp_path: Path) -> None:
    extra = [*KINDS["mlp"], "members.seeds=3", f"training.optimizer={optimizer}", "training.weight_decay=0.1"]
    assert_same_results(run(tmp_path, "together", "cohort", *extra), run(tmp_path, "alone", "eager", *extra))


def test_seed_7_alone_is_seed_7_among_sixteen_of_which_others_stop(tmp_path: Path) -> None:
    extra = [
        *KINDS["conv_gru with batch norm"],
        "training.early_stopping.patience=2",
        "training.num_epochs=14",
        "training.learning_rate=0.02",
    ]
    seeds = ",".join(str(seed) for seed in range(7, 23))
    among = run(tmp_path, "among", "cohort", *extra, f"members.seeds=[{seeds}]")
    ended = {member["epochs"] for member in among.summary["members"]}
    assert len(ended) > 1, "no neighbour stopped earlier than another"
    alone = run(tmp_path, "alone", "cohort", *extra, "members.seeds=[7]")
    assert_same_results(among, alone, ["seed7"])


def test_a_neighbour_that_stops_changes_no_bit(tmp_path: Path) -> None:
    """The same cohort, once with a callback that stops half of it: the others keep every bit."""
    extra = [*KINDS["conv_gru with batch norm"], "members.seeds=4"]
    whole = run(tmp_path, "whole", "cohort", *extra)

    def stop(record, control) -> None:
        if record.epoch == 2 and record.member in ("seed43", "seed45"):
            control.stop(record.member)

    texts = ["task=double", "training.engine=cohort", "training.compile=false", "training.processes=1", *extra]
    half = train(overrides=texts, use=[RECIPE], runs=tmp_path, name="half", callbacks=[stop])
    assert {m["id"]: m["epochs"] for m in half.summary["members"]} == {
        "seed42": 6, "seed43": 2, "seed44": 6, "seed45": 2,
    }  # fmt: skip
    for member in ("seed42", "seed44"):
        assert equal(whole.best(member)["model_state_dict"], half.best(member)["model_state_dict"]) == []
    mine, theirs = rows(whole), rows(half)
    kept = [key for key in theirs if key[0] in ("seed42", "seed44")]
    assert [mine[key] for key in kept] == [theirs[key] for key in kept]


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
def test_an_idle_member_keeps_every_bit_while_others_train(average: str, tmp_path: Path) -> None:
    extra = [*KINDS["mlp"], "members.seeds=[1,2]", f"training.weight_average.name={average}",
             "training.weight_average.start_epoch=1"]  # fmt: skip

    def stop(record, control) -> None:
        if record.epoch == 2:
            control.stop("seed1")

    texts = ["task=double", "training.engine=cohort", "training.compile=false", "training.processes=1", *extra]
    stopped = train(overrides=texts, use=[RECIPE], runs=tmp_path, name="stopped", callbacks=[stop])
    short = run(tmp_path, "short", "cohort", *extra, "training.num_epochs=2")
    a, b = (r.member_folder("seed1") / "latest.pt" for r in (stopped, short))
    first, second = read_state(a), read_state(b)
    assert equal(first["model_state_dict"], second["model_state_dict"]) == []
    assert equal(first["optimizer_state_dict"]["state"], second["optimizer_state_dict"]["state"]) == []
    assert ("average_state_dict" in first) == (average != "none")
    assert equal(first.get("average_state_dict"), second.get("average_state_dict")) == []


def test_a_cohort_run_twice_has_the_same_bits(tmp_path: Path) -> None:
    extra = [*KINDS["conv_gru with batch norm"], *EIGHT]
    first, second = (run(tmp_path, name, "cohort", *extra) for name in ("first", "second"))
    assert (first.path / "log.jsonl").read_bytes() == (second.path / "log.jsonl").read_bytes()
    for member in first.members:
        assert equal(first.best(member), second.best(member)) == []


@pytest.mark.slow
def test_compiled_steps_are_the_eager_ones(tmp_path: Path) -> None:
    """Two compiled cohorts in one process, with a smaller last batch, agree with members alone to 1e-9."""
    extra = [*KINDS["mlp"], "data.samples=53", "members.seeds=4", "training.gradient_clip.value=1.0",
             "training.weight_average.name=ema"]  # fmt: skip
    texts = ["task=double", "training.engine=cohort", "training.compile=true", "training.processes=2", *extra]
    here = [lambda record, control: None]  # a callback keeps both cohorts in this process
    compiled = train(overrides=texts, use=[RECIPE], runs=tmp_path, name="compiled", callbacks=here)
    plan = compiled.read_json("plan.json")
    assert [(len(c["members"]), c["compile"]) for c in plan["cohorts"]] == [(2, True), (2, True)]
    sizes = {len(split["train"]) % 8 for split in compiled.read_json("splits.json")["splits"]}
    assert 0 not in sizes, "every batch has the same size"
    assert_same_results(compiled, run(tmp_path, "alone", "eager", *extra))


def test_members_of_unequal_folds_are_padded_and_still_as_alone(tmp_path: Path) -> None:
    extra = [*KINDS["gru"], "data.samples=47", "members.seeds=[1]", "members.folds=3"]
    together = run(tmp_path, "together", "cohort", *extra)
    sizes = {len(split["train"]) for split in together.read_json("splits.json")["splits"]}
    assert len(sizes) > 1, "the folds must differ in size"
    assert_same_results(together, run(tmp_path, "alone", "eager", *extra))


def test_a_member_that_diverges_is_marked_failed_and_the_others_are_as_alone(tmp_path: Path) -> None:
    extra = [*KINDS["mlp"], "members.seeds=2", "members.vary={training.learning_rate:[0.01,1e300]}"]
    together = run(tmp_path, "together", "cohort", *extra)
    status = {member["id"]: member["status"] for member in together.summary["members"]}
    failed = [member for member, word in status.items() if word == "failed"]
    assert failed == [member for member in status if "1e_300" in member]
    assert together.summary["failed"] == failed
    alone = run(tmp_path, "alone", "eager", *KINDS["mlp"], "members.seeds=2", "training.learning_rate=0.01")
    ours, theirs = rows(together), rows(alone)
    for seed in ("seed42", "seed43"):
        for (member, epoch, split), values in theirs.items():
            if member == seed:
                mine = ours[f"learning_rate0.01-{seed}", epoch, split]
                assert mine["loss"] == pytest.approx(values["loss"], abs=1e-9)


def stop_three_of_four(record, control) -> None:
    if record.epoch == 2 and record.member != "seed44":
        control.stop(record.member)


class InterruptAt:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, record, control) -> None:
        if record.epoch == self.epoch:
            control.interrupt(130)


def test_members_left_alone_move_to_fewer_slots_and_stay_as_alone(tmp_path: Path, monkeypatch) -> None:
    from paceline.train.engine_cohort import CohortEngine

    slots = []
    honest = CohortEngine.compact
    monkeypatch.setattr(
        CohortEngine, "compact", lambda self, left: (honest(self, left), slots.append(len(self._slots)))
    )
    extra = [*KINDS["conv_gru with batch norm"], "members.seeds=4", "training.early_stopping.enabled=false",
             "training.weight_average.name=ema"]  # fmt: skip
    texts = ["task=double", "training.engine=cohort", "training.compile=false", "training.processes=1", *extra]
    moved = train(overrides=texts, use=[RECIPE], runs=tmp_path, name="moved", callbacks=[stop_three_of_four])
    assert slots[:2] == [4, 1], "the cohort was not compacted"
    alone = run(tmp_path, "alone", "eager", *extra, "members.seeds=[44]")
    assert_same_results(moved, alone, ["seed44"])
    short = run(tmp_path, "short", "cohort", *extra, "training.num_epochs=2")
    for seed in ("seed42", "seed43", "seed45"):
        a, b = (r.best(seed)["model_state_dict"] for r in (moved, short))
        assert equal(a, b) == []


@pytest.mark.parametrize("average", ["none", "swa"])
def test_a_compacted_cohort_is_resumed_bit_for_bit(average: str, tmp_path: Path) -> None:
    from paceline.api.runs import resume
    from paceline.errors import InterruptedRunError

    extra = [*KINDS["mlp"], "members.seeds=4", "training.early_stopping.enabled=false",
             f"training.weight_average.name={average}", "training.weight_average.start_epoch=2"]  # fmt: skip
    texts = ["task=double", "training.engine=cohort", "training.compile=false", "training.processes=1", *extra]
    whole = train(overrides=texts, use=[RECIPE], runs=tmp_path, name="whole", callbacks=[stop_three_of_four])
    with pytest.raises(InterruptedRunError):
        train(overrides=texts, use=[RECIPE], runs=tmp_path, name="cut", callbacks=[stop_three_of_four, InterruptAt(4)])
    cut = resume(tmp_path / "cut", use=[RECIPE], callbacks=[stop_three_of_four])
    assert (cut.path / "log.jsonl").read_bytes() == (whole.path / "log.jsonl").read_bytes()
    for member in whole.members:
        assert equal(cut.best(member), whole.best(member)) == []
        latest = [read_state(each.member_folder(member) / "latest.pt") for each in (cut, whole)]
        assert equal(*latest) == []
