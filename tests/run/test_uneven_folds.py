"""Folds of different size in one cohort: the padded rows of a batch count nowhere, batch normalisation included."""

from __future__ import annotations

import numpy as np
import pytest

import paceline


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(23) % 3
    return paceline.dataset(x=rng.normal(size=(23, 6, 2)) + y[:, None, None], y=y)  # no lengths, and so no mask


def test_members_of_different_size_are_as_alone(data, tmp_path):
    small = ["model=conv_gru", "model.channels=[3]", "model.kernel_size=3", "model.hidden_size=3", "device=cpu"]
    small += ["training.num_epochs=2", "training.batch_size=5", "members.folds=3", "numerics.threads=1"]
    found = {}
    for engine in ("eager", "cohort"):
        wanted = [*small, f"training.engine={engine}", "training.compile=false"]
        run = paceline.train("pain", wanted, data=data, runs=tmp_path, name=engine)
        found[engine] = [run.history(member)["val_loss"] for member in run.members]
        sizes = {len(split["train"]) for split in run.read_json("splits.json")["splits"]}
    assert sizes == {15, 16}  # 15 are three full batches, 16 one more with four padded rows
    assert np.allclose(found["cohort"], found["eager"], rtol=1e-5)
