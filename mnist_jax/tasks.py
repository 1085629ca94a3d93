"""What is learned: a task is data, model, loss and metrics in one record.

`TASKS` has the tasks by name. Reading 28x28 digits is the default. To add one, write a
`Task` and a line in `TASKS`; or name one of your own with
`config.task = "my_package.task:TASK"`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from mnist_jax.augment import augment, check_augmentations
from mnist_jax.calibration import fit_temperature
from mnist_jax.data import Splits, load_splits, normalize
from mnist_jax.errors import ConfigError, lookup
from mnist_jax.losses import LOSSES, Batch, Loss
from mnist_jax.metrics import METRICS, Metric, mean_metrics
from mnist_jax.models.create import create_model
from mnist_jax.models.ensemble import for_prediction


class BestMetric(NamedTuple):
    """Says which metric on validation decides which checkpoint is the best."""

    name: str  # a key of what the task's `mean_metrics` returns
    short_name: str  # for a narrow column of the console
    format: str = ".2%"
    lower_is_better: bool = False

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Returns a number that is higher for better metrics, or None without any."""
        value = metrics.get(self.name)
        return -value if value is not None and self.lower_is_better else value


@dataclass(frozen=True, eq=False)  # hashed by identity, so that jit takes it as static
class Task:
    """All that training and evaluation know about what is learned.

    Batches are dicts of arrays with a leading axis [B]: `image`, `label`, `mask` (False
    for padding), and whatever else the task's loss, metrics or model read.

    Attributes:
      load_splits: maps (config, data_dir, manual_dir) to `Splits`, whose `train` is a
        `Dataset` that lives on the device, or a `Stream` that workers make ahead.
      create_model: maps (config, number of classes) to a linen module.
      image_shape: shape of one image, such as (28, 28, 1), to initialise the model.
      prepare: turns stored images into the model's input; runs on the device.
      augment: maps (rng, batch of prepared images, config) to a randomly changed batch.
      loss: maps (outputs, batch, config) to float32 [B].
      metrics: functions by name that map (outputs, batch) to values [B]; one is "loss".
      mean_metrics: turns the metrics' sums over batches into the reported means.
      best: says which checkpoint is the best.
      describe: turns the result of `mean_metrics` into one line for the user.
      predictor: wraps (trained model, config) for prediction, to average views, say.
      check: raises a `ConfigError` if fields that the task reads cannot be used.
      fit_temperature: maps outputs and labels of validation to what outputs are divided
        by, so that confidences are honest; None if outputs are not logits.
      images_per_call: about how many images one call of `train_steps` takes: enough
        that Python costs nothing, few enough that a run ends soon after a signal.
      next_script: which of `scripts/` uses the trained model, as a hint to the user.
    """

    load_splits: Callable[[ConfigDict, str | None, str | None], Splits]
    create_model: Callable[[ConfigDict, int], nn.Module]
    image_shape: tuple[int, ...]
    prepare: Callable[[jax.Array], jax.Array]
    augment: Callable[[jax.Array, Batch, ConfigDict], Batch]
    loss: Loss
    metrics: Mapping[str, Metric]
    mean_metrics: Callable[[Sequence[Mapping[str, Any]]], dict[str, float]]
    best: BestMetric
    describe: Callable[[dict[str, float]], str]
    predictor: Callable[[nn.Module, ConfigDict], Any] = lambda net, config: net
    check: Callable[[ConfigDict], None] = lambda config: None
    fit_temperature: Callable[[np.ndarray, np.ndarray], float] | None = None
    images_per_call: int = 2048
    next_script: str = ""

    def __post_init__(self) -> None:
        """Raises a `ValueError` if there is no loss among the metrics."""
        if "loss" not in self.metrics:
            raise ValueError("a task needs a metric of the name 'loss'")

    @property
    def has_logits(self) -> bool:
        """Whether outputs are logits, whose probabilities can be averaged."""
        return self.fit_temperature is not None


def find_task(name: str) -> Task:
    """Returns the task that `config.task` names.

    Raises:
      ConfigError: there is no such task, or the name stands for something else.
    """
    task = lookup(name, TASKS, "config.task")
    if name in TASKS:  # imported only now, because tasks may import this file
        task = lookup(task, {}, "config.task")
    if not isinstance(task, Task):
        raise ConfigError(f"config.task = {name!r} is no mnist_jax.tasks.Task")
    return task


TASKS: dict[str, str] = {
    "digits": "mnist_jax.tasks:DIGITS",
    "pages": "mnist_jax.reading.page_task:PAGES",
    "page_proposals": "mnist_jax.reading.page_task:PROPOSALS",
}


def _create_classifier(config: ConfigDict, num_classes: int) -> nn.Module:
    return create_model(config.model, num_classes)


def _augment_images(rng: jax.Array, batch: Batch, config: ConfigDict) -> Batch:
    own = config.get("augment_with", ())  # older configs lack this field
    images = augment(rng, batch["image"], config.augment, own)
    return {**batch, "image": images}


def _configured_loss(outputs: Any, batch: Batch, config: ConfigDict) -> jax.Array:
    return _find_loss(config.get("loss", "cross_entropy"))(outputs, batch, config)


def _find_loss(name: str) -> Loss:
    # Not kept: in a notebook, a name may mean another function each time.
    loss: Loss = lookup(name, LOSSES, "config.loss")
    return loss


def _check_fields(config: ConfigDict) -> None:
    _find_loss(config.get("loss", "cross_entropy"))
    check_augmentations(config.augment, config.get("augment_with", ()))


def _describe_accuracy(test: dict[str, float]) -> str:
    share, count = f"{test['accuracy']:.2%}", f"{int(test['count']):,} images"
    if "num_seeds" not in test:
        wrong = test["count"] - test["correct"]
        loss = f"loss {test['loss']:.4f}"
        return f"{share} of {count} right ({wrong} wrong), {loss}"
    return (
        f"{test['accuracy']:.3%} of {count} right (sd {100 * test['accuracy_sd']:.3f} "
        f"%, n = {test['num_seeds']}), loss {test['loss']:.4f} "
        f"(sd {test['loss_sd']:.4f})"
    )


DIGITS = Task(
    load_splits=load_splits,
    create_model=_create_classifier,
    image_shape=(28, 28, 1),
    prepare=normalize,
    augment=_augment_images,
    loss=_configured_loss,
    metrics=METRICS,
    mean_metrics=mean_metrics,
    best=BestMetric("accuracy", "acc."),
    describe=_describe_accuracy,
    predictor=for_prediction,
    check=_check_fields,
    fit_temperature=fit_temperature,
    next_script="predict.py",
)
