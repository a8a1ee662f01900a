"""Names and numbers as people read them: shared by the page and the terminal tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

THIN = "\u202f"  # narrow no-break space, before a per cent sign
MISSING = "–"
BEYOND = "bounds can pass 0 or 1: the t interval does not know the range of a metric"

_SPLITS = {
    "test": "test",
    "val": "validation",
    "best": "validation (selected)",
    "last": "last epoch",
    "train": "training",
}
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "f1_weighted": "weighted F1",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "log_loss": "log-loss",
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "mape": "MAPE",
    "max_ae": "largest error",
    "r2": "R²",
    "roc_auc": "ROC AUC",
    "ece": "calibration error (ECE)",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
_AFTER = {"calibrated": "calibrated", "tuned": "tuned thresholds"}  # what a metric's name ends with
_LOWER = {"loss", "rmse", "mae", "mse", "mape", "ae", "ece", "error"}
_SHARES = {"accuracy", "f1", "precision", "recall", "auc"}
_HIGHER = {*_SHARES, "r2"}


def clean(text: object) -> str:
    """Fold to one line and drop control and direction characters, so that no name can drive a terminal or a page."""
    raw = "" if text is None else str(text)
    plain = "".join(c if c.isprintable() or c == THIN else " " if c.isspace() else "\ufffd" for c in raw)
    return " ".join(word for word in plain.split(" ") if word)


def shorten(name: str, limit: int) -> str:
    """Cut a long name in the middle, with an ellipsis: names often differ at their ends."""
    head = (limit - 1) // 2
    return name if len(name) <= limit else f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else (None, NaN, infinity, text, bool, a list)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None


def numbers(values: object) -> list[float | None]:
    """Apply `number` to each item; anything but a list is an empty list."""
    return [number(value) for value in values] if isinstance(values, (list, tuple)) else []


def finite(values: Iterable[T | None]) -> list[T]:
    """The values that are not None."""
    return [value for value in values if value is not None]


def places_for(spread: float | None, digits: int = 2) -> int | None:
    """Decimals that leave `digits` significant digits of a spread (a half width, a standard deviation), at most 6."""
    if spread is None or not 0 < spread < math.inf:
        return None
    return min(6, max(0, digits - 1 - math.floor(math.log10(spread))))


def show(value: float | None, places: int | None = None) -> str:
    """Print a number with `places` decimals, or with four significant digits. 1e6 and above use powers of ten.

    None and what is not finite are a dash.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size >= 1e6 or (0 < size < 1e-4 and (places is None or size < 0.5 * 10**-places)):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa} × 10{_superscript(int(exponent))}".replace("-", "−")
    if places is None:
        places = 4 if size < 10 else max(0, 3 - math.floor(math.log10(size)))
    return f"{value:.{places}f}".replace("-", "−")


def percent(share: float, places: int = 1) -> str:
    """`0.123` -> `12.3 %`."""
    return f"{100 * share:.{places}f}{THIN}%"


def split_of(name: str) -> tuple[str, str]:
    """`val_f1_macro` -> (`val`, `f1_macro`); a name without a known split keeps an empty one."""
    head, _, rest = name.partition("_")
    return (head, rest) if head in _SPLITS and rest else ("", name)


def label(name: str, *, with_split: bool = True) -> str:
    """`val_f1_macro` -> `validation macro F1`; unknown words are kept, underscores become spaces."""
    split, base = split_of(clean(name))
    plain = before(base)
    words = _METRICS.get(plain, plain.replace("_", " "))
    words += f", {_AFTER[base.rpartition('_')[2]]}" if plain != base else ""
    return f"{_SPLITS[split]} {words}" if split and with_split else words


def before(name: str) -> str:
    """`val_f1_macro_tuned` -> `val_f1_macro`: the name of the same metric before what was fitted after training."""
    plain, _, after = name.rpartition("_")
    return plain if plain and after in _AFTER else name


def better(name: str) -> str:
    """`lower` for losses and errors, `higher` for scores, empty where the name does not say."""
    words = set(split_of(name)[1].split("_"))
    return "lower" if words & _LOWER else "higher" if words & _HIGHER else ""


def beyond(name: str, interval: tuple[float, float] | None) -> bool:
    """Whether a bound is no value of the metric: shares lie between 0 and 1, losses and errors begin at 0."""
    words = set(split_of(name)[1].split("_"))
    low = 0.0 if words & (_SHARES | _LOWER) else -math.inf
    return interval is not None and (interval[0] < low or (bool(words & _SHARES) and interval[1] > 1))


def capital(text: str) -> str:
    """First letter large, the rest as it is."""
    return text[:1].upper() + text[1:]


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 member`, `5 members`, `12,345 samples`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def span(values: Sequence[float], places: int = 0) -> str:
    """`25` or `22 to 34`."""
    low, high = show(min(values), places), show(max(values), places)
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
