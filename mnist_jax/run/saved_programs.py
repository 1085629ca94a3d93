"""Keeps compiled programs, so that a later process neither traces nor compiles them.

JAX's own cache finds what was compiled by the lowered program. So each process traces
and lowers its programs again, which takes longer than to read a picture with them. Here
a program is found by what it was made of: the code of this package, a config, shapes,
versions and the processor.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np

import mnist_jax
from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.parallel.devices import num_cores
from mnist_jax.parallel.jax_options import compared_options, read_option

PyTree = Any

# So many files are kept, those written last. An edit of any code asks for new ones.
_MOST_FILES = 200
_PREFIX = "mnist_jax-"  # of their names


class SavedProgram:
    """A jitted function whose compiled programs are kept in JAX's cache folder.

    Programs are kept on a CPU alone, and where that folder is set. To load one is to
    run it, as is so with JAX's own cache: only files of the same user are loaded.

    Args:
      function: maps (variables, an array [B, ...]) to arrays.
      variables: its first argument.
      key: what the function depends on, besides the code of this package; None if
        other code is called, so that nothing is kept.
    """

    def __init__(
        self, function: Callable[..., Any], variables: PyTree, key: str | None
    ) -> None:
        self.function = function
        self._variables = variables
        self._key = key
        self._programs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, array: np.ndarray) -> Any:
        """Returns the function's result, as arrays on the device."""
        form = f"{array.shape} {array.dtype.str}"
        if form in self._programs:
            return self._programs[form](self._variables, array)
        path = _kept_file(self._key, f"{form}.program")
        if path is not None:
            # It may be missing, damaged, or of another system.
            with contextlib.suppress(Exception):
                program = _read_program(path, (self._variables, array))
                result = jax.block_until_ready(program(self._variables, array))
                self._programs[form] = program
                return result
        program = self._compile(array, path) if path else jax.jit(self.function)
        result = program(self._variables, array)
        if path is not None:
            with contextlib.suppress(Exception):  # XLA cannot save each; a full disk
                _write_program(path, program)
        self._programs[form] = program
        return result

    def _compile(self, array: np.ndarray, path: Path) -> Any:
        def function(variables: PyTree, array: Any) -> Any:
            return self.function(variables, array)

        # What JAX's cache has given cannot be saved again. No other program has this
        # name, so that it is compiled.
        function.__name__ = f"saved_{uuid.uuid4().hex}"
        compiled = jax.jit(function).lower(self._variables, array).compile()
        with contextlib.suppress(OSError):
            for copy in path.parent.glob(f"*{function.__name__}*"):
                copy.unlink()  # of JAX's cache, which will not be asked for this name
        return compiled


def _read_program(path: Path, arguments: tuple[Any, ...]) -> Any:
    from jax.experimental import serialize_executable

    content = _read_kept(path)
    # The last byte counts the results; 0 is one that is no tuple.
    results = (0,) * content[-1] if content[-1] else 0
    return serialize_executable.deserialize_and_load(
        content[:-1], jax.tree.structure((arguments, {})), jax.tree.structure(results)
    )


def _write_program(path: Path, program: Any) -> None:
    from jax.experimental import serialize_executable

    payload, _, results = serialize_executable.serialize(program)
    count = results.num_leaves
    if results == jax.tree.structure(0):
        count = 0
    elif results != jax.tree.structure((0,) * count):
        return
    _write_kept(path, payload + bytes([count]))


def recall(key: str | None) -> dict[str, Any] | None:
    """Returns what `keep` has kept of a key; None if there is nothing."""
    path = _kept_file(key, "traced.notes")
    if path is not None:
        with contextlib.suppress(OSError, ValueError):  # none is there, or damaged
            notes: dict[str, Any] = json.loads(_read_kept(path))
            return notes
    return None


def keep(key: str | None, notes: dict[str, Any]) -> None:
    """Keeps what JSON can hold beside the programs of a key, if these are kept."""
    path = _kept_file(key, "traced.notes")
    if path is not None:
        with contextlib.suppress(OSError):
            _write_kept(path, json.dumps(notes).encode())


def _read_kept(path: Path) -> bytes:
    """Returns what a file holds; raises OSError or ValueError if it cannot be trusted.

    A bit that differs could end the process, or change an answer.
    """
    if not _is_ours(path):
        raise ValueError(f"{path} is a link, or belongs to another user")
    whole = path.read_bytes()
    if _digest(path, whole[32:]) != whole[:32]:
        raise ValueError(f"{path} is damaged")
    return whole[32:]


def _write_kept(path: Path, content: bytes) -> None:
    if not os.path.lexists(path) or _is_ours(path):
        with atomic_file(path) as file:
            file.write(_digest(path, content) + content)
        _drop_old(path)


def _drop_old(path: Path) -> None:
    """Deletes the user's oldest files beside one that was just written."""
    written = []
    for other in set(path.parent.glob(f"{_PREFIX}*")) - {path}:
        with contextlib.suppress(OSError):  # another process has deleted it
            if _is_ours(other):
                written.append((other.stat().st_mtime, other))
    for _, old in sorted(written, reverse=True)[_MOST_FILES - 1 :]:
        old.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether it is a file, and no link, of the user who runs this process."""
    about = path.lstat()
    is_owner = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    return stat.S_ISREG(about.st_mode) and is_owner


def _digest(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + content).digest()


def _kept_file(key: str | None, what: str) -> Path | None:
    """Returns a file, which may not be there; None where nothing is kept."""
    folder = read_option("jax_compilation_cache_dir")
    if key is None or not folder or not read_option("jax_enable_compilation_cache"):
        return None
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return None
    about = f"{_circumstances()} {sorted(compared_options().items())} {what} {key}"
    name = hashlib.sha256(about.encode()).hexdigest()
    return Path(folder) / f"{_PREFIX}{name[:40]}{Path(what).suffix}"


@functools.cache
def _circumstances() -> str:
    """Returns what decides which programs the code of this package makes."""
    code = hashlib.sha256()
    for path in sorted(Path(mnist_jax.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    versions = (jax.__version__, jaxlib.__version__, flax.__version__)
    devices = (len(jax.devices()), num_cores(), _processor())
    return json.dumps([code.hexdigest(), versions, devices])


def _processor() -> str:
    """Returns which instructions the processor has."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        about = {line for line in lines if line.startswith(("model", "flags", "Feat"))}
        return " ".join(sorted(about))
    return f"{platform.machine()} {platform.processor()} {os.cpu_count()}"
