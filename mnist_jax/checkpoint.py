"""Checkpoints: every Orbax call, the SHA-256 that Orbax lacks, and a run's files.

    WORKDIR/checkpoints/STEP/state      the arrays, as nested dicts
    WORKDIR/checkpoints/STEP/metadata   JSON: config, data set, versions, digests ...

Orbax writes a step under a temporary name and renames it when it is complete. Only the
arrays in it would outlast a power cut, so that the rest is synced here. And it loads
flipped bits without a word. So each leaf's SHA-256 stands in the metadata, the metadata
has one of its own, and nothing is returned that does not match. Arrays are saved from,
and read into, the host's memory (they are a few MB): what is hashed is then what is
written, donated buffers may change during a save, and a checkpoint depends on no kind
or number of devices.
"""

import functools
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

import mnist_jax
from mnist_jax.config import ConfigDict, check_stored_config, config_from_dict
from mnist_jax.durable import sync
from mnist_jax.errors import CheckpointError, ConfigError
from mnist_jax.models import Ensemble, Model, create_model, for_prediction

PyTree = Any
Metadata = dict[str, Any]

FORMAT_VERSION = 1
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_CENTURY = 100 * 365 * 86400  # in seconds
DELETED = "deleted"  # old steps are renamed into it, which is atomic, and then removed


class Restored(NamedTuple):
    """A state as it was saved, in the structure and on the devices of the template."""

    state: PyTree
    step: int
    metadata: Metadata


class Loaded(NamedTuple):
    """A trained model: `model.apply(variables, images)` gives logits.

    Of a run with several seeds, an `Ensemble` of them all.
    """

    config: ConfigDict
    model: Model
    variables: PyTree  # {"params", "batch_stats"}; the averaged params if there are
    metadata: Metadata
    step: int

    @property
    def temperature(self) -> float:
        """What to divide logits by for honest confidences: see `fit_temperature`."""
        return float(self.metadata.get("temperature", 1.0))


class _DamagedError(Exception):
    """A step that is not what was saved; the message is only the reason."""


