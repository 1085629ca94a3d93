import errno
import os
import threading

import pytest

from mnist_jax.checkpoint.atomic import atomic_file, replace_text, sync


def test_a_text_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    replace_text(path, "old")
    replace_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace_text(path, "never")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_file_system_may_be_unable_to_sync_folders(tmp_path, monkeypatch):
    (tmp_path / "file").touch()

    def fail(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        sync(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "absent")


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / ("x" * 240 + ".png")
    with atomic_file(path) as file:
        file.write(b"old")

    def fail():
        with atomic_file(path) as file:
            file.write(b"half of the new")
            file.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "target"
    link.symlink_to(target)
    with atomic_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list((tmp_path / "folder").iterdir()) == [target]


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with atomic_file(pipe) as file:
        file.write(b"new")
    reader.join()
    assert read == [b"new"]
    assert pipe.is_fifo()
