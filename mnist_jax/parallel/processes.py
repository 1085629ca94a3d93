"""Several processes of one run: how they meet, watch each other and leave.

JAX's coordination service, which runs in process 0, brings them together and does all
that training needs. But where they do not fit together it aborts with a stack trace,
it needs a minute and a half to notice that one is gone, and cannot say which, or why.
So before JAX starts they call the roll on the coordinator's address, each with what
must be the same in all; and the connections made for it stay open: an end of one
closes it, each says twice a second that it lives, and whoever fails says why.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import mnist_jax
from mnist_jax.errors import ConfigError, UserError

_MEET_SECONDS = 60.0  # for all processes to be there
_SILENT_SECONDS = 8.0  # after which a process counts as hanging
_TICK_SECONDS = 0.5
_LONGEST_LINE = 1 << 20  # bytes
_AGAIN = "start all again, with --resume"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


class Processes(NamedTuple):
    """How the processes of one run find each other.

    All None: as SLURM, Open MPI, Kubernetes or a TPU pod says.
    """

    coordinator_address: str | None  # HOST:PORT of the first, which listens there only
    num_processes: int | None
    process_id: int | None  # of this one, from 0


_watch: "_Watch | None" = None


def join(processes: Processes, same: Mapping[str, Any]) -> int:
    """Joins the other processes; to be called once, before JAX's devices are used.

    From then on the end of one ends them all, with one line that says which and why.

    The first process listens on the coordinator's address alone; on what
    `$JAX_COORDINATOR_BIND_ADDRESS` names in its place, where it is set.

    Args:
      processes: where to meet.
      same: name and JSON-able value of all that must be the same in them.

    Returns:
      How many processes there are.

    Raises:
      ConfigError: numbers or addresses that cannot be, or something is not the same.
      UserError: the processes did not meet.
    """
    global _watch
    import jax

    address, count, process_id, device_ids = _resolve(processes)
    listen_at = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or address
    if process_id == 0:
        peers = _gather(listen_at, count, same)
    else:
        peers = {0: _report_to(address, count, process_id, same)}
    _watch = _Watch(process_id, peers)
    # It would swallow SIGTERM, which is caught, and agreed on, in another way.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            address,
            count,
            process_id,
            device_ids,
            initialization_timeout=int(_MEET_SECONDS),
            coordinator_bind_address=listen_at,
        )
    except Exception as error:  # of several kinds, with traces of C++
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"process {process_id} could not join the others at {address}: {reason}"
        ) from error
    return count


def versions() -> dict[str, str]:
    """Of Python, of the packages that enter the result, and of this code, by file."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    found["python"] = platform.python_version()
    package = Path(mnist_jax.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[f"mnist_jax/{path.relative_to(package).as_posix()}"] = digest[:8]
    return found


def is_joined() -> bool:
    """Whether this process is one of several of a run."""
    return _watch is not None


def leave() -> None:
    """Returns when all processes have come here, and leaves JAX's service."""
    global _watch
    if _watch is not None:
        import jax

        _watch.finish()
        jax.distributed.shutdown()
        _watch = None


def fail(error: Exception, message: str, code: int) -> NoReturn:
    """Ends this process, and tells the others why, which then end too.

    Args:
      error: what went wrong. It may be that another process is gone, as then any
        call of JAX fails: the watch has a second to find that out first.
      message: one line; what `error` says.
      code: the exit code.
    """
    assert _watch is not None
    if not isinstance(error, UserError) or error.__cause__:
        time.sleep(2 * _TICK_SECONDS)  # the watch ends this process, if it knows why
    if not isinstance(error, UserError):
        traceback.print_exception(error)
    _watch.fail(message, code)


def _resolve(processes: Processes) -> tuple[str, int, int, Any]:
    """Where to meet, how many, which this one is, and its devices (None for all).

    Raises:
      ConfigError: that cannot be.
    """
    address, count, process_id = processes
    device_ids = None
    if address is None:
        from jax._src import clusters  # JAX asks it too, but does not say what it found

        address, count, process_id, device_ids = (
            clusters.ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, int(_MEET_SECONDS)
            )
        )
    if address is None or count is None or process_id is None:
        raise ConfigError(
            "--distributed: JAX finds no SLURM, Open MPI, Kubernetes or TPU pod here; "
            "give --coordinator_address, --num_processes and --process_id"
        )
    match = re.fullmatch(r"(\[[^\]\s]+\]|[^:\s]+):([0-9]{1,5})", address)
    if not match or not 0 < int(match[2]) < 1 << 16:
        raise ConfigError(
            f"--coordinator_address={address} must be HOST:PORT, as 127.0.0.1:1234"
        )
    if not 0 <= process_id < count:
        raise ConfigError(
            f"--process_id={process_id} must be from 0 to {count - 1}, as there are "
            f"--num_processes={count}"
        )
    return address, count, process_id, device_ids


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def _gather(
    address: str, count: int, same: Mapping[str, Any]
) -> dict[int, socket.socket]:
    """Process 0 calls the roll: returns its connections to all the others.

    Raises:
      ConfigError: they do not fit together; all of them are told.
      UserError: it cannot listen, or one did not come.
    """
    host, port = _host_and_port(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen on {address}: {_why_not(error)}") from error
    peers: dict[int, socket.socket] = {}
    all_found: list[socket.socket] = []
    deadline = time.monotonic() + _MEET_SECONDS
    problem: str | None = None
    with server:
        while len(all_found) < count - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                break
            try:
                hello = _read_line(peer, 5.0)
                found = _compare(hello, count, same, peers)
                peers[hello["process_id"]] = peer
                all_found.append(peer)
            except (OSError, ValueError, TypeError, KeyError):
                peer.close()  # whoever that was
                continue
            if found and not problem:  # those that are about to come are told as well
                problem, deadline = found, min(deadline, time.monotonic() + 2)
    missing = [str(i) for i in range(1, count) if i not in peers]
    late = None
    if missing and not problem:
        late = (
            f"of {count} processes, number {', '.join(missing)} did not come within "
            f"{_MEET_SECONDS:.0f} seconds"
        )
    for peer in all_found:
        _send(peer, {"problem": problem or late})
        if problem or late:
            peer.close()
    if problem:
        raise ConfigError(problem)
    if late:
        raise UserError(late)
    return peers


def _compare(
    hello: dict[str, Any],
    count: int,
    same: Mapping[str, Any],
    peers: Mapping[int, socket.socket],
) -> str | None:
    """What does not fit together in what a process said; None if all does."""
    process_id, others = hello["process_id"], hello["num_processes"]
    if others != count:
        return (
            f"process {process_id} has --num_processes={others}, but process 0 has "
            f"{count}"
        )
    if process_id == 0 or process_id in peers:
        return f"two processes have --process_id={process_id}"
    theirs = hello["same"]
    for name in [*same, *theirs]:
        # As JSON gives it back, which knows no tuples.
        own = json.loads(json.dumps(same.get(name), default=str))
        if theirs.get(name) != own:
            return (
                f"process {process_id} has {name} {theirs.get(name)}, but process 0 "
                f"has {own}: start all with the same command and the same versions"
            )
    return None


def _report_to(
    address: str, count: int, process_id: int, same: Mapping[str, Any]
) -> socket.socket:
    """Returns the connection to process 0, which has found all in order.

    Raises:
      ConfigError, UserError: it has not, or it does not answer.
    """
    deadline = time.monotonic() + _MEET_SECONDS
    hello = {"process_id": process_id, "num_processes": count, "same": dict(same)}
    reason = ""
    while time.monotonic() < deadline:
        try:
            peer = socket.create_connection(_host_and_port(address), timeout=5)
        except OSError as error:
            reason = _why_not(error)
        else:
            try:
                _send(peer, hello)
                answer = _read_line(peer, deadline - time.monotonic() + 5)
                problem = answer["problem"]
            except (OSError, ValueError, TypeError, KeyError):
                peer.close()
                reason = "what answers is no run that waits for its processes"
            else:
                if not problem:
                    return peer
                peer.close()
                raise ConfigError(problem)
        time.sleep(0.1)
    raise UserError(
        f"process 0 is not at {address}: {reason} ({_MEET_SECONDS:.0f} seconds long); "
        "start it, or correct --coordinator_address"
    )


def _why_not(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "the address is in use; name another port in --coordinator_address"
    if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
        return (
            "it is no address of this machine, where process 0 is; see README, "
            "'Scaling out'"
        )
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason)


def _send(peer: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it is gone, which reading from it will tell
        peer.sendall(json.dumps(message, default=str).encode() + b"\n")


def _read_line(peer: socket.socket, seconds: float) -> Any:
    """Reads a line of JSON; raises OSError or ValueError if there comes none."""
    peer.settimeout(max(0.01, seconds))
    # Without a buffer, as what comes after the line is for others to read.
    with peer.makefile("rb", buffering=0) as file:
        line = file.readline(_LONGEST_LINE)
    return json.loads(line)


class _Watch:
    """A thread that ends this process where another one has ended, or hangs.

    Process 0 is connected to all others, and they to it alone.
    """

    def __init__(self, process_id: int, peers: dict[int, socket.socket]) -> None:
        self._process_id = process_id
        self._peers = peers
        self._received = dict.fromkeys(peers, b"")  # of a line that is not yet whole
        self._silent = dict.fromkeys(peers, 0.0)  # seconds
        self._finished = dict.fromkeys(peers, False)
        self._is_finished = False  # this process has called `finish`
        self._all_finished = threading.Event()
        self._ending = threading.Lock()  # taken, for good, by who ends this process
        for peer in peers.values():
            peer.settimeout(1.0)  # of sending
        threading.Thread(target=self._run, daemon=True).start()

    def finish(self) -> None:
        """Returns when all processes have called it."""
        self._is_finished = True
        self._all_finished.wait()

    def fail(self, message: str, code: int) -> NoReturn:
        """Ends this process for an error of its own."""
        self._end(message, f"process {self._process_id} ended: {message}", code)

    def _run(self) -> None:
        before = time.monotonic()
        while not (self._is_finished and all(self._finished.values())):
            # Process 0 says so when all have: then nobody is needed any more.
            self._tell(finished=self._is_finished and self._process_id > 0)
            ready, _, _ = select.select([*self._peers.values()], [], [], _TICK_SECONDS)
            now = time.monotonic()
            # A pause of this process itself is no silence of the others.
            waited, before = min(now - before, 2 * _TICK_SECONDS), now
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
            _send(peer, message)

    def _end_for(self, reason: str) -> NoReturn:
        """Ends this process for that of another one."""
        self._end(reason, reason, 1)

    def _end(self, message: str, reason: str, code: int) -> NoReturn:
        self._ending.acquire()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        self._tell(failed=reason)
        if self._process_id == 0:
            # JAX's service ends with this process, and aborts those that are left.
            self._wait_for_ends(1.0)
        new_line = "\n" if sys.stderr.isatty() else ""  # below a progress bar
        os.write(2, f"{new_line}error: {message}\n".encode())
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
