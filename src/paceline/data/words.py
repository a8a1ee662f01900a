"""Columns of words as integers, in an order that keeps their meaning.

Words that begin with a number, as a word or in digits (`zero`, `two+`, `3 or more`, `one+peg_leg`), are ordered by
that number, then by the rest; if any word of a column does not, all are ordered alphabetically, whatever their case. A
word's code is its place in that order, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data.csv_table import Table, is_number
from paceline.errors import DataError

MOST = 100  # different words of a column: with more it is text, and no category
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
VALUES = {"none": 0, **{word: value for value, word in enumerate(NUMBERS)}}
_LEADING = re.compile(rf"({'|'.join(sorted(VALUES, key=len, reverse=True))}|\d+)(?![A-Za-z0-9]|\.\d)(.*)", re.I | re.S)


def ordered(words: Iterable[str]) -> list[str]:
    """Return the different words in their order."""
    different = sorted(set(words), key=lambda word: (word.casefold(), word))
    ranked = [(rank, word) for word in different if (rank := _rank(word)) is not None]
    return [word for _, word in sorted(ranked)] if len(ranked) == len(different) else different


def _rank(word: str) -> tuple[int, str] | None:
    found = _LEADING.fullmatch(word)
    if not found:
        return None
    number = found[1].lower()
    return VALUES[number] if number in VALUES else int(number), found[2].casefold()


def fit_words(table: Table, names: Collection[str]) -> dict[str, list[str]]:
    """Return the ordered words of each of these columns that holds words.

    Raises `DataError` for a column that mixes numbers and text, unless all of its cells begin with a whole number, and
    for one with more than 100 different words.
    """
    found = {}
    for name in names:
        column = table.columns[name]
        if column.dtype.kind == "f":
            continue
        words = {cell for cell in column if cell is not None}
        if any(is_number(word) for word in words) and not all(_rank(word) for word in words):
            row = next(i for i, cell in enumerate(column) if cell is not None and not is_number(cell))
            raise DataError("a cell is no number, where others of the column are", where=table.place(row, name),
                            got=column[row])  # fmt: skip
        if len(words) > MOST:
            raise DataError(f"a column holds {len(words)} different words, too many for categories",
                            where=f"{table.path}, column {name!r}", hint=f"data.ignore=[{name}]")  # fmt: skip
        found[name] = ordered(words)
    return found


def encode(table: Table, name: str, words: Sequence[str]) -> NDArray[np.float64]:
    """Return the codes (R,) of a column of words, NaN where missing. Raises `DataError` for a word that is unknown."""
    codes: dict[str | None, float] = {word: float(code) for code, word in enumerate(words)} | {None: np.nan}
    column = table.columns[name]
    if column.dtype.kind == "f":  # only empty cells
        return column
    unknown = next((i for i, cell in enumerate(column) if cell not in codes), None)
    if unknown is not None:
        fix = name_hint(column[unknown], words)
        raise DataError("a word does not occur in the training data", where=table.place(unknown, name),
                        got=column[unknown], hint=fix)  # fmt: skip
    return np.array([codes[cell] for cell in column], dtype=np.float64)
