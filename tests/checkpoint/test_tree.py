from __future__ import annotations

import collections
import enum
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from paceline.checkpoint.tree import MAX_DEPTH, check, compact, count_bytes, equal
from paceline.errors import CheckpointError

pytestmark = pytest.mark.fast

Pair = collections.namedtuple("Pair", "a b")


class Colour(enum.IntEnum):
    red = 1


GOOD = {
    "tensor": torch.ones(2, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "plain": ["text", 1, -1.5, True, None, (), [], {}],
    7: {"nested": ({"deep": [torch.tensor(1)]},)},
    "large": 2**1000,
}


def _nested(depth):
    tree = 0
    for _ in range(depth):
        tree = [tree]
    return tree


def test_plain_values_and_tensors_pass():
    check(GOOD)
    check(_nested(MAX_DEPTH))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.ones(2), "numpy.ndarray"),
        (np.float64(1.0), "numpy.float64"),
        (np.str_("a"), "numpy.str_"),
        (np.int64(1), "numpy.int64"),
        (Path("a"), "Path"),
        (collections.defaultdict(list), "collections.defaultdict"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (Pair(1, 2), "Pair"),
        (torch.Size([1]), "torch.Size"),
        (Colour.red, "Colour"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (1j, "complex"),
        (torch.float32, "torch.dtype"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (torch.nn.Buffer(torch.ones(1)).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "meta"),
        (2**1024, "more than 1024 bits"),
        ({1.5: 0}, "key of type float"),
        ({None: 0}, "key of type NoneType"),
        ({True: 0}, "key of type bool"),
        ({(1, 2): 0}, "key of type tuple"),
        (_nested(MAX_DEPTH), "deeper than"),
    ],
)
def test_anything_else_is_refused_with_its_dotted_key_and_type(value, name):
    with pytest.raises(CheckpointError) as info:
        check({"fine": 1, "model": [0, {"layer": value}]})
    assert info.value.where.startswith("model.1.layer")
    assert name in info.value.what


def test_a_container_inside_itself_is_refused():
    tree = {}
    tree["self"] = [tree, tree]
    with pytest.raises(CheckpointError, match="nested deeper"):
        check(tree)


def test_the_root_is_named_too():
    with pytest.raises(CheckpointError, match="the whole state"):
        check(np.ones(1))


def _floats(bits):
    return torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)


def test_equal_trees_differ_nowhere():
    again = {
        "large": 2**1000,
        7: {"nested": ({"deep": [torch.tensor(1)]},)},
        "plain": ["text", 1, -1.5, True, None, (), [], {}],
        "parameter": torch.ones(2),
        "tensor": torch.ones(3, 2).t(),
    }
    assert equal(GOOD, again) == []
    assert equal(math.nan, math.nan) == [] and equal(torch.tensor(math.nan), torch.tensor(math.nan)) == []
    assert equal(torch.empty(0, 3), torch.empty(0, 3)) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (_floats([0x7FC00001]), _floats([0x7FC00002])),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.ones(2, 3), torch.ones(3, 2)),
        (torch.empty(0, 3), torch.empty(0, 2)),
        (torch.tensor([1.0]), [1.0]),
        (0.0, -0.0),
        (math.nan, struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]),
        (1, True),
        (1, 1.0),
        ((1,), [1]),
        ("a", "b"),
        (None, 0),
    ],
)
def test_every_differing_bit_or_type_is_found_at_its_path(a, b):
    assert equal({"x": [0, a]}, {"x": [0, b]}) == ["x.1"]
    assert equal({"x": [0, b]}, {"x": [0, a]}) == ["x.1"]
    assert equal(a, b) == ["(the whole state)"]


def test_missing_and_additional_entries_are_named():
    assert equal({"a": 1, "b": {"c": 2}}, {"b": {"d": 2}}) == ["a", "b.c", "b.d"]
    assert equal([1, 2, 3], [1, 5]) == ["1", "2"]


def test_compact_cuts_views_and_copies_nothing_else():
    stack = torch.randn(8, 100)
    tree = {"view": stack[3], "whole": stack, "turned": stack.t(), "list": (1, [stack[0, :1]]), "none": stack[:0]}
    small = compact(tree)
    assert equal(small, tree) == []
    assert small["view"].untyped_storage().nbytes() == 400
    assert small["whole"].data_ptr() == stack.data_ptr() == small["turned"].data_ptr()
    assert small["list"][1][0].untyped_storage().nbytes() == 4
    assert small["none"].untyped_storage().nbytes() == 0


def test_compact_drops_gradients():
    weight = torch.nn.Parameter(torch.ones(2))
    small = compact({"parameter": weight, "result": weight * 2})
    assert type(small["parameter"]) is torch.Tensor
    assert not small["parameter"].requires_grad and not small["result"].requires_grad
    assert small["parameter"].data_ptr() == weight.data_ptr()


def test_bytes_are_counted_over_all_tensors():
    assert count_bytes({"a": torch.ones(3), "b": [torch.ones(2, dtype=torch.float64), 5, "text"]}) == 12 + 16


def test_tensors_of_two_dtypes_on_one_storage_are_told_apart_for_writing():
    floats = torch.ones(4)
    small = compact({"floats": floats, "bits": floats.view(torch.int32)})
    assert small["floats"].data_ptr() == floats.data_ptr() != small["bits"].data_ptr()
    assert equal(small["bits"], floats.view(torch.int32)) == []
