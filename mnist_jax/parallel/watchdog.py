"""Ends this process when another process of the run has ended or hangs.

JAX notices a lost process after a minute and a half, and says neither which nor why.
Here the end of a process closes its connections, which the others notice at once; each
process says twice a second that it is alive; and one that fails says why.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from mnist_jax.parallel.roll_call import send_message

TICK_SECONDS = 0.5  # between two signs of life
_SILENT_SECONDS = 8.0  # after so long a silence a process counts as hanging
_AGAIN = "start all again, with --resume"


class Watchdog:
    """A thread that watches the other processes.

    Process 0 is connected to all others; each of the others is connected to it only.

    Args:
      process_id: of this process.
      peers: the connections from `roll_call`, by the number of the process.
    """

    def __init__(self, process_id: int, peers: dict[int, socket.socket]) -> None:
        self._process_id = process_id
        self._peers = peers
        self._received = dict.fromkeys(peers, b"")  # the start of a message
        self._silent = dict.fromkeys(peers, 0.0)  # for how many seconds
        self._finished = dict.fromkeys(peers, False)
        self._is_finished = False  # this process has called `finish`
        self._all_finished = threading.Event()
        self._ending = threading.Lock()  # never released: one thread ends this
        for peer in peers.values():
            peer.settimeout(1.0)  # for sending
        _delay_aborts()
        threading.Thread(target=self._run, daemon=True).start()

    def finish(self) -> None:
        """Waits until all processes have called it."""
        self._is_finished = True
        self._all_finished.wait()

    def fail(self, message: str, code: int) -> NoReturn:
        """Ends this process because of its own error, and tells the others.

        Args:
          message: one line, for stderr.
          code: the exit code.
        """
        self._end(message, f"process {self._process_id} ended: {message}", code)

    def _run(self) -> None:
        before = time.monotonic()
        while not (self._is_finished and all(self._finished.values())):
            # Process 0 waits until all have finished before it says so itself: the
            # others may leave then.
            self._tell(finished=self._is_finished and self._process_id > 0)
            ready, _, _ = select.select([*self._peers.values()], [], [], TICK_SECONDS)
            now = time.monotonic()
            # If this process itself was paused, that is no silence of the others.
            waited, before = min(now - before, 2 * TICK_SECONDS), now
            for i, peer in self._peers.items():
                self._silent[i] += waited
                if peer in ready:
                    self._receive(i, peer)
                elif self._silent[i] > _SILENT_SECONDS:
                    self._end_for(
                        f"process {i} has not answered for {_SILENT_SECONDS:.0f} "
                        f"seconds: it hangs or is stopped; kill it, and {_AGAIN}"
                    )
        self._tell(finished=True)
        self._all_finished.set()

    def _receive(self, i: int, peer: socket.socket) -> None:
        try:
            received = peer.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._end_for(
                f"process {i} has ended without a word: it was killed, or crashed; "
                f"{_AGAIN}"
            )
        self._silent[i] = 0.0
        *lines, self._received[i] = (self._received[i] + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if reason := message.get("failed"):
                self._end_for(reason)
            self._finished[i] = message["finished"]

    def _tell(self, **message: Any) -> None:
        for peer in self._peers.values():
            send_message(peer, message)

    def _end_for(self, reason: str) -> NoReturn:
        """Ends this process because another one has ended or hangs."""
        self._end(reason, reason, 1)

    def _end(self, message: str, reason: str, code: int) -> NoReturn:
        """Ends this process with `message` on stderr; the others are told `reason`."""
        self._ending.acquire()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        self._tell(failed=reason)
        if self._process_id == 0:
            # JAX's service ends with this process and aborts those still running, so
            # they get a second to end by themselves.
            self._wait_for_ends(1.0)
        new_line = "\n" if os.isatty(2) else ""  # ends a progress bar's line
        with contextlib.suppress(OSError):  # there is no stderr, or its disk is full
            stderr = os.dup(2)
            # The line is the last, whatever JAX has to say of lost connections.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            time.sleep(0.01)  # what it is just writing comes before
            os.write(stderr, f"{new_line}error: {message}\n".encode())
        os._exit(code)

    def _wait_for_ends(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        open_ = set(self._peers.values())
        while open_ and (left := deadline - time.monotonic()) > 0:
            for peer in select.select([*open_], [], [], left)[0]:
                try:
                    ended = not peer.recv(65536)
                except OSError:
                    ended = True
                if ended:
                    open_.discard(peer)


def _delay_aborts() -> None:
    """Gives the watchdog time to end this process, where JAX would abort it.

    When process 0 ends, JAX aborts the others with a stack trace, and it is often there
    before Python is. C's `sleep` as the handler of SIGABRT, which is signal 6, makes
    an abort wait for six seconds.
    """
    if os.name == "posix":
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal.restype = ctypes.c_void_p
        libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
