"""The documentation is code that happens to be read: its commands parse, its examples run, its names exist."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from typer.main import get_command
from typer.testing import CliRunner

import paceline
from paceline.api.runs import configure
from paceline.cli.app import app
from paceline.config import Section
from paceline.data.config import DataConfig, GivenData
from paceline.losses import LOSSES, CrossEntropyConfig, FocalConfig
from paceline.models.config import WindowsConfig
from paceline.recipes import BUILT_IN, find
from paceline.recipes.battery.cells import CellForm
from paceline.recipes.battery.config import MODELS as NETWORKS
from paceline.recipes.battery.estimators import ESTIMATORS
from paceline.run.amend import consequence
from paceline.run.config import PLAIN, RunConfig
from paceline.tasks.config import ClassificationConfig, DecisionConfig, RegressionConfig
from paceline.track.config import TRACKERS, TrackerConfig
from tests.docs.pages import PACKAGE, ROOT, Page, pages, rows

PAGES = pages()
README, TOUR, RECIPES, CONFIG, REQUIREMENTS = (
    Page(ROOT / name)
    for name in ("README.md", "docs/tour.md", "docs/recipes.md", "docs/config.md", "docs/requirements.md")
)
COMMANDS = [(page.name, command) for page in PAGES for command in page.commands()]


@pytest.fixture
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """`numerics.threads=auto` takes all cores: here one, as the examples are tiny and the machine is shared."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def run_command(command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "paceline", command
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    return result.output


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links():
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in Page(target).anchors(), f"{page.name} links to {link}"


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_compiles(page: Page) -> None:
    for block in page.blocks("python"):
        compile(block, page.name, "exec")
    assert {"py", "bash", "sh", "shell"}.isdisjoint(page.languages()), "write python or console, which are checked"


@pytest.mark.fast
@pytest.mark.parametrize("page", [README, TOUR], ids=lambda page: page.name)
def test_what_is_read_first_is_short(page: Page) -> None:
    lines = page.text.splitlines()
    assert len(lines) < 150
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_every_command_parses(page: str, command: str) -> None:
    words = shlex.split(command)
    if words[:2] == ["python3", "x.py"]:
        assert re.search(rf"^  {words[2]} ", runpy.run_path(str(ROOT / "x.py"))["HELP"], re.M), command
        return
    if words[:2] == ["pip", "install"]:
        assert words[2:] == ["."]
        return
    assert words[0] == "paceline", command
    parsed = parse(words[1:])
    overrides = parsed.get("overrides") or []
    if words[1] == "resume":
        assert all(consequence(text.partition("=")[0]) for text in overrides), command
    elif overrides and not parsed["use"]:
        configure(overrides=list(overrides))


def parse(arguments: list[str]) -> dict[str, object]:
    """What the command line makes of the arguments, without running the command."""
    group = get_command(app)
    name, *rest = arguments
    command = group.commands[name]
    return command.make_context(name, rest).params


@pytest.mark.fast
def test_the_library_example_of_the_readme_is_a_valid_run() -> None:
    calls = [
        node
        for block in README.blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "paceline.train"
    ]
    assert calls
    for call in calls:
        task, overrides = (ast.literal_eval(argument) for argument in call.args)
        config, _ = configure(task, overrides)
        assert config.members.seeds == (42, 43, 44, 45, 46)


