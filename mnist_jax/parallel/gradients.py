"""Computes the gradients of a batch in parts: shards, and pieces that fit into a cache.

Each wraps a function of `train_step.py` and keeps its signature.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.losses import Batch
from mnist_jax.parallel.shards import sum_over_shards
from mnist_jax.train_state import TrainState
from mnist_jax.train_step import Gradients

PyTree = Any


def over_shards(gradients: Gradients, num_shards: int) -> Gradients:
    """Wraps `batch_gradients` to sum over the shards of a batch, which devices share.

    Each shard has a key of its own. Statistics of batch norm are averaged.

    Args:
      gradients: `batch_gradients` with its keywords bound.
      num_shards: if above 1, the caller must jit with `shards.jit_over_shards`.
    """
    if num_shards == 1:
        return gradients

    def wrapped(
        state: TrainState, batch: Batch, rng: jax.Array, total: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        def of_shard(shard: Batch, index: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
            own_rng = jax.random.fold_in(rng, index)
            grads, metrics, batch_stats = gradients(state, shard, own_rng, total)
            share = jax.tree.map(lambda leaf: leaf / num_shards, batch_stats)
            return grads, metrics, share

        sums: tuple[PyTree, PyTree, PyTree]
        sums = sum_over_shards(of_shard, num_shards, batch)
        return sums

    return wrapped


def in_pieces(gradients: Gradients, size_of: Callable[[int], int]) -> Gradients:
    """Wraps `loss_gradients` to add up the gradients of pieces of a batch.

    Each piece has a key of its own. A model with batch norm gets the whole batch as one
    piece, because it needs the statistics of the whole batch.

    Args:
      gradients: `loss_gradients` with its keywords bound.
      size_of: maps the size B of a batch to the size of a piece, which divides B.
    """

    def wrapped(
        state: TrainState, batch: Batch, rng: jax.Array, total: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        count = len(batch["mask"])
        num_pieces = 1 if state.batch_stats else count // size_of(count)
        rngs = jax.random.split(rng, num_pieces)
        if num_pieces == 1:
            return gradients(state, batch, rngs[0], total)

        def add(grads: PyTree, piece: tuple[Batch, jax.Array]) -> tuple[PyTree, PyTree]:
            more, outputs, _ = gradients(state, *piece, total)
            return jax.tree.map(jnp.add, grads, more), outputs

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        pieces = jax.tree.map(lambda x: x.reshape(num_pieces, -1, *x.shape[1:]), batch)
        grads, outputs = jax.lax.scan(add, zeros, (pieces, rngs))
        outputs = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), outputs)
        return grads, outputs, state.batch_stats

    return wrapped
