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
    it: use it for files that can be made again. A link stays, and what it leads to is
    replaced. A pipe or a device stays too, and is written at once.

    Raises:
      OSError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}")
    with _removed_after_errors(temporary):
        # Not by `tempfile`, whose files other users may not read.
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)


def replace_text(path: Path, text: str) -> None:
    """Writes a text file so that at any time the old or the new one is there, whole.

    That holds after a power cut too, because the file is synced to the disk.

    Raises:
      OSError: the new file cannot be written; the old one stays.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with _removed_after_errors(temporary):
        temporary.write_text(text)
        sync(temporary)
        temporary.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def _removed_after_errors(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


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
