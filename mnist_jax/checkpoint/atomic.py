"""Writes files so that they are whole or absent, even after a crash or a kill."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Some network file systems refuse to sync a folder with these errors; ignoring that is
# safe, because they keep folders in order by themselves.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file, which becomes `path` if the block ends without an error.

    After an error it is removed. It is not synced to the disk, so a power cut may lose
    it: use it for files that can be made again.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        # Not by `tempfile`, whose files other users may not read.
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def replace_text(path: Path, text: str) -> None:
    """Writes a text file so that at any time the old or the new one is there, whole.

    That holds after a power cut too, because the file is synced to the disk.

    Raises:
      OSError: the new file cannot be written; the old one stays.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of files, is on the disk.

    Raises:
      OSError: it cannot be written to the disk.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # Windows cannot sync folders and need not
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NOT_FOR_FOLDERS):
            raise
    finally:
        os.close(descriptor)
