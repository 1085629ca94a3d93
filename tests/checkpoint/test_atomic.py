import errno
import os

import pytest

from mnist_jax.checkpoint.atomic import replace_text, sync


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
