"""`Sample`, and lists of samples as the columns that a model is trained on.

Shapes: N samples, T steps, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from paceline.errors import DataError

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]
OPTIONAL = ("t", "mask")


@dataclass
class Sample:
    """One row of a cell's history, or a whole sequence of them. Arrays are NumPy's or torch's.

    x: (F,), or (T, F) for a sequence. y: the target, one number or (1,); (T,) or (T, 1) where every step has one.
    t: when, a number or (T,), in days or cycles. mask: (T,), True on valid steps. meta: what is known of the sample,
    such as `experiment_id`, `cell_id`, `temperature_C`; the splits look there.
    """

    x: Any
    y: Any
    t: Any = None
    mask: Any = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def feature_dim(self) -> int:
        """The number of features, F."""
        return int(np.shape(self.x)[-1])

    @property
    def seq_len(self) -> int | None:
        """The number of steps of a sequence; None for a single row."""
        shape = np.shape(self.x)
        return int(shape[0]) if len(shape) == 2 else None

    def to_tensor(self) -> Sample:
        """Return a sample of tensors: float32, the mask bool."""
        import torch

        def tensor(value: Any, kind: torch.dtype) -> torch.Tensor | None:
            return None if value is None else torch.as_tensor(value).to(kind)

        return replace(
            self,
            x=tensor(self.x, torch.float32),
            y=tensor(self.y, torch.float32),
            t=tensor(self.t, torch.float32),
            mask=tensor(self.mask, torch.bool),
            meta=dict(self.meta),
        )

    def to_device(self, device: str | torch.device) -> Sample:
        """Return a sample of tensors on a device."""
        moved = self.to_tensor()
        there = {name: getattr(moved, name) for name in ("x", "y", *OPTIONAL)}
        return replace(moved, **{name: v.to(device) for name, v in there.items() if v is not None})

    def clone(self) -> Sample:
        """Return a copy that shares nothing with this one."""
        return copy.deepcopy(self)


def columns_of(parts: Mapping[str, Sequence[Sample]], *, targets: bool = True) -> dict[str, Columns]:
    """Return the columns of each part: `x`, `y`, and where samples have them `t` and `mask`; all float32, masks bool.

    Sequences are padded with zeros to the longest of all parts; the mask is True on valid steps. Targets of shape (1,)
    become numbers. targets: False leaves `y` out.

    Raises DataError for a part without samples, and naming the sample for a value that is not finite, for forms that
    differ, and for a `t` that only some have.
    """
    for part, samples in parts.items():
        if isinstance(samples, (Sample, str, Mapping)) or not hasattr(samples, "__len__"):
            raise DataError("a part must be a list of samples", where=part, got=type(samples).__name__)
        if not len(samples):
            raise DataError("a part is empty", where=part, got="no samples",
                            hint="a split that finds some")  # fmt: skip
    first = next(iter(parts.values()))[0]
    form = _Form.of(first)
    longest = max(len(np.shape(s.x)) and np.shape(s.x)[0] for samples in parts.values() for s in samples)
    return {
        part: _stack([form.checked(s, f"sample {i} of {part}", targets) for i, s in enumerate(samples)], longest)
        for part, samples in parts.items()
    }


def described(sample: Sample, place: str) -> str:
    """Return where a sample is, with what tells it from others: `sample 3 of train (cell_id A, temperature_C 25)`."""
    known = ", ".join(f"{name} {value}" for name, value in list(sample.meta.items())[:4])
    return f"{place} ({known})" if known else place


@dataclass(frozen=True)
class _Form:
    """What every sample must look like: that of the first."""

    axes: int
    features: int
    timed: bool

    @classmethod
    def of(cls, sample: Sample) -> _Form:
        shape = np.shape(sample.x)
        return cls(len(shape), shape[-1] if shape else 0, sample.t is not None)

    def checked(self, sample: Sample, place: str, targets: bool) -> Columns:
        """Return a sample's arrays. Raises DataError naming the sample."""
        where = described(sample, place)
        x = _numbers(sample.x, "x", where)
        if x.ndim not in (1, 2) or (x.ndim, x.shape[-1]) != (self.axes, self.features) or not x.size:
            wanted = "(features,) or (steps, features)" if self.axes not in (1, 2) else (
                f"({self.features},)" if self.axes == 1 else f"(steps, {self.features})")  # fmt: skip
            raise DataError("a sample's x does not have the form of the others", where=where,
                            got=f"shape {x.shape}", hint=wanted)  # fmt: skip
        if (sample.t is not None) != self.timed:
            raise DataError("some samples have times, others have none", where=where)
        steps = x.shape[0] if x.ndim == 2 else None
        found = {"x": x} | ({"y": _target(sample.y, steps, where)} if targets else {})
        if steps is not None:
            found["mask"] = _mask(sample.mask, steps, where)
        if sample.t is not None:
            found["t"] = _times(sample.t, steps, where)
        return _finite(found, where)


