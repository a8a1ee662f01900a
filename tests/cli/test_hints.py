"""What `train` prints below its tables: at most three hints, and where to look."""

from __future__ import annotations

import numpy as np


def test_a_class_that_is_missed_is_named_with_the_keys_that_may_help(cli, workdir):
    """A96."""
    rng = np.random.default_rng(0)
    y = np.array(["no_pain", "low_pain", "high_pain"])[np.repeat([0, 1, 2], [60, 30, 12])]
    x = rng.normal(size=(len(y), 6, 2)) + (y == "low_pain")[:, None, None]
    np.savez("toy.npz", X=x, y=y)
    done = cli(
        "train", "task=pain", "data=npz", "data.path=toy.npz", "model=gru", "model.hidden_size=4", "model.num_layers=1",
        "training.num_epochs=6", "training.learning_rate=0.03", "numerics.threads=1", "data.split.val_fraction=0.3",
        "tracking=tensorboard", "--name", "toy",
    )  # fmt: skip
    assert done.code == 0, done.err
    hints = " ".join(done.out.split("\n  ! ", 1)[1].split())
    assert 1 <= done.out.count("\n  ! ") <= 3
    assert "Class “high_pain” has a recall of 0.00" in hints
    assert "Try loss.class_weights=balanced or loss=focal." in hints
    assert "TensorBoard: tensorboard --logdir runs/toy/tensorboard\n" in done.out
    assert "loss.class_weights=balanced or loss=focal" in (workdir / "runs/toy/report.html").read_text()
