"""Reads checkpoints from the disk, and refuses what is not bit by bit as it was saved.

    WORKDIR/checkpoints/STEP/state      the arrays, as nested dicts
    WORKDIR/checkpoints/STEP/metadata   JSON: config, data set, versions, digests ...

Orbax writes both: see `save.py`.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import mnist_jax
from mnist_jax.checkpoint.format import FORMAT_VERSION, Metadata, digest, seal
from mnist_jax.errors import CheckpointError
from mnist_jax.local_files import is_locked, local_path
from mnist_jax.run.command_lines import command_line

# Steps are deleted in two parts: a rename into this folder, which is atomic, and later
# the removal of its content.
DELETED = "deleted"


class _DamagedError(Exception):
    """A step is not as it was saved; the message gives only the reason."""


def checkpoints_folder(workdir: str | Path) -> Path:
    """Returns the folder that has a folder for each saved step of a run."""
    # Resolved, as Orbax refuses relative paths, and TensorStore those with "..".
    return Path(local_path(workdir)).resolve() / "checkpoints"


def saved_steps(directory: Path) -> list[int]:
    """Returns the complete steps, newest first.

    Their folders' names are plain numbers; Orbax gives incomplete ones other names.
    """
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if path.is_dir()]
    return sorted(map(int, filter(re.compile("0|[1-9][0-9]*").fullmatch, names)))[::-1]


def select_steps(workdir: str | Path, step: int | None) -> list[int]:
    """Returns all steps, newest first; or only `step`, if that is given.

    Raises:
      CheckpointError: there are none, or `step` is not among them.
    """
    shown = repr(str(workdir))
    if not Path(local_path(workdir)).is_dir():
        raise CheckpointError(
            f"no folder {shown}; train first: {command_line('train')} "
            f"--workdir={workdir}"
        )
    steps = saved_steps(checkpoints_folder(workdir))
    if not steps and step is None and is_locked(local_path(workdir)):
        raise CheckpointError(
            f"the run in {shown} is under way and has saved no checkpoint yet: try "
            "again later; it saves after each config.checkpoint_every_epochs epochs"
        )
    if not checkpoints_folder(workdir).is_dir():
        raise CheckpointError(f"{shown} holds no run: it has no folder 'checkpoints'")
    if not steps:
        raise CheckpointError(
            f"{shown} holds no complete checkpoint: training ended before its first; "
            "go on with train.py --resume"
        )
    if step is not None and step not in steps:
        raise CheckpointError(
            f"{shown} has no checkpoint of step {step}, only of {_join(steps)}"
        )
    return steps if step is None else [step]


def read_intact(
    workdir: str | Path, steps: list[int], choose: Callable[[Metadata], Iterable[str]]
) -> tuple[Metadata, dict[str, np.ndarray], list[int]]:
    """Reads the first step that is not damaged; warns if that is not `steps[0]`.

    Args:
      workdir: folder of the run.
      steps: the steps to try, in this order.
      choose: maps the metadata to the paths of the leaves to read.

    Returns:
      The metadata, the leaves by path, and the steps that were found damaged.

    Raises:
      CheckpointError: all steps are damaged, or one was saved by a newer version.
    """
    reasons: dict[int, str] = {}
    for step in steps:
        step_dir = checkpoints_folder(workdir) / str(step)
        try:
            metadata = _read_metadata(step_dir)
            host = _read_arrays(step_dir, metadata["leaves"], choose(metadata))
        except _DamagedError as error:
            reasons[step] = str(error)
            continue
        if reasons:
            print(
                f"warning: checkpoint {_join(reasons)} in {str(workdir)!r} is damaged "
                f"({reasons[steps[0]]}); step {step} is used",
                file=sys.stderr,
            )
        return metadata, host, list(reasons)
    raise CheckpointError(
        f"no intact checkpoint in {str(workdir)!r} (step {steps[0]}: "
        f"{reasons[steps[0]]}): train again, with --overwrite or into another --workdir"
    )


def read_weights(
    workdir: str | Path, steps: list[int]
) -> tuple[Metadata, dict[str, np.ndarray]]:
    """Reads what a model predicts with, as `read_intact` does.

    Returns:
      The metadata, and the leaves by paths that begin with "params/" or
      "batch_stats/". The parameters are the averaged ones, if there are any.

    Raises:
      CheckpointError: see `read_intact`.
    """

    def choose(metadata: Metadata) -> Iterable[str]:
        groups = {path.split("/")[0] for path in metadata["leaves"]}
        params = "ema_params/" if "ema_params" in groups else "params/"
        return [p for p in metadata["leaves"] if p.startswith((params, "batch_stats/"))]

    metadata, host, _ = read_intact(workdir, steps, choose)
    # Exported weights are float16 to save space; models compute in float32.
    return metadata, {
        path.removeprefix("ema_"): (
            array.astype(np.float32) if array.dtype == np.float16 else array
        )
        for path, array in host.items()
    }


def read_score(step_dir: Path, damaged: float | None = None) -> float | None:
    """Returns a step's score, which is highest in the best step.

    It is None if the step has no score, and `damaged` if the step is damaged.
    """
    try:
        return _score(_read_metadata(step_dir))
    except _DamagedError:
        return damaged


def _read_metadata(step_dir: Path) -> Metadata:
    """Reads and checks a step's metadata; raises if it is damaged or too new.

    Every format, also one of a newer version, has the seal, `step` and
    `format_version`; other entries may change.
    """
    try:
        # This one file is what Orbax makes of a JSON item called "metadata".
        path = step_dir / "metadata" / "metadata"
        if path.exists() and not path.is_file():  # a pipe would hang
            raise OSError("it is not a file")
        metadata = json.loads(path.read_bytes())
        version, step = metadata["format_version"], metadata["step"]
        rest = {key: metadata[key] for key in metadata if key != "sha256"}
    except FileNotFoundError as error:
        raise _DamagedError("it has no metadata of mnist_jax") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _DamagedError(f"unreadable metadata: {reason(error)}") from error
    # The seal is checked before the version, because a flipped bit in the version must
    # not look like a newer format.
    intact = seal(rest)["sha256"] == metadata.get("sha256")
    if not intact or str(step) != step_dir.name:
        raise _DamagedError("its metadata does not match its SHA-256")
    try:
        for entry in metadata["leaves"].values():
            if not isinstance(entry["type"] + entry["sha256"], str):
                raise TypeError("leaves")
        if not isinstance(_score(metadata), float | int | None):
            raise TypeError("score")
    except (KeyError, TypeError, AttributeError) as error:
        if version == FORMAT_VERSION:
            raise _DamagedError(f"its metadata lacks {reason(error)}") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{str(step_dir)!r} was written by a newer mnist_jax: format {version!r}, "
            f"and this one ({mnist_jax.__version__}) reads up to {FORMAT_VERSION}; "
            "upgrade mnist_jax"
        )
    return metadata


def _score(metadata: Metadata) -> float | None:
    # Older checkpoints have no score; they were ranked by accuracy.
    score: float | None = metadata.get("score", metadata["metrics"].get("accuracy"))
    return score


def _read_arrays(
    step_dir: Path, leaves: dict[str, Any], paths: Iterable[str]
) -> dict[str, np.ndarray]:
    """Reads the leaves of these paths and checks the SHA-256 of each.

    It reads with TensorStore, on which Orbax is built. After reading a damaged file,
    Orbax itself would print tracebacks from the background; and importing it takes a
    quarter of a second.
    """
    import tensorstore as ts

    context = ts.Context()
    file = {"driver": "file", "path": f"{step_dir / 'state'}/"}
    try:
        opening = {}
        for path in paths:
            name = path.replace("/", ".") + "/"  # Orbax's name of the array
            kvstore = {"driver": "ocdbt", "base": file, "path": name}
            spec = {"driver": "zarr", "kvstore": kvstore}
            opening[path] = ts.open(spec, read=True, context=context)
        reading = {path: future.result().read() for path, future in opening.items()}
        host = {path: np.asarray(future.result()) for path, future in reading.items()}
    except Exception as error:  # a damaged file can raise anything
        raise _DamagedError(reason(error)) from error
    for path in host:
        if digest(host[path]) != leaves[path]["sha256"]:
            raise _DamagedError(f"{path} does not match its SHA-256")
    return host


def check_types(
    expected: dict[str, str], found: dict[str, str], workdir: str | Path
) -> None:
    """Compares the types of leaves by path, as `format.types` returns them.

    Raises:
      CheckpointError: a leaf differs; the error names the first one.
    """
    for path in (*expected, *found):
        here, there = expected.get(path, "nothing"), found.get(path, "nothing")
        if here != there:
            raise CheckpointError(
                f"the checkpoint in {str(workdir)!r} does not fit the config: "
                f"{path} is {there} in it, but {here} is expected"
            )


def reason(error: Exception) -> str:
    """Shortens an error of Orbax, TensorStore or JSON so that it fits into a line."""
    text = " ".join(str(error).split())
    # TensorStore tells the cause only after some 500 characters.
    if number := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(number[1]))
    return text[:200] or type(error).__name__


def _join(steps: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(steps)))
