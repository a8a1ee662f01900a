"""Whether a saved state fits what it is loaded into: nothing missing, nothing extra, all of the same shape.

The state of a freshly built owner is the example. Values are not judged: the checkpoint's SHA-256 speaks for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from paceline.errors import CheckpointMismatchError

if TYPE_CHECKING:
    from paceline.train.config import TrainingConfig

_NUMBERS = (int, float, type(None))


@dataclass
class Misfits:
    """Dotted names of what a saved state lacks, has beside, and has in another form."""

    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        return bool(self.missing or self.extra or self.changed)

    def refuse(self, what: str = "the checkpoint does not fit the run", *, where: str = "", hint: str = "") -> None:
        """Raise CheckpointMismatchError where there are any."""
        if self.any:
            raise CheckpointMismatchError(
                what, where=where, missing=self.missing, extra=self.extra, changed=self.changed, hint=hint
            )

    def compare(self, saved: Any, own: Any, path: str = "", unlike: Collection[str] = ()) -> None:
        """Note where `saved` has another form than the example `own`; paths in `unlike` are not looked into.

        Where the example has None or a number, None or another number will do; where it has a list of plain values,
        one of any length.
        """
        if path in unlike or path.endswith("_extra_state"):  # which modules may fill as they like
            return
        if isinstance(own, Mapping) and isinstance(saved, Mapping):
            self.names(saved, own, path)
            for key in own:
                if key in saved:
                    self.compare(saved[key], own[key], _join(path, key), unlike)
        elif isinstance(own, list | tuple) and isinstance(saved, list | tuple):
            self._items(saved, own, path, unlike)
        elif not _alike(saved, own):
            self.changed.append(f"{path}: {_form(saved)}, not {_form(own)}")

    def names(self, saved: Mapping[Any, Any], own: Collection[Any], path: str = "") -> None:
        """Note which keys are missing, and which are extra."""
        self.missing += [_join(path, key) for key in own if key not in saved]
        self.extra += [_join(path, key) for key in saved if key not in own]

    def _items(self, saved: Sequence[Any], own: Sequence[Any], path: str, unlike: Collection[str]) -> None:
        if all(_is_plain(item) for item in (*own, *saved)):
            return
        if len(saved) != len(own):
            self.changed.append(f"{path}: {len(saved)} entries, not {len(own)}")
        for i, (mine, theirs) in enumerate(zip(saved, own, strict=False)):
            self.compare(mine, theirs, _join(path, i), unlike)


def check_form(saved: Any, own: Any, path: str = "", unlike: Collection[str] = ()) -> None:
    """Raise CheckpointMismatchError, naming what is missing, extra or changed in a saved state."""
    misfits = Misfits()
    misfits.compare(saved, own, path, unlike)
    misfits.refuse()


def check_eager(
    saved: Mapping[str, Any], own: Mapping[str, Any], config: TrainingConfig, trained: Sequence[Tensor]
) -> None:
    """Raise CheckpointMismatchError where the state of an eager engine does not fit one of these trained parameters."""
    apart = {"engine.optimizer", "engine.marked.optimizer", "engine.best"}
    apart |= {f"engine.meter.{name}" for name in ("sums", "weights", "norms.steps")}
    check_form(saved, own, "engine", apart)
    misfits = Misfits()
    sums, best = saved["meter"]["sums"], saved["best"]
    misfits.names(saved["meter"]["weights"], sums, "engine.meter.weights")
    if best is not None:
        kept = {"optimizer": None} if config.selection.keep_optimizer else {}
        shown = own["model"] if own["average"] is None else own["average"]
        misfits.compare(best, {"model": shown, **kept}, "engine.best", {"engine.best.optimizer"})
    stepped = bool(sums) or best is not None  # the meter is empty only before a step and after an evaluation
    has_moments = config.optimizer != "sgd" or config.momentum > 0
    if stepped and has_moments and not saved["optimizer"].get("state"):
        misfits.missing.append("engine.optimizer.state")
    misfits.refuse()
    _check_optimizer(saved["optimizer"], own["optimizer"], trained, "engine.optimizer")


def check_cohort(saved: Mapping[str, Any], own: Mapping[str, Any], shown: Sequence[Mapping[str, Tensor]]) -> None:
    """Raise CheckpointMismatchError where the state of a cohort engine does not fit one of these members.

    `shown`: the parameters and buffers of all members that are evaluated.
    """
    check_form(saved, own, "engine", {"engine.best"})
    misfits = Misfits()
    members, active, slots = len(own["active"]), saved["active"], saved["slots"]
    if len(active) != members or not all(isinstance(on, bool) for on in active):
        misfits.changed.append(f"engine.active: of {len(active)} members, not {members}")
    elif len(set(slots)) != len(slots) or not {k for k, on in enumerate(active) if on} <= set(slots) <= {
        *range(members)
    }:
        misfits.changed.append("engine.slots")
    if saved["best"] is not None:
        misfits.compare(saved["best"], dict(zip(("parameters", "buffers"), shown, strict=True)), "engine.best")
    misfits.refuse()


def _check_optimizer(saved: Mapping[str, Any], own: Mapping[str, Any], trained: Sequence[Tensor], path: str) -> None:
    """Compare the state of a torch optimizer: learning rates may differ, and what had no gradient has no moments."""
    misfits = Misfits()
    misfits.names(saved, own, path)
    misfits.refuse()
    if len(saved["param_groups"]) != len(own["param_groups"]):
        misfits.changed.append(f"{path}.param_groups")
    for i, (mine, theirs) in enumerate(zip(saved["param_groups"], own["param_groups"], strict=False)):
        for key, value in theirs.items():
            if key not in mine and value:  # a switch that is off may be of a later torch
                misfits.missing.append(f"{path}.param_groups.{i}.{key}")
            elif key in mine and key not in ("lr", "initial_lr") and _plain(mine[key]) != _plain(value):
                misfits.changed.append(f"{path}.param_groups.{i}.{key}: {mine[key]}, not {value}")
    misfits.changed += _wrong_moments(saved["state"], trained, f"{path}.state")
    misfits.refuse()


def _wrong_moments(state: Mapping[Any, Any], trained: Sequence[Tensor], path: str) -> Iterator[str]:
    names = {frozenset(moments) for moments in state.values()}
    if len(names) > 1:
        yield f"{path}: parameters with different moments"
    for i, moments in state.items():
        if not isinstance(i, int) or not 0 <= i < len(trained):
            yield f"{path}.{i}: there is no such parameter"
            continue
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != trained[i].shape:
                yield f"{path}.{i}.{name}: {_form(value)}, not {_form(trained[i])}"


def _alike(saved: Any, own: Any) -> bool:
    if isinstance(own, Tensor) and isinstance(saved, Tensor):
        return own.dtype == saved.dtype and own.shape == saved.shape
    if type(own) in _NUMBERS:
        return type(saved) in _NUMBERS
    return type(saved) is type(own)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return "none" if value is None else type(value).__name__


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
