"""The words that every part shares: Batch, Member, Record, DataSpec, and the protocols. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    Batch = dict[str, Tensor]  # axis 0 the samples; masks are bool, True where valid

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
    """What a model may know about the data: the shape of one sample per column, and the names of the classes."""

    shapes: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()  # of the training part alone

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
    """

    id: str
    members: tuple[str, ...]
    engine: str = "eager"
    compile: bool = False
    batches: str = "whole"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every choice that can change a bit. Written before step 1, reused by resume."""

    cohorts: tuple[Cohort, ...]
    device: str
    threads: int
    processes: int = 1
    changes: tuple[Mapping[str, Any], ...] = field(default=())
    schema_version: int = 1
