"""Writes files that are whole or absent, whatever happens meanwhile."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Some network file systems refuse to sync a folder, and keep it in order anyway.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that becomes `path` if the block ends well, and else is removed.

    It is not synced to the disk, so a power cut may lose it. It is for files that can
    be made again.

    Raises:
      OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:  # not tempfile, which others may not read
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def replace_text(path: Path, text: str) -> None:
    """Writes a text file so that either the old one or the new one is there.

    That holds after a power cut too, because the file is synced to the disk.

    Raises:
      OSError: it cannot be written; the old one is left.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file's content, or the list of a folder's files, is on the disk.

    Raises:
      OSError: the disk reports that it is not.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # which can neither do it nor needs it
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NOT_FOR_FOLDERS):
            raise
    finally:
        os.close(descriptor)
