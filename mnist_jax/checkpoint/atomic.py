"""Files that are whole or not there, even after a power cut."""

import errno
import os
from pathlib import Path

# What some network file systems answer for a folder, which they keep in order anyway.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def replace_text(path: Path, text: str) -> None:
    """Writes a text file such that there is the old one or the new, whatever happens.

    Raises:
      OSError: it cannot be written; the old one is left.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Returns when a file's content, or the list of a folder's files, is on the disk.

    Raises:
      OSError: the disk says that it is not.
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