def _numbers(value: Any, name: str, where: str) -> Array:
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise DataError(f"a sample's {name} must be numbers", where=where, got=f"{array.dtype}")
    return array.astype(np.float32)


def _target(value: Any, steps: int | None, where: str) -> Array:
    y = _numbers(value, "y", where)
    if y.ndim == 2 and y.shape[1] == 1 and y.shape[0] == steps:
        y = y[:, 0]
    if y.shape == (1,) and steps != 1:
        y = y[0]
    if y.ndim > 1 or (steps is not None and y.ndim == 1 and y.shape[0] != steps):
        wanted = "one number" + ("" if steps is None else f", or {steps}: one per step")
        raise DataError("a sample's y does not fit its x", where=where, got=f"shape {y.shape}", hint=wanted)
    return y


def _times(value: Any, steps: int | None, where: str) -> Array:
    t = _numbers(value, "t", where).reshape(-1)
    if len(t) != (1 if steps is None else steps):
        raise DataError("a sample's t does not fit its x", where=where, got=f"{len(t)} times",
                        hint=f"{steps or 1}: one per step")  # fmt: skip
    return t if steps is not None else t[0]


def _mask(value: Any, steps: int, where: str) -> Array:
    mask = np.ones(steps, bool) if value is None else _numbers(value, "mask", where).reshape(-1) > 0
    if len(mask) != steps or not mask.any():
        raise DataError("a sample's mask does not fit its x", where=where,
                        got=f"{len(mask)} entries, {int(mask.sum())} True", hint=f"{steps} entries")  # fmt: skip
    if not mask[: mask.sum()].all():
        raise DataError("a sample's valid steps must come first", where=where, got="a gap in the mask",
                        hint="leave the steps in between out of x, y and t")  # fmt: skip
    return mask


def _finite(found: Columns, where: str) -> Columns:
    """Check what counts; what a mask excludes becomes 0."""
    steps = found.get("mask")
    for name, array in found.items():
        if steps is not None and array.ndim and name != "mask":
            array = found[name] = np.where(steps.reshape(-1, *[1] * (array.ndim - 1)), array, 0).astype(array.dtype)
        if not np.isfinite(array).all():
            at = np.argwhere(~np.isfinite(np.atleast_1d(array)))[0].tolist()
            raise DataError(f"a value of {name} is not finite", where=where, got=f"{name}{at}")
    return found


def _stack(samples: Sequence[Columns], longest: int) -> Columns:
    """Stack samples; arrays with a step axis are padded to `longest` steps."""
    names = list(samples[0])
    forms = {name: {sample[name].ndim for sample in samples} for name in names}
    for name, ndims in forms.items():
        if len(ndims) > 1:
            raise DataError(f"some samples have one {name} for the whole sequence, others one per step", where=name)
    if "mask" not in names:
        return {name: np.stack([sample[name] for sample in samples]) for name in names}
    return {name: np.stack([_padded(sample[name], longest) for sample in samples]) for name in names}


def _padded(array: Array, longest: int) -> Array:
    if array.ndim == 0 or len(array) == longest:
        return array
    return np.concatenate([array, np.zeros((longest - len(array), *array.shape[1:]), array.dtype)])
