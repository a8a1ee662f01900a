"""Sequences from a `.ts` file, the text format of the UEA and UCR archives.

`#` begins a comment, `@` a fact; then every line is a sample: `1.5,2.0,?:0.1,0.2,0.3:label` has two channels of three
steps, one value missing. Shapes: N samples, T steps, F channels. The format: https://www.aeon-toolkit.org/en/stable/api_reference/data_format.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import nearest
from paceline.data.config import Missing
from paceline.data.growth import UNEVEN, refuse_growth
from paceline.errors import DataError

Array = NDArray[Any]
FACTS = ("problemname", "timestamps", "missing", "univariate", "dimension", "dimensions", "equallength", "serieslength",
         "classlabel", "targetlabel", "data")  # fmt: skip
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, eq=False)
class TsFile:
    """x: (N, T, F) float64, NaN where missing. lengths: (N,), None where all have T. labels: (N,) text, None without.

    classes: those that the file declares. lines: (N,) where each sample stands.
    """

    x: Array
    lengths: Array | None
    labels: Array | None
    classes: tuple[str, ...]
    lines: Array


@dataclass
class _Header:
    facts: dict[str, list[str]] = field(default_factory=dict)

    def says(self, name: str) -> bool:
        return self.facts.get(name, ["false"])[:1] == ["true"]


def read_ts(path: Path, missing: Missing = "refuse") -> TsFile:
    """Read a file. Raises `DataError` naming file and line for whatever cannot be read.

    Missing values (`?`) are an error, too, unless `missing` is `mask`.
    """
    where = str(path)
    try:
        if not path.is_file():
            what = "the path is not a file" if path.exists() else "there is no such file"
            raise DataError(what, where=where, hint="the path of a .ts file")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8", where=where, got=str(error)) from error
    except OSError as error:
        raise DataError("the file cannot be read", where=where, got=str(error)) from error
    numbered = ((f"{where}, line {i}", i, line.strip()) for i, line in enumerate(lines, 1))
    told = ((place, i, line) for place, i, line in numbered if line and not line.startswith("#"))
    found = _samples(told, _header(told, where), where)
    if missing == "refuse":
        _refuse_missing(found, where)
    return found


def _header(lines: Iterator[tuple[str, int, str]], where: str) -> _Header:
    """Read up to `@data`."""
    header = _Header()
    for place, _, line in lines:
        name, *values = line[1:].split() or [""]
        name = name.lower()
        if not line.startswith("@") or name not in FACTS:
            near = nearest(name, FACTS)
            raise DataError("this is no line of a header", where=place, got=line,
                            hint=f"@{near}" if near else "a .ts file: @ lines, then @data, then samples")  # fmt: skip
        if name == "data":
            break
        if name in header.facts:
            raise DataError("a fact is given twice", where=place, got=line)
        header.facts[name] = [values[0].lower(), *values[1:]] if values else []
    else:
        raise DataError("the file has no line @data", where=where)
    if header.says("timestamps"):
        raise DataError("values with time stamps are not read", where=where, got="@timeStamps true",
                        hint="data=challenge, a long CSV with a time column")  # fmt: skip
    if header.says("targetlabel"):
        raise DataError("the file is of a regression, not of classes", where=where, got="@targetLabel true")
    return header


def _samples(lines: Iterator[tuple[str, int, str]], header: _Header, where: str) -> TsFile:
    labelled, classes = header.says("classlabel"), tuple(header.facts.get("classlabel", [])[1:])
    series: list[Array] = []
    labels: list[str] = []
    numbers: list[int] = []
    for place, number, line in lines:
        channels = line.split(":")
        if labelled:
            labels.append(channels.pop().strip())
            if classes and labels[-1] not in classes:
                raise DataError("a label is not among the declared classes", where=place, got=labels[-1],
                                hint=", ".join(classes))  # fmt: skip
        if not channels:
            raise DataError("a sample has a label and no values", where=place, got=line)
        series.append(_one(channels, place))
        numbers.append(number)
        if series[-1].shape[1] != series[0].shape[1]:
            raise DataError("samples differ in their number of channels", where=place,
                            got=f"{series[-1].shape[1]}, not {series[0].shape[1]}")  # fmt: skip
    if not series:
        raise DataError("the file has no samples after @data", where=where)
    declared = [v for name in ("dimensions", "dimension") for v in header.facts.get(name, [])]
    if declared and declared[0] != str(series[0].shape[1]):
        raise DataError("samples do not have the declared number of channels", where=where,
                        got=f"{series[0].shape[1]}, @dimensions {declared[0]}")  # fmt: skip
    lengths = np.array([len(own) for own in series])
    width = series[0].itemsize * series[0].shape[1]
    refuse_growth(len(series) * int(lengths.max()) * width, int(lengths.sum()) * width, UNEVEN, where=where,
                  hint="cut the longest ones, or leave them out")  # fmt: skip
    x = np.full((len(series), lengths.max(), series[0].shape[1]), np.nan)
    for i, own in enumerate(series):
        x[i, : len(own)] = own
    same = bool((lengths == x.shape[1]).all())
    return TsFile(
        x=x,
        lengths=None if same else lengths,
        labels=np.array(labels) if labelled else None,
        classes=classes,
        lines=np.array(numbers),
    )


def _refuse_missing(found: TsFile, where: str) -> None:
    gaps = np.isnan(found.x)
    if found.lengths is not None:
        gaps &= (np.arange(gaps.shape[1]) < found.lengths[:, None])[:, :, None]
    if gaps.any():
        sample, step, channel = np.argwhere(gaps)[0]
        n = int(gaps.sum())
        more = f"; {n} values are missing in all" if n > 1 else ""
        raise DataError("a value is missing", where=f"{where}, line {found.lines[sample]}",
                        got=f"sample {sample}, step {step}, channel {channel}{more}",
                        hint="data.missing=mask, or fill it")  # fmt: skip


def _one(channels: list[str], place: str) -> Array:
    """Return one sample (T, F)."""
    cells = [channel.replace("?", "nan").split(",") for channel in channels]
    lengths = {len(own) for own in cells}
    if len(lengths) > 1:
        raise DataError("the channels of a sample differ in length", where=place,
                        got=", ".join(str(len(own)) for own in cells[:10]))  # fmt: skip
    try:
        values = np.array(cells, dtype=np.float64).T
    except ValueError:
        places = ((c, t) for c, own in enumerate(cells) for t, cell in enumerate(own) if not _is_number(cell))
        channel, step = next(places)
        got = f"{cells[channel][step]!r} at channel {channel}, step {step}"
        raise DataError("a value is no number", where=place, got=got) from None
    wrong = np.abs(values) > LARGEST
    if wrong.any():
        step, channel = np.argwhere(wrong)[0]
        raise DataError("a number is too large", where=place,
                        got=f"{cells[channel][step]} at channel {channel}, step {step}")  # fmt: skip
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
