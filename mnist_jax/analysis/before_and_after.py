"""Compares a run with the one whose weights it started from: `config.init_from`."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_jax.analysis.classification import score_answers
from mnist_jax.checkpoint.load import Loaded, load_model
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.run.config_files import find_start
from mnist_jax.run.inference import predict_loaded


class Change(NamedTuple):
    """What became of a reader's answers on some images.

    Attributes:
      name: of the images, such as "own_test".
      number: of images, N.
      accuracy: before and after, 0 to 1.
      loss: before and after, nats, of calibrated probabilities.
    """

    name: str
    number: int
    accuracy: tuple[float, float]
    loss: tuple[float, float]


def compare_with_start(
    config: ConfigDict,
    workdir: str | Path,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> list[Change]:
    """Reads pictures of the person and of the data set beside them, before and after.

    The answers are those of all seeds together, as `predict.py --read=digit` gives.
    None of the images was trained on.

    Args:
      config: of the run, which has ended.
      workdir: its folder.
      data_dir: as the run had it.
      manual_dir: as the run had it.

    Returns:
      A row for the test images of each data set; none if the run did not start from
      other weights, has no folder of pictures, or learned other classes.

    Raises:
      UserError: data or checkpoints cannot be read.
    """
    base, _, last = config.dataset.rpartition("+")
    if not config.init_from or last != "folder" or config.task != "digits":
        return []
    old, new = load_model(find_start(config.init_from)), load_model(workdir)
    names = [loaded.metadata["dataset"]["class_names"] for loaded in (old, new)]
    if names[0] != names[1]:
        return []
    find = functools.partial(
        resolve_dataset,
        data_dir=data_dir,
        manual_dir=manual_dir,
        offline_dataset=config.offline_dataset,
    )
    own = find(
        config.dataset, data_folder=config.data_folder, validation=config.validation
    )
    split = "own_test" if base else "test"
    parts = {split: load_dataset(own, split)}
    if base:
        others = find(base)
        parts[f"{others.name} test"] = load_dataset(others, "test")
    return compare_models(old, new, parts)


def compare_models(old: Loaded, new: Loaded, parts: dict[str, Dataset]) -> list[Change]:
    """Compares two models of the same classes on images by name."""
    images = np.concatenate([part.images for part in parts.values()])
    ends = np.cumsum([len(part.labels) for part in parts.values()])[:-1]
    names = new.metadata["dataset"]["class_names"]
    logits = [predict_loaded(each, images) / each.temperature for each in (old, new)]
    changes = []
    for (name, part), *both in zip(
        parts.items(), *(np.split(each, ends) for each in logits), strict=True
    ):
        before, after = (score_answers(each, part.labels, names) for each in both)
        accuracy = before.accuracy, after.accuracy
        changes.append(Change(name, after.count, accuracy, (before.nll, after.nll)))
    return changes


def describe_changes(changes: Sequence[Change]) -> str:
    """Returns a table, a line for each row; "" without any."""
    if not changes:
        return ""
    lines = [f"{'right':16}{'before':>9}{'after':>9}   loss before and after"]
    for row in changes:
        before, after = row.accuracy
        lines.append(
            f"{row.name:16}{before:9.2%}{after:9.2%}   "
            f"{row.loss[0]:.4f}  {row.loss[1]:.4f}  of {row.number:,} images"
        )
    return "\n".join(lines)
