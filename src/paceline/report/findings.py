"""What a careful reader should know before using the figures."""

from __future__ import annotations

from paceline.report.files import Json, items, section
from paceline.report.results import members_of
from paceline.report.words import clean, count, number, show

_WEAK = 0.5  # a class that is found less often than missed


def findings(summary: Json) -> list[str]:
    """Return sentences on failed members, missing intervals, training that was too short, and weak classes."""
    members = members_of(summary)
    failed = [member for member in members if member.failed]
    trained = [member for member in members if not member.failed]
    found: list[str] = []
    if failed:
        names = ", ".join(member.id for member in failed[:3]) + (" …" if len(failed) > 3 else "")
        found.append(f"{len(failed)} of {count(len(members), 'member')} failed, and no figure counts them: {names}.")
    if len(trained) == 1:
        found.append("One member says nothing about spread: there is no interval. Ask for more with members.seeds=5.")
    late = [m for m in trained if m.status == "finished" and (m.epochs or 0) > 1 and m.chosen.epoch == m.epochs]
    if late and 2 * len(late) >= len(trained):
        found.append(f"{len(late)} of {count(len(trained), 'member')} chose the last epoch: longer training may help.")
    found += [_weak_class(name, recall) for name, recall in _recalls(summary) if recall < _WEAK]
    return found


def _recalls(summary: Json) -> list[tuple[str, float]]:
    table = section(summary, "per_class", "test") or section(summary, "per_class", "val")
    pairs = zip(items(table, "classes"), items(table, "recall"), items(table, "support"), strict=False)
    known = [(clean(name), number(recall)) for name, recall, support in pairs if number(support)]
    return sorted(((name, value) for name, value in known if value is not None), key=lambda pair: pair[1])[:3]


def _weak_class(name: str, recall: float) -> str:
    return f"Class “{name}” has a recall of {show(recall, 2)}: class weights or a focal loss may help."
