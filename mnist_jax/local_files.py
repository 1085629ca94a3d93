"""Paths as users give them, and one line for each file that cannot be written."""

import contextlib
import errno
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from mnist_jax.errors import ConfigError, UserError

STDOUT = "-"
HAS_LOCKS = sys.platform != "win32"  # and folders that can be opened

# Two letters or more, because C:/ is a drive of Windows. `Path` makes one slash of two.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

_STDOUT_FILES = (STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_WHERE = "docs/reliability-and-security.md, 'Paths and buckets'"


def is_url(path: str) -> bool:
    """Tells whether a path is a URL, such as gs://bucket/run."""
    return bool(_URL.match(path))


def local_path(path: str | os.PathLike[str], name: str = "") -> str:
    """Returns a path with the home folder in place of `~` or `~user`.

    Every path that a user gives goes through here: a shell leaves `--workdir=~/run` as
    it is.

    Args:
      path: as a user gave it.
      name: the flag or variable that gave it, such as "--workdir", for the message.

    Raises:
      ConfigError: it is a URL, such as gs://bucket/run; or there is no such user.
    """
    text = os.fspath(path)
    shown = f"{name}={text}" if name else repr(text)
    if is_url(text):
        raise ConfigError(
            f"{shown} is a URL: name a place on a local or mounted file system; see "
            f"{_WHERE}"
        )
    if text.startswith("./~"):  # a name that begins so; `Path` would take the ./ away
        return os.path.abspath(text)
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        user = re.split(r"[/\\]", text)[0][1:]
        what = f"no user {user!r}" if user else "no home folder: set HOME"
        raise ConfigError(f"{shown}: there is {what}; ./~ begins a name with ~")
    return expanded


def printable(text: str) -> str:
    """Escapes what would break a line or control the terminal, such as in a name."""
    composed = unicodedata.normalize("NFC", text)  # macOS separates accents
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in composed)


def split_folders(text: str) -> list[str]:
    """Returns the folders of a text that separates them by commas.

    A text that is the path of one folder is that folder, whose name may have commas.
    """
    is_one = os.path.isdir(os.path.expanduser(text))
    names = [text] if is_one else text.split(",")
    return [name.strip() for name in names if name.strip()]


def is_stdout(path: str) -> bool:
    """Tells whether a path means the standard output: "-" or /dev/stdout."""
    return path in _STDOUT_FILES


def is_stream(path: str) -> bool:
    """Tells whether a path is a pipe or a device, which cannot be replaced by a file.

    /dev/stderr and the like are, even if they lead to a file.
    """
    if is_stdout(path) or path.startswith(("/dev/", "/proc/")):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextlib.contextmanager
def writing(what: str, hint: str = "") -> Iterator[None]:
    """Turns an OSError of its block into one line.

    Args:
      what: is written, such as "--output=answers.csv".
      hint: what else can be done, such as "--nofigures leaves them out".

    Raises:
      UserError: in place of an OSError. One of a pipe that nobody reads is let through.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = explain_os_error(error) + (f"; {hint}" if hint else "")
        raise UserError(f"cannot write {what}: {reason}") from error


def check_can_write(folder: str | Path, what: str, hint: str = "") -> None:
    """Checks, before any work, that files can be written into a folder; makes none.

    Args:
      folder: need not be there, if it can be made.
      what: as for `writing`.
      hint: as for `writing`.

    Raises:
      UserError: it is no folder, or cannot be written.
    """
    place = Path(folder).absolute()
    with writing(what, hint):
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(_why_not(place), os.strerror(_why_not(place)))


def make_folder(folder: str | Path, what: str, hint: str = "") -> None:
    """Makes a folder, if it is not there, in which files can be written.

    Arguments and errors are those of `check_can_write`.
    """
    check_can_write(folder, what, hint)
    with writing(what, hint):
        os.makedirs(folder, exist_ok=True)


def _why_not(folder: Path) -> int:
    """Returns the errno of a folder that cannot be written."""
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
        return errno.EROFS
    return errno.EACCES


def explain_os_error(error: OSError) -> str:
    """Returns why a file could not be read or written and, if it is known, what to do.

    It does not say which file.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{reason}; make room there, or name another place"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{reason}; name a place that you may write to"
    return reason


def take_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Takes the lock of an open file or folder, which ends when that is closed.

    The operating system holds it, so that it ends with the process, even if that is
    killed. Windows has no such lock, and there it is always True: see `HAS_LOCKS`.

    Args:
      descriptor: of the open file or folder.
      shared: whether others may take it too, if all of them share it.

    Returns:
      False if another process has the lock.

    Raises:
      OSError: the file system has no locks.
    """
    if sys.platform != "win32":
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def is_locked(folder: str | Path) -> bool:
    """Tells whether a run holds the lock of its folder: see `run.workdir`."""
    if not HAS_LOCKS:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not take_lock(descriptor, shared=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
