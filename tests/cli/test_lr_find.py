"""`paceline lr-find`: a table, the line to use, a picture where asked for."""

from __future__ import annotations

from tests.contracts.tiny import USE

FEW = ["training.batch_size=12", "model.dropout=0.0"]


def test_the_command_prints_the_line_to_use_and_writes_a_picture_where_asked(cli, workdir):
    """C81."""
    done = cli("lr-find", "task=blobs", "--use", str(USE), "--steps", "60", *FEW)
    assert done.code == 0, done.err
    assert "learning rate" in done.out and "use it: training.learning_rate=0." in done.out
    assert list(workdir.iterdir()) == []
    done = cli("lr-find", "task=blobs", "--use", str(USE), "--steps", "60", *FEW, "-o", "rates.png")
    assert (workdir / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert "picture: rates.png" in done.out
