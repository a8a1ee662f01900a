"""The page of the group's interface: its signatures and defaults are those of the code."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest

from paceline.recipes.pain import compat
from tests.docs.pages import ROOT, Page, rows

PAGE = Page(ROOT / "docs/pain.md")

pytestmark = pytest.mark.fast


def written() -> dict[str, list[tuple[str, str, str | None]]]:
    """Function -> its parameters as the page has them: name, kind, default."""
    (block,) = [block for block in PAGE.blocks("python") if "def prepare_config" in block]
    nodes = ast.parse(block).body
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    classes = {node.name: node.body[0] for node in nodes if isinstance(node, ast.ClassDef)}
    return {**{f.name: arguments(f) for f in functions}, **{name: arguments(init) for name, init in classes.items()}}


def arguments(function: ast.FunctionDef) -> list[tuple[str, str, str | None]]:
    args = function.args
    plain = [None] * (len(args.args) - len(args.defaults)) + [ast.unparse(value) for value in args.defaults]
    found = [(a.arg, "POSITIONAL_OR_KEYWORD", default) for a, default in zip(args.args, plain, strict=True)]
    named = [ast.unparse(value) if value else None for value in args.kw_defaults]
    found += [(a.arg, "KEYWORD_ONLY", default) for a, default in zip(args.kwonlyargs, named, strict=True)]
    return found + ([(args.kwarg.arg, "VAR_KEYWORD", None)] if args.kwarg else [])


def of_code(name: str) -> list[tuple[str, str, str | None]]:
    thing = getattr(compat, name)
    parameters = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing).parameters.values()
    constants = {id(compat.GRID): "GRID", id(compat.MAX_SWEEP_RUNS): "MAX_SWEEP_RUNS"}
    return [
        (p.name, p.kind.name, None if p.default is p.empty else constants.get(id(p.default), repr(p.default)))
        for p in parameters
    ]


@pytest.mark.parametrize("name", sorted({name for name in compat.__all__ if callable(getattr(compat, name))}))
def test_every_signature_is_on_the_page_as_it_is_in_the_code(name):
    if name != "Result":
        assert written()[name] == of_code(name)


def test_the_keys_beyond_the_guide_s_are_listed_with_their_defaults():
    table = {key.strip("`"): default.strip("`") for key, default, _ in rows(PAGE.sections()["Keys beyond the guide's"])}
    assert table.pop("data") == "not there"
    assert {key: ast.literal_eval(default) for key, default in table.items()} == compat.OPTIONS


def test_the_entries_of_the_best_state_are_listed(tmp_path):
    rng, y = np.random.default_rng(0), np.arange(24) % 2
    settings = {"epochs": 1, "hidden_size": 2, "tensorboard": False, "save_data_split": True}
    state = compat.run_experiment(
        compat.prepare_config("run", settings), rng.normal(size=(24, 2, 1)), y, feature_names=["a"], runs=tmp_path
    ).best_state
    listed = [row[0] for row in rows(PAGE.sections()["What a training gives back"])]
    assert sorted(", ".join(listed).replace("`", "").split(", ")) == sorted(state)
