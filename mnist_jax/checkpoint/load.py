"""Loads a trained model from the folder of a run, for evaluation and prediction."""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.traverse_util import unflatten_dict

import mnist_jax
from mnist_jax.checkpoint.format import Metadata, types
from mnist_jax.checkpoint.read import (
    check_types,
    checkpoints_folder,
    read_score,
    read_weights,
    reason,
    select_steps,
)
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ArgumentError, CheckpointError, ConfigError
from mnist_jax.models.create import KNOWN_SHAPES, Model, init_shapes, network_name
from mnist_jax.models.ensemble import Ensemble, MovedViews
from mnist_jax.parallel.jax_options import check_options
from mnist_jax.run import saved_programs
from mnist_jax.run.stored_config import check_stored_config, config_from_dict
from mnist_jax.tasks import DIGITS, TASKS, Task, find_task

PyTree = Any


class Loaded(NamedTuple):
    """A trained model: `model.apply(variables, images)` gives logits.

    If the run has several seeds, the model is an `Ensemble` of them all.
    """

    config: ConfigDict
    model: Model
    variables: PyTree  # {"params", "batch_stats"}; averaged params, if there are any
    metadata: Metadata
    step: int
    task: Task = DIGITS

    def __repr__(self) -> str:
        """Returns what it is; the weights would fill screens."""
        about = f"step={self.step}, trained_on={self.metadata['dataset']['name']!r}"
        return f"Loaded(model={self.config.model.name!r}, {about})"

    @property
    def temperature(self) -> float:
        """Divisor of logits that makes confidences honest: see `fit_temperature`."""
        return float(self.metadata.get("temperature", 1.0))

    @property
    def program_key(self) -> str | None:
        """What decides its programs, for `SavedProgram`; None if a user's code does."""
        key = _program_key(self.config, self.metadata["dataset"]["num_classes"])
        if key is None or self.task is not find_task(self.config.get("task", "digits")):
            return None
        # A caller may have put another network here than the config names.
        net = self.model.member if isinstance(self.model, Ensemble) else self.model
        net = net.net if isinstance(net, MovedViews) else net
        return f"{key} {self.model!r}" if _is_own(f"{type(net).__module__}:") else None


def load_model(
    workdir: str | Path, which: str = "latest", *, trust_code: bool = False
) -> Loaded:
    """Loads what evaluation and prediction need; creates and changes no file.

    >>> import numpy as np
    >>> from mnist_jax.run.config_files import PRETRAINED
    >>> loaded = load_model(PRETRAINED)
    >>> images = np.zeros((2, 28, 28, 1), np.float32)  # 0 to 1, white ink on black
    >>> loaded.model.apply(loaded.variables, images).shape  # see also `reader.predict`
    (2, 10)

    Args:
      workdir: folder of a run.
      which: "latest" or "best", by the score on validation. If that step is damaged,
        the next latest or next best is loaded, with a warning.
      trust_code: import code that the checkpoint names, such as "my_package.net:Net",
        from a package that is installed here. Importing runs code, and a stranger's
        checkpoint may name any package.

    Raises:
      CheckpointError: there is no checkpoint, or none can be used.
      ArgumentError: `which` is another word.
      ConfigError: an option of JAX is not what this code is written for.
    """
    if which not in ("latest", "best"):
        raise ArgumentError(f"which={which!r} is neither 'latest' nor 'best'")
    check_options()
    steps = select_steps(workdir, None)
    if which == "best":
        steps = _best_first(workdir, steps)
    metadata, host = read_weights(workdir, steps)
    variables = {"params": {}, "batch_stats": {}} | unflatten_dict(host, sep="/")
    try:
        config = config_from_dict(metadata["config"])
        check_stored_config(config)
        _check_trusted(config, metadata["dataset"].get("name", ""), trust_code)
        task = find_task(config.get("task", "digits"))
        least = 2 if task.has_logits else 1
        _check_dataset(metadata["dataset"], metadata.get("temperature", 1.0), least)
        net = _create_net(task, config, metadata["dataset"]["num_classes"])
        member = task.predictor(net, config)
        num_seeds = config.get("num_seeds", 1)
        expected = init_shapes(net, task.image_shape, num_seeds)
    except Exception as error:  # a stranger's checkpoint may hold anything
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        raise CheckpointError(
            f"the checkpoint in {str(workdir)!r} does not fit this mnist_jax "
            f"{mnist_jax.__version__}: {kind}{reason(error)}"
        ) from error

    model: Model = Ensemble(member, task.has_logits) if num_seeds > 1 else member
    check_types(types(expected), types(variables), workdir)
    variables = jax.device_put(variables)
    return Loaded(config, model, variables, metadata, metadata["step"], task)


