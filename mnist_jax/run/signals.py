"""Turns SIGINT and SIGTERM into a flag, so that a loop can save before it ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Holds the number of the signal that asked to stop, or 0."""

    signum: int = 0


@contextmanager
def catch_signals() -> Iterator[StopFlag]:
    """Catches SIGINT (Ctrl-C) and SIGTERM; a second signal ends the process at once.

    Python allows this in the main thread only; in other threads the flag stays 0.
    """
    flag = StopFlag()

    def handler(signum: int, frame: FrameType | None) -> None:
        if flag.signum:
            os._exit(128 + signum)
        flag.signum = signum

    try:
        previous = {
            signum: signal.signal(signum, handler)
            for signum in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread
        yield flag
        return
    try:
        yield flag
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)