class Checkpointer:
    """Saves and restores the training state of one run, in `workdir/checkpoints`.

    Keeps the newest `max_to_keep` steps, and the best one by accuracy on validation.
    To be used by who has the run to himself: see `workdir.lock_workdir`.
    A context manager: leaving it waits for the save in progress, so that a failed
    save is raised there at the latest.

    Raises:
      CheckpointError: the folder cannot be created or written.
    """

    def __init__(self, workdir: str | Path, *, max_to_keep: int) -> None:
        if max_to_keep < 2:  # nothing would be left if the newest were damaged
            raise ValueError(f"max_to_keep must be 2 or more, got {max_to_keep}")
        ocp = _import_orbax()
        self._workdir = workdir
        self._directory = _checkpoints(workdir)
        self._max_to_keep = max_to_keep
        self._damaged: list[int] = []
        self._unsynced: int | None = None  # the step that was saved last
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._found = self._directory.stat()
            self._manager = ocp.CheckpointManager(
                self._directory,
                options=ocp.CheckpointManagerOptions(
                    todelete_subdir=DELETED,
                    lightweight_initialize=True,  # else a damaged step stops it
                    async_options=ocp.AsyncOptions(
                        # It goes by the time of day, which may jump; of several
                        # processes, where one may hang, the usual limit.
                        timeout_secs=_CENTURY if jax.process_count() == 1 else 1200,
                        # Else a save that fails leaves threads waiting for minutes.
                        create_directories_asynchronously=False,
                    ),
                ),
                # The format that `_read_arrays` reads, whatever Orbax's default.
                item_handlers={
                    "state": ocp.PyTreeCheckpointHandler(
                        use_ocdbt=True, use_zarr3=False
                    ),
                    "metadata": ocp.JsonCheckpointHandler(),
                },
            )
        except OSError as error:
            raise CheckpointError(
                f"cannot write to {str(workdir)!r}: {error.strerror or error}; "
                "choose another --workdir"
            ) from error
        self._accuracy = {
            step: _accuracy(self._directory / str(step))
            for step in _steps(self._directory)
        }

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.wait()
            self._manager.close()
        except CheckpointError as error:
            # The disk that failed here has failed there too: this says more of it.
            if exc is None or isinstance(exc, OSError):
                raise
            if not isinstance(exc, CheckpointError):  # which says it already
                _warn(str(error))
        finally:
            self._purge()

    def save(
        self,
        state: PyTree,
        *,
        metadata: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to save `state` as step `state.step`; does not wait for the disk.

        A step that is there already is left as it is: the same step of the same run
        is the same state.

        Args:
          state: arrays, with a leaf `step`; may be donated right afterwards.
          metadata: what else is needed to use the weights, JSON-able: `config` and
            `dataset`. Versions, device, metrics and digests are added here.
          metrics: on validation; "accuracy" chooses the best step. A value that is
            not finite is stored as null and is never the best.

        Raises:
          CheckpointError: this save, or the one before it, failed; or the state holds
            an infinity or NaN.
        """
        ocp = _import_orbax()
        self.wait()
        self._purge()
        leaves = _flatten(state)
        host = {path: _to_host(leaf) for path, leaf in leaves.items()}
        step = int(host["step"].max())  # the same for all seeds
        for path, array in host.items():
            if not is_finite(array):
                raise CheckpointError(
                    f"{path} is infinite or NaN at step {step}, which is not saved; "
                    "earlier checkpoints are intact"
                )
        numbers = {name: float(value) for name, value in (metrics or {}).items()}
        device = {
            "platform": jax.default_backend(),
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
        }
        sealed = _seal(
            {
                **metadata,
                "format_version": FORMAT_VERSION,
                "step": step,
                "metrics": {
                    k: v if math.isfinite(v) else None for k, v in numbers.items()
                },
                "versions": _versions(),
                "device": device,
                "leaves": {path: _describe(leaves[path], host[path]) for path in host},
            }
        )
        try:
            for damaged in self._damaged:  # which the step resumed from replaces
                self._manager.delete(damaged)
            self._damaged = []
            if step in _steps(self._directory):
                return
            self._accuracy[step] = sealed["metrics"].get("accuracy")
            self._unsynced = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(unflatten_dict(host, sep="/")),
                    metadata=ocp.args.JsonSave(sealed),
                ),
                force=True,  # Orbax's own rules skip some saves, silently
            )
        except Exception as error:  # a full disk raises many kinds
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Waits until what was saved is on disk.

        Raises:
          CheckpointError: it could not be written.
        """
        unsynced, self._unsynced = self._unsynced, None
        try:
            self._manager.wait_until_finished()
            if self._is_gone():  # Orbax has made it anew, with half of the run's files
                raise FileNotFoundError
            if unsynced is not None and jax.process_index() == 0:
                _sync(self._directory / str(unsynced))
                self._delete_old()
        except Exception as error:
            raise self._not_saved(error) from error

    def restore(self, template: PyTree, step: int | None = None) -> Restored:
        """Reads a step back, checked against its SHA-256s and against `template`.

        Args:
          template: arrays or `jax.ShapeDtypeStruct`s: what structure, shapes and
            dtypes are expected, and on which devices (`sharding`) they shall be.
          step: which one; None takes the newest that is not damaged, with one
            warning where that is not the newest.

        Raises:
          CheckpointError: there is none, it is damaged or foreign, written by a newer
            version, or its leaves are not those of the template.
        """
        self.wait()
        expected = _types(template)

        def check(metadata: Metadata) -> Iterable[str]:
            found = {path: entry["type"] for path, entry in metadata["leaves"].items()}
            _check_types(expected, found, self._workdir)
            return found

        metadata, host, self._damaged = _read_intact(
            self._workdir, _select(self._workdir, step), check
        )
        leaves = [
            _place(host[path], leaf, metadata["leaves"][path])
            for path, leaf in _flatten(template).items()
        ]
        state = jax.tree.unflatten(jax.tree.structure(template), leaves)
        return Restored(state, metadata["step"], metadata)

    def verify(self, step: int) -> None:
        """Waits, reads a step back from disk, and checks every SHA-256.

        A run has succeeded when its last checkpoint has passed this.

        Raises:
          CheckpointError: it is not there, or not as it was saved.
        """
        self.wait()
        _read_intact(self._workdir, _select(self._workdir, step), lambda m: m["leaves"])
        try:
            self._delete_old()  # left where a run was killed before it did so
        except OSError as error:
            raise self._not_saved(error) from error

    def latest_step(self) -> int | None:
        """Returns the newest step that was saved completely; None without any."""
        self.wait()
        return max(_steps(self._directory), default=None)

    def best_step(self) -> int | None:
        """Returns the step of the best accuracy on validation; None without any."""
        self.wait()
        return self._best(_steps(self._directory))

    def _best(self, steps: Iterable[int]) -> int | None:
        ranked = [(self._accuracy.get(step), step) for step in steps]
        return max(((a, s) for a, s in ranked if a is not None), default=(0, None))[1]

    def _delete_old(self) -> None:
        """Deletes all steps but those to keep, once the newest is known to be good.

        Each is renamed first, which is atomic: half of one would still look like one.
        """
        if jax.process_index() > 0:
            return
        steps = [step for step in _steps(self._directory) if step not in self._damaged]
        deleted = self._directory / DELETED
        for step in set(steps) - {*steps[: self._max_to_keep], self._best(steps)}:
            shutil.rmtree(deleted / str(step), ignore_errors=True)
            deleted.mkdir(exist_ok=True)
            (self._directory / str(step)).rename(deleted / str(step))

    def _purge(self) -> None:
        """Removes deleted steps, and what a save left that was killed or failed."""
        # Orbax's own option goes on with it in the background.
        if jax.process_index() == 0:
            for path in self._directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(self._directory / DELETED, ignore_errors=True)

    def _is_gone(self) -> bool:
        try:
            return not os.path.samestat(self._found, self._directory.stat())
        except FileNotFoundError:
            return True

    def _not_saved(self, error: Exception) -> CheckpointError:
        if self._is_gone():
            return CheckpointError(
                f"the folder {str(self._workdir)!r} was moved or deleted during the "
                "run: put it back and add --resume to go on"
            )
        return CheckpointError(
            f"cannot save a checkpoint in {str(self._workdir)!r} "
            f"(earlier ones are intact): {_reason(error)}"
        )


def _sync(step_dir: Path) -> None:
    """Puts onto the disk what TensorStore has not: the metadata and the folders."""
    for path in (
        step_dir / "metadata" / "metadata",
        step_dir / "metadata",
        step_dir / "state",
        step_dir,
        step_dir.parent,
    ):
        sync(path)


def load_model(workdir: str | Path, which: str = "latest") -> Loaded:
    """Loads what evaluation and prediction need; creates and changes no file.

    Args:
      workdir: folder of a run.
      which: "latest" or "best" (accuracy on validation). A damaged step is passed
        over, with one warning, for the next latest or next best.

    Raises:
      CheckpointError: there is no checkpoint, or none that can be used.
    """
    directory = _checkpoints(workdir)
    steps = _select(workdir, None)
    if which == "best":
        # A damaged step comes first: it might be the best, and its loss is told.
        rank = {s: _accuracy(directory / str(s), damaged=math.inf) for s in steps}
        steps = [s for s in steps if rank[s] is not None]
        steps.sort(key=lambda s: -(rank[s] or 0))
        if not steps:
            raise CheckpointError(
                f"no checkpoint in {str(workdir)!r} has an accuracy on validation, "
                "so none is the best; load the latest"
            )

    def weights(metadata: Metadata) -> Iterable[str]:
        groups = {path.split("/")[0] for path in metadata["leaves"]}
        params = "ema_params/" if "ema_params" in groups else "params/"
        return [p for p in metadata["leaves"] if p.startswith((params, "batch_stats/"))]

    metadata, host, _ = _read_intact(workdir, steps, weights)
    # Half precision is for storage only.
    host = {
        path: array.astype(np.float32) if array.dtype == np.float16 else array
        for path, array in host.items()
    }
    state = unflatten_dict(host, sep="/")
    variables = {
        "params": state.get("ema_params") or state.get("params", {}),
        "batch_stats": state.get("batch_stats", {}),
    }
    try:
        config = config_from_dict(metadata["config"])
        check_stored_config(config)
        _check_dataset(metadata["dataset"], metadata.get("temperature", 1.0))
        net = create_model(config.model, metadata["dataset"]["num_classes"])
        member = for_prediction(net, config)
        num_seeds = config.get("num_seeds", 1)
    except Exception as error:  # a stranger's may hold anything
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        raise CheckpointError(
            f"the checkpoint in {str(workdir)!r} does not fit this mnist_jax "
            f"{mnist_jax.__version__}: {kind}{_reason(error)}"
        ) from error

    def init() -> PyTree:
        return net.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))

    model: Model = member
    expected = jax.eval_shape(init)
    if num_seeds > 1:
        expected = jax.eval_shape(jax.vmap(lambda _: init()), jnp.zeros(num_seeds))
        model = Ensemble(member)
    _check_types(_types(expected), _types(variables), workdir)
    variables = jax.device_put(variables)
    return Loaded(config, model, variables, metadata, metadata["step"])


