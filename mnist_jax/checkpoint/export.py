"""A trained model made small: the weights alone, in half precision."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp

from mnist_jax.checkpoint.load import Loaded
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.errors import ConfigError
from mnist_jax.run.workdir import has_run, write_config

# Of what a run's checkpoint says, what is true of its weights alone as well.
_KEPT = ("config", "dataset", "temperature")


def export_model(loaded: Loaded, source: Path, workdir: Path) -> None:
    """Writes what `load_model` needs, a sixth of a run's size or less.

    The float16 weights are widened again when they are loaded; their optimizer's state
    is left out, so the run cannot be resumed from it.

    Args:
      loaded: from `load.load_model(source)`.
      source: folder of the run; its `metrics.jsonl` goes along.
      workdir: folder to write, which holds no run.

    Raises:
      ConfigError: there is a run in `workdir`.
      CheckpointError: it cannot be written.
    """
    if has_run(workdir):
        raise ConfigError(f"{str(workdir)!r} holds a run: name another folder")
    weights = jax.tree.map(lambda v: jnp.asarray(v, jnp.float16), loaded.variables)
    state = {"step": jnp.int32(loaded.step), **weights}
    metadata = {k: loaded.metadata[k] for k in _KEPT if k in loaded.metadata}
    # Where the data lay is of no use elsewhere, and no one else's business.
    dataset = metadata["dataset"]
    description = dataset["description"].partition(" from ")[0]
    metadata["dataset"] = {**dataset, "description": description}
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        metrics = loaded.metadata["metrics"]
        score = loaded.metadata.get("score", metrics.get("accuracy"))
        checkpointer.save(state, metadata=metadata, metrics=metrics, score=score)
        checkpointer.verify(loaded.step)
    for note in workdir.rglob("commit_success.txt"):  # Orbax's, with the path
        note.write_text("Checkpoint commit was successful\n")
    write_config(workdir, loaded.config)
    if (source / "metrics.jsonl").exists():
        shutil.copy(source / "metrics.jsonl", workdir)
