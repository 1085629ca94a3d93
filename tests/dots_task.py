"""A task that differs from digits in everything: dots are to be found in noise.

Images are 12x20, the output is a map as large, and loss, metrics and what "best" means
are its own. The training data is a stream.
"""

import os
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from helpers import make_tiny_config

from mnist_jax.data import Dataset, Splits
from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.datasets.stream import Stream
from mnist_jax.tasks import BestMetric, Task

SHAPE = (12, 20)


class DotNet(nn.Module):
    """Two convolutions; maps [B, 12, 20, 1] to logits [B, 12, 20]."""

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.Conv(self.features, (3, 3))(images))
        return nn.Conv(1, (1, 1))(x)[..., 0]


def make_batch(seed, step, batch_size):
    """Noise with one bright dot; a pure function of seed and step."""
    if folder := os.environ.get("DOTS_FOLDER"):  # where a test counts the batches
        (Path(folder) / str(step)).touch()
    if str(step) == os.environ.get("DOTS_FAIL_AT"):
        raise RuntimeError("no ink\nis left")
    rng = np.random.default_rng((seed, step))
    images = rng.integers(0, 128, (batch_size, *SHAPE, 1), np.uint8)
    labels = np.zeros((batch_size, *SHAPE), np.float32)
    row = rng.integers(0, SHAPE[0], batch_size)
    column = rng.integers(0, SHAPE[1], batch_size)
    images[np.arange(batch_size), row, column] = 255
    labels[np.arange(batch_size), row, column] = 1
    return {"image": images, "label": labels, "mask": np.ones(batch_size, bool)}


def make_growing_batch(seed, step, batch_size):
    return {"image": np.zeros((batch_size, 2 + step))}


def exit_at_once(seed, step, batch_size):
    os._exit(9)


def load_splits(config, data_dir, manual_dir):
    def held_out(seed, count):
        batch = make_batch(seed, -1 % 2**32, count)
        return Dataset(batch["image"], batch["label"])

    lengths = {"train": (80,), "validation": (20,), "test": (30,)}
    source = DatasetSource("dots", "dots, made", ("nothing", "dot"), "", {}, lengths)
    workers = int(os.environ.get("DOTS_WORKERS", 2))
    train = Stream(make_batch, 80, workers)
    return Splits(source, train, held_out(2**20, 20), held_out(2**20 + 1, 30))


def create_model(config, num_classes):
    return DotNet(num_classes, **config.model.kwargs)


def loss(outputs, batch, config):
    losses = optax.sigmoid_binary_cross_entropy(outputs, batch["label"])
    return losses.mean((1, 2))


def log_loss(outputs, batch):
    return loss(outputs, batch, None)


def misses(outputs, batch):
    """Whether the likeliest place is not that of the dot."""
    flat = len(outputs), -1
    found = jnp.argmax(outputs.reshape(flat), -1)
    return found != jnp.argmax(batch["label"].reshape(flat), -1)


def mean_metrics(sums):
    total = {name: sum(float(each[name]) for each in sums) for name in sums[0]}
    count = total.pop("count")
    return {**{k: v / count for k, v in total.items()}, "count": int(count)}


TASK = Task(
    load_splits=load_splits,
    create_model=create_model,
    image_shape=(*SHAPE, 1),
    prepare=lambda images: images.astype(jnp.float32) / 255,
    augment=lambda rng, batch, config: batch,
    loss=loss,
    metrics={"loss": log_loss, "misses": misses},
    mean_metrics=mean_metrics,
    best=BestMetric("misses", "misses", lower_is_better=True),
    describe=lambda test: f"{test['misses']:.0%} of {test['count']} dots missed",
    images_per_call=20,
)


def make_config():
    config = make_tiny_config()
    config.task = "dots_task:TASK"
    config.dataset = "dots"
    config.batch_size = 8
    config.num_epochs = 3
    config.model.name = "dots"
    config.model.kwargs = {"features": 4}
    return config
