"""Turns signals that ask to stop into a flag, so that a loop can save and end."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopFlag:
    """Holds the number of the signal that asked to stop, or 0."""

    signum: int = 0


@contextmanager
def catch_signals() -> Iterator[StopFlag]:
    """Catches SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal is gone).

    A second signal does at once what it would have done without this: most end the
    process. SIGHUP stays ignored where it is, as under `nohup`.

    Python allows this in the main thread only; in other threads the flag stays 0.
    """
    flag = StopFlag()

    def handler(signum: int, frame: FrameType | None) -> None:
        if not flag.signum:
            flag.signum = signum
            return
        signal.signal(signum, previous[signum])
        os.kill(os.getpid(), signum)

    caught = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    try:
        previous: dict[int, Any] = {
            signum: signal.signal(signum, handler) for signum in caught
        }
    except ValueError:  # not the main thread
        yield flag
        return
    try:
        yield flag
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)
