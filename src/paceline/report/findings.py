"""What a careful reader should know before using the figures."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from paceline.report.files import Json, items, section
from paceline.report.results import MemberResult, members_of
from paceline.report.words import clean, count, finite, number, numbers, show

_WEAK = 0.5  # a class that is found less often than missed
_SOUND = 0.7  # mean recall of the other classes from which on it is not the training that is too weak
_FLAT = 0.01  # share of the metric's whole range that the last fifth of the training must gain to go on improving
_ANNEALED = 0.1  # share of its peak below which a learning rate ends a training by design


def findings(summary: Json, histories: Mapping[str, Json] | None = None) -> list[str]:
    """Return sentences on failed members, missing intervals, training that was too short, and weak classes.

    `histories` are those of the members by id; without them nothing is said about the length of the training.
    """
    members = members_of(summary)
    failed = [member for member in members if member.failed]
    trained = [member for member in members if not member.failed]
    found: list[str] = []
    if failed:
        names = ", ".join(member.id for member in failed[:3]) + (" …" if len(failed) > 3 else "")
        found.append(f"{len(failed)} of {count(len(members), 'member')} failed, and no figure counts them: {names}.")
    if len(trained) == 1:
        found.append("One member says nothing about spread: there is no interval. Ask for more with members.seeds=5.")
    late = [member for member in trained if _ended_early(member, (histories or {}).get(member.id, {}))]
    if late and 2 * len(late) >= len(trained):
        text = f"{len(late)} of {count(len(trained), 'member')} still improved in the last epochs"
        return [*found, f"{text}: longer training may help."]  # before that, a weak class says little
    return found + _weak_classes(summary)


def _ended_early(member: MemberResult, history: Json) -> bool:
    """Whether a member kept the last of all its epochs while its metric still improved and its learning rate was up."""
    chosen = member.chosen
    values = finite(numbers(history.get(chosen.metric)))
    rates = finite(numbers(history.get("lr")))
    if member.status != "finished" or chosen.epoch != member.epochs or len(values) < 2:
        return False
    if rates and rates[-1] < _ANNEALED * max(rates):
        return False
    width = max(1, len(values) // 5)
    gain = fmean(values[-width:]) - fmean(values[-2 * width : -width])
    return (-gain if chosen.mode == "min" else gain) > _FLAT * (max(values) - min(values))


def _weak_classes(summary: Json) -> list[str]:
    """Return a sentence on each class that is rarely found, up to three, unless the whole training is weak."""
    table = section(summary, "per_class", "test") or section(summary, "per_class", "val")
    columns = zip(items(table, "classes"), items(table, "recall"), items(table, "support"), strict=False)
    known = [(clean(c), r, n) for c, recall, support in columns if (r := number(recall)) is not None
             and (n := number(support))]  # fmt: skip
    found: list[str] = []
    for name, recall, support in sorted(known, key=lambda row: row[1])[:3]:
        others = [row for row in known if row[0] != name]
        rare = any(support <= row[2] / 2 for row in others)
        sound = bool(others) and fmean(row[1] for row in others) >= _SOUND
        if recall < _WEAK and (rare or sound):
            found.append(f"Class “{name}” has a recall of {show(recall, 2)}: class weights or a focal loss may help.")
    return found
