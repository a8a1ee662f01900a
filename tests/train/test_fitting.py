"""A saved state that lacks a part, has one more, or one of another shape is refused before the first step, by name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from paceline.errors import CheckpointMismatchError
from paceline.tasks import Classification
from paceline.train.fitting import check_form
from tests.contracts.arms import ARMS, Alone, normalised
from tests.contracts.tiny import Cohort, points

pytestmark = pytest.mark.fast

TASK = Classification(n_classes=3)
TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged": {"weight_average": {"name": "ema"}},
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
}
Path = tuple[Any, ...]


def stepped(kind: str, training: dict[str, Any]) -> Alone:
    """An engine after two steps, the first of them its best."""
    arm = ARMS[kind](normalised, TASK, points(10), **training)
    arm.step([5, 5], 0.01, 0)
    arm.engine.keep(arm.place)
    arm.step([10], 0.01, 1)
    return arm


def fresh(kind: str, training: dict[str, Any]) -> Alone:
    return ARMS[kind](normalised, TASK, points(10), **training)


def parts(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything in nested dicts."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from parts(value, (*path, key))


def without(state: dict[str, Any], path: Path) -> dict[str, Any]:
    changed = copy.deepcopy(state)
    at = changed
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return changed


def dotted(path: Path) -> str:
    return ".".join(str(key) for key in ("engine", *path))


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("kind", ARMS)
def test_every_part_of_an_engines_state_is_missed_by_name(kind, training):
    state = stepped(kind, TRAININGS[training]).engine.state_dict()
    fresh(kind, TRAININGS[training]).engine.load_state_dict(copy.deepcopy(state))  # whole, it fits
    missed = 0
    for path in parts(state):
        if path[:2] == ("optimizer", "state") and len(path) == 3:
            continue  # may be of a parameter that never had a gradient
        with pytest.raises(CheckpointMismatchError) as info:
            fresh(kind, TRAININGS[training]).engine.load_state_dict(without(state, path))
        named = [*info.value.missing, *info.value.changed, *info.value.extra]
        # one moment of a parameter, or a term of the meter, is told by what it no longer agrees with
        assert any(name.startswith(dotted(path)) or dotted(path[:-2]) in name for name in named), (path, named)
        missed += 1
    assert missed > 15


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("kind", ARMS)
def test_every_tensor_of_another_shape_or_type_is_named(kind, training):
    state = stepped(kind, TRAININGS[training]).engine.state_dict()
    tensors = [path for path in parts(state) if isinstance(_at(state, path), Tensor)]
    for path in tensors:
        if path[0] == "meter":  # sums of one member's losses, of any shape that adds up
            continue
        changed = copy.deepcopy(state)
        value = _at(changed, path)
        _at(changed, path[:-1])[path[-1]] = torch.zeros((*value.shape, 2))
        with pytest.raises(CheckpointMismatchError) as info:
            fresh(kind, TRAININGS[training]).engine.load_state_dict(changed)
        (named,) = info.value.changed
        assert named.startswith(dotted(path)) and "(" in named, named
    assert len(tensors) > 15


@pytest.mark.parametrize("kind", ARMS)
def test_what_an_engine_does_not_know_is_named(kind):
    state = stepped(kind, {}).engine.state_dict()
    for path in [(), ("best",), *((name,) for name in ("model", "parameters") if name in state)]:
        changed = copy.deepcopy(state)
        _at(changed, path)["more"] = torch.zeros(1)
        with pytest.raises(CheckpointMismatchError) as info:
            fresh(kind, {}).engine.load_state_dict(changed)
        assert info.value.extra == (dotted((*path, "more")),)


def test_settings_of_an_optimizer_that_changed_are_named_and_the_rate_is_not_one():
    state = stepped("eager", {}).engine.state_dict()
    changed = copy.deepcopy(state)
    changed["optimizer"]["param_groups"][0].update(lr=7.0, weight_decay=0.5)
    with pytest.raises(CheckpointMismatchError) as info:
        fresh("eager", {}).engine.load_state_dict(changed)
    assert info.value.changed == ("engine.optimizer.param_groups.0.weight_decay: 0.5, not 0.01",)
    del state["optimizer"]["param_groups"][0]["betas"]
    with pytest.raises(CheckpointMismatchError) as info:
        fresh("eager", {}).engine.load_state_dict(state)
    assert info.value.missing == ("engine.optimizer.param_groups.0.betas",)


@pytest.mark.parametrize(
    ("slots", "active"),
    [([0, 0], [True, True]), ([0, 2], [True, True]), ([0], [True, True]), ([0, 1], [True]), ([0, 1], [1.0, 2.0])],
)
def test_slots_that_members_cannot_have_are_refused(slots, active):
    state = stepped("cohort", {}).engine.state_dict() | {"slots": slots, "active": active}
    with pytest.raises(CheckpointMismatchError, match=r"engine\.(slots|active)"):
        fresh("cohort", {}).engine.load_state_dict(state)


def test_every_part_of_a_cohorts_own_state_is_missed_by_name(tmp_path):
    def make() -> Cohort:
        return Cohort(tmp_path / "store", points(20), normalised, TASK, schedule={"name": "plateau"})

    made = make()
    made.run()
    state = made.state.state_dict()
    listed = {name: state[name][0] for name in ("progress", "selectors", "schedules")}
    assert min(len(entries) for entries in listed.values()) >= 3
    for name, entries in listed.items():
        for key in entries:
            changed = copy.deepcopy(state)
            del changed[name][0][key]
            with pytest.raises(CheckpointMismatchError) as info:
                make().state.load_state_dict(changed)
            assert info.value.missing == (f"{name}.0.{key}",)
    for key in state:
        changed = {name: value for name, value in state.items() if name != key}
        with pytest.raises(CheckpointMismatchError) as info:
            make().state.load_state_dict(changed)
        assert info.value.missing == (key,)


def test_numbers_may_be_absent_and_lists_of_them_longer_but_kinds_may_not_change():
    check_form({"ema": 0.5, "last": [1.0, 2.0]}, {"ema": None, "last": []})
    check_form({"ema": None, "last": []}, {"ema": 0.5, "last": [1.0]})
    for saved, own in (("text", 1.0), ({}, None), (True, 1), (None, "text"), ([{}], [1.0]), (torch.zeros(1), 0.0)):
        with pytest.raises(CheckpointMismatchError):
            check_form({"a": saved}, {"a": own})


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree
