"""What is measured and for how long, and how repeats are summed up."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.run.compile_ahead import Program, create_program
from mnist_jax.run.signals import StopFlag
from mnist_jax.tasks import Task, find_task
from mnist_jax.train import train_epoch
from mnist_jax.train_state import TrainState

INFERENCE_IMAGES = 10_000  # as many as MNIST's test split has
NUM_PAGES = 128  # that are trained on again and again, where pages are


@dataclass(frozen=True)
class Workload:
    """What is measured, and for how long.

    Attributes:
      config: task, model, optimizer and batch sizes; as for training.
      dataset: the training images, on the host.
      num_classes: number of logits.
      repeats: how often each quantity is timed.
      seconds: about how long one repeat takes, where that can be chosen.
      profile_dir: folder for a trace of one more repeat of training; None for none.
    """

    config: ConfigDict
    dataset: Dataset
    num_classes: int
    repeats: int
    seconds: float
    profile_dir: str | None = None

    @property
    def task(self) -> Task:
        """What is learned."""
        return find_task(self.config.get("task", "digits"))

    def create_model(self) -> nn.Module:
        """Returns the task's model, as it is trained."""
        return self.task.create_model(self.config, self.num_classes)

    def create_program(self) -> Program:
        """See `compile_ahead.create_program`."""
        num_images = len(self.dataset.labels)
        return create_program(self.config, num_images, self.num_classes, self.task)


def synthetic_dataset(num_images: int) -> Dataset:
    """Makes noise in ten classes, as speed does not depend on what images show.

    A model must be able to learn it, but not too well: a fifth of the labels are wrong,
    since vanishing gradients would be subnormal numbers, which are slow.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, num_images, np.int32)
    images[np.arange(num_images), 2 * labels + 4] = 255  # a line tells the class
    wrong = rng.random(num_images) < 0.2
    return Dataset(images, np.where(wrong, (labels + 1) % 10, labels))


def synthetic_pages(num_pages: int, shape: tuple[int, int]) -> Dataset:
    """Makes noise with bars on it, as marked digits: a bar's grey tells its class.

    Labels are those of `reading.page_loss`, and pages have about as many digits as
    simulated ones. What else pages show costs no time, and this needs no OpenCV.
    """
    rng, (height, width) = np.random.default_rng(0), shape
    images = rng.integers(0, 64, (num_pages, height, width, 1), np.uint8)
    labels = np.zeros((num_pages, 80, 6), np.float32)
    rows, columns = height // 30, width // 16
    for page, count in enumerate(rng.geometric(1 / 5.4, num_pages)):
        places = rng.permutation(rows * columns)[:count]
        for i, place in enumerate(places):
            digit, top, left = rng.integers(10), place // columns * 30, place % columns
            images[page, top : top + 28, 16 * left : 16 * left + 12] = 80 + 17 * digit
            labels[page, i] = (16 * left + 6, top + 14, 12, 28, digit, 0)
    return Dataset(images, labels)


def train_for(
    program: Program, state: TrainState, dataset: Dataset, seconds: float
) -> tuple[TrainState, float, float]:
    """Trains by `train_epoch` until the time is up and its last call has ended.

    Args:
      program: its `train_steps` must be compiled.
      state: the state before; it is donated.
      dataset: on the device.
      seconds: how long to train.

    Returns:
      The state after, images a second, and seconds a step.
    """
    stop, steps = StopFlag(), 0
    totals: dict[str, Any] = {}
    started = time.perf_counter()

    def steps_done(count: int) -> None:
        nonlocal steps
        steps += count
        if time.perf_counter() - started >= seconds:
            stop.signum = signal.SIGTERM

    while not stop.signum:
        state, totals = train_epoch(program, state, dataset, totals, stop, steps_done)
    jax.block_until_ready(state)
    elapsed = time.perf_counter() - started
    return state, float(np.sum(totals["count"])) / elapsed, elapsed / steps


def variables_on_one_device(state: TrainState) -> Any:
    """Returns the state's variables, on one device, where a model predicts."""
    return jax.device_put(jax.device_get(state.variables), jax.devices()[0])


@dataclass(frozen=True)
class Spread:
    """A quantity over repeats, which vary as other programs use the machine too."""

    median: float
    min: float
    lower_quartile: float
    upper_quartile: float
    max: float
    repeats: int

    @classmethod
    def of(cls, samples: Sequence[float] | np.ndarray) -> "Spread":
        """Returns the spread of one sample or more."""
        low, lower, median, upper, high = np.percentile(samples, (0, 25, 50, 75, 100))
        return cls(
            median=float(median),
            min=float(low),
            lower_quartile=float(lower),
            upper_quartile=float(upper),
            max=float(high),
            repeats=np.size(samples),
        )


def format_number(number: float) -> str:
    """Shows three digits, or all digits before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
