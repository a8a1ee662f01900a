"""`Sample`, lists of them as columns, and the ways to divide them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paceline.errors import ConfigError, DataError
from paceline.recipes.battery.compat import (
    Sample,
    leave_one_cell_out,
    load_samples,
    loco_cv_splits,
    random_split,
    scale_features,
    stratified_temperature_split,
    temperature_split,
    temporal_split,
    write_example_cells,
)
from paceline.recipes.battery.compat.samples import columns_of

pytestmark = pytest.mark.fast

CELLS = {"A": 10, "B": 10, "C": 25.0, "D": 40, "E": "25"}


def aged(n: int = 6) -> list[Sample]:
    """`n` check-ups of five cells at three temperatures."""
    return [
        Sample(x=np.array([i, c], float), y=np.array([1 - 0.01 * i]), t=float(i), meta={"cell_id": cell,
               "temperature_C": CELLS[cell]})
        for c, cell in enumerate(CELLS) for i in range(n)
    ]  # fmt: skip


def ids(samples: list[Sample]) -> set[int]:
    return {id(sample) for sample in samples}


def test_a_sample_has_what_the_guide_reads():
    """C20: numbers, shapes, tensors and copies."""
    row = Sample(x=np.array([1.0, 2.0]), y=np.array([0.9]), meta={"cell_id": "A", "experiment_id": 5})
    assert (row.feature_dim, row.seq_len, row.t, row.mask) == (2, None, None, None)
    sequence = Sample(x=np.zeros((4, 3)), y=np.ones(4), t=np.arange(4), mask=np.array([1, 1, 1, 0]))
    assert (sequence.feature_dim, sequence.seq_len) == (3, 4)
    tensors = sequence.to_tensor()
    assert [v.dtype for v in (tensors.x, tensors.y, tensors.t, tensors.mask)] == [torch.float32] * 3 + [torch.bool]
    assert (tensors.feature_dim, tensors.seq_len) == (3, 4)
    moved = row.to_device("cpu")
    assert moved.x.device.type == "cpu" and moved.meta == row.meta and moved.meta is not row.meta
    copied = sequence.clone()
    copied.x[0] = 7
    assert sequence.x[0, 0] == 0


def test_temperatures_divide_samples_whatever_their_type():
    """C21: 25, 25.0 and "25" are one temperature, and no sample is in both lists."""
    samples = aged()
    train, val = temperature_split(samples, train_temps=[10.0, 40], val_temps=[25])
    assert {s.meta["cell_id"] for s in train} == {"A", "B", "D"}
    assert {s.meta["cell_id"] for s in val} == {"C", "E"}
    assert not ids(train) & ids(val)
    assert len(temperature_split(samples, [10], [25], [40])) == 3


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (([10, 40], [25, 40.0]), "two parts name the same temperature\nwhere: train_temps and val_temps\ngot: 40"),
        (([10], [30]), "no sample has this temperature\nwhere: val_temps\ngot: 30\ntry: .*10, 25, 40"),
        (([], [25]), "names no temperature\nwhere: train_temps"),
        (([10], [25], [25]), "where: val_temps and test_temps"),
    ],
)
def test_temperatures_that_overlap_or_are_nowhere_are_an_error(lists, said):
    """C21."""
    with pytest.raises(DataError, match=said):
        temperature_split(aged(), *lists)


def test_samples_without_a_temperature_are_named():
    samples = [*aged(1), Sample(x=[1.0], y=1.0, meta={"cell_id": "Z", "temperature": 25})]
    with pytest.raises(DataError, match=r"no temperature_C\nwhere: sample 5 \(cell_id Z.*\ntry: temperature "):
        temperature_split(samples, [10], [25])
    with pytest.raises(DataError, match="no samples to split"):
        random_split([])


@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_rows_stack_to_one_matrix(make):
    """C22."""
    samples = [Sample(x=make([1.0, 2.0, 3.0]), y=make([0.5])) for _ in range(4)]
    x, y = np.vstack([s.x for s in samples]), np.vstack([s.y for s in samples])
    assert (x.shape, y.shape) == ((4, samples[0].feature_dim), (4, 1))


THREE = {
    "temporal": temporal_split,
    "random": random_split,
    "stratified": stratified_temperature_split,
}


@pytest.mark.parametrize("name", THREE)
def test_three_parts_are_disjoint_and_cover_the_samples(name):
    """C23: and those that are drawn are drawn again by the same seed."""
    samples = aged(20)
    parts = THREE[name](samples, 0.7, 0.15)
    found = [ids(part) for part in parts]
    assert sum(map(len, found)) == len(samples) and set.union(*found) == ids(samples)
    assert [len(part) for part in parts] == [70, 15, 15]
    assert [ids(part) for part in THREE[name](samples, 0.7, 0.15)] == found
    if name != "temporal":
        assert [ids(part) for part in THREE[name](samples, 0.7, 0.15, seed=1)] != found


def test_time_runs_within_a_cell_and_temperatures_have_their_share():
    """C23."""
    samples = aged(20)
    train, val, test = temporal_split(samples)
    for cell in CELLS:
        last = [max(s.t for s in part if s.meta["cell_id"] == cell) for part in (train, val, test)]
        assert last == [13, 16, 19]
    shares = stratified_temperature_split(samples)
    assert [sum(s.meta["cell_id"] == "D" for s in part) for part in shares] == [14, 3, 3]
    with pytest.raises(DataError, match="no time"):
        temporal_split([Sample(x=[1.0], y=1.0, meta={"cell_id": "A"})])
    with pytest.raises(DataError, match="shares"):
        random_split(samples, 0.9, 0.5)


def test_every_cell_is_left_out_once():
    """C23."""
    samples = aged()
    others, own = leave_one_cell_out(samples, "C")
    assert {s.meta["cell_id"] for s in own} == {"C"} and len(others) + len(own) == len(samples)
    folds = loco_cv_splits(samples)
    assert [cell for cell, _, _ in folds] == list("ABCDE")
    assert all(ids(a) | ids(b) == ids(samples) and not ids(a) & ids(b) for _, a, b in folds)
    with pytest.raises(DataError, match="no sample has this group"):
        leave_one_cell_out(samples, "F")


def test_sequences_are_padded_and_masked():
    short = Sample(x=np.ones((2, 3)), y=np.array([[0.9], [0.8]]), t=np.array([0, 7]))
    long = Sample(x=np.ones((4, 3)), y=np.array([0.9, 0.8, 0.7, np.nan]), t=np.arange(4), mask=np.array([1, 1, 1, 0]))
    parts = columns_of({"train": [short], "val": [long]})
    assert {name: c.shape for name, c in parts["train"].items()} == {"x": (1, 4, 3), "y": (1, 4), "mask": (1, 4),
                                                                    "t": (1, 4)}  # fmt: skip
    assert parts["train"]["mask"].tolist() == [[True, True, False, False]]
    assert parts["val"]["y"][0].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.0])  # an excluded NaN is no NaN
    assert parts["val"]["mask"].dtype == bool and parts["val"]["x"].dtype == np.float32


GOOD = Sample(x=np.ones(3), y=0.9, meta={"cell_id": "A"})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Sample(x=np.array([1, np.nan, 1]), y=0.9, meta={"cell_id": "B"}),
         r"x is not finite\nwhere: sample 1 of train \(cell_id B\)\ngot: x\[1\]"),
        (Sample(x=np.ones(3), y=np.inf, meta={"temperature_C": 25}), r"y is not finite\nwhere: sample 1 of train"),
        (Sample(x=np.ones(2), y=0.9), r"form of the others\nwhere: sample 1 of train\ngot: shape \(2,\)"),
        (Sample(x=np.ones((2, 3)), y=0.9), "form of the others"),
        (Sample(x=np.array(["a"] * 3), y=0.9), "x must be numbers"),
        (Sample(x=np.ones(3), y=0.9, t=1.0), "others have none"),
        (Sample(x=np.ones(3), y=np.ones((2, 2))), "y does not fit its x"),
    ],
)  # fmt: skip
def test_a_sample_that_cannot_be_used_is_named(bad, said):
    """C17: by its index, and by what its meta says."""
    with pytest.raises(DataError, match=said):
        columns_of({"train": [GOOD, bad], "val": [GOOD]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y": np.ones(3)}, "y does not fit its x"),
        ({"t": np.arange(3)}, "t does not fit its x"),
        ({"mask": np.array([1, 0])}, "mask does not fit its x"),
        ({"mask": np.array([0, 1, 1, 1])}, "valid steps must come first"),
    ],
)
def test_a_sequence_that_does_not_fit_together_is_named(change, said):
    fields = {"x": np.ones((4, 2)), "y": np.ones(4), "t": np.arange(4), **change}
    with pytest.raises(DataError, match=said):
        columns_of({"train": [Sample(**fields)]})


def test_a_part_without_samples_is_an_error():
    """C18."""
    with pytest.raises(DataError, match="a part is empty\nwhere: val"):
        columns_of({"train": [GOOD], "val": []})
    with pytest.raises(DataError, match="a list of samples"):
        columns_of({"train": GOOD})


def test_features_are_scaled_by_the_training_samples_alone():
    """C24: what validates may lie anywhere, and the samples that were given stay as they are."""
    samples = aged()
    train, val = temperature_split(samples, [10, 40], [25])
    before = np.stack([s.x for s in train])
    first, second = scale_features(train, val)
    mean, std = before.mean(0), before.std(0)
    assert np.allclose([s.x for s in first], (before - mean) / std, atol=1e-6)
    assert np.allclose([s.x for s in second], ([s.x for s in val] - mean) / std, atol=1e-6)
    assert np.array_equal([s.x for s in train], before) and first[0].meta == train[0].meta


def test_the_recipe_s_data_are_there_as_samples(tmp_path):
    rows = load_samples("battery_synthetic", seed=1)
    assert {s.meta["temperature_C"] for s in rows} == {10.0, 25.0, 40.0}
    assert (rows[0].feature_dim, rows[0].seq_len, np.shape(rows[0].y), np.shape(rows[0].t)) == (6, None, (1,), ())
    cells = load_samples("battery_synthetic", form="sequences", seed=1)
    assert [s.meta["cell_id"] for s in cells] == list("ABCDEFGH")
    assert {s.seq_len for s in cells} == {len(s.y) for s in cells} and len({s.seq_len for s in cells}) > 1
    assert sum(s.seq_len for s in cells) == len(rows)
    files = load_samples("lg_m50t", path=str(write_example_cells(tmp_path / "lg", seed=1)))
    assert len(files) == len(rows) and files[0].feature_dim == 7
    assert [float(s.y[0]) for s in files] == pytest.approx([float(s.y[0]) for s in rows], abs=1e-6)
    with pytest.raises(ConfigError, match="try: battery_synthetic"):
        load_samples("battery_synthetc")
    with pytest.raises(ConfigError, match="unknown config key"):
        load_samples("battery_synthetic", sed=1)
