"""Takes the weights that a run starts from out of another run: `config.init_from`."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.checkpoint.format import Metadata, types
from mnist_jax.checkpoint.read import (
    check_types,
    checkpoints_folder,
    read_weights,
    reason,
    saved_steps,
    select_steps,
)
from mnist_jax.config import ConfigDict, flatten_config
from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.errors import CheckpointError, ConfigError
from mnist_jax.models.create import init_shapes
from mnist_jax.run.config_files import find_start
from mnist_jax.run.stored_config import config_from_dict
from mnist_jax.tasks import Task


class Start(NamedTuple):
    """Weights to start from.

    Attributes:
      leaves: by path, such as "params/Dense_0/kernel". With S > 1 seeds they have a
        leading axis [S].
      description: one line: where they come from, and which weights are new; or "".
      has_new_head: whether weights are left out, as the classes differ.
    """

    leaves: Mapping[str, np.ndarray]
    description: str
    has_new_head: bool = False


NO_START = Start(MappingProxyType({}), "")


def load_start(
    config: ConfigDict,
    workdir: Path,
    task: Task,
    source: DatasetSource,
    *,
    resume: bool = False,
) -> Start:
    """Loads the weights that `config.init_from` names, for a run that is to begin.

    All weights are taken if both runs have the same classes. If not, those whose shape
    depends on the number of classes, the head, are left to be initialised.

    Args:
      config: of the run that is to begin.
      workdir: its folder; a run that is resumed there has its own weights.
      task: what it learns.
      source: its data set, for the classes.
      resume: whether the run in `workdir` goes on, if it has saved.

    Returns:
      The weights; none if the config names no run, or if the run goes on.

    Raises:
      ConfigError: there are no such weights, or they do not fit the config.
    """
    if not config.init_from or (resume and saved_steps(checkpoints_folder(workdir))):
        return NO_START
    folder = find_start(config.init_from)
    try:
        metadata, leaves = read_weights(folder, select_steps(folder, None))
        leaves, taken = _choose_seeds(metadata, leaves, config.num_seeds)
        head, differences = _check_fit(leaves, metadata, config, task)
    except CheckpointError as error:
        raise ConfigError(f"config.init_from: {error}") from error
    except ConfigError:
        raise
    except Exception as error:  # a stranger's checkpoint may hold anything
        raise ConfigError(
            f"config.init_from: the checkpoint in {str(folder)!r} cannot be used: "
            f"{type(error).__name__}: {reason(error)}"
        ) from error
    description = f"the weights of {config.init_from}, step {metadata['step']:,}{taken}"
    old = tuple(metadata["dataset"]["class_names"])
    has_new_head = old != source.class_names
    if has_new_head:
        leaves = {path: leaf for path, leaf in leaves.items() if path not in head}
        count = f"{len(old)} to {len(source.class_names)}"
        if len(old) == len(source.class_names):
            count = f"those of {metadata['dataset']['name']} to {source.name}'s"
        description += f"; the classes change from {count}, so that the head is new"
    if differences:
        description += f"; {differences}"
    return Start(leaves, description, has_new_head)


def _choose_seeds(
    metadata: Metadata, leaves: dict[str, np.ndarray], num_seeds: int
) -> tuple[dict[str, np.ndarray], str]:
    """Gives each seed the weights of one model; says which, if there are several."""
    there = metadata["config"].get("num_seeds", 1)
    if there == num_seeds:
        return leaves, f", {there} seeds" * (there > 1)
    if there == 1:
        each = {path: np.stack([leaf] * num_seeds) for path, leaf in leaves.items()}
        return each, f", for each of {num_seeds} seeds"
    if num_seeds > there:
        raise ConfigError(
            f"config.init_from: that run has {there} seeds, and this one "
            f"{num_seeds}: set config.num_seeds to {there} or less"
        )
    part = slice(num_seeds) if num_seeds > 1 else 0
    some = {path: leaf[part] for path, leaf in leaves.items()}
    return some, f", the first {num_seeds} of its {there} seeds"


def _check_fit(
    leaves: Mapping[str, np.ndarray], metadata: Metadata, config: ConfigDict, task: Task
) -> tuple[set[str], str]:
    """Checks weights against the config's model.

    Returns:
      The paths of the weights whose shape depends on the number of classes, and fields
      of the model that differ although all weights fit; or "".

    Raises:
      ConfigError: the runs learn different tasks, or their models differ.
    """
    saved = config_from_dict(metadata["config"])
    if (learned := saved.get("task", "digits")) != config.task:
        raise ConfigError(
            f"config.init_from: the run in {config.init_from!r} learned config.task = "
            f"{learned!r}, and this one is to learn {config.task!r}"
        )
    differences = _differences(saved.model, config.model)
    if saved.model.name != config.model.name:
        raise ConfigError(f"config.init_from: {differences}: give the same model")
    classes = metadata["dataset"]["num_classes"]
    expected, larger = (
        types(_shapes(config, task, count)) for count in (classes, classes + 1)
    )
    try:
        check_types(expected, types(leaves), find_start(config.init_from))
    except CheckpointError as error:
        why = f"{differences}: give the same model" if differences else error
        raise ConfigError(f"config.init_from: {why}") from error
    return {path for path in expected if expected[path] != larger[path]}, differences


def _shapes(config: ConfigDict, task: Task, num_classes: int) -> Any:
    """Returns shapes and dtypes of the weights of the config's model, [S, ...]."""
    model = task.create_model(config, num_classes)
    return init_shapes(model, task.image_shape, config.num_seeds)


def _differences(saved: ConfigDict, model: ConfigDict) -> str:
    """Says which fields of the models of two runs differ; "" if none does.

    A field that only one has is of another version, where its default did the same.
    """
    old, new = flatten_config(saved), flatten_config(model)
    return ", ".join(
        f"config.model.{name} is {new[name]!r} and was {old[name]!r} there"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    )
