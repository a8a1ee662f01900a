"""The page: gathers the sections, renders the template, writes `report.html` in one step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.checkpoint.files import write_text_atomic
from paceline.report import classes, tables
from paceline.report.audit import SplitView, split_view
from paceline.report.ensembles import ensemble_table
from paceline.report.figures import Figure, learning_curves
from paceline.report.files import Json, RunFiles, items, read, section, sections
from paceline.report.headline import Headline, headline
from paceline.report.results import members_of, variant_names
from paceline.report.selection import selection
from paceline.report.series import history_of
from paceline.report.words import clean

Facts = list[tuple[str, str]]


def write(run_folder: Path) -> Path:
    """Write `report.html` into the run folder and return its path.

    Reads nothing but files of the folder; a missing one leaves its section out, with a note. The page is complete or
    absent at every instant: it is written under another name and renamed. Raises RunError for a broken folder.
    """
    folder = Path(run_folder)
    html = render(read(folder))
    target = folder / "report.html"
    write_text_atomic(target, html, durable=False)
    return target


def render(files: RunFiles) -> str:
    """Return the page for the files of a run."""
    # jinja2 is imported here: 30 ms that only a report needs.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page_of(files))


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    name: str
    headline: Headline
    metrics: tables.Table | None
    leading: str  # the variant that the metrics and the classes are of; empty where nothing was varied
    variants: tables.Table | None
    members: tables.Table | None
    ensembles: tables.Table | None
    curves: Figure | None
    selection: Figure | None
    has_classes: bool  # else the page has no sections on them
    confusion: tuple[Any, str, str] | None
    classes: tuple[tables.Table, str] | None
    split: SplitView | None
    plan: Facts
    cohorts: tables.Table | None
    config: str
    environment: Facts
    packages: Facts
    commands: list[tuple[str, str]]


def page_of(files: RunFiles) -> Page:
    """Gather the sections; None or an empty list where the folder does not have what a section needs."""
    members = members_of(files.summary)
    history = history_of(files, members)
    name = clean(files.summary.get("run") or files.folder)
    return Page(
        name=name,
        headline=headline(files),
        metrics=tables.metric_table(files.summary),
        leading=next(iter(variant_names(files.summary)), ""),
        variants=tables.variant_table(files.summary),
        members=tables.member_table(files.summary, members),
        ensembles=ensemble_table(files.summary),
        curves=learning_curves(history),
        selection=selection(history),
        has_classes=_has_classes(files),
        confusion=classes.confusion(files.summary),
        classes=classes.class_table(files.summary),
        split=split_view(files),
        plan=[*facts(files.plan, skip=("schema_version", "cohorts")), *_alone(files.plan)],
        cohorts=_cohorts(files.plan),
        config=files.config,
        environment=facts(files.environment, skip=("schema_version", "packages", "command", "config")),
        packages=facts(section(files.environment, "packages")),
        commands=_commands(files),
    )


def _has_classes(files: RunFiles) -> bool:
    """False for what is known not to be a classification."""
    known = bool(files.summary or files.splits)
    return not known or bool(files.summary.get("confusion") or items(files.splits, "classes"))


def facts(tree: Json, skip: tuple[str, ...] = ()) -> Facts:
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


def _alone(plan: Json) -> Facts:
    """Cohorts in one line, where each holds one member and all have the same engine."""
    cohorts = sections(plan, "cohorts")
    engines = {clean(cohort.get("engine")) for cohort in cohorts}
    if len(engines) != 1 or any(len(items(cohort, "members")) != 1 for cohort in cohorts):
        return []
    return [("engine", engines.pop()), ("cohorts", f"{len(cohorts):,}, one member each")]


def _cohorts(plan: Json) -> tables.Table | None:
    if _alone(plan):
        return None
    rows: list[list[tables.Cell]] = []
    for cohort in sections(plan, "cohorts"):
        names = [clean(name) for name in items(cohort, "members")]
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        rows.append([clean(cohort.get("id")), clean(cohort.get("engine")), f"{len(names):,}", listed])
    columns = [("cohort", "name"), ("engine", "text"), ("members", "number"), ("names", "why")]
    return tables.Table(columns=columns, rows=rows) if rows else None


def _commands(files: RunFiles) -> list[tuple[str, str]]:
    folder = files.folder
    typed = [clean(word) for word in items(files.environment, "command")]
    run, again = shlex.quote(f"runs/{clean(folder)}"), shlex.quote(f"{clean(folder)}-again")
    config = shlex.quote(f"runs/{clean(folder)}/config.yaml")
    use = "".join(f" --use {shlex.quote(clean(file.get('file')))}" for file in sections(files.environment, "use"))
    made = [("The command that made this run", shlex.join(typed))] if typed else []
    page = ("Write this page again", f"paceline report {run}")
    if files.summary.get("task") == "given":  # its parts came as Python objects: the command line cannot make them
        again = f"Trainer(...).resume({f'runs/{clean(folder)}'!r}, train, val)"
        return [*made, ("Go on after an interruption, bit for bit", again), page]
    return [
        *made,
        ("Train again from the recorded configuration", f"paceline train --config {config} --name {again}{use}"),
        ("Go on after an interruption, bit for bit", f"paceline resume {run}{use}"),
        ("Evaluate the chosen weights", f"paceline evaluate {run}{use}"),
        page,
    ]