def load_classifier(
    workdir: str | Path, which: str = "latest", *, trust_code: bool = False
) -> Loaded:
    """Loads a model as `load_model` does, if it tells classes of 28x28 images apart.

    Raises:
      CheckpointError: the model learned another task; or see `load_model`.
    """
    loaded = load_model(workdir, which, trust_code=trust_code)
    check_classifier(loaded, workdir)
    return loaded


def check_classifier(loaded: Loaded, workdir: str | Path) -> None:
    """Raises a `CheckpointError` if a model learned another task than digits."""
    if not loaded.task.has_logits or loaded.task.image_shape != (28, 28, 1):
        run = (
            f"the run in {str(workdir)!r} learned config.task = {loaded.config.task!r}"
        )
        hint = "use its model from Python, as docs/extending.md does"
        if loaded.config.task in ("pages", TASKS["pages"]):
            hint = "give a page net as --page_workdir, and a net of digits as --workdir"
        raise CheckpointError(
            f"{run}, which is not to tell classes of 28x28 images apart: {hint}"
        )


def _best_first(workdir: str | Path, steps: list[int]) -> list[int]:
    """Returns the steps that have a score, the best first."""
    folder = checkpoints_folder(workdir)
    # A damaged step might be the best. It comes first, so that a warning tells of it.
    scores = {s: read_score(folder / str(s), damaged=math.inf) for s in steps}
    ranked = [s for s in steps if scores[s] is not None]
    if not ranked:
        raise CheckpointError(
            f"no checkpoint in {str(workdir)!r} has a score on validation, "
            "so none is the best; load the latest"
        )
    return sorted(ranked, key=lambda s: -(scores[s] or 0))


def _create_net(task: Task, config: ConfigDict, num_classes: int) -> nn.Module:
    """Creates a network; what an earlier process has traced of it is not traced again.

    Raises:
      ConfigError: see `create_model`.
    """
    key = _program_key(config, num_classes)
    if kept := saved_programs.recall(key):
        shapes = {path: _to_shape(text) for path, text in kept["types"].items()}
        KNOWN_SHAPES[kept["network"]] = unflatten_dict(shapes, sep="/")
    net = task.create_model(config, num_classes)
    if not kept:
        named = types(init_shapes(net, task.image_shape))
        name = network_name(net, task.image_shape)
        saved_programs.keep(key, {"network": name, "types": named})
    return net


def _to_shape(text: str) -> jax.ShapeDtypeStruct:
    """The inverse of `format.types`, of a leaf."""
    dtype, bracket, sizes = text.partition("[")
    return jax.ShapeDtypeStruct(json.loads(bracket + sizes), dtype)


def _program_key(config: ConfigDict, num_classes: int) -> str | None:
    named = (config.model.name, config.get("task", "digits"))
    if not all(map(_is_own, named)):
        return None
    return f"{num_classes} {config.to_json(sort_keys=True)}"


def _is_own(name: str) -> bool:
    """Whether a name of a table, or "module:name", stands for code of this package."""
    return ":" not in name or name.startswith(f"{mnist_jax.__name__}.")


def _check_trusted(config: ConfigDict, dataset: str, trust_code: bool) -> None:
    """Raises an error if a module would be imported that the user does not trust.

    Those of this package are trusted: importing them only defines things.
    """
    fields = (config.get(name, "") for name in ("task", "offline_dataset"))
    names = (config.model.name, dataset, *fields)
    for name in names:
        module = str(name).partition(":")[0]
        if not (_is_own(str(name)) or trust_code or module in sys.modules):
            raise ConfigError(
                f"it names code, {name}: add --trust_code if you know where it is from"
            )


def _check_dataset(dataset: dict[str, Any], temperature: Any, least: int) -> None:
    """Checks values of metadata that has a seal, but which anyone may have made."""
    count = dataset["num_classes"]
    if not (type(count) is int and least <= count <= 1000):
        raise ValueError(f"num_classes is {count!r:.30}")
    names = dataset.get("class_names", [""] * count)
    if not (isinstance(names, list) and len(names) == count):
        raise ValueError(f"{count} classes do not have as many names")
    about = (dataset.get(key, "") for key in ("name", "description", "fallback_for"))
    texts = [*names, *about]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("the data set's names are no texts")
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature!r:.30}")
