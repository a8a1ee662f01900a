"""The import tiers, and a checker that reads every import of a source tree with `ast`.

An import must point to a lower tier or stay within its unit (`paceline.data`, `paceline.recipes.pain`,
`paceline.recipes.pain.compat`). Imports inside functions count. Imports under `if TYPE_CHECKING:` don't: no code runs
for them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "paceline"

# From the top down. `paceline` is the package's own __init__, the face that users import. `recipes` is one unit per
# recipe; `recipes.__init__` is the table of the built-in ones and stands just above them.
TIERS: tuple[frozenset[str], ...] = tuple(
    frozenset(row.split())
    for row in (
        "__main__",
        "cli worker",
        "paceline",
        "recipes.compat",
        "api",
        "recipes",
        "recipes.recipe",
        "report export",
        "hpo",
        "run",
        "launch",
        "train",
        "evaluate",
        "checkpoint tasks",
        "data losses metrics optim models track",
        "config",
        "types",
        "errors noise",
    )
)


def violations(root: Path) -> list[str]:
    """Return one line per import of the package at `root` that breaks the tiers, and per module without a tier."""
    modules = {dotted(path, root): path for path in sorted(root.rglob("*.py"))}
    found = []
    for name, path in modules.items():
        if tier(name) is None:
            found.append(f"{name}: has no tier")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        is_package = path.name == "__init__.py"
        for line, target in targets(tree, name, is_package, set(modules)):
            if problem := judge(name, target):
                found.append(f"{name}:{line} imports {target}: {problem}")
    return found


def judge(importer: str, target: str) -> str | None:
    """Say what is wrong with an import, or None."""
    here, there = tier(importer), tier(target)
    if there is None:
        return "has no tier"
    if unit(importer) == unit(target):
        return None
    assert here is not None
    if here == there:
        return "another unit of the same tier"
    return None if here < there else "a higher tier"


def unit(module: str) -> str:
    """Return the part of the package that a module belongs to: `data`, `recipes.pain`, `recipes.pain.compat`."""
    parts = module.split(".")[1:]
    if not parts:
        return PACKAGE
    if parts[0] != "recipes":
        return parts[0]
    return ".".join(parts[:3] if parts[2:3] == ["compat"] else parts[:2])


def tier(module: str) -> int | None:
    """Return the row of a module in TIERS (0 is the top), or None."""
    parts = unit(module).split(".")
    key = {1: parts[0], 2: "recipes.recipe", 3: "recipes.compat"}[len(parts)]
    return next((row for row, names in enumerate(TIERS) if key in names), None)


def dotted(path: Path, root: Path) -> str:
    """Return the module name of a file below `root`, which is the folder of the package."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join([PACKAGE, *parts])


def targets(tree: ast.Module, module: str, is_package: bool, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for each import of the package itself that runs, in functions too."""
    parent = module if is_package else module.rpartition(".")[0]
    is_lazy = any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
    for node in executed(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = from_names(node, parent, modules)
        elif isinstance(node, ast.Call):
            names = dynamic_names(node, parent)
        elif is_lazy and isinstance(node, ast.Constant) and node.value in modules - {PACKAGE}:
            names = [str(node.value)]  # a table of lazily imported modules (PEP 562)
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == PACKAGE)


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree without the bodies of `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from executed(other)
        else:
            yield from executed(child)


def from_names(node: ast.ImportFrom, parent: str, modules: set[str]) -> list[str]:
    """Return the modules that a `from` import loads: `a.b` where b is a module of a, else a."""
    base = node.module or ""
    if node.level:
        up = parent.split(".")[: len(parent.split(".")) - node.level + 1]
        base = ".".join([*up, base] if base else up)
    if base.split(".")[0] != PACKAGE:
        return []
    names = []
    for alias in node.names:
        if base == PACKAGE and alias.name.startswith("__"):
            continue  # `from paceline import __version__`: set in the package's __init__, which has run already
        full = f"{base}.{alias.name}"
        names.append(full if full in modules else base)
    return names


def dynamic_names(node: ast.Call, parent: str) -> list[str]:
    """Return the module that `import_module("...")` or `__import__("...")` with a literal name loads."""
    called = ast.unparse(node.func).rpartition(".")[2]
    first = node.args[0] if node.args else None
    if called not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
        return []
    name = str(first.value)
    return [parent + name if name.startswith(".") and not name.startswith("..") else name]
