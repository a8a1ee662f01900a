"""What the benchmarks of cohorts say about measurements; the measurements themselves are too long for a test."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.fast

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _folder_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cohort(_folder_on_the_path: None) -> ModuleType:
    return load("cohort")


def row(cohort: ModuleType, arm: str, seconds: float, epoch: float, members: int = 32, **changed: object) -> object:
    start = seconds - 480 * epoch
    values = {"epoch_seconds": epoch, "start_seconds": start, "val_loss": 0.3} | changed
    return cohort.Row(arm=arm, members=members, seconds=seconds, **values)


def rows(cohort: ModuleType) -> list[object]:
    return [
        row(cohort, "hand", 804.0, 1.6, cpu_share=0.99),  # 4 s, and 16 members of .1 s per epoch in each process
        row(cohort, "lightning", 3000.0, 6.0, cpu_share=0.99),
        row(cohort, "vmap", 50.0, 0.0625),
        row(cohort, "cohort32", 48.0, 0.064, plan="2 x cohort of 16"),
        row(cohort, "cohort32", 60.0, 0.064),
        row(cohort, "cohort32", 52.0, 0.08),
        row(cohort, "cohort8", 30.0, 0.03, members=8),
        row(cohort, "hand1", 50.0, 0.05, members=1),
        row(cohort, "compiled1", 20.0, 0.02, members=1),
    ]


def test_ratios_are_times_of_the_first_over_those_of_the_second(cohort):
    found = cohort.report(rows(cohort), {}, processes=2)
    ratios = found["ratios"]
    assert found["results"]["cohort32"] == 52.0
    assert found["spread"]["cohort32"] == [48.0, 60.0]
    assert ratios["hand/cohort32"] == pytest.approx(804 / 52)
    assert ratios["vmap/cohort32"] == pytest.approx(50 / 52)
    assert ratios["hand/cohort32 steady"] == pytest.approx(1.6 / 0.064)
    assert ratios["lightning/cohort32 steady"] == pytest.approx(6 / 0.064)
    assert ratios["hand/compiled1"] == pytest.approx(2.5)


def test_the_loop_is_scaled_to_as_many_members_as_the_cohort_has(cohort):
    one = (804 - 480 * 1.6) / 1, 480 * 1.6 / 16  # start-up, and one member
    assert cohort.report(rows(cohort), {}, processes=2)["ratios"]["hand/cohort8"] == pytest.approx(
        (one[0] + 4 * one[1]) / 30
    )


def test_steady_time_is_per_member_and_step_of_the_machine(cohort):
    steady = cohort.report(rows(cohort), {}, processes=2)["steady_us"]
    assert steady["hand"] == pytest.approx(1.6 / 250 / 32 * 1e6)
    assert steady["hand1"] == pytest.approx(200.0)


def test_the_json_has_the_promised_keys(cohort):
    found = json.loads(json.dumps(cohort.report(rows(cohort), {"threads": 1}, processes=2)))
    assert (found["name"], found["unit"]) == ("cohort", "s")
    assert {"results", "ratios", "spread", "steady_us", "final_val_loss", "environment"} <= set(found)
    assert found["plans"] == {"cohort32": "2 x cohort of 16"}


def test_the_table_says_whether_bars_and_aims_are_met(cohort):
    text = cohort.table(cohort.report(rows(cohort), {}, processes=2), rows(cohort))
    assert "bar: at least 7, met" in text
    assert "aim: at least 50, met" in text
    assert "NOTE" not in text
    slow = [row(cohort, "hand", 804.0, 1.6, cpu_share=0.5), row(cohort, "cohort32", 200.0, 0.4)]
    text = cohort.table(cohort.report(slow, {}, processes=2), slow)
    assert "bar: at least 7, MISSED" in text
    assert "NOTE: the processor was shared" in text


@pytest.mark.parametrize("loss", [0.33, float("nan")])
def test_another_loss_is_a_problem(cohort, loss):
    assert cohort.problems(rows(cohort)) == []
    (problem,) = cohort.problems([*rows(cohort), row(cohort, "vmap", 1.0, 0.001, val_loss=loss)])
    assert problem.startswith("vmap ended at validation loss")


def test_only_the_arms_close_to_their_bar_are_repeated(cohort):
    assert cohort.schedule(["hand", "vmap", "cohort32"], 2) == ["hand", "vmap", "cohort32", "vmap", "cohort32"]


def test_a_quick_look_trains_fewer_epochs_and_leaves_arms_out(cohort, capsys):
    quick, whole = cohort.parse(["--quick"]), cohort.parse([])
    assert quick.epochs < whole.epochs == 480
    assert set(whole.arms) - set(quick.arms) == set(cohort.LEFT_OUT)
    with pytest.raises(SystemExit) as stop:
        cohort.parse(["--arms", "hand,keras"])
    assert stop.value.code == 2
    assert "'keras'" in capsys.readouterr().err


def finished_run(folder: Path, processes: int) -> Path:
    """A run of two cohorts of one member each, three epochs."""
    members = ["seed42", "seed43"]
    cohorts = [{"id": m, "members": [m], "engine": "eager", "compile": False} for m in members]
    (folder / "logs").mkdir()
    (folder / "plan.json").write_text(json.dumps({"cohorts": cohorts, "processes": processes, "threads": 1}))
    for k, member in enumerate(members):
        lines = [f"{member},{250 * e},{e},{10 + (1 + k) * e}\n" for e in (1, 2, 3)]
        (folder / "logs" / f"{member}.timing.csv").write_text("".join(lines))
        (folder / "members" / member).mkdir(parents=True)
        (folder / "members" / member / "history.csv").write_text(f"epoch,val_loss\n1,9\n2,9\n3,{0.2 + 0.2 * k}\n")
    return folder


@pytest.mark.parametrize(("processes", "epoch_seconds"), [(1, 4.0), (2, 2.0)])
def test_cohorts_count_one_after_another_unless_they_run_side_by_side(tmp_path, processes, epoch_seconds):
    from arms.commands import read

    found = read(finished_run(tmp_path, processes), 12.0, 11.0)
    assert (found.seconds, found.epochs) == (12.0, 3)
    assert found.epoch_seconds == pytest.approx(epoch_seconds)  # the slower one's, without the first epoch
    assert found.val_loss == pytest.approx(0.3)
    assert found.plan == f"2 x eager, processes {processes}, threads 1"


def test_gru_and_vowels_report_ratios_of_whole_commands_and_of_steady_epochs():
    from arms.commands import Trained

    def trained(seconds: float, epoch: float, epochs: int = 50) -> Trained:
        return Trained(
            run=Path(), seconds=seconds, cpu_seconds=1.0, epoch_seconds=epoch, epochs=epochs, val_loss=1.0, plan=""
        )

    found = load("gru").report(
        {"one_thread": trained(120, 2.2), "two_threads": trained(90, 1.6), "plan": trained(60, 1)}, {}
    )
    assert found["ratios"] == {"sequential/plan": 1.5, "sequential/plan steady": 1.6}
    alone = [trained(seconds, 0.2, 60) for seconds in (10.0, 30.0, 20.0)]
    assert load("vowels").report(trained(160.0, 1.6, 60), alone, {})["ratios"]["all/one"] == 8.0


@pytest.fixture(scope="module")
def costs(_folder_on_the_path: None) -> ModuleType:
    return load("costs")


TRUE = {
    "EAGER_US": 200.0, "PLAIN_US": 1500.0, "COMPILED_US": 50.0, "COMPILED_MEMBER_US": 10.0, "FLOPS_PER_US": 4e4,
    "EAGER_RECURRENT_US": 50.0, "PLAIN_RECURRENT_US": 100.0, "RECURRENT_FLOPS_PER_US": 6e4,
}  # fmt: skip


def exact(costs: ModuleType, point: object, way: str) -> object:
    """The cost of a step by the constants above."""
    flops = 6.0 * point.width**2 * point.batch * max(1, point.time_steps)
    rate = TRUE["RECURRENT_FLOPS_PER_US" if point.time_steps else "FLOPS_PER_US"]
    recurrent = TRUE[f"{way.upper()}_RECURRENT_US"] * point.time_steps if point.time_steps else 0.0
    each = point.members * (flops / rate + (TRUE["COMPILED_MEMBER_US"] if way == "compiled" else 0.0))
    return costs.Cost(point=point, way=way, us=TRUE[f"{way.upper()}_US"] + recurrent + each, flops=flops)


def exact_grid(costs: ModuleType) -> list[object]:
    found = []
    for points, ways in ((costs.FULL.mlp(), ("eager", "plain", "compiled")), (costs.FULL.gru(), ("eager", "plain"))):
        found += [exact(costs, p, way) for p in points for way in ways if way != "eager" or p.members == 1]
    return found


def test_the_fit_finds_the_constants_that_made_the_costs(costs):
    assert costs.constants(exact_grid(costs)) == pytest.approx(TRUE, rel=1e-6)


def test_every_fitted_constant_is_a_committed_one(costs):
    assert all(getattr(costs.costs, name) > 0 for name in TRUE)


def test_the_tables_mark_where_training_together_loses(costs):
    found = exact_grid(costs)
    text = costs.markdown(found)
    alone, together = exact(costs, costs.Point(width=32, batch=32), "eager"), 1500 + 6 * 32**2 * 32 / 4e4
    assert f"| 32 | 32 | **{alone.us / together:.1f}** / " in text
    assert len({line.count("|") for line in text.split("\n\n")[1].splitlines()}) == 1
    right, points = costs.agreement(found)
    assert 0 < right <= points == len(costs.FULL.mlp()) + len(costs.FULL.gru())


def test_the_recipe_has_the_rows_and_the_size_of_the_step_benchmark():
    from arms.mlp_recipe import Net, Smooth
    from arms.workload import N_TRAIN, Mlp, Workload

    data, work = Smooth(name="smooth").load(), Workload(epochs=1)
    assert (data.columns["x"][:N_TRAIN] == work.train[0].numpy()).all()
    assert (data.columns["y"][N_TRAIN:] == work.val[1].numpy()).all()
    assert list(data.group).count("val") == 2000

    def count(model: object) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(Net(name="net").build(data.spec(range(N_TRAIN)))) == count(Mlp(0.1)) == count(Mlp())


def test_the_hand_written_cohort_shows_every_member_each_row_once_an_epoch():
    import torch
    from arms.vmap_arm import epoch, initial, network, validate
    from arms.workload import Workload

    params = initial(0.1, [1, 2])
    assert not torch.equal(params["0.weight"][0], params["0.weight"][1])
    orders, keys, corrections = epoch(2, 0, torch.Generator().manual_seed(0))
    rows = torch.stack(list(orders)).transpose(0, 1).reshape(2, -1)
    assert rows.sort(1).values.equal(torch.arange(8000).expand(2, -1))
    assert len(keys) == len(corrections) == 250
    assert corrections[0].tolist() == pytest.approx([1e-3 / 0.1, 0.001**0.5])
    assert len(validate(network(0.1), params, Workload(epochs=1))) == 2
