"""The folder of a run: checks whether a run may use it, locks it and clears it."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax

from mnist_jax.checkpoint.atomic import replace_text
from mnist_jax.checkpoint.read import DELETED, select_steps
from mnist_jax.config import ConfigDict, flatten_config
from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.errors import CheckpointError, ConfigError, UserError
from mnist_jax.local_files import HAS_LOCKS, local_path, take_lock
from mnist_jax.parallel.jax_options import check_same_options
from mnist_jax.parallel.shards import is_primary, wait_for_all
from mnist_jax.run.config_files import find_start
from mnist_jax.run.stored_config import config_from_dict, config_to_json, with_defaults

_RUN_FILES = (  # in the order of deletion, so that what a kill leaves can be resumed
    "checkpoints/*",
    "figures/*.png",
    "report.html",
    "tensorboard/events.out.tfevents.*",
    "metrics.jsonl.tmp",
    "metrics.jsonl",
    "config.json.tmp",
    "config.json",
)

# A resumed run may change these fields, because the weights do not depend on them.
_MAY_CHANGE = ("eval_batch_size", "checkpoint_every_epochs", "max_to_keep")


def check_run(
    workdir: Path, config: ConfigDict, *, resume: bool, overwrite: bool, dry_run: bool
) -> None:
    """Checks whether a run may begin or resume in a folder; changes nothing.

    Raises:
      ConfigError: the folder holds a run, and neither `resume` nor `overwrite` is set;
        or both are set; or the run to resume has another config; or see `local_path`.
      CheckpointError: the config of the run to resume cannot be read.
    """
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other: give one")
    workdir = Path(local_path(workdir))
    if not is_primary():  # only the first process looks into the folder, for all
        return
    if has_run(workdir) and not (resume or overwrite or dry_run):
        raise ConfigError(
            f"{str(workdir)!r} holds a run: add --resume to go on with it, --overwrite "
            "to delete it and start again, or name another --workdir"
        )
    if resume:
        check_resumable(workdir, config)
    if config.init_from and not (resume and has_run(workdir)):
        _check_start(workdir, config.init_from)


def _check_start(workdir: Path, init_from: str) -> None:
    """Raises a `ConfigError` if a run cannot start from the weights of another."""
    try:
        select_steps(find_start(init_from), None)
    except CheckpointError as error:
        raise ConfigError(f"config.init_from: {error}") from error
    if find_start(init_from).resolve() == workdir.resolve():
        raise ConfigError(
            f"config.init_from = {init_from!r} is the folder of this run itself: name "
            "another --workdir"
        )


@contextmanager
def open_run(workdir: Path, *, overwrite: bool, dry_run: bool) -> Iterator[Path]:
    """Prepares the folder of a run and yields it to all processes at once.

    It locks the folder for the length of the block, and first clears it if `overwrite`
    is set. A dry run gets a temporary folder.

    Raises:
      CheckpointError: another run uses the folder, or it cannot be cleared.
      UserError: something in the block could not be written, or memory ran out.
    """
    workdir = Path(local_path(workdir))
    scratch = tempfile.TemporaryDirectory() if dry_run else nullcontext(workdir)
    try:
        with scratch as name:
            folder = Path(name)
            lock = lock_workdir(folder) if is_primary() else nullcontext()
            with lock:
                if is_primary() and overwrite:
                    clear_run(folder)
                wait_for_all("the folder is ready")
                yield folder
    except BrokenPipeError:
        raise  # the terminal was closed, which is no error of the folder
    except jax.errors.JaxRuntimeError as error:
        if not re.search("RESOURCE_EXHAUSTED|Out of memory", str(error)):
            raise
        raise UserError(
            "out of memory: lower config.batch_size, config.eval_batch_size or the "
            "size of the model"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to {str(workdir)!r}: {error.strerror or error}; "
            "make room, or name another --workdir"
        ) from error


def has_run(workdir: str | Path) -> bool:
    """Tells whether `workdir` holds what a run would resume or overwrite."""
    return bool(_run_files(Path(workdir)))


def clear_run(workdir: str | Path) -> None:
    """Deletes what a run wrote into `workdir`, and no other file there or elsewhere.

    Raises:
      CheckpointError: a path with a name of a run's files was not written by a run, or
        something cannot be deleted.
    """
    workdir = Path(workdir)
    paths = _run_files(workdir)
    try:
        for path in paths:
            is_step = path.name.isdigit() and path.is_dir()
            foreign = is_step and not (path / "metadata").is_dir()
            if path.parent.is_symlink() or (foreign and any(path.iterdir())):
                raise CheckpointError(
                    f"{str(path)!r} is not this run's: move it away, or choose "
                    "another --workdir"
                )
        deleted = workdir / "checkpoints" / DELETED
        steps = [path for path in paths if path.name.isdigit()]
        for path in (p for p in paths if p not in steps and p.parent == deleted.parent):
            _delete(path)
        # A rename removes a step at once. The newest goes first, so that a kill leaves
        # a run of fewer steps, which can be resumed.
        for path in sorted(steps, key=lambda path: -int(path.name)):
            deleted.mkdir(exist_ok=True)
            path.rename(deleted / path.name)
        for path in (deleted, *paths):
            _delete(path)
        for folder in {path.parent for path in paths} - {workdir}:
            if not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise CheckpointError(
            f"cannot clear {str(workdir)!r}: {error.strerror}: {error.filename}"
        ) from error


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run_files(workdir: Path) -> list[Path]:
    paths = [path for pattern in _RUN_FILES for path in workdir.glob(pattern)]
    # A folder `checkpoints` may also hold other runs; only names by Orbax are a run's.
    ours = re.compile(rf"[0-9]+(\.orbax-checkpoint-tmp.*)?|{DELETED}")
    return [
        p for p in paths if p.parent.name != "checkpoints" or ours.fullmatch(p.name)
    ]


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Writes `config.json`, whole or not at all, on the first process only.

    Raises:
      OSError: it cannot be written.
    """
    if is_primary():
        replace_text(workdir / "config.json", config_to_json(config))


