"""Saves and restores the state of training, through Orbax.

Orbax writes a step under a temporary name and renames it when it is complete. It syncs
only the arrays to the disk, so the rest is synced here, to outlast a power cut. Arrays
(a few MB) are first copied to the host. So what is hashed is what is written, and the
state may be donated while it is being saved.
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
from mnist_jax.parallel.jax_options import compared_options

PyTree = Any

_CENTURY = 100 * 365 * 86400  # seconds


class Restored(NamedTuple):
    """A saved state, in the structure and on the devices of the template."""

    state: PyTree
    step: int
    metadata: Metadata


class Checkpointer:
    """Saves and restores the training state of one run, in `workdir/checkpoints`.

    It keeps the newest `max_to_keep` steps, and the best one by score on validation.
    Hold `workdir.lock_workdir` first, because two Checkpointers in one folder would
    delete each other's files. It is a context manager: leaving it waits for the save in
    progress, and raises the error if that failed.

    Raises:
      CheckpointError: the folder cannot be created or written.
    """

    def __init__(self, workdir: str | Path, *, max_to_keep: int) -> None:
        if max_to_keep < 2:  # if the newest step is damaged, another must be left
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
                    # Otherwise Orbax fails here if a step is damaged.
                    lightweight_initialize=True,
                    async_options=ocp.AsyncOptions(
                        # Orbax measures this by the time of day, which may jump, so a
                        # single process gets no limit. Several processes keep the usual
                        # limit, because one of them may hang.
                        timeout_secs=_CENTURY if jax.process_count() == 1 else 1200,
                        # Otherwise a failed save leaves threads waiting for minutes.
                        create_directories_asynchronously=False,
                    ),
                ),
                # `read.py` reads this format, which may not stay Orbax's default.
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
                "name another folder"
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
            # An OSError of the block has the same cause, the disk, and says less.
            if exc is None or isinstance(exc, OSError):
                raise
            if not isinstance(exc, CheckpointError):  # that one says the same already
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

        If the step is saved already, nothing is done: the same step of the same run is
        the same state.

        Args:
          state: arrays, with a leaf `step`; may be donated as soon as this returns.
          metadata: what else is needed to use the weights, such as `config` and
            `dataset`, as JSON values. Versions, device, JAX's options, metrics and
            digests are added.
          metrics: means on validation. A value that is not finite is stored as null.
          score: the best step is the one with the highest score. A step whose score is
            None or not finite is never the best.

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
                "options": compared_options(),
                "leaves": {path: describe(leaves[path], host[path]) for path in host},
            }
        )
        try:
            for damaged in self._damaged:  # the run will save these steps again
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
        except Exception as error:  # a full disk can raise errors of many kinds
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Waits until the last save is on the disk.

        Raises:
          CheckpointError: it could not be written.
        """
        unsynced, self._unsynced = self._unsynced, None
        try:
            self._manager.wait_until_finished()
            # If the folder was moved away, Orbax has made a new one, without old steps.
            if self._is_gone():
                raise FileNotFoundError
            if unsynced is not None and jax.process_index() == 0:
                _sync(self._directory / str(unsynced))
                self._delete_old()
        except Exception as error:
            raise self._not_saved(error) from error

    def restore(self, template: PyTree, step: int | None = None) -> Restored:
        """Reads a step back, checked against its SHA-256s and against `template`.

        Args:
          template: arrays or `jax.ShapeDtypeStruct`s with the expected structure,
            shapes and dtypes, and with the devices (`sharding`) to restore to.
          step: the step to read. None takes the newest that is not damaged, and warns
            if newer ones are damaged.

        Raises:
          CheckpointError: there is no such step; it is damaged, or was written by a
            newer version; or its leaves are not those of the template.
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
          CheckpointError: the step is missing, or not as it was saved.
        """
        self.wait()
        read_intact(
            self._workdir, select_steps(self._workdir, step), lambda m: m["leaves"]
        )
        try:
            self._delete_old()  # a run that was killed may have left old steps
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
        """Deletes all steps but those to keep; called when the newest is on the disk.

        Each step is renamed first, which is atomic, because a step that is deleted by
        half would still look like a step.
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
        """Removes deleted steps, and what killed or failed saves have left."""
        # Orbax's own clean-up would run on in the background.
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
    """Syncs to the disk what TensorStore does not: the metadata and the folders."""
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
    """Imports Orbax, only when it is needed because that takes a while; silences it."""
    import orbax.checkpoint as ocp

    def is_worth_showing(record: logging.LogRecord) -> bool:
        # Hides 68 INFO lines per save, and warnings and tracebacks of errors that are
        # raised here anyway.
        from_orbax = "orbax" in Path(record.pathname).parts
        serious = record.levelno >= logging.ERROR and not record.exc_info
        return serious or not from_orbax

    def unraisablehook(unraisable: "sys.UnraisableHookArgs") -> None:
        # After one failed write, Orbax's other writes complain of a closed event loop.
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
