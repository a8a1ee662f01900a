"""The words that every part shares: Batch, Member, Record, DataSpec, and the protocols. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    Batch = dict[str, Tensor]  # axis 0 the samples; masks are bool, True where valid

SCALES = ("target_mean", "target_std", "time_step")  # numbers of a DataSpec that the training part tells
GRAD_NORM = "grad_norm"  # in a `train` record: the mean 2-norm of the gradients before clipping
OF_NO_PART = ("lr", GRAD_NORM)  # values of a `train` record that bear no `train_` in a history
Value = float | list[Any]  # a scalar, or a per-class list or matrix as nested lists


@dataclass(frozen=True, kw_only=True, order=True)
class Member:
    """One training in the statistical sense. `fold` counts from 0; `variant` is "" unless `members.vary` is used."""

    variant: str = ""
    seed: int
    fold: int | None = None

    @property
    def id(self) -> str:
        """`seed42`, `lstm-seed42-fold3`: the name of the member's folder."""
        parts = [self.variant, f"seed{self.seed}", "" if self.fold is None else f"fold{self.fold}"]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one evaluation interval yields for one member and one split.

    `split` is `train`, `val`, `best` (the selected state on validation), `last`, or `test`. `step` counts optimizer
    steps, `epoch` finished epochs. `values` carries canonical names without the split: `loss`, `f1_macro`.
    """

    member: str
    step: int
    epoch: int
    split: str
    values: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a model may know about the data: the shape of one sample per column, and the names of the classes.

    What is counted or averaged is of the training part alone. target_mean, target_std: of the numeric targets, 0 and 1
    for classes. time_step: mean spacing of column `t` between valid steps, 1 without one. outputs: numbers per target
    that the loss asks of the model.
    """

    shapes: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    target_mean: float = 0.0
    target_std: float = 1.0
    time_step: float = 1.0
    outputs: int = 1

    @property
    def n_features(self) -> int:
        """Size of the last axis of column `x`."""
        return self.shapes["x"][-1]

    @property
    def n_classes(self) -> int:
        return len(self.classes)


class MetricState(Protocol):
    """Sums on the device that add up over batches (a NamedTuple of tensors) and divide once, at the end."""

    def values(self, name: str) -> dict[str, Value]:
        """Divide: the finished metrics, on the host. `name` is the state's key in `metric_sums`."""
        ...


class Task(Protocol):
    """Pure functions from (model, batch) to predictions, loss sums and metric sums."""

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        """Per loss term the number (or sum of weights) it will be divided by; from the data alone."""
        ...

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Return the model's outputs for the batch."""
        ...

    def loss_sums(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Per loss term the sum over the batch, its coefficient included."""
        ...

    def metric_sums(self, outputs: Any, batch: Batch) -> Mapping[str, MetricState]:
        """Mergeable sums for the metrics."""
        ...

    def predict(self, outputs: Any) -> Mapping[str, Tensor]:
        """Named predictions, axis 0 the samples: `prediction`, `probability`."""
        ...


class Loss(Protocol):
    """What a task divides and differentiates: sums and weights per term."""

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]: ...

    def sums(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]: ...


class Control(Protocol):
    """How a consumer of records speaks back; the loop reads it once a step."""

    def stop(self, member: str | None = None) -> None:
        """Stop one member, or all."""
        ...

    def save(self) -> None:
        """Save at the next opportunity."""
        ...


class Consumer(Protocol):
    """A callback: sees every record before training goes on, and may use `control`."""

    def __call__(self, record: Record, control: Control) -> None: ...


@runtime_checkable
class Stateful(Protocol):
    """Anything whose state belongs to a checkpoint (tensors, numbers, strings, lists, dicts)."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Learner(Protocol):
    """Anything that learns: gradient training is one learner, boosted trees another."""

    def fit(self, data: Any, members: Sequence[Any]) -> Iterator[Record]: ...


class Fitted(Protocol):
    """What an estimator knows after some rounds. Shapes: N samples, F features."""

    @property
    def rounds(self) -> int: ...

    def predict(self, x: Any) -> Any:
        """Return (N,) float64 numbers for (N, F) finite features."""
        ...

    def to_text(self) -> str:
        """Return all that `predict` needs; `Estimator.read` brings it back, to the last bit."""
        ...


class Estimator(Protocol):
    """A model that is fitted to arrays by an algorithm of its own, in rounds: boosted trees, least squares.

    The same data and seed give the same bits. rounds: at most so many. patience: rounds without improvement on
    validation after which it stops, None for none. isolated: whether it runs foreign code that is better kept in a
    worker process. file: the name of its file in a member's folder.
    """

    @property
    def rounds(self) -> int: ...

    @property
    def patience(self) -> int | None: ...

    @property
    def isolated(self) -> bool: ...

    @property
    def file(self) -> str: ...

    def fit(self, x: Any, y: Any, x_val: Any, *, every: int, seed: int) -> Iterator[tuple[Fitted, Any, Any]]:
        """Yield after every `every` rounds, and at the end: what is known, and what it says of x (N,) and of x_val.

        x: (N, F), y: (N,), x_val: (M, F). Whoever asks may stop asking. What was yielded stays as it is.
        """
        ...

    def read(self, text: str) -> Fitted:
        """Return what `Fitted.to_text` wrote. Raises ValueError for anything else; runs no code, allocates little."""
        ...


class Tracker(Protocol):
    """A destination for a run's record besides its own folder. Called from one background thread."""

    def scalars(self, rows: Sequence[Record]) -> None:
        """Log the scalar values of some records, in order."""
        ...

    def figure(self, name: str, path: str, step: int) -> None: ...

    def artefact(self, name: str, path: str) -> None: ...

    def close(self, status: str) -> None:
        """`status` is `finished`, `interrupted` or `failed`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Members of equal tensor shapes that one engine trains together.

    batches: `whole`; `cut`: each ends with its longest sample; `by_length`: cut, and of samples of similar length.
    micro_batches: (step, samples): from that step on micro-batches have at most so many. device: where it is not the
    plan's.
    engine: `eager`, `cohort`, or `estimator`, whose members are fitted one after another by their own algorithm.
    """

    id: str
    members: tuple[str, ...]
    engine: str = "eager"
    compile: bool = False
    batches: str = "whole"
    micro_batches: tuple[tuple[int, int], ...] = ()
    device: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every choice that can change a bit. Written before step 1, reused by resume."""

    cohorts: tuple[Cohort, ...]
    device: str
    threads: int
    processes: int = 1
    changes: tuple[Mapping[str, Any], ...] = field(default=())
    schema_version: int = 1
