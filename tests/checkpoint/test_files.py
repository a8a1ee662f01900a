from __future__ import annotations

import os
import threading

import pytest

from paceline.checkpoint.files import (
    make_folder,
    open_regular,
    remove_stale,
    replacing,
    write_bytes_atomic,
    write_text_atomic,
)
from paceline.errors import CheckpointError

pytestmark = pytest.mark.fast

DEAD = 2**22 + 1  # above the largest process id that Linux gives


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_and_nothing_else_stays(tmp_path, durable):
    path = tmp_path / "summary.json"
    write_bytes_atomic(path, b"old and longer", durable)
    write_text_atomic(path, "né\n", durable)
    assert path.read_bytes() == b"n\xc3\xa9\n"
    write_bytes_atomic(path, memoryview(b""), durable)
    assert path.read_bytes() == b"" and os.listdir(tmp_path) == ["summary.json"]


def test_a_new_file_has_the_permissions_that_open_would_give(tmp_path):
    write_bytes_atomic(tmp_path / "ours", b"")
    (tmp_path / "open").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "open").stat().st_mode


def test_an_error_inside_the_block_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail():
        with replacing(tmp_path / "a", needed=3) as descriptor:
            os.write(descriptor, b"new")
            raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        fail()
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_missing_folder_or_a_folder_in_the_way_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="No such file") as info:
        write_bytes_atomic(tmp_path / "absent" / "a", b"12345")
    assert "needs about 5 bytes" in str(info.value) and "bytes are free" in str(info.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="Is a directory"):
        write_bytes_atomic(tmp_path / "folder", b"")
    assert os.listdir(tmp_path) == ["folder"]


def test_threads_that_write_one_file_leave_one_whole_content(tmp_path):
    contents = [bytes([65 + i]) * 50_000 for i in range(4)]
    threads = [threading.Thread(target=write_bytes_atomic, args=(tmp_path / "a", data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() in contents and os.listdir(tmp_path) == ["a"]


def test_a_temporary_of_a_dead_process_with_our_id_is_stepped_over(tmp_path, monkeypatch):
    monkeypatch.setattr("paceline.checkpoint.files._counter", iter([5, 6]))
    (tmp_path / f".tmp-5-{os.getpid()}").write_text("theirs")
    write_bytes_atomic(tmp_path / "a", b"ours")
    assert (tmp_path / "a").read_bytes() == b"ours"


def test_stale_temporaries_go_and_everything_else_stays(tmp_path):
    stay = {f".tmp-0-{os.getpid()}", f".tmp-1-{os.getppid()}", f".tmp-x-{DEAD}", f"tmp-0-{DEAD}", ".tmp-notes"}
    for name in {*stay, f".tmp-0-{DEAD}", f".tmp-7-{10**30}"}:
        (tmp_path / name).write_text("")
    (tmp_path / f".tmp-step-3-{DEAD}" / "inner").mkdir(parents=True)
    remove_stale(tmp_path)
    assert set(os.listdir(tmp_path)) == stay
    remove_stale(tmp_path, own=True)
    assert set(os.listdir(tmp_path)) == stay - {f".tmp-0-{os.getpid()}"}
    remove_stale(tmp_path / "absent")


def test_folders_are_made_with_their_parents(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "b")


def test_pipes_folders_and_links_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link", follow=True) as file:
        assert file.read() == b"content"
    for name in ("pipe", "link", "."):
        with pytest.raises(OSError, match=r"plain file|symbolic links|directory"):
            open_regular(tmp_path / name, follow=False)
