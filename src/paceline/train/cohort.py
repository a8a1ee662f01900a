"""The state of a cohort in training: everything that can affect its next step.

K members. Their position is one step count: member k is in epoch step // steps_per_epoch[k].
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from paceline.optim.average import swa_share
from paceline.optim.schedule import Horizon, Schedule
from paceline.train.config import TrainingConfig
from paceline.train.divergence import notes
from paceline.train.extending import extended
from paceline.train.fitting import Misfits, check_form
from paceline.train.selection import Selector
from paceline.types import Member, Record

if TYPE_CHECKING:
    import numpy as np

    from paceline.data.loader import Feed
    from paceline.train.control import LoopControl
    from paceline.types import Batch, Value


class Engine(Protocol):
    """Makes optimisation steps for K members and evaluates them; see `engine_eager` for the case K = 1."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that can be evaluated: `val`, and `test` where it may be opened."""
        ...

    def step(self, group: Sequence[Batch], rates: Sequence[float], step: int) -> None:
        """Make one optimizer step of every member that is not retired; gather its loss sums."""
        ...

    def average(self, members: Sequence[int], shares: Sequence[float]) -> None:
        """Move the members' averages by share x (weights - average); asked for only where there are averages."""
        ...

    def flush(self, members: Sequence[int]) -> list[dict[str, float]]:
        """Return mean training losses since the last flush, and begin the next interval."""
        ...

    def evaluate(self, part: str, members: Sequence[int], control: LoopControl | None = None) -> list[dict[str, Value]]:
        """Return loss and metrics over a part; changes nothing. Raises EvaluationCutError where control says to end."""
        ...

    def predict(self, part: str, member: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return predictions over a part, in its order."""
        ...

    def keep(self, member: int) -> None:
        """Take the member's current weights as its best."""
        ...

    def mark(self, member: int) -> None:
        """Take the member's state as the one to go back to."""
        ...

    def roll_back(self, member: int) -> None:
        """Return the member to its marked state; at first that is the one it began with."""
        ...

    def retire(self, member: int) -> None:
        """End the member's training: it keeps every bit."""
        ...

    def compact(self, steps_left: int) -> None:
        """Use less memory and time for members that are retired, where it pays."""
        ...

    def use_best(self) -> None:
        """Evaluate and predict with the best weights from here on."""
        ...

    def weights(self, member: int, which: str) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Status(enum.StrEnum):
    """How a member stands. All but `training` are ends."""

    TRAINING = "training"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Progress:
    """Where one member is."""

    status: Status = Status.TRAINING
    reason: str = ""
    ended_at: int | None = None  # the step at which its training ended
    skipped: int = 0  # optimizer steps left out
    rollbacks: tuple[int, ...] = ()  # the epochs after which it went back to an earlier state


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """One member and how it trains."""

    member: Member
    training: TrainingConfig


class CohortTraining:
    """An engine, its members, and every piece of state between two steps."""

    def __init__(self, engine: Engine, feed: Feed, trainees: Sequence[Trainee]) -> None:
        self.engine, self.feed, self.trainees = engine, feed, tuple(trainees)
        self.members = tuple(trainee.member.id for trainee in trainees)
        self.at = 0  # optimizer steps made
        self.progress = [Progress() for _ in trainees]
        self.selectors = [
            Selector(t.training.selection, t.training.early_stopping, weights=_which_weights(t.training))
            for t in trainees
        ]
        self.schedules = [
            Schedule(t.training.schedule, t.training.learning_rate, Horizon(
                num_epochs=t.training.num_epochs, steps_per_epoch=steps,
            ), "max" if t.training.selection.maximise else "min")
            for t, steps in zip(trainees, feed.steps_per_epoch, strict=True)
        ]  # fmt: skip
        self._swa = trainees[0].training.weight_average.name == "swa"  # the same for all of a cohort
        self._evaluated_at = 0  # never at step 0
        self._quiet_until = 0  # no member is due before this step
        self._rates_from = 0
        self._rates: list[tuple[float, ...]] = []  # every member's learning rate, from that step to an epoch's end

    def epoch(self, k: int) -> int:
        """Finished epochs of member k."""
        return self.step_of(k) // self.feed.steps_per_epoch[k]

    def step_of(self, k: int) -> int:
        """Optimizer steps that member k has made: it stands still once its training has ended."""
        ended_at = self.progress[k].ended_at
        return self.at if ended_at is None else ended_at

    def active(self) -> bool:
        return any(progress.status is Status.TRAINING for progress in self.progress)

    def due(self) -> list[int]:
        """Members to evaluate now: at the end of an epoch, not yet done at this step."""
        if self.at < self._quiet_until or self.at == self._evaluated_at:
            return []
        found = [k for k, progress in enumerate(self.progress) if progress.status is Status.TRAINING and self._due(k)]
        if not found:
            self._quiet_until = min((self.at // n + 1) * n for n in self.feed.steps_per_epoch)
        return found

    def settle(self, due: Sequence[int], control: LoopControl) -> None:
        """After the consumer has seen the records: remember that they are done, and apply its stops."""
        if not due:
            return
        self._evaluated_at = self.at
        for k, (member, progress) in enumerate(zip(self.members, self.progress, strict=True)):
            if progress.status is Status.TRAINING and control.stops(member):
                self.end(k, Status.STOPPED, "stopped by a callback")
        if self.active():
            self.engine.compact(self._steps_left())

    def step(self) -> None:
        """Fetch an accumulation group and make one optimizer step, at the rates that are for it."""
        self.engine.step(self.feed.group(self.at), self._rates_at(self.at), self.at)
        self.at += 1
        if self._swa:
            self._average_epochs()

    def rate(self, k: int) -> float:
        """The learning rate of the last step made."""
        return self._rates_at(self.at - 1)[k]

    def end(self, k: int, status: Status, reason: str) -> None:
        """End a member's training."""
        own, factor = self.progress[k], self.trainees[k].training.divergence.factor
        self.progress[k] = replace(own, status=status, reason=reason + notes(own, factor), ended_at=self.at)
        self.engine.retire(k)

    def record(self, k: int, split: str, values: Mapping[str, Value]) -> Record:
        return Record(member=self.members[k], step=self.step_of(k), epoch=self.epoch(k), split=split, values=values)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.at,
            "evaluated_at": self._evaluated_at,
            "progress": [
                {
                    "status": str(p.status),
                    "reason": p.reason,
                    "at": p.ended_at,
                    "skipped": p.skipped,
                    "rollbacks": list(p.rollbacks),
                }
                for p in self.progress
            ],
            "selectors": [selector.state_dict() for selector in self.selectors],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "engine": self.engine.state_dict(),
            "members": list(self.members),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_form(state, self.state_dict(), unlike={"engine"})
        _check_values(state, self.members)
        state = extended(state, [t.training.num_epochs for t in self.trainees], self.feed.steps_per_epoch)
        self.at, self._evaluated_at = state["step"], state["evaluated_at"]
        self.progress = [
            Progress(Status(p["status"]), p["reason"], p["at"], p["skipped"], tuple(p["rollbacks"]))
            for p in state["progress"]
        ]
        for selector, saved in zip(self.selectors, state["selectors"], strict=True):
            selector.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.engine.load_state_dict(state["engine"])

    def _steps_left(self) -> int:
        """Steps that the longest training still may make."""
        trainings = zip(self.trainees, self.progress, self.feed.steps_per_epoch, strict=True)
        lasting = [t.training.num_epochs * n for t, p, n in trainings if p.status is Status.TRAINING]
        return max(lasting) - self.at

    def _average_epochs(self) -> None:
        """Take the weights of members that have just finished an epoch into their running means."""
        steps = self.feed.steps_per_epoch
        ended = [k for k, p in enumerate(self.progress) if p.status is Status.TRAINING and self.at % steps[k] == 0]
        if not ended:
            return
        trainings = {k: self.trainees[k].training for k in ended}
        first = {k: t.weight_average.first_epoch(t.num_epochs) for k, t in trainings.items()}
        self.engine.average(ended, [swa_share(self.at // steps[k], first[k]) for k in ended])

    def _due(self, k: int) -> bool:
        epoch, within = divmod(self.at, self.feed.steps_per_epoch[k])
        config = self.trainees[k].training
        return within == 0 and (epoch % config.evaluate.every_epochs == 0 or epoch == config.num_epochs)

    def _lowered(self, k: int) -> float:
        """By what rollbacks have lowered a member's learning rate."""
        return self.trainees[k].training.divergence.factor ** len(self.progress[k].rollbacks)

    def _rates_at(self, step: int) -> Sequence[float]:
        """The learning rate of every member at a step; asked for anew from the schedules when an epoch begins."""
        if not 0 <= step - self._rates_from < len(self._rates):
            steps = self.feed.steps_per_epoch
            length = min(n - step % n for n in steps)
            own = [
                [rate * self._lowered(k) for rate in schedule.rates(step // n)[step % n :][:length]]
                for k, (schedule, n) in enumerate(zip(self.schedules, steps, strict=True))
            ]
            self._rates_from, self._rates = step, list(zip(*own, strict=True))
        return self._rates[step - self._rates_from]


def _check_values(state: Mapping[str, Any], members: Sequence[str]) -> None:
    """Raise CheckpointMismatchError for another cohort's members, and for positions that no training has."""
    misfits, step = Misfits(), state["step"]
    if list(state["members"]) != list(members):
        misfits.changed.append(f"members: {', '.join(map(str, state['members'][:3]))}")
    if type(step) is not int or step < 0:
        misfits.changed.append(f"step: {step!r:.20}")
    misfits.changed += [
        f"progress.{k}.status: {progress['status']!r:.20}"
        for k, progress in enumerate(state["progress"])
        if progress["status"] not in [*Status]
    ]
    misfits.refuse()


def _which_weights(training: TrainingConfig) -> str:
    """Return which weights are evaluated and kept: `raw`, or the name of their average."""
    name = training.weight_average.name
    return "raw" if name == "none" else name
