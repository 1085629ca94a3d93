"""Runs a trained model on any number of images."""

import functools
from typing import Any

import jax
import numpy as np

from mnist_jax.checkpoint.load import Loaded
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.datasets.arrays import check_shape
from mnist_jax.evaluate import apply_model, batches_of
from mnist_jax.models.create import Model
from mnist_jax.parallel.placement import Placement
from mnist_jax.tasks import DIGITS, Task

PyTree = Any


def predict_logits(
    model: Model,
    variables: PyTree,
    images: np.ndarray,
    batch_size: int,
    num_shards: int = 1,
    task: Task = DIGITS,
) -> np.ndarray:
    """Runs the model on any number of images.

    Args:
      model: the linen module, or an ensemble.
      variables: what `model.apply` takes.
      images: N > 0 stored images: for digits uint8 [N, 28, 28, 1], white on black.
      batch_size: images in each call.
      num_shards: parts of a batch, which the devices share; it may change the last
        digits of the logits.
      task: says how images are prepared.

    Returns:
      float32 [N, C].

    Raises:
      ArgumentError: images have another shape than the task's, or another dtype.
    """
    check_shape(images, task.image_shape)
    dataset = Dataset(images, np.zeros(len(images), np.int32))
    logits = functools.partial(apply_model, task, model)
    if num_shards > 1:
        logits, placement = _sharded_outputs(task, model, num_shards)
        variables = placement.put(jax.device_get(variables))
    outputs = [
        logits(variables, batch["image"]) for batch in batches_of(dataset, batch_size)
    ]
    return np.concatenate([np.asarray(x, np.float32) for x in outputs])[: len(images)]


def find_temperature(
    model: Model,
    variables: PyTree,
    validation: Dataset | None,
    config: ConfigDict,
    task: Task,
) -> float | None:
    """Fits the divisor of logits that makes confidences honest; None if it cannot.

    Args:
      model: as for `predict_logits`.
      variables: as for `predict_logits`, on any devices.
      validation: images that were held out of training, if there are any.
      config: of the run.
      task: what it learned.
    """
    if validation is None or task.fit_temperature is None:
        return None
    images, labels = validation
    variables, size = jax.device_get(variables), config.eval_batch_size
    logits = predict_logits(model, variables, images, size, config.num_shards, task)
    return task.fit_temperature(logits, labels)


def predict_loaded(
    loaded: Loaded,
    images: np.ndarray,
    num_shards: int = 1,
    batch_size: int | None = None,
) -> np.ndarray:
    """Runs a loaded model on images, which are prepared as in its training.

    Returns:
      float32 [N, C], as `predict_logits`, whose arguments these are.
    """
    size = batch_size or loaded.config.eval_batch_size
    model, variables, task = loaded.model, loaded.variables, loaded.task
    return predict_logits(model, variables, images, size, num_shards, task)


@functools.cache
def _sharded_outputs(task: Task, model: Model, num_shards: int) -> Any:
    placement = Placement(num_shards=num_shards)
    return placement.spread_rows(functools.partial(apply_model, task, model)), placement
