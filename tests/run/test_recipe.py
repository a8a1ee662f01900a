"""What a recipe is made of: sections as classes, under names that can be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.errors import ConfigError
from paceline.run.use import load_extension

pytestmark = pytest.mark.fast

OWN = """import paceline

class Data(paceline.DataConfig):
    def load(self): pass

class Bare(paceline.DataConfig):
    pass

class Net(paceline.ModelConfig):
    def build(self, spec): pass

recipe = paceline.Recipe(name="r", {})
"""


@pytest.mark.parametrize(
    ("arguments", "what", "where"),
    [
        ("data=Data, models={'n': Net}", "`data` must be a dict", "own.py:12"),
        ("data={'d': Data()}, models={'n': Net}", "a section is made where its class is wanted", "own.py:12"),
        ("data={'d': Data(name='d')}, models={'n': Net}", "`data` holds an object instead of its", "own.py:12: d"),
        ("data={'d': Bare}, models={'n': Net}", "`data` holds a section without `load`", "own.py:12: d"),
        ("data={'d': Data}, models={'n': Data}", "`models` holds something other than a ModelConfig", "own.py:12: n"),
        ("data={'d': Data}, models={'n': Net}, losses=[]", "`losses` must be a dict", "own.py:12"),
        ("data={'d': Data}, models={'n': Net}, task=Net", "`task` holds something other than a Task", "own.py:12: r"),
        ("data={'d': Data}, models={'n': Net}, task=paceline.TaskConfig", "without `build`", "own.py:12: r"),
        ("data={'d': Data}, models={1: Net}", "letters, digits and underscores", "own.py:12: 1"),
    ],
)
def test_wrong_parts_are_named_with_their_line(workdir, arguments, what, where):
    path = Path("own.py")
    path.write_text(OWN.replace("{}", arguments))
    with pytest.raises(ConfigError) as caught:
        load_extension(path)
    assert what in caught.value.what
    assert caught.value.where == where
    assert len(str(caught.value).splitlines()) <= 4
