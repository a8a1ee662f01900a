"""The names of `import paceline`, whatever was imported before them."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

ORDERS = {
    "function first": "import paceline; f = paceline.train",
    "package first": "import paceline.train.config, paceline; f = paceline.train",
    "another name first": "import paceline; paceline.Trainer; f = paceline.train",
    "from-import": "import paceline.api.runs; from paceline import train as f",
}


@pytest.mark.parametrize("order", ORDERS)
def test_train_can_be_called_although_a_package_has_its_name(order: str) -> None:
    code = f"{ORDERS[order]}\ntry:\n f('no_such_task')\nexcept paceline.PacelineError as e:\n print(e.where, e.got)\n"
    code = "import paceline\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "task no_such_task"


@pytest.mark.fast
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_package_that_is_a_function_has_its_signature_and_help(name: str) -> None:
    import paceline
    from paceline.api import runs, using

    function = {"train": runs.train, "evaluate": using.evaluate}[name]
    face = getattr(paceline, name)
    assert inspect.signature(face) == inspect.signature(function)
    shown = " ".join(pydoc.render_doc(face, renderer=pydoc.plaintext).split())
    assert f"{name}{inspect.signature(function)}" in shown
    assert " ".join(inspect.getdoc(function).split()) in shown


def test_the_package_behind_the_function_is_still_there() -> None:
    code = "import paceline, paceline.train.loop as loop; print(callable(loop.loop))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, paceline; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.fast
def test_every_public_name_is_there() -> None:
    import paceline

    assert all(getattr(paceline, name) is not None for name in paceline.__all__)
