"""Standard input, output and error, any of which may be missing, closed or full.

Python gives None for a stream that a shell has closed (`>&-`). Then `print` to stderr
goes to stdout, and the next file that is opened gets the stream's number, so that what
libraries print goes into it. A disk that is full or a terminal that is gone raises an
error in the middle of the work. Here a command gets streams that take everything.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from mnist_jax.errors import UserError
from mnist_jax.local_files import explain_os_error


class _Writer(io.RawIOBase):
    """Writes to a file descriptor; from the first error on, it drops what comes.

    Attributes:
      error: the first error, if there was one.
      raises: whether that error is raised, too.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None
        self.raises = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: bytes | memoryview, /) -> int:  # type: ignore[override]
        left = memoryview(content).cast("B")
        size = len(left)
        while left and self.error is None:
            try:
                left = left[os.write(self._descriptor, left) :]
            except OSError as error:
                self.error = error
                if self.raises:
                    raise
        return size


class Streams:
    """What has become of the standard streams of a command."""

    def __init__(self, stdout: _Writer | None, is_missing: bool) -> None:
        self._stdout, self._is_missing = stdout, is_missing

    def need_stdout(self) -> None:
        """Says that the command's result goes to stdout, and is lost with it.

        Raises:
          UserError: stdout is missing. Later errors are raised where they occur.
        """
        if self._is_missing:
            raise UserError("stdout is closed: redirect it to a file")
        if self._stdout:
            self._stdout.raises = True

    @property
    def stdout_error(self) -> OSError | None:
        """Why stdout has not taken all; None if it has."""
        return self._stdout.error if self._stdout else None


def describe_stdout_error(error: OSError) -> str:
    """Returns the error line for an error of `Streams.stdout_error`."""
    return f"cannot write to stdout: {explain_os_error(error)}"


def is_reader_gone(error: OSError) -> bool:
    """Whether stdout was a pipe whose reader, such as `head`, has seen enough."""
    return error.errno == errno.EPIPE


@contextlib.contextmanager
def open_streams() -> Iterator[Streams]:
    """Makes the standard streams safe for the length of its block.

    Characters that a stream's encoding lacks are written as backslash escapes. Streams
    that a host, such as a notebook, has put in the place of the process's own are left
    as they are.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    is_missing = _is_missing(sys.stdout)
    _fill_descriptors()
    if _is_missing(sys.stdin):
        sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.stdout, writer = _make_safe(sys.stdout, sys.__stdout__)
    sys.stderr, _ = _make_safe(sys.stderr, sys.__stderr__)
    try:
        yield Streams(writer, is_missing)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _is_missing(stream: TextIO | None) -> bool:
    return stream is None or stream.closed


def _fill_descriptors() -> None:
    """Opens the null device for each of 0, 1 and 2 that is not open."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _make_safe(
    stream: TextIO | None, own: TextIO | None
) -> tuple[TextIO, _Writer | None]:
    """Returns a stream in the place of one of this process's own, and its writer."""
    if stream is None or stream.closed:
        return open(os.devnull, "w", encoding="utf-8"), None
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream, None
    with contextlib.suppress(OSError):
        stream.flush()
    writer = _Writer(stream.fileno())
    unbuffered = stream.write_through  # by `python -u`
    safe = io.TextIOWrapper(
        writer if unbuffered else io.BufferedWriter(writer),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=unbuffered,
    )
    return safe, writer
