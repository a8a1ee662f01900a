"""Learning rates against hand-worked lists and torch's own schedulers."""

from __future__ import annotations

import pytest
import torch

from paceline.optim.config import ScheduleConfig
from paceline.optim.schedule import Horizon, Schedule

pytestmark = pytest.mark.fast


def per_epoch(epochs: int = 10, **config: object) -> list[float]:
    schedule = Schedule(ScheduleConfig(**config), 1.0, Horizon(num_epochs=epochs, steps_per_epoch=4))
    return [schedule.rates(e)[0] for e in range(epochs)]


def test_warm_up_is_applied_before_the_epoch_that_it_is_for() -> None:
    """A65: epoch 1 runs at base/5 and epoch 5 at base."""
    assert per_epoch(7, warmup_epochs=5) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


def test_no_warm_up_divides_by_nothing() -> None:
    """A66."""
    assert per_epoch(3, warmup_epochs=0) == [1.0, 1.0, 1.0]


def test_a_warm_up_longer_than_the_training_never_exceeds_the_base_rate() -> None:
    """B50."""
    rates = per_epoch(2, warmup_epochs=5, name="cosine")
    assert rates == pytest.approx([0.2, 0.4])


def test_warm_up_by_step_reaches_the_base_at_its_last_step() -> None:
    schedule = Schedule(ScheduleConfig(interval="step", warmup_epochs=2), 1.0, Horizon(num_epochs=4, steps_per_epoch=5))
    assert schedule.rates(0) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert schedule.rates(1)[-1] == 1.0
    assert schedule.rates(2) == [1.0] * 5


@pytest.mark.parametrize(("name", "middle"), [("linear", 0.505), ("cosine", 0.505)])
def test_decays_end_at_the_minimum_factor_on_the_last_step(name: str, middle: float) -> None:
    schedule = Schedule(
        ScheduleConfig(name=name, interval="step", min_factor=0.01), 1.0, Horizon(num_epochs=3, steps_per_epoch=7)
    )
    rates = [r for e in range(3) for r in schedule.rates(e)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(0.01, abs=1e-12)
    assert rates[10] == pytest.approx(middle)
    assert rates == sorted(rates, reverse=True)


def test_cosine_equals_torch_cosine_annealing() -> None:
    ours = per_epoch(11, name="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    expected = []
    for _ in range(11):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert ours == pytest.approx(expected, abs=1e-12)


def test_restarts_go_back_to_the_peak() -> None:
    rates = per_epoch(9, name="cosine_with_restarts", num_cycles=2)
    assert rates[0] == rates[4] == 1.0
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def of_torch(epochs: int, t0: int, t_mult: int, parts: int = 1, low: float = 0.0) -> list[float]:
    """The learning rates of torch's own warm restarts at `parts` positions of every epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=t0, T_mult=t_mult, eta_min=low)
    found = []
    optimizer.step()
    for i in range(epochs * parts):
        theirs.step(i / parts)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("low", [0.0, 0.1])
@pytest.mark.parametrize(("t0", "t_mult"), [(2, 2), (3, 1), (1, 3), (50, 2)])
def test_warm_restarts_are_those_of_torch(t0: int, t_mult: int, low: float) -> None:
    ours = per_epoch(40, name="cosine_with_restarts", t0=t0, t_mult=t_mult, min_factor=low)
    assert ours == pytest.approx(of_torch(40, t0, t_mult, low=low), abs=1e-12)


def test_cycles_of_warm_restarts_have_2_4_and_8_epochs_and_fall_to_nothing() -> None:
    """C57: cycles of 2, 4 and 8 epochs begin at the learning rate, and each falls to 0 at its end."""
    config = ScheduleConfig(name="cosine_with_restarts", t0=2, t_mult=2, interval="step")
    schedule = Schedule(config, 0.5, Horizon(num_epochs=14, steps_per_epoch=1000))
    rates = [rate for epoch in range(14) for rate in schedule.rates(epoch)]
    assert [step for step, rate in enumerate(rates) if rate == 0.5] == [0, 2000, 6000]
    assert max(rates[end - 1] for end in (2000, 6000, 14000)) < 1e-6
    assert rates == pytest.approx([0.5 * rate for rate in of_torch(14, 2, 2, parts=1000)], abs=1e-9)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_warm_restarts_begin_after_the_warm_up(interval: str) -> None:
    config = ScheduleConfig(name="cosine_with_restarts", t0=2, t_mult=2, warmup_epochs=3, interval=interval)
    schedule = Schedule(config, 1.0, Horizon(num_epochs=9, steps_per_epoch=5))
    assert [epoch for epoch in range(9) if schedule.rates(epoch)[0] == 1.0 and epoch >= 3] == [3, 5]
    since = [schedule.epochs_since_restart(epoch) for epoch in range(1, 10)]
    assert since == [None] * 5 + [1, 2, 3, 4]


def test_the_epochs_since_a_restart_are_counted_for_equal_cycles_too() -> None:
    schedule = Schedule(
        ScheduleConfig(name="cosine_with_restarts", num_cycles=2), 1.0, Horizon(num_epochs=9, steps_per_epoch=4)
    )
    assert [schedule.epochs_since_restart(epoch) for epoch in range(1, 10)] == [None] * 4 + [1, 2, 3, 4, 5]
    plain = Schedule(ScheduleConfig(name="cosine"), 1.0, Horizon(num_epochs=9, steps_per_epoch=4))
    assert plain.epochs_since_restart(9) is None


def test_keys_of_another_schedule_are_not_looked_at() -> None:
    """So that a recipe's `t0` does not stand in the way of `training.schedule.name=cosine`."""
    horizon = Horizon(num_epochs=6, steps_per_epoch=1)
    configs = ScheduleConfig(name="cosine"), ScheduleConfig(name="cosine", t0=2, t_mult=2)
    plain, more = (Schedule(config, 1.0, horizon) for config in configs)
    assert [plain.rates(epoch) for epoch in range(6)] == [more.rates(epoch) for epoch in range(6)]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("cooldown", [0, 2])
def test_plateau_follows_torch_reduce_lr_on_plateau_after_the_warm_up(mode: str, cooldown: int) -> None:
    """A67: halves after more than three flat epochs, counted only after the warm-up."""
    values = [0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    config = ScheduleConfig(name="plateau", warmup_epochs=2, cooldown=cooldown)
    ours = Schedule(config, 1.0, Horizon(num_epochs=20, steps_per_epoch=1), mode)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.5, patience=3, threshold=1e-3, cooldown=cooldown
    )
    for epoch, value in enumerate(values, start=1):
        ours.observe(value, smoothed=0.0, epoch=epoch)
        if epoch > 2:
            theirs.step(value)
            assert ours.rates(epoch)[0] == optimizer.param_groups[0]["lr"]
    assert ours.rates(16)[0] < 1.0


def test_a_restored_plateau_continues() -> None:
    config = ScheduleConfig(name="plateau", patience=1)
    first, second = (Schedule(config, 1.0, Horizon(num_epochs=9, steps_per_epoch=1)) for _ in range(2))
    for epoch in range(1, 3):
        first.observe(0.5, 0.5, epoch)
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        schedule.observe(0.5, 0.5, 3)
    assert first.rates(3) == second.rates(3) == [0.5]


def test_two_warm_ups_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        ScheduleConfig(warmup_epochs=2, warmup_ratio=0.1)
