"""The same work in other frameworks, as their users would write it, to compare with.

The work is that of configs/seed.py: conv 3x3x32, relu, pool, conv 3x3x64, relu, pool,
dense 128, relu, dense 10, without padding; float32; Adam; batches of 128 of data in
memory, all of it shuffled in every epoch. `mnist_jax.benchmark.compare` runs each peer
in a process of its own, by `python -m mnist_jax.benchmark.peers MODULE FOLDER`, where
MODULE has

    def create(work: Work) -> Peer

A peer's module imports its framework at the top, and nothing else of this project but
this package, so it runs in an environment that has only that framework.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


class Work(NamedTuple):
    """What a peer is to do.

    Attributes:
      config: `config.to_dict()`, after JSON.
      images: uint8 [N, 28, 28, 1].
      labels: int32 [N].
    """

    config: dict
    images: np.ndarray
    labels: np.ndarray

    def scaled_images(self) -> np.ndarray:
        """float32 [N, 28, 28, 1], 0 to 1: for those that keep them so in memory."""
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
        """Trains for as little as it can, and waits for the end."""

    def train(self, seconds: float) -> float:
        """Trains on for about that long; returns images a second."""

    def predict(self, count: int) -> np.ndarray:
        """Returns the logits [count, 10] of the first images, on the host."""


def rate(steps: Iterator[int], seconds: float) -> float:
    """Takes steps, each done when it is yielded, for about that long.

    Args:
      steps: without end; yields the number of images of each.
      seconds: after which no other is begun.

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
