"""Evaluation: every image of a split counts once, whatever the batch size."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.metrics import Metrics, mean_metrics, summed_metrics
from mnist_jax.models.create import Model
from mnist_jax.parallel.placement import Placement
from mnist_jax.tasks import DIGITS, Task

PyTree = Any
Batch = dict[str, Any]
EvalStep = Callable[[PyTree, Batch], Metrics]


# Task and model are static arguments, so that all callers share what jit compiled.
@functools.partial(jax.jit, static_argnums=(0, 1))
def apply_model(task: Task, model: Model, variables: PyTree, images: jax.Array) -> Any:
    """The model's outputs for images as they are stored."""
    return model.apply(variables, task.prepare(images), train=False)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _eval_step(task: Task, model: Model, variables: PyTree, batch: Batch) -> Metrics:
    outputs = apply_model(task, model, variables, batch["image"])
    return summed_metrics(outputs, batch, task.metrics)


def make_eval_step(
    model: Model, task: Task = DIGITS, placement: Placement | None = None
) -> EvalStep:
    """Returns the jitted `(variables, batch) -> summed metrics` of a model.

    A batch of digits holds `image` uint8 [B, 28, 28, 1], `label` int32 [B] and `mask`
    bool [B], False for padding; the sums are those of `metrics.summed_metrics`.

    Args:
      model: the linen module, or an ensemble.
      task: has the metrics.
      placement: how devices share a batch; None for one device.
    """
    eval_step = functools.partial(_eval_step, task, model)
    return placement.spread_sums(eval_step) if placement else eval_step


def evaluate(
    eval_step: EvalStep,
    variables: PyTree,
    dataset: Dataset,
    batch_size: int,
    mean: Callable[[Sequence[Metrics]], dict[str, float]] = mean_metrics,
) -> dict[str, float]:
    """Evaluates on the whole data set, including the last, short batch.

    Args:
      eval_step: from `make_eval_step`.
      variables: what `model.apply` takes.
      dataset: N > 0 images and labels.
      batch_size: images in each call; any number gives the same counts.
      mean: the task's `mean_metrics`.

    Returns:
      The means over the N images: for digits `loss` (nats) and `accuracy` (0 to 1), and
      the integers `correct` and `count` (N).
    """
    # Sums are fetched only at the end, so that the device never waits for Python.
    sums = [eval_step(variables, batch) for batch in batches_of(dataset, batch_size)]
    return mean(sums)


def batches_of(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Yields batches of one size, as jit compiles for each: zeros fill up the last one.

    Raises:
      ValueError: the data set is empty, or `batch_size` is below 1.
    """
    count = len(dataset.labels)
    if not count or batch_size < 1:
        raise ValueError(f"cannot make batches of {batch_size} of {count} images")
    # A small data set gets a power of two, so that similar sizes compile only once.
    batch_size = min(batch_size, 2 ** (count - 1).bit_length())
    for start in range(0, count, batch_size):
        part = [array[start : start + batch_size] for array in dataset]
        mask = np.arange(batch_size) < len(part[0])
        if padding := batch_size - len(part[0]):
            part = [np.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)) for x in part]
        yield {"image": part[0], "label": part[1], "mask": mask}
