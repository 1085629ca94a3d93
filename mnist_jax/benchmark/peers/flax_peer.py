"""Flax NNX, step by step, after the manner of Flax's MNIST example."""

from collections.abc import Iterator
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mnist_jax.benchmark.peers import StepPeer, Work

_PREDICT_BATCH = 1000


class PeerCNN(nnx.Module):
    """The net of configs/seed.py."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.max_pool = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(5 * 5 * 64, 128, rngs=rngs)
        self.linear2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 28, 28, 1] to logits [B, 10]."""
        x = self.max_pool(nnx.relu(self.conv1(x)))
        x = self.max_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        return self.linear2(nnx.relu(self.linear1(x)))


@nnx.jit
def _train_step(
    model: PeerCNN, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> jax.Array:
    def loss_fn(model: PeerCNN) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(
            logits=model(images), labels=labels
        ).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def _pred_step(model: PeerCNN, images: jax.Array) -> jax.Array:
    return model(images)


class FlaxPeer(StepPeer):
    """See `peers.Peer`."""

    version = f"{flax.__version__} on jax {jax.__version__}"

    def __init__(self, work: Work) -> None:
        self._images, self._labels = work.scaled_images(), work.labels
        self._batch_size = work.config["batch_size"]
        self._rng = np.random.default_rng(work.config["seed"])
        self._model = PeerCNN(rngs=nnx.Rngs(work.config["seed"]))
        tx = optax.adam(work.config["optimizer"]["learning_rate"])
        self._optimizer = nnx.Optimizer(self._model, tx, wrt=nnx.Param)
        params = jax.tree.leaves(nnx.state(self._model, nnx.Param))
        self.num_parameters = sum(param.size for param in params)
        self.steps = self._train()

    def predict(self, count: int) -> np.ndarray:
        """See `peers.Peer`."""
        starts = range(0, count, _PREDICT_BATCH)
        stops = (min(count, start + _PREDICT_BATCH) for start in starts)
        logits = [
            _pred_step(self._model, jnp.asarray(self._images[start:stop]))
            for start, stop in zip(starts, stops, strict=True)
        ]
        return np.concatenate(logits)

    def _train(self) -> Iterator[int]:
        while True:
            order = self._rng.permutation(len(self._labels))
            for start in range(0, len(order), self._batch_size):
                chosen = order[start : start + self._batch_size]
                images = jnp.asarray(self._images[chosen])
                labels = jnp.asarray(self._labels[chosen])
                loss = _train_step(self._model, self._optimizer, images, labels)
                # Without this, the loop would run ahead of what is done; to wait for
                # each step costs next to nothing beside a step of tens of milliseconds.
                jax.block_until_ready(loss)
                yield len(chosen)


create = FlaxPeer