def check_resumable(workdir: Path, config: ConfigDict) -> None:
    """Checks `config.json` against `config`; a folder without that file passes.

    Raises:
      ConfigError: a field differs that the result depends on.
      CheckpointError: `config.json` cannot be read.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        if not path.is_file():  # a pipe would hang
            raise OSError("it is not a file")
        saved = json.loads(path.read_bytes())
        flatten_config(config_from_dict(saved))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({' '.join(str(error).split())}): put it "
            "back as it was, or use --overwrite to delete the run and start again"
        ) from error
    check_same_config(saved, config)


def check_same_config(saved: dict[str, Any], config: ConfigDict) -> None:
    """Checks that a run that was saved with one config may be resumed with another.

    It may be made longer.

    Args:
      saved: the saved config, from JSON.
      config: the config to go on with.

    Raises:
      ConfigError: a field differs that the result depends on.
    """
    old = flatten_config(with_defaults(config_from_dict(saved)))
    text = config_to_json(with_defaults(config))
    new = flatten_config(config_from_dict(json.loads(text)))
    for name in sorted(old.keys() | new.keys()):
        if name in _MAY_CHANGE or (
            name in old and name in new and old[name] == new[name]
        ):
            continue
        if name == "num_epochs" and new[name] > old[name]:
            continue  # see `longer_runs.explain_longer`
        if name == "num_epochs":
            raise ConfigError(
                f"config.num_epochs is {new[name]!r}, but the run to resume has "
                f"{old[name]!r}: give the same or more, or another --workdir"
            )
        if name not in old or name not in new:
            raise ConfigError(
                f"config.{name} is in only one of this config and that of the run to "
                "resume: they are of different versions; name another --workdir"
            )
        raise ConfigError(
            f"config.{name} is {new[name]!r}, but the run to resume has {old[name]!r}: "
            "give the same, or another --workdir"
        )


def check_same_run(
    metadata: dict[str, Any], config: ConfigDict, source: DatasetSource
) -> None:
    """Checks a checkpoint to resume against this run's config and data.

    Raises:
      ConfigError: a field of the config differs, or the data, or an option of JAX.
    """
    # The config in the checkpoint is checked too, because `config.json` may be lost.
    check_same_config(metadata["config"], config)
    check_same_options(metadata.get("options", {}))  # 0.1.0 has none
    saved, found = metadata["dataset"], source.to_dict()
    if (saved["name"], saved["splits"]) != (found["name"], found["splits"]):
        why = f" ({source.fallback_reason})" if source.fallback_for else ""
        raise ConfigError(
            f"the run to resume trained on {saved['name']} {saved['splits']}, but what "
            f"is found now is {found['name']} {found['splits']}{why}: give another "
            "--workdir"
        )


@contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Creates the folder and keeps other runs out of it until the block ends.

    Windows has no such lock: see `take_lock`.

    Raises:
      CheckpointError: another run uses the folder.
      OSError: the folder cannot be created.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if not HAS_LOCKS:
        yield
        return
    folder = os.open(workdir, os.O_RDONLY)
    try:
        if not take_lock(folder):
            raise CheckpointError(
                f"another run is under way in {str(workdir)!r}: wait for it, or name "
                "another --workdir"
            )
        yield
    finally:
        os.close(folder)
