"""A checker that finds calls which run code from data: pickles, eval, unsafe YAML, a shell."""

from __future__ import annotations

import ast

FORBIDDEN = {
    "builtins": {"eval", "exec"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "os": {"system", "popen"},
    "pandas": {"read_pickle"},
    "pickle": {"load", "loads", "Unpickler"},
    "shelve": {"open"},
    "yaml": {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"},
}
SAFE_YAML_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader", "yaml.CBaseLoader"}


def unsafe_calls(source: str) -> list[str]:
    """Return one line per unsafe call in the source text, with the name as imported resolved to where it comes from."""
    tree = ast.parse(source)
    names = imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (problem := judge(node, names)):
            found.append(f"line {node.lineno}: {problem}")
    return found


def judge(call: ast.Call, names: dict[str, str]) -> str | None:
    """Say why a call is unsafe, or None."""
    name = resolve(call.func, names)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    module, _, function = name.rpartition(".")
    if function in FORBIDDEN.get(module or "builtins", ()):
        return name
    if name == "torch.load" and not is_constant(given.get("weights_only"), True):
        return "torch.load without weights_only=True"
    if name in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader", call.args[1] if len(call.args) > 1 else None)
        return (
            None if loader is not None and resolve(loader, names) in SAFE_YAML_LOADERS else f"{name}, not a safe loader"
        )
    if name == "numpy.load" and ("allow_pickle" in given or len(call.args) > 2):
        return None if is_constant(given.get("allow_pickle"), False) else "numpy.load with allow_pickle"
    if name.startswith("subprocess.") and "shell" in given and not is_constant(given["shell"], False):
        return f"{name} through a shell"
    return None


def imported(tree: ast.Module) -> dict[str, str]:
    """Map each imported name to the dotted name that it stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def resolve(node: ast.expr, names: dict[str, str]) -> str:
    """Return the dotted name of an expression such as `np.load` as `numpy.load`, or "" for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (base := resolve(node.value, names)):
        return f"{base}.{node.attr}"
    return ""


def is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
