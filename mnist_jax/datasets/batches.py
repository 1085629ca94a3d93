"""Which examples make the batches of an epoch, and how a step takes its own."""

import functools
import math

import jax
import jax.numpy as jnp

from mnist_jax.datasets.arrays import Dataset

Batch = dict[str, jax.Array]


def take_examples(dataset: Dataset, chosen: jax.Array) -> Batch:
    """Returns the batch of the chosen examples, int32 [B]; -1 stands for padding."""
    images, labels = dataset.images[chosen], dataset.labels[chosen]
    return {"image": images, "label": labels, "mask": chosen >= 0}


def take_batch(batches: Batch, place: jax.Array) -> Batch:
    """Returns one of K batches of a stream, that at `place`, int32 []."""
    return jax.tree.map(lambda leaf: leaf[place], batches)


@functools.partial(jax.jit, static_argnames=("num_examples", "batch_size"))
def epoch_indices(
    rng: jax.Array, epoch: jax.Array, *, num_examples: int, batch_size: int
) -> jax.Array:
    """Returns the data order of one epoch, a pure function of `(rng, epoch)`.

    Returns:
      int32 [steps, batch_size]: every example once; the last, short batch is filled
      up with -1.
    """
    order = jax.random.permutation(jax.random.fold_in(rng, epoch), num_examples)
    steps = math.ceil(num_examples / batch_size)
    padding = steps * batch_size - num_examples
    order = jnp.pad(order.astype(jnp.int32), (0, padding), constant_values=-1)
    return order.reshape(steps, batch_size)
