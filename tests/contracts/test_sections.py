"""What every config section owes: frozen, strict about its keys, the same after YAML, importable without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from paceline.config import Section
from paceline.config.tree import to_yaml
from paceline.config.validate import keys, validate
from paceline.data.config import DataConfig, GivenData
from paceline.losses import LOSSES
from paceline.recipes.battery.config import MODELS as NETWORKS
from paceline.recipes.battery.cycles import Cycles
from paceline.recipes.battery.estimators import ESTIMATORS
from paceline.recipes.battery.lg_m50t import LgM50t
from paceline.recipes.battery.synthetic import BatterySynthetic
from paceline.recipes.pain.recipe import recipe
from paceline.run.config import RunConfig
from paceline.tasks.config import ClassificationConfig, RegressionConfig
from paceline.track.config import TRACKERS, TrackerConfig
from paceline.train.config import MembersConfig, NumericsConfig, TrainingConfig

SECTIONS: dict[str, tuple[type[Section], dict[str, object]]] = {
    **{name: (section, {"name": name}) for name, section in {**recipe.models, **LOSSES}.items()},
    **{f"battery {name}": (section, {"name": name}) for name, section in {**NETWORKS, **ESTIMATORS}.items()},
    "vowels": (recipe.data["vowels"], {"name": "vowels"}),
    "given": (GivenData, {"name": "given", "classes": ["a", "b"]}),
    "npz": (recipe.data["npz"], {"name": "npz", "path": "a.npz"}),
    "challenge": (recipe.data["challenge"], {"name": "challenge", "path": "a.csv", "where": {"set": ["a", 1]}}),
    "ts": (recipe.data["ts"], {"name": "ts", "path": "a.ts"}),
    "pain_synthetic": (recipe.data["pain_synthetic"], {"name": "pain_synthetic", "seed": 3}),
    "battery_synthetic": (BatterySynthetic, {"name": "battery_synthetic", "form": "sequences", "length": 3}),
    "cycles": (Cycles, {"path": "a.csv", "features": ["v"], "target": "soh", "group": "cell", "derived": ["mean"]}),
    "lg_m50t": (LgM50t, {"name": "lg_m50t", "path": "cells", "experiment": "2,2"}),
    **{name: (section, {}) for name, section in TRACKERS.items()},
    "classification": (ClassificationConfig, {"name": "pain"}),
    "regression": (RegressionConfig, {"name": "pain"}),
    "training": (TrainingConfig, {}),
    "members": (MembersConfig, {"vary": {"training.learning_rate": [1e-3, 1e-5]}, "seeds": 3}),
    "numerics": (NumericsConfig, {}),
}


@pytest.fixture(params=SECTIONS)
def case(request: pytest.FixtureRequest) -> tuple[type[Section], dict[str, object]]:
    return SECTIONS[request.param]


@pytest.mark.fast
def test_every_section_that_a_run_holds_is_in_this_suite():
    abstract = {DataConfig, TrackerConfig, RunConfig}
    tested = {section for section, _ in SECTIONS.values()}
    inner = {kind for section in tested for kind in _inner(section)}
    built_in = {kind for kind in _subclasses(Section) if kind.__module__.startswith("paceline.")}
    left = {kind.__name__ for kind in built_in - tested - inner - abstract if not kind.__subclasses__()}
    assert left <= {"GivenTask", "GivenModel", "GivenLoss"}  # of `Trainer`, no choice of a config


@pytest.mark.fast
def test_an_unknown_key_is_refused(case):
    """X8."""
    section, values = case
    with pytest.raises(ValidationError, match="Extra inputs"):
        section(**values, surprise=1)


@pytest.mark.fast
def test_a_section_is_frozen(case):
    section, values = case
    made = section(**values)
    name = next(iter(section.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, name, getattr(made, name))


@pytest.mark.fast
def test_a_section_is_the_same_after_yaml(case):
    section, values = case
    made = section(**values)
    tree = yaml.safe_load(to_yaml(made.model_dump(mode="json")))
    assert validate(section, tree) == made


@pytest.mark.fast
def test_every_key_of_a_section_is_listed_for_suggestions(case):
    section, values = case
    listed = set(keys(section))
    assert set(section(**values).model_dump()) <= listed


def test_configs_are_read_without_importing_torch():
    code = """
import sys
from paceline.config.compose import compose
from paceline.recipes.pain.recipe import recipe
from paceline.run.config import resolve
from paceline.run.recipe import conf_folders, options
config = resolve(compose(["task=pain", "model=gru"], options(recipe, ["pain"]), conf_folders(recipe, None)), recipe)
assert config.model.hidden_size == 256
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _inner(section: type[BaseModel]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {field.annotation} | _inner(field.annotation)
    return found


def _subclasses(kind: type) -> set[type]:
    return {found for child in kind.__subclasses__() for found in {child, *_subclasses(child)}}
