"""The page: gathers the sections, renders the template, writes `report.html` in one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paceline.checkpoint.files import write_text_atomic
from paceline.errors import visible
from paceline.report import classes, reproduce, tables
from paceline.report.audit import SplitView, split_view
from paceline.report.calibration import calibration
from paceline.report.decided import decision_table
from paceline.report.ensembles import ensemble_table
from paceline.report.figures import Figure, learning_curves
from paceline.report.files import Json, RunFiles, items, read, section, sections
from paceline.report.groups import group_tables
from paceline.report.headline import Headline, headline
from paceline.report.predicted import predicted
from paceline.report.references import reference_table
from paceline.report.reproduce import Facts, facts
from paceline.report.residuals import residuals
from paceline.report.results import members_of, variant_names
from paceline.report.samples import SamplesView, hardest_samples
from paceline.report.selection import selection
from paceline.report.series import history_of
from paceline.report.template import render_page
from paceline.report.words import clean

_APART = (
    "schema_version",
    "packages",
    "command",
    "config",
    "changed",
    "scope",
)  # of the environment: elsewhere on the page

SECTIONS = (  # id, name, and what it is only there for
    ("metrics", "Metrics", ""),
    ("members", "Members", ""),
    ("curves", "Curves", ""),
    ("selection", "Selection", ""),
    ("confusion", "Confusion", "classes"),
    ("classes", "Classes", "classes"),
    ("calibration", "Calibration", "classes"),
    ("residuals", "Residuals", "numbers"),
    ("samples", "Samples", ""),
    ("split", "Split", ""),
    ("plan", "Plan", ""),
    ("config", "Config", ""),
    ("environment", "Environment", ""),
    ("reproduce", "Reproduce", ""),
)


def write(run_folder: Path) -> Path:
    """Write `report.html` into the run folder and return its path.

    Reads nothing but files of the folder; a missing one leaves its section out, with a note. The page is complete or
    absent at every instant: it is written under another name and renamed. Raises RunError for a broken folder.
    """
    folder = Path(run_folder)
    html = render(read(folder, predictions=True))
    target = folder / "report.html"
    write_text_atomic(target, html, durable=False)
    return target


def render(files: RunFiles) -> str:
    """Return the page for the files of a run."""
    return render_page("page.html", page_of(files))


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    name: str
    sections: list[tuple[str, str]]
    headline: Headline
    metrics: tables.Table | None
    leading: str  # the variant that the metrics and the classes are of; empty where nothing was varied
    variants: tables.Table | None
    references: tables.Table | None
    groups: list[tuple[str, tables.Table]]
    members: tables.Table | None
    ensembles: tables.Table | None
    decisions: tables.Table | None
    curves: Figure | None
    selection: Figure | None
    has_classes: bool  # else the page has a section on residuals instead of three on classes
    confusion: classes.ConfusionView | None
    classes: classes.ClassView | None
    calibration: Figure | None
    residuals: Figure | None
    samples: SamplesView | None
    split: SplitView | None
    plan: Facts
    cohorts: tables.Table | None
    changes: reproduce.ChangeView | None
    config: str
    environment: Facts
    packages: Facts
    ingredients: Facts
    commands: list[tuple[str, str]]


def page_of(files: RunFiles) -> Page:
    """Gather the sections; None or an empty list where the folder does not have what a section needs."""
    members = members_of(files.summary)
    history = history_of(files, members)
    name = clean(files.summary.get("run") or files.folder)
    found = predicted(files)
    has_classes = _has_classes(files)
    return Page(
        title=f"{name} · paceline report",
        name=name,
        sections=[(id, text) for id, text, of in SECTIONS if of in ("", "classes" if has_classes else "numbers")],
        headline=headline(files),
        metrics=tables.metric_table(files.summary),
        leading=next(iter(variant_names(files.summary)), ""),
        variants=tables.variant_table(files.summary),
        references=reference_table(files.summary),
        groups=group_tables(files.summary),
        members=tables.member_table(files.summary, members),
        ensembles=ensemble_table(files.summary),
        decisions=decision_table(files.summary),
        curves=learning_curves(history),
        selection=selection(history),
        has_classes=has_classes,
        confusion=classes.confusion(files.summary),
        classes=classes.class_view(files.summary, found),
        calibration=calibration(found),
        residuals=residuals(found),
        samples=hardest_samples(found),
        split=split_view(files),
        plan=[*facts(files.plan, skip=("schema_version", "cohorts")), *_alone(files.plan)],
        cohorts=_cohorts(files.plan),
        changes=reproduce.changes(files),
        config=visible(files.config),
        environment=facts(files.environment, skip=_APART),
        packages=facts(section(files.environment, "packages")),
        ingredients=[*reproduce.ingredients(files), *reproduce.amended(files)],
        commands=reproduce.commands(files),
    )


def _has_classes(files: RunFiles) -> bool:
    """False for what is known not to be a classification."""
    known = bool(files.summary or files.splits)
    return not known or bool(files.summary.get("confusion") or items(files.splits, "classes"))


def _alone(plan: Json) -> Facts:
    """Cohorts in a few words, where each holds one member and all are trained alike."""
    cohorts = sections(plan, "cohorts")
    kinds = {(clean(cohort.get("engine")), _step(cohort)) for cohort in cohorts}
    if len(kinds) != 1 or any(len(items(cohort, "members")) != 1 for cohort in cohorts):
        return []
    engine, step = kinds.pop()
    return [("engine", engine), ("step", step), ("cohorts", f"{len(cohorts):,}, one member each")]


def _step(cohort: Json) -> str:
    return "compiled" if cohort.get("compile") is True else "as it is"


def _cohorts(plan: Json) -> tables.Table | None:
    if _alone(plan):
        return None
    rows: list[list[tables.Cell]] = []
    for cohort in sections(plan, "cohorts"):
        names = [clean(name) for name in items(cohort, "members")]
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        rows.append([clean(cohort.get("id")), clean(cohort.get("engine")), _step(cohort), f"{len(names):,}", listed])
    columns = [("cohort", "name"), ("engine", "text"), ("step", "text"), ("members", "number"), ("names", "why")]
    return tables.Table(columns=columns, rows=rows, title="cohorts") if rows else None
