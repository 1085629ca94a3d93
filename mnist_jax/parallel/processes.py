"""Several processes of one run: how they join each other, and how they leave.

JAX's coordination service, which runs in process 0, does all that training needs. But
it aborts with a stack trace where the processes do not fit together, and it is slow to
notice that one has ended. So the processes first meet in `roll_call`, on the same
address, before JAX starts; and `watchdog` watches over the connections made there.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import mnist_jax
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.parallel.roll_call import MEET_SECONDS, answer_roll, call_roll
from mnist_jax.parallel.watchdog import TICK_SECONDS, Watchdog

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


class Processes(NamedTuple):
    """How the processes of one run find each other.

    Where all fields are None, SLURM, Open MPI, Kubernetes or the TPU pod is asked.
    """

    coordinator_address: str | None  # HOST:PORT of process 0, which listens there
    num_processes: int | None
    process_id: int | None  # of this process, from 0


_watchdog: Watchdog | None = None


def join(processes: Processes, same: Mapping[str, Any]) -> int:
    """Joins the other processes of the run.

    Call it once, before JAX's devices are used. From then on, when one process ends,
    all others end too, with one line that says which one ended and why.

    Process 0 listens on the coordinator's address, or on the address in
    `$JAX_COORDINATOR_BIND_ADDRESS` if that is set.

    Args:
      processes: where to meet.
      same: name and JSON-able value of everything that must be the same in all.

    Returns:
      The number of processes.

    Raises:
      ConfigError: an address or a number is invalid, or the processes differ in `same`.
      UserError: the processes did not meet.
    """
    global _watchdog
    import jax

    address, count, process_id, device_ids = _resolve(processes)
    listen_at = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or address
    if process_id == 0:
        peers = call_roll(listen_at, count, same)
    else:
        peers = {0: answer_roll(address, count, process_id, same)}
    _watchdog = Watchdog(process_id, peers)
    # JAX's preemption service would swallow SIGTERM, which training catches itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            address,
            count,
            process_id,
            device_ids,
            initialization_timeout=int(MEET_SECONDS),
            coordinator_bind_address=listen_at,
        )
    except Exception as error:  # several types, and messages with C++ stack traces
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"process {process_id} could not join the others at {address}: {reason}"
        ) from error
    return count


def code_versions() -> dict[str, str]:
    """Returns all versions that training's result may depend on.

    Returns:
      The version of Python and of each package that computes; and, for each file of
      this package, a digest of its content.
    """
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    found["python"] = platform.python_version()
    package = Path(mnist_jax.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[f"mnist_jax/{path.relative_to(package).as_posix()}"] = digest[:8]
    return found


def is_joined() -> bool:
    """Whether this process is one of several that share a run."""
    return _watchdog is not None


def leave() -> None:
    """Waits for all other processes to call it too, and then leaves them."""
    global _watchdog
    if _watchdog is not None:
        import jax

        _watchdog.finish()
        jax.distributed.shutdown()
        _watchdog = None


def fail(error: Exception, message: str, code: int) -> NoReturn:
    """Ends this process and tells the others why, so that they end too.

    Args:
      error: what went wrong.
      message: what `error` says, as one line.
      code: the exit code.
    """
    assert _watchdog is not None
    if not isinstance(error, UserError) or error.__cause__:
        # When another process ends, calls of JAX fail here. The watchdog gets time to
        # find that out: it then ends this process, and names the one that is to blame.
        time.sleep(2 * TICK_SECONDS)
    if not isinstance(error, UserError):
        traceback.print_exception(error)
    _watchdog.fail(message, code)


def _resolve(processes: Processes) -> tuple[str, int, int, Any]:
    """Fills in what is not given, and checks it.

    Returns:
      The address to meet at, the number of processes, the number of this one, and the
      ids of the devices that it may use (None for all).

    Raises:
      ConfigError: nothing was found, or it is invalid.
    """
    address, count, process_id = processes
    device_ids = None
    if address is None:
        from jax._src import clusters  # JAX uses it too, but hides what it found

        address, count, process_id, device_ids = (
            clusters.ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, int(MEET_SECONDS)
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
