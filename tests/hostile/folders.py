"""Payloads in run folders: links, pipes, names that are paths, files of another form."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from paceline.api.runs import resume
from paceline.api.using import evaluate, predict
from paceline.config.tree import flatten
from paceline.report import write
from paceline.report.leaderboard import leaderboard
from paceline.run.folder import open_run
from paceline.track.journal import Journal
from tests.hostile.material import Material
from tests.hostile.payloads import payload


def unfinished(folder: Path, material: Material) -> Path:
    return material.copy_run("eager", folder, finished=False)


def linked(run: Path, name: str, target: Path) -> Path:
    """Put a link in place of a file or folder of a run."""
    path = run / name
    path.rename(run.parent / "moved")
    path.symlink_to(target)
    return run


def _a_log_elsewhere(folder: Path, material: Material) -> Path:
    return linked(unfinished(folder, material), "logs/seed42.jsonl", material.outside / "log")


def _cut(folder: Path, material: Material) -> None:
    run = _a_log_elsewhere(folder, material)
    Journal(run / "logs", "seed42").load_state_dict({"records": 10, "timing": 10})


@payload("a log that is a link to a file elsewhere", naive=_cut, suffers="escaped")
def _log(folder: Path, material: Material) -> None:
    resume(_a_log_elsewhere(folder, material))


@payload("members that are a link to a folder elsewhere")
def _members(folder: Path, material: Material) -> None:
    resume(linked(unfinished(folder, material), "members", material.outside))


@payload("checkpoints that are a link to a folder elsewhere")
def _checkpoints(folder: Path, material: Material) -> None:
    resume(linked(unfinished(folder, material), "checkpoints/seed42", material.outside))


@payload("a config that is a link to a system's file")
def _config(folder: Path, material: Material) -> None:
    write(open_run(linked(unfinished(folder, material), "config.yaml", Path("/etc/passwd"))).path)


@payload("a link up, by a relative path")
def _relative(folder: Path, material: Material) -> None:
    evaluate(linked(material.copy_run("eager", folder), "splits.json", Path("../../../../../outside/log")))


@payload("a link to itself", harmless=True)
def _to_itself(folder: Path, material: Material) -> None:
    run = material.copy_run("eager", folder)
    (run / "summary.json").unlink()
    (run / "summary.json").symlink_to("summary.json")
    write(open_run(run).path)


@payload("a pipe in place of the summary")
def _pipe(folder: Path, material: Material) -> None:
    run = material.copy_run("eager", folder)
    (run / "summary.json").unlink()
    os.mkfifo(run / "summary.json")
    write(open_run(run).path)


@payload("a pipe in a run that is listed", harmless=True)
def _listed_pipe(folder: Path, material: Material) -> None:
    run = material.copy_run("eager", folder)
    (run / "splits.json").unlink()
    os.mkfifo(run / "splits.json")
    (entry,) = leaderboard(run.parent).groups[0].entries
    assert entry.status.startswith("damaged: something in the run is neither a file nor a folder")


def changed(run: Path, name: str, change: Callable[[Any], None]) -> Path:
    """Change one JSON file of a run."""
    tree = json.loads((run / name).read_text())
    change(tree)
    (run / name).write_text(json.dumps(tree))
    return run


def named(what: str, name: str) -> Callable[[Path, Material], None]:
    """Give a member or a cohort of the plan another name, and resume."""

    def use(folder: Path, material: Material) -> None:
        def change(tree: Any) -> None:
            if what == "member":
                tree["cohorts"][0]["members"] = [name]
            else:
                tree["cohorts"][0]["id"] = name

        resume(changed(unfinished(folder, material), "plan.json", change))

    return use


for _what in ("member", "cohort"):
    for _kind, _name in (
        ("with dots", "../../../outside/x"), ("absolute", "/outside-paceline"), ("with a zero byte", "seed42\0x"),
        ("of 300 letters", "x" * 300), ("with escapes", "\x1b[2Jx"), ("of two dots", ".."), ("empty", ""),
    ):  # fmt: skip
        payload(f"a {_what} with a name {_kind}")(named(_what, _name))


@payload("a summary nested 100,000 deep", naive=lambda f, m: json.loads("[" * 100_000), suffers="traceback")
def _deep(folder: Path, material: Material) -> None:
    run = material.copy_run("eager", folder)
    (run / "summary.json").write_text('{"metrics": ' + "[" * 100_000)
    write(run)


def text_in(name: str, text: str, act: Callable[[Path], object]) -> Callable[[Path, Material], None]:
    """Write a text in place of a file of a run, and use the run."""

    def use(folder: Path, material: Material) -> None:
        run = unfinished(folder, material) if act is resume else material.copy_run("eager", folder)
        (run / name).write_text(text)
        act(run)

    return use


PLAN = '{"cohorts": [{"id": "seed42", "members": ["seed42"]}], "device": "cpu", "threads": %s, "changes": []}'
for _kind, _file, _text, _act in (
    ("a key twice", "plan.json", PLAN.replace("}], ", '}], "threads": 1, ') % "1", resume),
    ("a number that is none", "plan.json", PLAN % "NaN", resume),
    ("a number of 5,000 digits", "plan.json", PLAN % ("9" * 5000), resume),
    ("a billion threads", "plan.json", PLAN % "1000000000", resume),
    ("a list in place of a plan", "plan.json", "[]", resume),
    ("a plan of plans", "plan.json", '{"cohorts": {"cohorts": []}}', evaluate),
    ("a number as the history", "members/seed42/history.json", '{"val_loss": 3}', lambda run: open_run(run).history()),
    ("a log of other lines", "logs/seed42.jsonl", "{}\n" * 500, resume),
    ("a log with a line of a million brackets", "logs/seed42.jsonl", "[" * 1_000_000 + "\n", resume),
    ("wall times that are texts", "logs/seed42.timing.csv", "seed42,3,1,abc\n" * 10, resume),
    ("an end of another form", "logs/seed42.done", '{"members": [{"id": 3}]}', resume),
    ("splits of strings", "splits.json", '{"schema_version": 1, "fingerprint": "x", "splits": ["a"]}', evaluate),
    ("a decision below zero", "members/seed42/decision.json", '{"n": -1, "temperature": null}', evaluate),
    ("a lineage of other things", "lineage.json", '{"schema_version": 1, "changes": [{"steps": 3}]}', resume),
):
    payload(f"{_kind} in {Path(_file).name}", harmless=_file.endswith("decision.json"))(text_in(_file, _text, _act))


def _evil_file(run: Path) -> None:
    (run / "evil.py").write_text("import os\nos.system('touch executed')\n")
    changed(run, "environment.json", lambda tree: tree.update(use=[{"file": "evil.py", "sha256": "0" * 64}]))


def _run_it(folder: Path, material: Material) -> None:
    run = unfinished(folder, material)
    _evil_file(run)
    runpy.run_path(str(run / "evil.py"))


@payload("a run that names its own --use file", naive=_run_it, suffers="executed")
def _use_file(folder: Path, material: Material) -> None:
    run = unfinished(folder, material)
    _evil_file(run)
    resume(run)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@payload("a billion laughs in overrides.yaml", naive=lambda f, m: json.dumps(yaml.safe_load(LAUGHS)),
         suffers="traceback slow")  # fmt: skip
def _laughs(folder: Path, material: Material) -> None:
    run = unfinished(folder, material)
    (run / "members" / "seed42" / "overrides.yaml").write_text(LAUGHS)
    resume(run)


@payload("overrides that contain themselves",
         naive=lambda f, m: list(flatten(yaml.safe_load("a: &a\n  b: *a\n"))), suffers="traceback")  # fmt: skip
def _circle(folder: Path, material: Material) -> None:
    run = unfinished(folder, material)
    (run / "members" / "seed42" / "overrides.yaml").write_text("a: &a\n  b: *a\n")
    resume(run)


@payload("a model of a trillion weights in best.pt's config")
def _large(folder: Path, material: Material) -> None:
    import torch

    from paceline.checkpoint.state import read_state

    run = material.copy_run("eager", folder)
    path = run / "members" / "seed42" / "best.pt"
    tree = read_state(path)
    tree["config"]["model"]["hidden_size"] = 10**6
    torch.save(tree, path)
    predict(run, material.folder / "data.npz")


@payload("a model of a trillion weights in config.yaml")
def _large_config(folder: Path, material: Material) -> None:
    run = unfinished(folder, material)
    for name in ("config.yaml", "environment.json"):
        path = run / name
        path.write_text(path.read_text().replace("hidden_size: 4", "hidden_size: 1000000")
                        .replace('"hidden_size": 4', '"hidden_size": 1000000'))  # fmt: skip
    resume(run)