@pytest.mark.usefixtures("_one_core")
def test_the_trainer_example_of_the_readme_learns(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [block for block in README.blocks("python") if "Trainer(" in block]
    Path("example.py").write_text(block, encoding="utf-8")
    names = runpy.run_path("example.py")
    printed = ast.literal_eval(capsys.readouterr().out)
    assert printed["mean"] < np.std(names["y"])


@pytest.mark.usefixtures("_one_core")
def test_the_recipe_that_the_readme_makes_trains_and_predicts(workdir: Path) -> None:
    np.savez("new.npz", x=np.zeros((3, 8)))
    commands = [command for command in README.commands() if "blobs" in command]
    outputs = [run_command(command) for command in commands]
    assert len(outputs) == 3
    assert "members.seeds=3 --name blobs" in outputs[0]  # `new` proposes the next command
    assert "Validation accuracy" in outputs[1]
    assert outputs[2].splitlines()[0] == "sample,prediction,p_a,p_b,p_c"
    assert len(outputs[2].splitlines()) == 4


@pytest.mark.usefixtures("_one_core")
def test_every_example_of_one_s_own_parts_runs(workdir: Path) -> None:
    for name, text in RECIPES.files().items():
        Path(name).write_text(text, encoding="utf-8")
    for command in RECIPES.commands():
        run_command(command)
    assert "seed42 8 val_accuracy" in Path("runs/tracked/values.txt").read_text()
    assert set(paceline.open_run("runs/quantiles").summary["metrics"]) == {"val_loss", "val_coverage", "val_mae"}
    runpy.run_path("stop_early.py")
    assert paceline.open_run("runs/stopped").members == ["seed42"]


@pytest.mark.usefixtures("_one_core")
def test_an_option_of_one_s_own_is_a_yaml_file(workdir: Path) -> None:
    Path("configs/model").mkdir(parents=True)
    Path("configs/model/wide.yaml").write_text("name: gru\nhidden_size: 512\n")
    Path("configs/training").mkdir()
    Path("configs/training/long.yaml").write_text("num_epochs: 99\n")
    config, _ = configure("pain", ["model=wide", "training=long"])
    assert (config.model.hidden_size, config.training.num_epochs) == (512, 99)


def leaves(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Every dotted key of a section with its default as JSON."""
    for name, field in section.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, key)
        else:
            yield key, "required" if field.is_required() else json.dumps(field.get_default(), default=list)


OF_PAIN = ("data=npz", "data=challenge", "data=ts", "data=pain_synthetic")
AS_GRU = ("lstm", "rnn")  # models with the keys of another


def documented_sections() -> dict[str, list[tuple[type[Section], str]]]:
    """Heading of `config.md` -> the sections it describes, each with its prefix."""
    recipe = find("pain")
    own = {f"model={name}": [(section, "model")] for name, section in recipe.models.items() if name not in AS_GRU}
    return {
        **{name: [(section, name)] for name, section in PLAIN.items()},
        "data": [(DataConfig, "data")],
        **{f"data={name}": [(recipe.data[name], "data")] for name in ("npz", "challenge", "ts", "pain_synthetic")},
        "data.form": [(CellForm, "data")],
        **{f"data={name}": [(section, "data")] for name, section in find("battery").data.items()},
        "data=given": [(GivenData, "data")],
        "task": [(ClassificationConfig, "task"), (RegressionConfig, "task")],
        "task.decision": [(DecisionConfig, "task.decision")],
        "loss=cross_entropy": [(CrossEntropyConfig, "loss")],
        "loss=focal": [(FocalConfig, "loss")],
        **{f"loss={name}": [(LOSSES[name], "loss")] for name in ("huber", "mape", "physics_informed", "quantile")},
        **own,
        **{f"model={name}": [(section, "model")] for name, section in NETWORKS.items()},
        **{f"model={name}": [(section, "model")] for name, section in ESTIMATORS.items()},
        "model.windows": [(WindowsConfig, "model.windows")],
        "tracking.<name>": [(TrackerConfig, "tracking.<name>")],
        **{f"tracking={name}": [(section, f"tracking.{name}")] for name, section in TRACKERS.items()},
    }


def documented(heading: str) -> dict[str, str]:
    table = rows(CONFIG.sections()[f"`{heading}`"])
    found = {key.strip("`"): default.strip("`") for key, default, *_ in table}
    assert len(found) == len(table), f"a key stands twice under {heading}"
    return found


@pytest.mark.fast
@pytest.mark.parametrize("heading", documented_sections())
def test_the_configuration_page_lists_every_key_with_its_default(heading: str) -> None:
    for section, prefix in documented_sections()[heading]:
        expected = dict(leaves(section, prefix))
        if heading.startswith("data="):  # what all sources share stands under `data`
            shared = dict(leaves(DataConfig, "data"))
            shared |= dict(leaves(CellForm, "data")) if heading not in ("data=given", *OF_PAIN) else {}
            expected = {key: value for key, value in expected.items() if shared.get(key) != value}
        if heading.startswith("model="):  # what all models share stands under `model.windows`
            expected = {key: value for key, value in expected.items() if not key.startswith("model.windows.")}
        if heading == "task":  # what only classification has stands under `task.decision`
            expected = {key: value for key, value in expected.items() if not key.startswith("task.decision.")}
        assert documented(heading) == expected


@pytest.mark.fast
def test_the_configuration_page_leaves_no_section_out() -> None:
    headings = {heading.strip("`") for heading in CONFIG.sections()}
    assert headings == {"run", *documented_sections()}
    plain = {name: json.dumps(RunConfig.model_fields[name].default) for name in documented("run")}
    assert documented("run") == plain
    assert set(RunConfig.model_fields) - set(plain) == {*PLAIN, "task", "model", "data", "loss", "tracking"}
    alike = {"mse", "mae"}  # no keys
    own = {f"loss={name}" for name in set(LOSSES) - alike}
    assert own <= set(documented_sections()), "a loss without a section on the page"
    assert set(BUILT_IN) == {"battery", "pain"}, "a recipe without its models on the page"
    for name in AS_GRU:
        gru, alike = ({**dict(leaves(find("pain").models[kind], "model")), "model.name": ""} for kind in ("gru", name))
        assert alike == gru
    # Sources without a section of their own on the page have no keys of their own.
    vowels, shared = (dict(leaves(s, "data")) for s in (find("pain").data["vowels"], DataConfig))
    assert {**vowels, "data.name": "required"} == shared


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_names_of_the_code_that_pages_mention_exist(page: Page) -> None:
    for name, _, inside in re.findall(r"`([\w/]+\.py)(::([\w.]+))?`", page.prose):
        path = next((base / name for base in (PACKAGE, ROOT, page.path.parent) if (base / name).is_file()), None)
        assert path is not None, f"{page.name} names {name}"
        assert not inside or inside in definitions(path), f"{page.name} names {inside} of {name}"


def definitions(path: Path) -> set[str]:
    """Functions, classes, methods and module constants of a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


IDS = re.compile(r"\b[ABCDEX]\d{1,3}\b")


def ids_named_by_tests() -> dict[str, str]:
    """Requirement -> a test that names it, in its docstring or in the id of a parameter."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            marks = [ast.unparse(decorator) for decorator in node.decorator_list]
            in_ids = [text for mark in marks for text in re.findall(r"id(?:s)?=([^)]*)", mark)]
            for text in [ast.get_docstring(node) or "", *in_ids]:
                found |= dict.fromkeys(IDS.findall(text), f"{path.relative_to(ROOT)}::{node.name}")
    return found


@pytest.mark.fast
def test_every_requirement_that_a_test_names_has_a_line_and_every_line_a_test() -> None:
    table = rows(REQUIREMENTS.text)
    lines, named = [row[0] for row in table], ids_named_by_tests()
    assert len(named) > 5, "the search finds nothing any more"
    assert {name: test for name, test in named.items() if name not in lines} == {}, "add to docs/requirements.md"
    assert [name for name in lines if name not in named] == [], "no test names these"
    assert len(set(lines)) == len(lines)
    assert all(len(row) == 2 and len(row[1]) > 20 for row in table)


@pytest.mark.fast
def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## (\d+\.\d+\.\d+)", text, re.M).group(1) == paceline.__version__
