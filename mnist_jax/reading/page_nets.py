"""The two nets that find the digits of a page: whether they are used, and loading."""

from pathlib import Path
from typing import TYPE_CHECKING

from mnist_jax.errors import CheckpointError
from mnist_jax.run.config_files import PRETRAINED_PAGES, PRETRAINED_PROPOSALS

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded


def reads_pages(loaded: "Loaded", read: str) -> bool:
    """Whether a reader with these arguments looks for digits with a page net."""
    names: list[str] = loaded.metadata["dataset"]["class_names"]
    return read != "digit" and names == list("0123456789")


def load_page_net(
    workdir: str | Path = PRETRAINED_PAGES, trust_code: bool = False
) -> "Loaded":
    """Loads a page net from the folder of a run; by default the one that comes along.

    Args:
      workdir: the folder.
      trust_code: see `load.load_model`.

    Raises:
      CheckpointError: the model learned another task; or see `load.load_model`.
    """
    from mnist_jax.checkpoint.load import load_model
    from mnist_jax.reading.page_task import PAGES

    loaded = load_model(workdir, trust_code=trust_code)
    if loaded.task is not PAGES:
        raise CheckpointError(
            f"the run in {str(workdir)!r} is of no page net (config.task = "
            f"{loaded.config.get('task', 'digits')!r}): see configs/page_reader.py"
        )
    return loaded


def load_proposal_net() -> "Loaded":
    """Loads the net that finds where to read; one comes along for all page nets.

    Raises:
      CheckpointError: see `load.load_model`.
    """
    from mnist_jax.checkpoint.load import load_model

    return load_model(PRETRAINED_PROPOSALS)
