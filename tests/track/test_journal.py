"""The local record: every line once, whatever was written after the last checkpoint is kept aside."""

from __future__ import annotations

import json
import math

import pytest

from paceline.errors import RunError
from paceline.track.journal import Journal, read_journal, to_line
from paceline.types import Record

pytestmark = pytest.mark.fast


def record(step: int, split: str = "val", **values: object) -> Record:
    return Record(member="seed42", step=step, epoch=step // 3, split=split, values=values or {"loss": 0.5})


def written(folder, name="c.jsonl"):
    return (folder / name).read_text().splitlines()


def test_a_record_is_in_the_file_the_moment_it_is_written(tmp_path):
    journal = Journal(tmp_path, "c")
    journal.write(record(3))
    assert [row["step"] for row in read_journal(tmp_path / "c.jsonl")] == [3]
    journal.close()


def test_lines_after_the_saved_length_are_kept_aside_and_never_doubled(tmp_path):
    first = Journal(tmp_path, "c")
    first.write(record(3))
    saved = first.state_dict()
    first.write(record(6))
    first.write(record(9))
    first.close()

    second = Journal(tmp_path, "c")
    second.load_state_dict(saved)
    second.write(record(6))
    assert [row["step"] for row in read_journal(tmp_path / "c.jsonl")] == [3, 6]
    assert [json.loads(line)["step"] for line in written(tmp_path, "c.jsonl.tail")] == [6, 9]
    assert len(written(tmp_path, "c.timing.csv")) == 2
    assert len(written(tmp_path, "c.timing.csv.tail")) == 2
    second.close()


def test_tails_of_several_interruptions_add_up(tmp_path):
    saved = None
    for step in (3, 6, 9):
        journal = Journal(tmp_path, "c")
        if saved:
            journal.load_state_dict(saved)
        saved = saved or journal.state_dict()
        journal.write(record(step))
        journal.close()
    journal = Journal(tmp_path, "c")
    journal.restart()
    journal.close()
    assert written(tmp_path) == []
    assert [json.loads(line)["step"] for line in written(tmp_path, "c.jsonl.tail")] == [3, 6, 9]


def test_a_state_restored_at_its_own_end_leaves_no_tail(tmp_path):
    journal = Journal(tmp_path, "c")
    journal.write(record(3))
    journal.load_state_dict(journal.state_dict())
    journal.write(record(6))
    assert [row["step"] for row in read_journal(tmp_path / "c.jsonl")] == [3, 6]
    assert not (tmp_path / "c.jsonl.tail").exists()
    journal.close()


def test_lengths_count_bytes_and_not_characters(tmp_path):
    journal = Journal(tmp_path, "c")
    journal.write(Record(member="größe-seed1", step=1, epoch=0, split="val", values={"loss": 1.0}))
    saved = journal.state_dict()
    assert saved["records"] == (tmp_path / "c.jsonl").stat().st_size
    journal.write(record(2))
    journal.load_state_dict(saved)
    assert [row["member"] for row in read_journal(tmp_path / "c.jsonl")] == ["größe-seed1"]
    journal.close()


def test_a_log_that_lost_lines_is_an_error_and_not_filled_with_zeros(tmp_path):
    journal = Journal(tmp_path, "c")
    journal.write(record(3))
    saved = journal.state_dict()
    journal.close()
    (tmp_path / "c.jsonl").write_bytes(b"")
    again = Journal(tmp_path, "c")
    with pytest.raises(RunError, match="lost lines"):
        again.load_state_dict(saved)
    again.close()
    assert (tmp_path / "c.jsonl").read_bytes() == b""


def test_wall_times_are_apart_and_only_for_evaluations(tmp_path):
    journal = Journal(tmp_path, "c")
    for split in ("train", "val", "last", "best", "test"):
        journal.write(record(3, split))
    journal.close()
    assert len(written(tmp_path)) == 5
    (line,) = written(tmp_path, "c.timing.csv")
    member, step, epoch, seconds = line.split(",")
    assert (member, step, epoch) == ("seed42", "3", "1")
    assert 0 <= float(seconds) < 60
    assert "seconds" not in (tmp_path / "c.jsonl").read_text()


def test_wall_times_go_on_after_a_resume(tmp_path):
    first = Journal(tmp_path, "c")
    first.write(record(3))
    saved = first.state_dict()
    first.close()
    timing = tmp_path / "c.timing.csv"
    timing.write_text(timing.read_text().rpartition(",")[0] + ",99.500000\n")
    second = Journal(tmp_path, "c")
    second.load_state_dict({**saved, "timing": timing.stat().st_size})
    second.write(record(6))
    second.close()
    before, after = (float(line.rpartition(",")[2]) for line in written(tmp_path, "c.timing.csv"))
    assert before == 99.5
    assert 99.5 <= after < 160


def test_what_is_not_finite_becomes_null_in_lists_too():
    line = to_line(record(1, loss=math.nan, f1=[0.5, math.inf, [math.nan]], n=3))
    assert json.loads(line)["values"] == {"loss": None, "f1": [0.5, None, [None]], "n": 3}
    assert "NaN" not in line


def test_floats_survive_the_log_bit_for_bit(tmp_path):
    values = {"a": 0.1 + 0.2, "b": 1e-308, "c": 1 / 3, "d": 2.0**-1074}
    journal = Journal(tmp_path, "c")
    journal.write(record(1, **values))
    journal.close()
    (row,) = read_journal(tmp_path / "c.jsonl")
    assert row["values"] == values


def test_a_line_that_a_crash_cut_short_is_not_read(tmp_path):
    journal = Journal(tmp_path, "c")
    journal.write(record(3))
    journal.close()
    with (tmp_path / "c.jsonl").open("a") as file:
        file.write('{"member": "se')
    assert [row["step"] for row in read_journal(tmp_path / "c.jsonl")] == [3]
