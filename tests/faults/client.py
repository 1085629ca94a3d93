"""Runs scripts as processes, with faults: kills, failing file operations, limits.

The processes are forked from a server that has imported everything, which takes a tenth
of the time that starting Python would take.

    with Server(folder) as server:
        done = server.run("train.py", "--workdir=somewhere", "--resume")
        assert (done.returncode, done.errors) == (0, "")
"""

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

FAULTS = Path(__file__).resolve().parent

# The modes of a fault: shim.c says what each does.
COUNT, KILL, TEAR, FAIL, FAIL_ON, SIGNAL, JUMP = range(7)


class Fault(NamedTuple):
    """A fault that hits a process at its `number`-th operation that changes `folder`.

    Only operations are counted that match the pattern `operation` (of `fnmatch`), which
    is compared with name and path, such as "mkdir checkpoints". `number` 0 means the
    start of the process. KILL comes `seconds` of processor time after that; JUMP moves
    the time of day forward by `seconds`.
    """

    folder: Path
    number: int = 0
    mode: int = COUNT
    error: int = 0  # an errno, or a signal
    seconds: float = 0.0
    log: Path | None = None  # gets a line for each operation that changes `folder`
    operation: str = "*"


class Done(NamedTuple):
    """The result of a process that has ended."""

    returncode: int  # as in `subprocess`: -9 if it was killed
    output: str
    errors: str
    memory: float  # the most it used, in MiB
    seconds: float  # of processor time


class Process:
    """A script that is running."""

    def __init__(self, server: "Server", pid: int, output: Path, errors: Path) -> None:
        self.pid = pid
        self.output, self.errors = output, errors  # files
        self._server = server

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def has_ended(self) -> bool:
        return "State:\tZ" in self._status()  # a zombie stays until `wait`

    def _status(self) -> str:
        return Path(f"/proc/{self.pid}/status").read_text()

    def wait_until_stopped(
        self, is_there: Callable[[], bool], timeout: float = 300
    ) -> None:
        """Waits until `is_there()` is true and the process is stopped, as by SIGSTOP.

        Raises:
          TimeoutError: that did not happen, or the process ended.
        """
        deadline = time.monotonic() + timeout
        while not (is_there() and "State:\tT" in self._status()):
            if time.monotonic() > deadline or self.has_ended():
                raise TimeoutError(f"{self.errors} and {self.output}: never stopped")
            time.sleep(0.01)

    def wait(self, timeout: float = 300) -> Done:
        """Waits until the process has ended.

        Raises:
          TimeoutError: it did not end in time, and was killed.
        """
        hung = False
        self._server.send({"wait": self.pid})
        if not self._server.has_answer(timeout):
            hung = True
            self.kill()
        answer = self._server.answer()
        if hung:
            raise TimeoutError(f"{self.errors} and {self.output}: {timeout} s")
        return Done(
            output=self.output.read_text("utf-8", "replace"),
            errors=self.errors.read_text("utf-8", "replace"),
            **answer,
        )


class Server:
    """A process that has imported everything, and forks for each script to run.

    Several scripts may run at once. What they print is kept in files in `folder`.
    """

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        """Starts it; `env` is added to the environment."""
        self._folder = folder
        self._numbers = itertools.count()
        preload = {}
        if (shim := compile_shim(folder)) is not None:
            preload = {"LD_PRELOAD": str(shim)}
        self.has_shim = bool(preload)
        self._process = subprocess.Popen(
            [sys.executable, str(FAULTS / "server.py")],
            env={
                **os.environ,
                "PYTHONPATH": str(FAULTS.parents[1]),
                "JAX_PLATFORMS": "cpu",
                # OpenBLAS must not start threads, because a fork would lose them.
                "OPENBLAS_NUM_THREADS": "1",
                **preload,
                **(env or {}),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.answer()  # it is ready

    def start(
        self,
        script: str,
        *arguments: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        input: Path | None = None,
        limits: dict[str, int] | None = None,
        fault: Fault | None = None,
    ) -> Process:
        """Starts a script.

        Args:
          script: file name in scripts/.
          arguments: the arguments of the command line.
          cwd: the current folder; by default the repository.
          env: variables to add to the environment. They come too late for modules that
            read them when they are imported.
          input: a file for the standard input, which is empty by default.
          limits: limits for `resource.setrlimit`, such as {"RLIMIT_FSIZE": 100_000}.
          fault: what shall happen to the process; only possible if `has_shim`.
        """
        number = next(self._numbers)
        output = self._folder / f"{number}.out"
        errors = self._folder / f"{number}.err"
        for file in (output, errors):
            file.touch()  # a test may look before the process has opened it
        order = {
            "script": script,
            "arguments": arguments,
            "cwd": cwd,
            "env": env or {},
            "input": input,
            "output": output,
            "errors": errors,
            "limits": limits or {},
            "fault": fault._asdict() if fault else None,
        }
        self.send({"start": order})
        return Process(self, self.answer(), output, errors)

    def run(self, script: str, *arguments: str, **options: Any) -> Done:
        """Runs a script to its end: see `start`."""
        return self.start(script, *arguments, **options).wait()

    def send(self, order: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order, default=str).encode() + b"\n")
        self._process.stdin.flush()

    def has_answer(self, timeout: float) -> bool:
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def answer(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)


def compile_shim(folder: Path) -> Path | None:
    """Compiles shim.c; returns None without Linux or without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    shim = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(shim)]
    done = subprocess.run(
        [*command, str(FAULTS / "shim.c"), "-ldl", "-lrt"], capture_output=True
    )
    return shim if done.returncode == 0 else None
