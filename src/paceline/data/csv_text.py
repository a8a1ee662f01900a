"""Tables as CSV text that no spreadsheet runs. Numbers are written as they are; see `neutral` for texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paceline.errors import visible

if TYPE_CHECKING:
    from pandas import DataFrame

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are full-width


def csv_text(table: DataFrame, *, index: bool = True) -> str:
    """Return a table as CSV; texts in it, its column names and its index are made neutral."""
    safe = table.rename(columns=neutral).rename_axis(index=neutral)
    for name in [name for name in safe if safe[name].dtype.kind not in "biufc"]:
        safe[name] = safe[name].map(neutral).astype(object)
    if index and safe.index.dtype.kind not in "biufc":
        safe.index = safe.index.map(neutral)
    text: str = safe.to_csv(index=index)
    return text


def neutral(value: Any) -> Any:
    """Return a cell that is no formula: a text that a spreadsheet would run gets an apostrophe before it.

    That is a text which begins with one of FORMULA and is neither a number (-5, +1e3) nor that one character alone (a
    class called +). Control characters are written as escapes. Anything but a text stays as it is.
    """
    if not isinstance(value, str):
        return value
    runs = len(value) > 1 and value.startswith(FORMULA) and not _is_number(value)
    return f"'{visible(value)}" if runs else visible(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.isascii() and not text[0].isspace()
