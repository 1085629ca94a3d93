"""SIGINT and SIGTERM as a flag that a loop reads, so that it can save and leave."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Holds the number of the signal that asked to stop; 0 where none did."""

    signum: int = 0


@contextmanager
def catch_signals() -> Iterator[StopFlag]:
    """Catches SIGINT (Ctrl-C) and SIGTERM; a second one leaves at once.

    Only the main thread of a process can do this; elsewhere the flag stays 0.
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