def is_finite(array: np.ndarray) -> bool:
    """Whether an array, of any dtype, holds no infinity and no NaN."""
    return array.dtype.kind in "biu" or bool(np.isfinite(array).all())


def tree_digest(tree: PyTree) -> str:
    """Returns one SHA-256 (hex) over path, dtype, shape and bytes of every leaf.

    The same for equal arrays on any devices, in dicts or dataclasses.
    """
    digests = {path: _digest(_to_host(leaf)) for path, leaf in _flatten(tree).items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


@functools.cache
def _import_orbax() -> Any:
    """Imports Orbax where it is needed, as that takes a while, and quietens it."""
    import orbax.checkpoint as ocp

    def is_worth_showing(record: logging.LogRecord) -> bool:
        # Not 68 INFO lines a save, nor warnings and tracebacks of what is raised here.
        from_orbax = "orbax" in Path(record.pathname).parts
        serious = record.levelno >= logging.ERROR and not record.exc_info
        return serious or not from_orbax

    def unraisablehook(unraisable: "sys.UnraisableHookArgs") -> None:
        # One failed write ends Orbax's event loop; the others then complain of that.
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    logging.getLogger("absl").addFilter(is_worth_showing)
    show, sys.unraisablehook = sys.unraisablehook, unraisablehook
    return ocp


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves by path, such as "params/Dense_0/kernel"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: jax.Array) -> np.ndarray:
    """Returns a copy, which donation of `leaf` cannot change; of a key, its data."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _place(host: np.ndarray, leaf: Any, entry: dict[str, Any]) -> jax.Array:
    """Puts a restored array where the template's leaf is."""
    # An array that is bound to no device stays so: else jit would compile once more.
    bound = getattr(leaf, "committed", True)
    array = jax.device_put(host, getattr(leaf, "sharding", None) if bound else None)
    if "key_impl" in entry:
        array = jax.random.wrap_key_data(array, impl=entry["key_impl"])
    return array


