"""Regression trees as arrays, read from the text of LightGBM or from JSON, and what they predict. Needs only NumPy.

The text of a model may come from anyone, and LightGBM's own reader is C++ that trusts it. This one checks what it
reads: every branch leads to a later node, so that no walk is endless, and every number is finite.

Shapes: N samples, F features, M nodes of all trees, K trees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.reading import parse_json

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
KIND = "trees"
LEAF = -1
AT_ONCE = 2_000_000  # places of a walk that are held at once
PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")  # objectives whose sums are the prediction


@dataclass(frozen=True, kw_only=True, eq=False)
class Trees:
    """The sum over trees of the value of the leaf that a sample falls into, in order, divided by `divisor`.

    roots (K,): the nodes that the trees begin with. feature (M,): what a node splits by, -1 for a leaf. threshold (M,):
    a sample goes `left` up to it, else `right`, which are later nodes. value (M,): of leaves. single: compare features
    as float32.

    Raises ValueError for arrays that are no trees.
    """

    n_features: int
    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats
    divisor: float = 1.0
    single: bool = False

    def __post_init__(self) -> None:
        size = len(self.feature)
        columns = (self.threshold, self.left, self.right, self.value)
        own = np.arange(size)
        inner = self.feature != LEAF
        fine = size > 0 and all(column.shape == (size,) for column in columns)
        fine = fine and len(self.roots) > 0 and self.roots.min() >= 0 and bool(self.roots.max() < size)
        fine = fine and bool(((self.feature >= LEAF) & (self.feature < self.n_features)).all())
        for child in (self.left, self.right) if fine else ():
            fine = fine and bool(((child > own) & (child < size))[inner].all())
        fine = fine and bool(np.isfinite(self.value).all()) and bool(np.isfinite(self.threshold).all())
        if not fine or not math.isfinite(self.divisor) or self.divisor <= 0:
            raise ValueError("these are no trees")

    @cached_property
    def rounds(self) -> int:
        """The number of trees."""
        return len(self.roots)

    def predict(self, x: Any) -> Floats:
        """Return (N,) predictions for (N, F) finite features. Raises ValueError for another number of features."""
        x_NF = np.asarray(x)
        if x_NF.ndim != 2 or x_NF.shape[1] != self.n_features:
            raise ValueError(f"x has shape {x_NF.shape}, not (samples, {self.n_features})")
        x_NF = x_NF.astype(np.float32) if self.single else x_NF.astype(np.float64)
        found = np.zeros(len(x_NF))
        step = max(1, AT_ONCE // self.rounds)
        for begin in range(0, len(x_NF), step):
            for value_N in self._leaves(x_NF[begin : begin + step]):
                found[begin : begin + step] += value_N
        return found / self.divisor

    def _leaves(self, x_NF: NDArray[Any]) -> Floats:
        """Return the value (K, N) of the leaf of every tree."""
        at_KN = np.repeat(self.roots[:, None], len(x_NF), axis=1)
        rows_N = np.arange(len(x_NF))
        while True:
            feature_KN = self.feature[at_KN]
            inner_KN = feature_KN != LEAF
            if not inner_KN.any():
                return self.value[at_KN]
            left_KN = x_NF[rows_N, feature_KN] <= self.threshold[at_KN]
            at_KN = np.where(inner_KN, np.where(left_KN, self.left[at_KN], self.right[at_KN]), at_KN)

    def to_text(self) -> str:
        """Return JSON with every number to the last bit."""
        arrays = {name: getattr(self, name).tolist() for name in ("roots", *_COLUMNS)}
        plain = {"n_features": self.n_features, "divisor": self.divisor, "single": self.single}
        return json.dumps({"schema_version": 1, "kind": KIND, **plain, **arrays}, separators=(",", ":")) + "\n"


_COLUMNS = ("feature", "threshold", "left", "right", "value")


def from_json(text: str) -> Trees:
    """Read what `Trees.to_text` wrote. Raises ValueError for anything else."""
    content = parse_json(text)
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("schema_version") != 1:
        raise ValueError("this is no model of trees")
    whole = {name: _array(content.get(name), int) for name in ("roots", "feature", "left", "right")}
    numbers = {name: _array(content.get(name), float) for name in ("threshold", "value")}
    single, count = content.get("single"), content.get("n_features")
    if type(single) is not bool or type(count) is not int:
        raise ValueError("this is no model of trees")
    return Trees(n_features=count, divisor=_number(content.get("divisor")), single=single, **whole, **numbers)


def joined(trees: Sequence[Mapping[str, Sequence[float]]], n_features: int, **more: Any) -> Trees:
    """Put trees one after another; each has arrays of its nodes, the root first, numbered from 0."""
    sizes = np.cumsum([0, *(len(tree["feature"]) for tree in trees)])
    columns: dict[str, Any] = {}
    for name in _COLUMNS:
        kind = np.float64 if name in ("threshold", "value") else np.int64
        parts = [np.asarray(tree[name], dtype=kind) for tree in trees]
        if name in ("left", "right"):
            parts = [part + first for part, first in zip(parts, sizes, strict=False)]
        columns[name] = np.concatenate(parts)
    return Trees(n_features=n_features, roots=sizes[:-1].astype(np.int64), **columns, **more)


def from_lightgbm(text: str) -> Trees:
    """Read a model of LightGBM (`Booster.model_to_string`) that predicts a number from numbers.

    Raises ValueError for other models, and for text that is none.
    """
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    said = _lines(head)
    if not head.startswith("tree\n") or not blocks:
        raise ValueError("this is no model of LightGBM")
    objective = said.get("objective", "regression").split(" ")
    if said.get("num_class") != "1" or said.get("num_tree_per_iteration") != "1" or "average_output" in head:
        raise ValueError("the model does not predict one number")
    if objective[0] not in PLAIN or "sqrt" in objective:
        raise ValueError(f"the objective {' '.join(objective):.40} is not known here")
    return joined([_tree(_lines(block)) for block in blocks], n_features=int(said["max_feature_idx"]) + 1)


def _tree(said: Mapping[str, str]) -> dict[str, list[float]]:
    """Number the inner nodes first, as LightGBM does, then the leaves: a leaf is written as -1 - its number."""
    leaves = int(said["num_leaves"])
    inner = leaves - 1
    values = [float(word) for word in said["leaf_value"].split()]
    if said.get("num_cat") != "0" or said.get("is_linear", "0") != "0" or inner < 0 or len(values) != leaves:
        raise ValueError("a tree of another kind")
    words = {name: said.get(name, "").split() if inner else [] for name in _LIGHTGBM}
    if any(len(found) != inner for found in words.values()):
        raise ValueError("a tree lacks some of its nodes")
    if any(int(word) & 0b1 or int(word) >> 2 & 0b11 == 1 for word in words["decision_type"]):
        raise ValueError("a tree splits by categories, or takes zeros for missing")
    branches: dict[str, list[float]] = {
        name: [*(_place(int(word), inner) for word in words[f"{name}_child"]), *[0.0] * leaves]
        for name in ("left", "right")
    }
    return {
        "feature": [*map(int, words["split_feature"]), *[LEAF] * leaves],
        "threshold": [*map(float, words["threshold"]), *[0.0] * leaves],
        "value": [*[0.0] * inner, *values],
        **branches,
    }


def _place(child: int, inner: int) -> int:
    """The node of a child: leaves stand behind the inner nodes."""
    return child if child >= 0 else inner - 1 - child


_LIGHTGBM = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def _lines(block: str) -> dict[str, str]:
    return {key: value for key, sign, value in (line.partition("=") for line in block.split("\n")) if sign}


def _array(values: object, kind: type) -> NDArray[Any]:
    fine = isinstance(values, list) and all(type(value) in (int, kind) for value in values)
    if not fine:
        raise ValueError("this is no model of trees")
    return np.array(values, dtype=np.int64 if kind is int else np.float64)


def _number(value: object) -> float:
    if type(value) not in (int, float):
        raise ValueError("this is no model of trees")
    return float(value)  # type: ignore[arg-type]  # as was just seen
