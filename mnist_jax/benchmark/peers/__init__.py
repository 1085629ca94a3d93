"""The work of two configs in other frameworks, written as their users would.

Open `flax_peer.py` first. Peers of configs/seed.py train the same model: conv 3x3x32,
relu, pool, conv 3x3x64, relu, pool, dense 128, relu, dense 10, without padding, in
float32; with Adam; on batches of 128 of data in memory, shuffled in every epoch.
`torch_pages.py` trains the net of configs/page_reader.py. `benchmark.compare` runs each
in a process of its own, by `python -m mnist_jax.benchmark.peers MODULE FOLDER`. MODULE
must have

    def create(work: Work) -> Peer

and, if its outputs are not the logits of classes,

    def loss(outputs: np.ndarray, labels: np.ndarray) -> float

It imports its framework and, of this project, this package only. So it runs where only
that framework is installed.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


class Work(NamedTuple):
    """The work that a peer does.

    Attributes:
      config: `config.to_dict()`, after JSON.
      images: uint8 [N, 28, 28, 1], or [N, H, W, 1] of pages.
      labels: int32 [N], or float32 [N, M, 6] as `reading.page_loss` has them.
    """

    config: dict
    images: np.ndarray
    labels: np.ndarray

    def scaled_images(self) -> np.ndarray:
        """Returns float32 [N, 28, 28, 1], from 0 to 1, for peers that store those."""
        return self.images.astype(np.float32) / 255

    def save(self, folder: Path) -> None:
        """Writes what `load` reads."""
        (folder / "config.json").write_text(json.dumps(self.config))
        np.savez(folder / "data.npz", images=self.images, labels=self.labels)

    @classmethod
    def load(cls, folder: Path) -> "Work":
        """Reads what `save` wrote."""
        config = json.loads((folder / "config.json").read_text())
        with np.load(folder / "data.npz") as data:
            return cls(config, data["images"], data["labels"])


class Peer(Protocol):
    """A model in training."""

    version: str
    num_parameters: int

    def first_step(self) -> None:
        """Trains for as short as possible, and waits for the end."""

    def train(self, seconds: float) -> float:
        """Continues training for about that long; returns images a second."""

    def predict(self, count: int) -> np.ndarray:
        """Returns the outputs [count, ...] of the first images, on the host."""


class StepPeer:
    """What peers share that train step by step.

    Attributes:
      steps: as `rate` takes them.
    """

    steps: Iterator[int]

    def first_step(self) -> None:
        """See `Peer`."""
        next(self.steps)

    def train(self, seconds: float) -> float:
        """See `Peer`."""
        return rate(self.steps, seconds)


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean loss of logits [N, C], in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_total - shifted[np.arange(len(labels)), labels]))


def rate(steps: Iterator[int], seconds: float) -> float:
    """Runs an iterator of steps for about that long.

    Args:
      steps: endless; when it yields, a step is done, and the value is its number of
        images.
      seconds: no step begins after that.

    Returns:
      Images a second.
    """
    images, started = 0, time.perf_counter()
    for count in steps:
        images += count
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            break
    return images / elapsed
