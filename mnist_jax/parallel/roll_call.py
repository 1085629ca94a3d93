"""The processes of a run meet: process 0 calls the roll, and the others answer.

Each process says its number and everything that must be the same in all of them. The
connections stay open afterwards, for `watchdog`. A message is a line of JSON.
"""

import contextlib
import errno
import json
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from mnist_jax.errors import ConfigError, UserError

MEET_SECONDS = 60.0  # how long a process waits for the others
_LONGEST_LINE = 1 << 20  # bytes


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def call_roll(
    address: str, count: int, same: Mapping[str, Any]
) -> dict[int, socket.socket]:
    """Waits, in process 0, until all other processes have connected and agree with it.

    Args:
      address: HOST:PORT to listen on.
      count: number of processes, this one included.
      same: name and JSON-able value of everything that must be the same.

    Returns:
      The open connection to each other process, by its number.

    Raises:
      ConfigError: the processes do not fit together; all of them are told.
      UserError: this one cannot listen, or another one did not come.
    """
    host, port = _host_and_port(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen on {address}: {_why_not(error)}") from error
    peers: dict[int, socket.socket] = {}
    all_found: list[socket.socket] = []
    deadline = time.monotonic() + MEET_SECONDS
    problem: str | None = None
    with server, _waiting() as bar:
        while len(all_found) < count - 1:
            missing = [str(i) for i in range(1, count) if i not in peers]
            _show_left(bar, f"process {', '.join(missing)} of {count}", deadline)
            server.settimeout(min(1.0, max(0.01, deadline - time.monotonic())))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue
                break
            try:
                hello = _read_message(peer, 5.0)
                found = _find_difference(hello, count, same, peers)
                peers[hello["process_id"]] = peer
                all_found.append(peer)
            except (OSError, ValueError, TypeError, KeyError):
                peer.close()  # a stranger, not one of the processes
                continue
            if found and not problem:  # two more seconds, to tell those still to come
                problem, deadline = found, min(deadline, time.monotonic() + 2)
    missing = [str(i) for i in range(1, count) if i not in peers]
    late = None
    if missing and not problem:
        late = (
            f"of {count} processes, number {', '.join(missing)} did not come within "
            f"{MEET_SECONDS:.0f} seconds"
        )
    for peer in all_found:
        send_message(peer, {"problem": problem or late})
        if problem or late:
            peer.close()
    if problem:
        raise ConfigError(problem)
    if late:
        raise UserError(late)
    return peers


@contextlib.contextmanager
def _waiting() -> Iterator[tqdm]:
    """Yields a line of a terminal for `_show_left`, and takes it away at the end."""
    with tqdm(bar_format="{desc}", leave=False, disable=None) as line:
        yield line


def _show_left(line: tqdm, what: str, deadline: float) -> None:
    """Shows what this process waits for, and how many seconds more."""
    left = max(0.0, deadline - time.monotonic())
    line.set_description_str(f"waiting for {what}, {left:.0f} s at most")


def _find_difference(
    hello: dict[str, Any],
    count: int,
    same: Mapping[str, Any],
    peers: Mapping[int, socket.socket],
) -> str | None:
    """Returns what a process said that does not fit this one; None if all of it does.

    Args:
      hello: the message of the process.
      count: as for `call_roll`.
      same: as for `call_roll`.
      peers: the processes that have been accepted, by their numbers.
    """
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
        # Through JSON as theirs was, which turns tuples into lists.
        own = json.loads(json.dumps(same.get(name), default=str))
        if theirs.get(name) != own:
            return (
                f"process {process_id} has {name} {theirs.get(name)}, but process 0 "
                f"has {own}: start all with the same command, versions and environment"
            )
    return None


def answer_roll(
    address: str, count: int, process_id: int, same: Mapping[str, Any]
) -> socket.socket:
    """Connects to process 0 and waits until it has found all processes to agree.

    Args:
      address: HOST:PORT of process 0.
      count: number of processes.
      process_id: of this process, from 1.
      same: as for `call_roll`.

    Returns:
      The open connection to process 0.

    Raises:
      ConfigError: the processes do not fit together.
      UserError: process 0 does not answer, or a process did not come.
    """
    deadline = time.monotonic() + MEET_SECONDS
    hello = {"process_id": process_id, "num_processes": count, "same": dict(same)}
    reason = ""
    with _waiting() as line:
        while time.monotonic() < deadline:
            _show_left(line, f"process 0 at {address}", deadline)
            try:
                peer = socket.create_connection(_host_and_port(address), timeout=5)
            except OSError as error:
                reason = _why_not(error)
            else:
                try:
                    send_message(peer, hello)
                    while not select.select([peer], [], [], 1.0)[0]:
                        _show_left(line, "the other processes", deadline)
                        if time.monotonic() > deadline + 5:
                            raise TimeoutError
                    answer = _read_message(peer, 5.0)
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
        f"process 0 is not at {address}: {reason} ({MEET_SECONDS:.0f} seconds long); "
        "start it, or correct --coordinator_address"
    )


def _why_not(error: OSError) -> str:
    """Returns why an address cannot be listened on or reached, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "the address is in use; name another port in --coordinator_address"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            "it is no address of this machine, where process 0 is; see "
            "docs/scaling-out.md"
        )
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    return error.strerror or str(error) or type(error).__name__


def send_message(peer: socket.socket, message: dict[str, Any]) -> None:
    """Sends a message; one to a process that has ended is dropped silently."""
    with contextlib.suppress(OSError):  # whoever reads from it will notice the end
        peer.sendall(json.dumps(message, default=str).encode() + b"\n")


def _read_message(peer: socket.socket, seconds: float) -> Any:
    """Reads one message; raises OSError or ValueError if none comes in time."""
    peer.settimeout(max(0.01, seconds))
    # No buffer: it would swallow later messages, which `watchdog` reads.
    with peer.makefile("rb", buffering=0) as file:
        line = file.readline(_LONGEST_LINE)
    return json.loads(line)
