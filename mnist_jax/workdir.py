"""The folder of a run: what is in it, and whether another run may use it."""

import json
import re
import shutil
from pathlib import Path

from mnist_jax.checkpoint import DELETED
from mnist_jax.config import ConfigDict, config_from_dict, config_to_json, flatten
from mnist_jax.errors import CheckpointError, ConfigError

_RUN_FILES = (
    "config.json",
    "config.json.tmp",
    "metrics.jsonl",
    "metrics.tmp",
    "tensorboard/events.out.tfevents.*",
    "figures/*.png",
    "checkpoints/*",
)

# Fields that a resumed run may change: they do not enter the computation.
_MAY_CHANGE = ("eval_batch_size", "checkpoint_every_epochs", "max_to_keep")


def has_run(workdir: str | Path) -> bool:
    """Says whether `workdir` holds what a run would resume or overwrite."""
    return bool(_run_files(Path(workdir)))


def clear_run(workdir: str | Path) -> None:
    """Deletes what a run wrote into `workdir`, and no other file there or elsewhere.

    Raises:
      CheckpointError: something in the way is not a run's, or cannot be deleted.
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
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        for folder in {path.parent for path in paths} - {workdir}:
            if not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise CheckpointError(
            f"cannot clear {str(workdir)!r}: {error.strerror}: {error.filename}"
        ) from error


def _run_files(workdir: Path) -> list[Path]:
    paths = [path for pattern in _RUN_FILES for path in workdir.glob(pattern)]
    # A folder `checkpoints` may also hold whole runs: its own are named by Orbax.
    ours = re.compile(rf"[0-9]+(\.orbax-checkpoint-tmp.*)?|{DELETED}")
    return [
        p for p in paths if p.parent.name != "checkpoints" or ours.fullmatch(p.name)
    ]


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Writes `config.json`, whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    temporary = workdir / "config.json.tmp"
    temporary.write_text(config_to_json(config))
    temporary.replace(workdir / "config.json")


def check_same_config(workdir: Path, config: ConfigDict) -> None:
    """Checks that a run may be resumed with `config`; a folder without one passes.

    Raises:
      ConfigError: a field differs that the result depends on.
      CheckpointError: `config.json` cannot be read.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        saved = flatten(config_from_dict(json.loads(path.read_bytes())))
    except (OSError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({' '.join(str(error).split())}): put it "
            "back as it was, or use --overwrite to delete the run and start again"
        ) from error
    wanted = flatten(config_from_dict(json.loads(config_to_json(config))))
    for name in sorted(saved.keys() | wanted.keys()):
        old, new = saved.get(name), wanted.get(name)
        if old != new and name not in _MAY_CHANGE:
            raise ConfigError(
                f"config.{name} is {new!r}, but the run to resume has {old!r}: "
                "give the same, or another --workdir"
            )
