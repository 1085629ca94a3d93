"""Exports a trained model as a small checkpoint: only weights, in half precision."""

import contextlib
from pathlib import Path

import jax
import jax.numpy as jnp

from mnist_jax.checkpoint.atomic import replace_text
from mnist_jax.checkpoint.load import Loaded
from mnist_jax.checkpoint.read import checkpoints_folder
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError
from mnist_jax.local_files import split_folders
from mnist_jax.run.workdir import clear_run, has_run, write_config

# The metadata of a run's checkpoint that still holds when only its weights are kept.
_KEPT = ("config", "dataset", "no_test_figure", "temperature")


def export_model(loaded: Loaded, source: Path, workdir: Path) -> list[Path]:
    """Writes only what `load_model` needs, in a sixth of a run's size or less.

    Weights are saved as float16, and become float32 again when they are loaded. The
    optimizer's state is left out, so that the run cannot be resumed from this folder.

    Args:
      loaded: from `load.load_model(source)`.
      source: folder of the run, whose `metrics.jsonl` is copied.
      workdir: folder to write into; it must not hold a run.

    Returns:
      The files that were written; the folder may hold others.

    Raises:
      ConfigError: there is a run in `workdir`.
      CheckpointError: the checkpoint cannot be written.
    """
    if has_run(workdir):
        raise ConfigError(f"{str(workdir)!r} holds a run: name another folder")
    try:
        return _write(loaded, source, workdir)
    except BaseException:
        with contextlib.suppress(Exception):
            clear_run(workdir)  # or else the next try would find a run there
        raise


def _write(loaded: Loaded, source: Path, workdir: Path) -> list[Path]:
    weights = jax.tree.map(lambda v: jnp.asarray(v, jnp.float16), loaded.variables)
    state = {"step": jnp.int32(loaded.step), **weights}
    metadata = {k: loaded.metadata[k] for k in _KEPT if k in loaded.metadata}
    # The path of the data is cut off: it is private, and of no use on other machines.
    dataset = metadata["dataset"]
    description = dataset["description"].partition(" from ")[0]
    metadata["dataset"] = {**dataset, "description": description}
    metadata["config"] = _without_paths(loaded.config).to_dict()
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        metrics = loaded.metadata["metrics"]
        score = loaded.metadata.get("score", metrics.get("accuracy"))
        checkpointer.save(state, metadata=metadata, metrics=metrics, score=score)
        checkpointer.verify(loaded.step)
    saved = checkpoints_folder(workdir) / str(loaded.step)
    # Orbax writes the folder's path into this file, which is private as well.
    for note in saved.rglob("commit_success.txt"):
        replace_text(note, "Checkpoint commit was successful\n")
    write_config(workdir, _without_paths(loaded.config))
    written = [path for path in saved.rglob("*") if path.is_file()]
    written.append(workdir / "config.json")
    if (source / "metrics.jsonl").exists():
        text = (source / "metrics.jsonl").read_text("utf-8", "replace")
        replace_text(workdir / "metrics.jsonl", text)
        written.append(workdir / "metrics.jsonl")
    return written


def _without_paths(config: ConfigDict) -> ConfigDict:
    """Leaves of the folders of other weights and of pictures only their names."""
    own = ConfigDict(config.to_dict())
    for field in ("init_from", "data_folder"):
        if field in own:
            folders = split_folders(own[field])
            own[field] = ",".join(Path(folder).name for folder in folders)
    return own.lock()
