"""The page of the battery group's interface: its signatures and defaults are those of the code, its examples run."""

from __future__ import annotations

import ast
import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

from paceline.recipes.battery import compat
from tests.docs.pages import ROOT, Page, rows

PAGE = Page(ROOT / "docs/battery.md")
SIGNATURES = "class DualTracker:"
Arguments = list[tuple[str, str, str | None]]


def written() -> dict[str, Arguments]:
    """`name` or `Class.method` -> its parameters as the page has them: name, kind, default."""
    (block,) = [block for block in PAGE.blocks("python") if SIGNATURES in block]
    found: dict[str, Arguments] = {}
    for node in ast.parse(block).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = arguments(node)
        elif isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
            found |= {f"{node.name}.{inner.name}": arguments(inner) for inner in methods}
    return found


def arguments(function: ast.FunctionDef) -> Arguments:
    args = function.args
    own = [a.arg for a in args.args if a.arg != "self"]
    plain = [None] * (len(own) - len(args.defaults)) + [ast.unparse(value) for value in args.defaults]
    found: Arguments = [(a, "POSITIONAL_OR_KEYWORD", default) for a, default in zip(own, plain, strict=True)]
    found += [(args.vararg.arg, "VAR_POSITIONAL", None)] if args.vararg else []
    named = [ast.unparse(value) if value else None for value in args.kw_defaults]
    found += [(a.arg, "KEYWORD_ONLY", default) for a, default in zip(args.kwonlyargs, named, strict=True)]
    return found + ([(args.kwarg.arg, "VAR_KEYWORD", None)] if args.kwarg else [])


def of_code(name: str) -> Arguments:
    owner, _, method = name.partition(".")
    thing: Any = getattr(compat, owner)
    parameters = inspect.signature(getattr(thing, method) if method else thing).parameters.values()
    return [(p.name, p.kind.name, default(p)) for p in parameters if p.name != "self"]


def default(parameter: inspect.Parameter) -> str | None:
    if parameter.default is parameter.empty:
        return None
    plain = parameter.default is None or isinstance(parameter.default, (str, int, float, tuple))
    return repr(parameter.default) if plain else "..."


@pytest.mark.fast
@pytest.mark.parametrize("name", sorted(written()))
def test_every_signature_on_the_page_is_that_of_the_code(name):
    assert written()[name] == of_code(name)


@pytest.mark.fast
def test_every_name_of_the_interface_is_on_the_page():
    names = {name.partition(".")[0] for name in written()}
    assert names == {name for name in compat.__all__ if name not in ("DEFAULTS", "OPTIONS")}


@pytest.mark.fast
def test_the_config_s_keys_are_listed_with_their_defaults():
    table = {key.strip("`"): default.strip("`") for key, default, _ in rows(PAGE.sections()["Config of the trainer"])}
    assert {key: ast.literal_eval(value) for key, value in table.items()} == {**compat.DEFAULTS, **compat.OPTIONS}


@pytest.mark.fast
def test_the_losses_parameters_are_listed_with_their_defaults():
    for loss, parameter, value, _ in rows(PAGE.sections()["Losses"]):
        names = compat.LossRegistry.list_available() if loss == "all" else [loss.strip("`")]
        for name in names:
            own = inspect.signature(compat.LossRegistry.get_class(name)).parameters
            assert repr(own[parameter.strip("`")].default) == value.strip("`")


@pytest.mark.fast
@pytest.mark.parametrize("page", ["tracking.md", "models.md", "troubleshooting.md"])
def test_the_pages_that_the_guide_links_to_exist(page):
    """C86."""
    assert len((ROOT / "docs" / page).read_text("utf-8")) > 1000


def test_the_examples_run_in_order(workdir, monkeypatch, capsys):
    """The page's own numbers are among what they print."""
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(compat.LossRegistry, "_added", {})
    Path("page.py").write_text("\n".join(block for block in PAGE.blocks("python") if SIGNATURES not in block), "utf-8")
    names = runpy.run_path("page.py")
    out = capsys.readouterr().out
    assert "RMSE: 0.0100\nMAE:  0.0100\nMAPE: 1.11%\nR²:   0.9400\n" in out
    assert Path("artifacts/runs", names["run_id"], "training/report.html").is_file()
