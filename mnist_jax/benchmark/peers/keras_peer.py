"""Keras on TensorFlow: `fit` and `predict` on arrays in memory.

Its `fit` is a whole epoch, so a repeat of training is one epoch or more. The
compilation is Keras's own choice (`jit_compile="auto"`).
"""

import os
from collections.abc import Iterator

os.environ["KERAS_BACKEND"] = "tensorflow"  # read when keras is imported

import keras
import numpy as np
import tensorflow as tf

from mnist_jax.benchmark.peers import Work, rate

_PREDICT_BATCH = 1000


class KerasPeer:
    """See `peers.Peer`."""

    version = f"{keras.__version__} on tensorflow {tf.__version__}"

    def __init__(self, work: Work) -> None:
        keras.utils.set_random_seed(work.config["seed"])
        self._images, self._labels = work.scaled_images(), work.labels
        self._batch_size = work.config["batch_size"]
        layers = keras.layers
        self._model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
                layers.Dense(10),
            ]
        )
        self._model.compile(
            optimizer=keras.optimizers.Adam(work.config["optimizer"]["learning_rate"]),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=32,  # fewer returns to Python
        )
        self.num_parameters = self._model.count_params()

    def first_step(self) -> None:
        """See `peers.Peer`."""
        self._fit(self._batch_size)

    def train(self, seconds: float) -> float:
        """See `peers.Peer`."""
        return rate(self._train(), seconds)

    def predict(self, count: int) -> np.ndarray:
        """See `peers.Peer`."""
        images = self._images[:count]
        if count <= _PREDICT_BATCH:  # without the cost of `predict`'s loop
            return self._model.predict_on_batch(images)
        return self._model.predict(images, batch_size=_PREDICT_BATCH, verbose=0)

    def _train(self) -> Iterator[int]:
        while True:
            yield self._fit(len(self._labels))

    def _fit(self, count: int) -> int:
        images, labels = self._images[:count], self._labels[:count]
        self._model.fit(images, labels, batch_size=self._batch_size, verbose=0)
        return count


create = KerasPeer
