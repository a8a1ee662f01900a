"""Input to predict, from a file of any kind that paceline reads, brought into the form of the training data.

Shapes: N samples, T steps, F channels. Reading is told apart by the file's extension, and a data section may read files
of its own: see `ReadsInput`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from paceline.data.channels import channel_order
from paceline.data.config import Missing
from paceline.data.csv_long import LongColumns, read_samples
from paceline.data.csv_table import SUFFIXES as CSV
from paceline.data.csv_wide import read_rows
from paceline.data.npz import read_npz
from paceline.data.plain import numpy_array
from paceline.data.ts_file import read_ts
from paceline.errors import DataError

Array = NDArray[Any]
LOG = logging.getLogger("paceline")


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlabelled:
    """Samples to predict, raw as the training data was.

    x: numbers (N, T, F) or (N, F), NaN where missing. lengths: (N,) valid steps, None where all are. channels: the
    names in the order of x, or () where the file has none. columns: what else the model may be called with, (N, ...),
    such as the times `t`. ids: (N,) texts, None for the numbers of the samples.
    id_name, label_name: what the table of predictions calls ids and predictions. probabilities: whether that table has
    them unless asked otherwise. source: the file, for messages.
    """

    x: Array
    lengths: Array | None = None
    channels: tuple[str, ...] = ()
    columns: Mapping[str, Array] = field(default_factory=dict)
    ids: Array | None = None
    id_name: str = "sample"
    label_name: str = "prediction"
    probabilities: bool = True
    source: str = "input"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the weights tell about the input.

    channels: the names as read in training, or (). has_steps: whether a sample is a sequence. missing: the policy.
    reading: what the data source recorded (`Dataset.reading`).
    """

    channels: tuple[str, ...]
    has_steps: bool
    missing: Missing
    reading: Mapping[str, Any]


@runtime_checkable
class ReadsInput(Protocol):
    """A data section that reads files of its own for prediction."""

    def read_input(self, path: Path, known: Known) -> Unlabelled | None:
        """Return the samples of a file, None for a kind that is read as for every other source."""
        ...


def read_unlabelled(path: Path, section: object, known: Known) -> Unlabelled:
    """Read a file with samples to predict: .npz, .csv, .csv.gz, .ts. Raises `DataError` naming what is wrong.

    .npz: `x`, and optionally `lengths`, `channels`, `ids`; a `y` is ignored. .csv: for sequences the long layout with
    columns `sample` (or `id`, `sample_index`), `time` (or `t`, `step`) and one per channel; otherwise a row per sample
    and a column per channel. .ts: labels are ignored.
    """
    own = section.read_input(path, known) if isinstance(section, ReadsInput) else None
    if own is not None:
        return own
    name = path.name.lower()
    if name.endswith(".npz"):
        return from_arrays(read_npz(path), str(path))
    if name.endswith(CSV):
        return _from_csv(path, known)
    if name.endswith(".ts"):
        found = read_ts(path, known.missing)
        return Unlabelled(x=found.x, lengths=found.lengths, source=str(path))
    raise DataError("there is no reader for a file of this kind", where=str(path), got=path.suffix or "no extension",
                    hint=".csv, .csv.gz, .npz or .ts")  # fmt: skip


def from_arrays(arrays: Mapping[str, Any], source: str = "input") -> Unlabelled:
    """Return the samples of a mapping with `x`, and optionally `lengths`, `channels`, `ids`."""
    if "x" not in arrays:
        raise DataError("the input has no array 'x'", where=source, got=", ".join(sorted(arrays)) or "nothing")
    x = numpy_array(arrays["x"], "x", source, "pad the sequences to one length and pass lengths")
    channels = tuple(str(name) for name in arrays.get("channels", ()))
    if channels and (x.ndim == 0 or len(channels) != x.shape[-1]):
        raise DataError(f"the input names {len(channels)} channels", where=source, got=f"x of shape {x.shape}")
    ids = arrays.get("ids")
    if ids is not None:
        ids = np.asarray(ids).astype(str)
        if ids.shape != x.shape[:1]:
            raise DataError("ids must hold one value per sample", where=source, got=f"{ids.shape} for x {x.shape}")
    return Unlabelled(x=x, lengths=arrays.get("lengths"), channels=channels, ids=ids, source=source)


def _from_csv(path: Path, known: Known) -> Unlabelled:
    if not known.has_steps:
        rows = read_rows(path, known.missing, channels=known.channels)
        return Unlabelled(x=rows.x, channels=rows.channels, ids=rows.ids, id_name=rows.id_name, source=str(path))
    found = read_samples(path, LongColumns(), known.missing, channels=known.channels, reading=known.reading)
    return Unlabelled(x=found.x, lengths=found.lengths, channels=found.channels, ids=found.ids, id_name=found.id_name,
                      source=str(path))  # fmt: skip


def aligned(found: Unlabelled, channels: Sequence[str]) -> Unlabelled:
    """Return the samples with their channels in the order of training, matched by name where both have names.

    A line says so if the order was another. Raises `DataError` for a channel that is unknown or absent.
    """
    if not found.channels or not channels or found.channels == tuple(channels):
        return found
    order = channel_order(found.channels, channels, found.source)
    LOG.warning("the channels of %s are in another order than in training: they are matched by name", found.source)
    return replace(found, x=found.x[..., order], channels=tuple(channels))
