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
from mnist_jax.parallel.jax_options import require_options
from mnist_jax.parallel.shards import spread

# By one of these, users say how much of a GPU's memory JAX takes.
_OF_MEMORY = (
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_CLIENT_MEM_FRACTION",
)


@contextlib.contextmanager
def _variables(num_shards: int, share_memory: bool) -> Iterator[None]:
    """Sets variables that XLA reads, while a backend is created.

    NPROC is the number of the CPU backend's threads (`DefaultThreadPoolSize` in XLA's
    source). XLA splits the longest sums of matrix products by it, so that this number
    changes the last digits of a result. By default there are as many threads as cores,
    and at least as many as devices. With shards the number must not depend on the
    machine, so it is that of the shards. More threads than cores cost time.

    XLA_PYTHON_CLIENT_PREALLOCATE is for GPUs alone: see `set_up`.
    """
    own = {}
    if num_shards > 1 and "NPROC" not in os.environ:
        own["NPROC"] = str(num_shards)
    if share_memory and not any(name in os.environ for name in _OF_MEMORY):
        own["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]


def set_up(
    device: str | None = None,
    *,
    num_seeds: int = 1,
    num_shards: int = 1,
    num_cpu_devices: int | None = None,
    num_processes: int = 1,
    share_memory: bool = False,
) -> None:
    """Sets JAX's options, chooses the backend and keeps compiled programs.

    Call it once, after `processes.join` and before anything else that uses JAX's
    devices. It is for commands, as it changes the options of the whole process: see
    `require_options`. Compiled programs are kept in `$JAX_COMPILATION_CACHE_DIR`, or in
    this project's cache folder; an empty variable turns that off.

    Where several processes have joined, only process 0 prints to stdout afterwards.

    Args:
      device: "cpu", "gpu" or "tpu"; None takes the best that is there.
      num_seeds: number of models that will train at once. On the CPU, the cores become
        several devices, so that each of them trains the same number of models.
      num_shards: number of shards that a batch is cut into. The CPU's cores become
        several devices for them too.
      num_cpu_devices: the number of devices to make of the CPU's cores; None to choose
        it by the seeds and shards.
      num_processes: number of processes that share the shards.
      share_memory: whether to leave other programs what is not needed of a GPU's
        memory. JAX takes three quarters of it at once otherwise, which is faster. A
        user's own variables decide where they are set.

    Raises:
      UserError: there is no device of that kind.
    """
    require_options()
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    # Programs run in the thread that calls them: a hand-over to another thread takes as
    # long as the prediction of one image, and does not make training faster.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    num_parts = max(num_seeds, num_shards)
    if num_cpu_devices:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    elif num_parts > 1 and "--xla_force_host" not in os.environ.get("XLA_FLAGS", ""):
        own = max(1, num_parts // num_processes)
        jax.config.update("jax_num_cpu_devices", spread(own, num_cores()))
    if jax.distributed.is_initialized():
        _mute_libraries()
    _start_backend(device, num_shards, share_memory)
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  open as long as the process
    _keep_compiled_programs()


def _start_backend(device: str | None, num_shards: int, share_memory: bool) -> None:
    """Lets JAX find its devices; what may go wrong then becomes one line.

    Raises:
      UserError: there is no device, or not of the kind that `device` asks for.
    """
    options: Any = jax.config  # not every version of JAX declares all of them
    try:
        with _variables(num_shards, share_memory), _warnings_of_jax() as warned:
            found = jax.default_backend()
            if isinstance(name := options.jax_default_device, str):
                jax.devices(name)  # or an error
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
    if found == "cpu" and not options.jax_platforms:
        _warn_of_unused_hardware(warned)


def _keep_compiled_programs() -> None:
    """Turns on JAX's persistent compilation cache."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = cache_dir() / "jax"
        with contextlib.suppress(OSError):  # there is no cache then
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
    # A full or damaged cache only costs time: that needs no warning of twenty lines.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation")
    # By default JAX keeps only programs that take long to compile; here all of them
    # together delay the start.
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _mute_libraries() -> None:
    """Keeps libraries from printing to stdout, as Gloo does about its connections."""
    sys.stdout.flush()
    own = open(os.dup(1), "w", encoding=sys.stdout.encoding)  # noqa: SIM115  as long as the process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = own


@contextlib.contextmanager
def _warnings_of_jax() -> Iterator[list[str]]:
    """Collects the warnings, some with tracebacks, that JAX prints as it starts."""
    warned: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        # Some records of errors lack the arguments that their text needs.
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
    """Prints one line if there is an accelerator that JAX does not use, or cannot."""
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
    """Whether there is an NVIDIA card, or at least its driver."""
    files = ("/dev/nvidia0", "/proc/driver/nvidia/gpus")
    return any(map(os.path.exists, files)) or bool(shutil.which("nvidia-smi"))


def num_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_devices(num_parts: int | None = None) -> str:
    """Returns one line with the devices that a run uses and the version of JAX.

    Args:
      num_parts: number of equal parts (seeds or shards) that the devices share; None
        if it is not known.
    """
    devices = jax.devices()
    kind, count = devices[0].device_kind, len(devices)
    if devices[0].platform == "cpu":
        return f"cpu with {num_cores()} cores, jax {jax.__version__}"
    used = spread(num_parts, count) if num_parts else count
    which = f"{used} of {count} x " if used < count else f"{count} x "
    unused = ", the others for config.num_shards or num_seeds" if used < count else ""
    return f"{which if count > 1 else ''}{kind}, jax {jax.__version__}{unused}"
