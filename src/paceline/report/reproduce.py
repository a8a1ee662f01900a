"""How a run was made and how to make it again: what differs from the defaults, seeds, versions, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paceline.report.files import Json, RunFiles, items, section, sections
from paceline.report.tables import Cell, Table, whole
from paceline.report.words import clean, count, finite, number, numbers, show

Facts = list[tuple[str, str]]
_LISTED = 12  # values of a list that are all shown


@dataclass(frozen=True, kw_only=True)
class ChangeView:
    """`table` is None where nothing differs; `lead` says what is shown."""

    lead: str
    table: Table | None


def changes(files: RunFiles) -> ChangeView | None:
    """The config values that are not the recipe's defaults; None where the run did not record them."""
    if "changed" not in files.environment:
        return None
    rows: list[list[Cell]] = [
        [clean(row.get("key")), typed(row.get("value")), typed(row["default"]) if "default" in row else show(None)]
        for row in sections(files.environment, "changed")
    ]
    task = clean(section(files.environment, "config", "task").get("name"))
    of = "paceline" if task == "given" else f"the recipe {task}"
    if not rows:
        return ChangeView(lead=f"Every value is a default of {of}.", table=None)
    columns = [("key", "name key-name"), ("this run", "value"), ("default", "value")]
    text = f"{count(len(rows), 'value')} {'differs' if len(rows) == 1 else 'differ'} from the defaults of {of}."
    return ChangeView(lead=text, table=Table(columns=columns, rows=rows, title="values that differ from the defaults"))


def typed(value: object) -> str:
    """A config value as it is typed on the command line; a long list is cut."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{clean(name)}: {typed(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        texts = [typed(item) for item in value]
        if len(texts) > _LISTED:
            texts = [*texts[:3], "…", texts[-1]]
            return f"[{', '.join(texts)}] ({len(value):,} values)"
        return f"[{', '.join(texts)}]"
    return clean(value) or '""'


def facts(tree: Json, skip: Sequence[str] = ()) -> Facts:
    """Names and values of a mapping as text; lists joined, nested mappings flattened."""
    rows: Facts = []
    for name, value in tree.items():
        if name in skip:
            continue
        words = clean(name).replace("_", " ")
        if isinstance(value, Mapping):
            rows += [(f"{words} {inner}", text) for inner, text in facts(value)]
        else:
            rows.append((words, _fact(value)))
    return rows


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = " ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        value = ", ".join(_fact(item) for item in value)
    return clean(value) or "none"


def ingredients(files: RunFiles) -> Facts:
    """What has to be the same for the same figures: seeds, splits, data, versions."""
    seeds = list(dict.fromkeys(finite(number(row.get("seed")) for row in sections(files.summary, "members"))))
    folds = {number(row.get("fold")) for row in sections(files.summary, "members")} - {None}
    found: Facts = [("seeds", _seeds(seeds))] if seeds else []
    found += [("folds", f"{len(folds):,}")] if folds else []
    split_seeds = sorted(set(finite(numbers([row.get("seed") for row in sections(files.splits, "splits")]))))
    found += [("split seed" if len(split_seeds) == 1 else "split seeds", _seeds(split_seeds))] if split_seeds else []
    fingerprint = clean(files.splits.get("fingerprint"))
    found += (
        [("data fingerprint", f"{fingerprint[:19]}…" if len(fingerprint) > 20 else fingerprint)] if fingerprint else []
    )
    found += [
        (name, clean(files.environment.get(name)))
        for name in ("paceline", "torch", "python")
        if files.environment.get(name)
    ]
    plan = [(name, clean(files.plan.get(name))) for name in ("device", "threads") if files.plan.get(name) is not None]
    return [*found, *plan]


def amended(files: RunFiles) -> Facts:
    """What was changed when the run was resumed, a line per resume: from which step on, and what."""
    found: Facts = []
    for change in sections(files.lineage, "changes"):
        steps = [f"step {_fact(step)} of {clean(cohort)}" for cohort, step in section(change, "steps").items()]
        more = f" and {len(steps) - 3} more cohorts" if len(steps) > 3 else ""
        where = f"from {', '.join(steps[:3])}{more}: " if steps else ""
        pairs = [*section(change, "config").items(), *section(change, "scope").items()]
        texts = [f"{clean(key)} {' → '.join(map(typed, pair))}" for key, pair in pairs if isinstance(pair, list)]
        texts += ["the data"] if change.get("data") else []
        inexact = " (inexact)" if set(section(change, "scope")) - {"processes"} else ""
        found.append(("changed on resume", where + ", ".join(texts) + inexact))
    return found


def _seeds(seeds: Sequence[float]) -> str:
    """`42`, `42, 7, 1`, `42 to 81`."""
    if len(seeds) > 2 and list(seeds) == [seeds[0] + k for k in range(len(seeds))]:
        return f"{whole(seeds[0])} to {whole(seeds[-1])}"
    shown = ", ".join(whole(seed) for seed in seeds[:_LISTED])
    return shown + (f" and {len(seeds) - _LISTED} more" if len(seeds) > _LISTED else "")


def commands(files: RunFiles) -> list[tuple[str, str]]:
    """What to type, and why, quoted for a shell."""
    folder = files.folder
    typed_then = [clean(word) for word in items(files.environment, "command")]
    run, again = shlex.quote(f"runs/{clean(folder)}"), shlex.quote(f"{clean(folder)}-again")
    config = shlex.quote(f"runs/{clean(folder)}/config.yaml")
    use = "".join(f" --use {shlex.quote(clean(file.get('file')))}" for file in sections(files.environment, "use"))
    made = [("The command that made this run", shlex.join(typed_then))] if typed_then else []
    page = ("Write this page again", f"paceline report {run}")
    if files.summary.get("task") == "given":  # its parts came as Python objects: the command line cannot make them
        again = f"Trainer(...).resume({f'runs/{clean(folder)}'!r}, train, val)"
        return [*made, ("Go on after an interruption, bit for bit", again), page]
    if files.summary.get("data") == "given":  # a data set in memory, which only Python has
        path = f"runs/{clean(folder)}"
        train = f"paceline.train(config={f'{path}/config.yaml'!r}, data=..., name={f'{clean(folder)}-again'!r})"
        return [
            *made,
            ("Train again from the recorded configuration", train),
            ("Go on after an interruption, bit for bit", f"paceline.resume({path!r}, data=...)"),
            ("Evaluate the chosen weights", f"paceline.evaluate({path!r}, data=...)"),
            page,
        ]
    return [
        *made,
        ("Train again from the recorded configuration", f"paceline train --config {config} --name {again}{use}"),
        ("Go on after an interruption, bit for bit", f"paceline resume {run}{use}"),
        ("Evaluate the chosen weights", f"paceline evaluate {run}{use}"),
        page,
    ]