def _describe(leaf: jax.Array, host: np.ndarray) -> dict[str, Any]:
    entry = {"type": _type(leaf), "sha256": _digest(host)}
    if _is_key(leaf):
        entry["key_impl"] = str(jax.random.key_impl(leaf))
    return entry


def _type(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _types(tree: PyTree) -> dict[str, str]:
    return {path: _type(leaf) for path, leaf in _flatten(tree).items()}


def _digest(host: np.ndarray) -> str:
    return hashlib.sha256(_type(host).encode() + host.tobytes()).hexdigest()


def _seal(metadata: Metadata) -> Metadata:
    """Returns metadata as JSON gives it back, with a SHA-256 of all the rest."""
    text = json.dumps(metadata, sort_keys=True)
    return {**json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = {"python": platform.python_version(), "mnist_jax": mnist_jax.__version__}
    return versions | own


def _checkpoints(workdir: str | Path) -> Path:
    # Orbax refuses relative paths, and TensorStore those with "..".
    return Path(workdir).resolve() / "checkpoints"


def _steps(directory: Path) -> list[int]:
    """Returns the complete steps, newest first; Orbax names others otherwise."""
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if path.is_dir()]
    return sorted(map(int, filter(re.compile("0|[1-9][0-9]*").fullmatch, names)))[::-1]


def _select(workdir: str | Path, step: int | None) -> list[int]:
    """Returns `step`, or else all steps, newest first; raises if there are none."""
    shown = repr(str(workdir))
    if not Path(workdir).is_dir():
        raise CheckpointError(
            f"no folder {shown}; train first: python scripts/train.py "
            f"--workdir={workdir}"
        )
    if not _checkpoints(workdir).is_dir():
        raise CheckpointError(f"{shown} holds no run: it has no folder 'checkpoints'")
    steps = _steps(_checkpoints(workdir))
    if not steps:
        raise CheckpointError(
            f"{shown} holds no complete checkpoint: training ended before its first"
        )
    if step is not None and step not in steps:
        raise CheckpointError(
            f"{shown} has no checkpoint of step {step}, only of {_join(steps)}"
        )
    return steps if step is None else [step]


def _read_intact(
    workdir: str | Path, steps: list[int], choose: Callable[[Metadata], Iterable[str]]
) -> tuple[Metadata, dict[str, np.ndarray], list[int]]:
    """Reads the first step that is not damaged, with a warning if it is not `steps[0]`.

    Args:
      workdir: folder of the run.
      steps: which to try.
      choose: returns the paths of the leaves to be read.

    Returns:
      Metadata, leaves by path, and the damaged steps.
    """
    reasons: dict[int, str] = {}
    for step in steps:
        step_dir = _checkpoints(workdir) / str(step)
        try:
            metadata = _read_metadata(step_dir)
            host = _read_arrays(step_dir, metadata["leaves"], choose(metadata))
        except _DamagedError as error:
            reasons[step] = str(error)
            continue
        if reasons:
            _warn(
                f"checkpoint {_join(reasons)} in {str(workdir)!r} is damaged "
                f"({reasons[steps[0]]}); step {step} is used"
            )
        return metadata, host, list(reasons)
    raise CheckpointError(
        f"no intact checkpoint in {str(workdir)!r} (step {steps[0]}: "
        f"{reasons[steps[0]]}): train again, with --overwrite or into another --workdir"
    )


def _read_metadata(step_dir: Path) -> Metadata:
    """Reads and checks a step's metadata; raises if it is damaged or too new.

    What every format has, whatever else it changes: the seal, `step` and
    `format_version`.
    """
    try:
        # Orbax's JSON item is this one file.
        path = step_dir / "metadata" / "metadata"
        if path.exists() and not path.is_file():  # a pipe would hang
            raise OSError("it is not a file")
        metadata = json.loads(path.read_bytes())
        version, step = metadata["format_version"], metadata["step"]
        rest = {key: metadata[key] for key in metadata if key != "sha256"}
    except FileNotFoundError as error:
        raise _DamagedError("it has no metadata of mnist_jax") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _DamagedError(f"unreadable metadata: {_reason(error)}") from error
    # First of all: a flipped bit in its number does not make a format a newer one.
    intact = _seal(rest)["sha256"] == metadata.get("sha256")
    if not intact or str(step) != step_dir.name:
        raise _DamagedError("its metadata does not match its SHA-256")
    try:
        for entry in metadata["leaves"].values():
            if not isinstance(entry["type"] + entry["sha256"], str):
                raise TypeError("leaves")
        accuracy = metadata["metrics"].get("accuracy")
        if not isinstance(accuracy, float | int | None):
            raise TypeError("accuracy")
    except (KeyError, TypeError, AttributeError) as error:
        if version == FORMAT_VERSION:
            raise _DamagedError(f"its metadata lacks {_reason(error)}") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{str(step_dir)!r} was written by a newer mnist_jax: format {version!r}, "
            f"and this one ({mnist_jax.__version__}) reads up to {FORMAT_VERSION}; "
            "upgrade mnist_jax"
        )
    return metadata


