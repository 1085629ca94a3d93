"""Saves and restores the state of training, through Orbax.

Orbax writes a step under a temporary name and renames it when it is complete. Only the
arrays in it would outlast a power cut, so that the rest is synced here. Arrays are
saved from the host's memory (they are a few MB): what is hashed is then what is
written, and donated buffers may change during a save.
"""

import functools
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from mnist_jax.checkpoint.atomic import sync
from mnist_jax.checkpoint.format import (
    FORMAT_VERSION,
    Metadata,
    describe,
    flatten,
    place,
    seal,
    to_host,
    types,
    versions,
)
from mnist_jax.checkpoint.read import (
    DELETED,
    check_types,
    checkpoints_folder,
    read_intact,
    read_score,
    reason,
    saved_steps,
    select_steps,
)
from mnist_jax.errors import CheckpointError

PyTree = Any

_CENTURY = 100 * 365 * 86400  # in seconds


class Restored(NamedTuple):
    """A state as it was saved, in the structure and on the devices of the template."""

    state: PyTree
    step: int
    metadata: Metadata


class Checkpointer:
    """Saves and restores the training state of one run, in `workdir/checkpoints`.

    Keeps the newest `max_to_keep` steps, and the best one by its score on validation.
    Hold `workdir.lock_workdir` first: two of them in one folder would fight.
    A context manager: leaving it waits for the save in progress, so that a failed
    save is raised there at the latest.

    Raises:
      CheckpointError: the folder cannot be created or written.
    """

    def __init__(self, workdir: str | Path, *, max_to_keep: int) -> None:
        if max_to_keep < 2:  # nothing would be left if the newest were damaged
            raise ValueError(f"max_to_keep must be 2 or more, got {max_to_keep}")
        ocp = import_orbax()
        self._workdir = workdir
        self._directory = checkpoints_folder(workdir)
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
                # The format that `checkpoint_files` reads, whatever Orbax's default.
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
        self._scores = {
            step: read_score(self._directory / str(step))
            for step in saved_steps(self._directory)
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
                print(f"warning: {error}", file=sys.stderr)
        finally:
            self._purge()

    def save(
        self,
        state: PyTree,
        *,
        metadata: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        score: float | None = None,
    ) -> None:
        """Starts to save `state` as step `state.step`; does not wait for the disk.

        A step that is there already is left as it is: the same step of the same run
        is the same state.

        Args:
          state: arrays, with a leaf `step`; may be donated right afterwards.
          metadata: what else is needed to use the weights, JSON-able: `config` and
            `dataset`. Versions, device, metrics and digests are added here.
          metrics: on validation. A value that is not finite is stored as null.
          score: what is highest in the best step; None, or what is not finite, is
            never the best.

        Raises:
          CheckpointError: this save, or the one before it, failed; or the state holds
            an infinity or NaN.
        """
        ocp = import_orbax()
        self.wait()
        self._purge()
        leaves = flatten(state)
        host = {path: to_host(leaf) for path, leaf in leaves.items()}
        step = int(host["step"].max())  # the same for all seeds
        _check_finite(host, step)
        device = {
            "platform": jax.default_backend(),
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
        }
        sealed = seal(
            {
                **metadata,
                "format_version": FORMAT_VERSION,
                "step": step,
                "metrics": {k: _finite(v) for k, v in (metrics or {}).items()},
                "score": _finite(score),
                "versions": versions(),
                "device": device,
                "leaves": {path: describe(leaves[path], host[path]) for path in host},
            }
        )
        try:
            for damaged in self._damaged:  # which the step resumed from replaces
                self._manager.delete(damaged)
            self._damaged = []
            if step in saved_steps(self._directory):
                return
            self._scores[step] = sealed["score"]
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
        expected = types(template)

        def check(metadata: Metadata) -> Iterable[str]:
            found = {path: entry["type"] for path, entry in metadata["leaves"].items()}
            if "opt_state" in _roots(expected) - _roots(found):
                raise CheckpointError(
                    f"the checkpoint in {str(self._workdir)!r} has weights alone, as "
                    "export.py leaves them, and no run to resume: name another "
                    "--workdir"
                )
            check_types(expected, found, self._workdir)
            return found

        metadata, host, self._damaged = read_intact(
            self._workdir, select_steps(self._workdir, step), check
        )
        leaves = [
            place(host[path], leaf, metadata["leaves"][path])
            for path, leaf in flatten(template).items()
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
        read_intact(
            self._workdir, select_steps(self._workdir, step), lambda m: m["leaves"]
        )
        try:
            self._delete_old()  # left where a run was killed before it did so
        except OSError as error:
            raise self._not_saved(error) from error

    def latest_step(self) -> int | None:
        """Returns the newest step that was saved completely; None without any."""
        self.wait()
        return max(saved_steps(self._directory), default=None)

    def best_step(self) -> int | None:
        """Returns the step of the best score on validation; None without any."""
        self.wait()
        return self._best(saved_steps(self._directory))

    def _best(self, steps: Iterable[int]) -> int | None:
        ranked = [(self._scores.get(step), step) for step in steps]
        return max(((a, s) for a, s in ranked if a is not None), default=(0, None))[1]

    def _delete_old(self) -> None:
        """Deletes all steps but those to keep, once the newest is known to be good.

        Each is renamed first, which is atomic: half of one would still look like one.
        """
        if jax.process_index() > 0:
            return
        steps = [
            step for step in saved_steps(self._directory) if step not in self._damaged
        ]
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
            f"(earlier ones are intact): {reason(error)}"
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


@functools.cache
def import_orbax() -> Any:
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


def _check_finite(host: Mapping[str, np.ndarray], step: int) -> None:
    for path, array in host.items():
        if array.dtype.kind not in "biu" and not np.isfinite(array).all():
            raise CheckpointError(
                f"{path} is infinite or NaN at step {step}, which is not saved; "
                "earlier checkpoints are intact"
            )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _roots(paths: Iterable[str]) -> set[str]:
    return {path.partition("/")[0] for path in paths}
