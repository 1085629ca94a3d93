"""Which devices run the program, and where compiled programs are kept."""

import contextlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import jax

from mnist_jax.datasets.cache_folder import cache_dir
from mnist_jax.errors import UserError
from mnist_jax.parallel.shards import spread


@contextlib.contextmanager
def _thread_pool_of(num_shards: int) -> Iterator[None]:
    """Fixes the size of the CPU backend's thread pool, while that backend is made.

    XLA splits the longest sums of matrix products by the number of its threads, so it
    enters the last digits. By itself it takes as many as cores, and at least as many as
    devices; for shards it shall be the same wherever they are. More threads than cores
    cost time. The variable is XLA's (`DefaultThreadPoolSize` in its source).
    """
    if num_shards == 1 or "NPROC" in os.environ:
        yield
        return
    os.environ["NPROC"] = str(num_shards)
    try:
        yield
    finally:
        del os.environ["NPROC"]


def set_up(
    device: str | None = None,
    *,
    num_seeds: int = 1,
    num_shards: int = 1,
    num_cpu_devices: int | None = None,
    num_processes: int = 1,
) -> None:
    """Chooses the backend and turns on the persistent compilation cache.

    To be called once, before any other use of JAX's devices, and after
    `processes.join`. The cache lies in
    `$JAX_COMPILATION_CACHE_DIR`, else in this project's cache folder; setting that
    variable to nothing turns it off.

    Args:
      device: "cpu", "gpu" or "tpu"; None takes the best there is.
      num_seeds: how many models will train at once. On the CPU, so many devices are
        made of its cores that each trains as many of them.
      num_shards: into how many shards a batch is cut, likewise.
      num_cpu_devices: how many devices to make of the CPU's cores in any case.
      num_processes: over which the shards are spread.

    Where there are several processes (`processes.join`), those after the first print
    nothing to stdout from here on.

    Raises:
      UserError: that kind of device is not there.
    """
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    # The CPU's programs run in the thread that calls them: handing one image over to
    # another takes as long as to predict it, and training gains nothing by it.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    num_parts = max(num_seeds, num_shards)
    if num_cpu_devices:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    elif num_parts > 1 and "--xla_force_host" not in os.environ.get("XLA_FLAGS", ""):
        own = max(1, num_parts // num_processes)
        jax.config.update("jax_num_cpu_devices", spread(own, num_cores()))
    if jax.distributed.is_initialized():
        _mute_libraries()
    try:
        with _thread_pool_of(num_shards), _warnings_of_jax() as warned:
            found = jax.default_backend()
    except Exception as error:  # JAX_PLATFORMS names a backend that is not there
        asked = os.environ.get("JAX_PLATFORMS")
        reason = " ".join(str(error).split())[:200] or (
            f"JAX_PLATFORMS={asked} is not there: unset it, or install its driver"
        )
        raise UserError(
            f"JAX found no device to run on: {reason}; mend the install, as in "
            "pip install -e '.[cuda]' or '.[tpu]', or set JAX_PLATFORMS=cpu"
        ) from error
    if device and found != device:
        extra = {"gpu": "cuda", "tpu": "tpu"}.get(device, "")
        raise UserError(
            f"--device={device}: JAX found only {found}; install the driver and "
            f"'pip install -e \".[{extra}]\"', or leave --device out"
        )
    options: Any = jax.config  # which does not declare all of them in every version
    if found == "cpu" and not options.jax_platforms:
        _warn_of_unused_hardware(warned)
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  open as long as the process
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = cache_dir() / "jax"
        with contextlib.suppress(OSError):  # without a cache, then
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
    # A cache that is full or damaged costs time, and is nothing to read 20 lines about.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation")
    # Every program of this project is worth keeping: none is small in start-up time.
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _mute_libraries() -> None:
    """Leaves stdout to Python: Gloo prints there, in pieces, what it connected to."""
    sys.stdout.flush()
    own = open(os.dup(1), "w", encoding=sys.stdout.encoding)  # noqa: SIM115  likewise
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = own


@contextlib.contextmanager
def _warnings_of_jax() -> Iterator[list[str]]:
    """Collects what JAX would print, partly as tracebacks, as it finds its devices."""
    warned: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        # Of those with an error some forget the arguments of their text.
        text = record.getMessage() if record.args or not error else "a plugin of JAX"
        warned.append(f"{text}: {error}" if error else text)
        return False

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(keep)
    try:
        yield warned
    finally:
        logger.removeFilter(keep)


def _warn_of_unused_hardware(warned: list[str]) -> None:
    """Says in one line that an accelerator is there, or that its plugin is broken."""
    mend = "pip install -e '.[cuda]' (or '.[tpu]'), or choose --device=cpu"
    if broken := [text for text in warned if "may be present" not in text]:
        reason = " ".join(broken[0].split())[:200]
        problem = f"JAX cannot use its accelerator ({reason})"
    elif has_nvidia_card():
        problem = "there is an NVIDIA card, but this JAX is without CUDA"
    elif warned:
        problem = " ".join(warned[0].split())[:200]
    else:
        return
    print(f"warning: {problem}: it runs on the CPU; {mend}", file=sys.stderr)


def has_nvidia_card() -> bool:
    """Whether there is a card of NVIDIA's, or at least its driver."""
    files = ("/dev/nvidia0", "/proc/driver/nvidia/gpus")
    return any(map(os.path.exists, files)) or bool(shutil.which("nvidia-smi"))


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(num_parts: int | None = None) -> str:
    """One line: the versions and devices that a run uses.

    Args:
      num_parts: of its work, which the devices share equally; None if not known.
    """
    devices = jax.devices()
    kind, count = devices[0].device_kind, len(devices)
    if devices[0].platform == "cpu":
        return f"cpu with {num_cores()} cores, jax {jax.__version__}"
    used = spread(num_parts, count) if num_parts else count
    which = f"{used} of {count} x " if used < count else f"{count} x "
    unused = ", the others for config.num_shards or num_seeds" if used < count else ""
    return f"{which if count > 1 else ''}{kind}, jax {jax.__version__}{unused}"