def _check_dataset(dataset: dict[str, Any], temperature: Any) -> None:
    """Checks what is read of a sealed metadata, but which another may have sealed."""
    count = dataset["num_classes"]
    if not (type(count) is int and 2 <= count <= 1000):
        raise ValueError(f"num_classes is {count!r:.30}")
    names = dataset.get("class_names", [""] * count)
    if not (isinstance(names, list) and len(names) == count):
        raise ValueError(f"{count} classes do not have as many names")
    about = (dataset.get(key, "") for key in ("name", "description", "fallback_for"))
    texts = [*names, *about]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("the data set's names are no texts")
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature!r:.30}")


def _accuracy(step_dir: Path, damaged: float | None = None) -> float | None:
    try:
        return _read_metadata(step_dir)["metrics"].get("accuracy")
    except _DamagedError:
        return damaged


def _read_arrays(
    step_dir: Path, leaves: dict[str, Any], paths: Iterable[str]
) -> dict[str, np.ndarray]:
    """Reads the leaves of these paths and checks the SHA-256 of each.

    TensorStore, under Orbax, does it alone: on a damaged file Orbax leaves reads
    behind that print tracebacks later, and to import Orbax takes a quarter of a second.
    """
    import tensorstore as ts

    context = ts.Context()
    file = {"driver": "file", "path": f"{step_dir / 'state'}/"}
    try:
        opening = {}
        for path in paths:
            name = path.replace("/", ".") + "/"  # as Orbax names it
            kvstore = {"driver": "ocdbt", "base": file, "path": name}
            spec = {"driver": "zarr", "kvstore": kvstore}
            opening[path] = ts.open(spec, read=True, context=context)
        reading = {path: future.result().read() for path, future in opening.items()}
        host = {path: np.asarray(future.result()) for path, future in reading.items()}
    except Exception as error:  # a damaged file can raise anything
        raise _DamagedError(_reason(error)) from error
    for path in host:
        if _digest(host[path]) != leaves[path]["sha256"]:
            raise _DamagedError(f"{path} does not match its SHA-256")
    return host


def _check_types(
    expected: dict[str, str], found: dict[str, str], workdir: str | Path
) -> None:
    """Raises an error that names the first leaf that differs."""
    for path in (*expected, *found):
        here, there = expected.get(path, "nothing"), found.get(path, "nothing")
        if here != there:
            raise CheckpointError(
                f"the checkpoint in {str(workdir)!r} does not fit the config: "
                f"{path} is {there} in it, but {here} is expected"
            )


def _join(steps: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(steps)))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if number := re.search(r"os_error_code='(\d+)'", text):  # after 500 characters
        return os.strerror(int(number[1]))
    return text[:200] or type(error).__name__


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
