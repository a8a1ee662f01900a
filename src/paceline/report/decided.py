"""What was fitted after training: every member's temperature and thresholds, on how many samples, and why kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paceline.report.files import Json, items, section, sections
from paceline.report.results import leading_members
from paceline.report.tables import Cell, Table
from paceline.report.words import capital, clean, count, finite, number, numbers, show, span

_NAMED = 6  # weights of more classes than this are given as a range


def decision_notes(summary: Json) -> list[str]:
    """Lines for the terminal, none where nothing was asked for; of the leading variant, as the metrics are."""
    decisions = _decisions(summary)
    notes = [note for note in (_temperatures(decisions), _thresholds(decisions, _classes(summary))) if note]
    if notes:
        notes.append("_calibrated, _tuned: after these; on validation every sample is decided by a fit without it")
    return notes


def decision_table(summary: Json) -> Table | None:
    """A row per member and thing fitted; None where nothing was asked for."""
    classes = _classes(summary)
    rows: list[Sequence[Cell]] = []
    for member in sections(summary, "members"):
        decision = section(member, "decision")
        n = number(decision.get("n"))
        for name in ("temperature", "thresholds"):
            fit = section(decision, name)
            if fit:
                cells = (clean(member.get("id")), name, _value(name, fit, classes), show(n, 0))
                rows.append([*cells, capital(clean(fit.get("reason")))])
    if not rows:
        return None
    columns = [("member", "name"), ("fitted", "text"), ("value", "text"), ("samples", "number"), ("why", "why")]
    caption = (
        "Fitted on each member's own validation part, never on test, and kept where the gain on samples left out of "
        "the fit exceeds its standard error. Metrics that end in calibrated or tuned are after these; on validation "
        "every sample is decided by a fit without it. All else that is shown of members is of their raw predictions."
    )
    return Table(columns=columns, rows=rows, caption=caption, title="temperature and thresholds")


def _classes(summary: Json) -> list[str]:
    return [clean(name) for name in items(section(summary, "confusion", "val"), "classes")]


def _decisions(summary: Json) -> list[Json]:
    leading = {member.id for member in leading_members(summary)}
    found = [section(row, "decision") for row in sections(summary, "members") if clean(row.get("id")) in leading]
    return [decision for decision in found if decision]


def _temperatures(decisions: Sequence[Json]) -> str:
    fits, kept = _fits(decisions, "temperature")
    if not fits:
        return ""
    values = finite(number(value) for fit in kept for value in items(fit, "values"))
    fitted = f"temperature {span(values, 2)}" if values else "temperature left at 1"
    return f"{fitted}{_of(kept, fits)}, fitted on {_samples(decisions)}"


def _thresholds(decisions: Sequence[Json], classes: Sequence[str]) -> str:
    fits, kept = _fits(decisions, "thresholds")
    if not fits:
        return ""
    pairs = [finite(numbers(items(fit, "values"))) for fit in kept]
    shares = [pair[0] / sum(pair) for pair in pairs if len(pair) == 2]
    tuned = f"threshold of “{_second(classes)}” {span(shares, 2)}" if shares else "weights of the classes"
    decided = tuned if kept else "thresholds left as they are"
    return f"{decided}{_of(kept, fits)}, tuned for {clean(fits[0].get('metric'))} on {_samples(decisions)}"


def _fits(decisions: Sequence[Json], name: str) -> tuple[list[Json], list[Json]]:
    fits = [fit for fit in (section(decision, name) for decision in decisions) if fit]
    return fits, [fit for fit in fits if fit.get("kept") is True]


def _of(kept: Sequence[Json], fits: Sequence[Json]) -> str:
    return f" ({len(kept)} of {count(len(fits), 'member')})" if len(kept) < len(fits) or len(fits) > 1 else ""


def _samples(decisions: Sequence[Json]) -> str:
    sizes = finite(number(decision.get("n")) for decision in decisions)
    return f"{span(sizes)} validation samples" if sizes else "validation"


def _value(name: str, fit: Mapping[str, object], classes: Sequence[str]) -> str:
    values = finite(numbers(fit.get("values")))
    if not values:
        return show(None)
    if name == "temperature":
        return show(values[0], 3)
    if len(values) == 2 and fit.get("kept") is True:
        return f"{_second(classes)} above {show(values[0] / sum(values), 3)}"
    if fit.get("kept") is not True:
        return "the largest probability"
    if len(values) != len(classes) or len(values) > _NAMED:
        return f"weights {span(values, 2)}"
    return ", ".join(f"{name} × {show(value, 2)}" for name, value in zip(classes, values, strict=True))


def _second(classes: Sequence[str]) -> str:
    return classes[1] if len(classes) == 2 else "the second class"
