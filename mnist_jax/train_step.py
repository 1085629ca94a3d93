"""The core of training: pure functions of arrays, to be compiled.

`train_steps` is the program that runs: a scan of `train_step` over some of the batches
that `epoch_indices` has put in order.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mnist_jax import ops
from mnist_jax.augment import augment
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset, normalize
from mnist_jax.metrics import Metrics, cross_entropy, summed_metrics
from mnist_jax.parallel import shards
from mnist_jax.run.finite_checks import elements_are_finite, sums_are_finite
from mnist_jax.train_state import TrainState

Batch = dict[str, jax.Array]
PyTree = Any


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
) -> tuple[TrainState, Metrics]:
    """One optimizer step: a pure function, to be jitted with its keywords closed over.

    Args:
      state: the state before.
      batch: `image` uint8 [B, 28, 28, 1], `label` int32 [B] and `mask` bool [B],
        which is False for padding.
      rng: key of the run; the step's own randomness is `fold_in(rng, state.step)`.
      model: the linen module.
      tx: the optimizer.
      config: only `augment`, `label_smoothing`, `ema_decay` and `num_shards` are read;
        more than one shard needs `sharding.jit_over_shards`.

    Returns:
      The state after, and the sums of `summed_metrics` on the batch as it was trained
      on, with augmentation and dropout.
    """
    rng = jax.random.fold_in(rng, state.step)
    total = jnp.sum(batch["mask"], dtype=jnp.float32)
    gradients = functools.partial(
        batch_gradients, state, total=total, model=model, config=config
    )
    if config.num_shards == 1:
        grads, metrics, batch_stats = gradients(batch, rng)
    else:

        def of_shard(shard: Batch, index: jax.Array) -> tuple[PyTree, Metrics, PyTree]:
            own = gradients(shard, jax.random.fold_in(rng, index))
            grads, metrics, batch_stats = own
            share = jax.tree.map(lambda leaf: leaf / config.num_shards, batch_stats)
            return grads, metrics, share

        grads, metrics, batch_stats = shards.sum_over_shards(
            of_shard, config.num_shards, batch
        )
    state = state.apply_gradients(grads, batch_stats, tx, config.ema_decay)
    return state, metrics


def batch_gradients(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    total: jax.Array,
    model: nn.Module,
    config: ConfigDict,
) -> tuple[PyTree, Metrics, PyTree]:
    """The gradients of a batch, or of a shard of it.

    Args:
      state: the state before.
      batch: as in `train_step`.
      rng: key of the augmentation and the dropout.
      total: how many examples count in the whole batch: gradients of its shards add up
        to those of its mean loss.
      model: the linen module.
      config: see `train_step`.

    Returns:
      The gradients, as `state.params`; the sums of `summed_metrics`; and the new
      running statistics of batch norm.
    """
    augment_rng, dropout_rng = jax.random.split(rng)
    images = augment(augment_rng, normalize(batch["image"]), config.augment)
    mask = batch["mask"].astype(jnp.float32)  # [B]

    takes_mask = "mask" in inspect.signature(model.__call__).parameters

    def loss_fn(params: Any, part: Batch) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        own: Any = {"mask": part["mask"]} if takes_mask else {}
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            part["image"],
            train=True,
            rngs={"dropout": part["rng"]},
            mutable=["batch_stats"],
            **own,
        )
        losses = cross_entropy(logits, part["label"], config.label_smoothing)  # [B]
        # Of the whole batch's mean, so that the parts' gradients add up to its own.
        loss = jnp.sum(losses * part["mask"]) / total
        return loss, (logits, updated.get("batch_stats", {}))

    grad_fn = jax.grad(loss_fn, has_aux=True)
    # By the config alone, and alike with one seed or more: each part has its own rng.
    size = ops.micro_batch_size(len(mask), one_core=config.num_shards > 1)
    size = len(mask) if state.batch_stats else size
    parts = {
        "image": images.reshape(-1, size, *images.shape[1:]),
        "label": batch["label"].reshape(-1, size),
        "mask": mask.reshape(-1, size),
        "rng": jax.random.split(dropout_rng, len(mask) // size),
    }
    if size == len(mask):
        part = jax.tree.map(lambda leaf: leaf[0], parts)
        grads, (logits, batch_stats) = grad_fn(state.params, part)
    else:

        def add(grads: Any, part: Batch) -> tuple[Any, jax.Array]:
            more, (logits, _) = grad_fn(state.params, part)
            return jax.tree.map(jnp.add, grads, more), logits

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        grads, logits = jax.lax.scan(add, zeros, parts)
        logits, batch_stats = logits.reshape(len(mask), -1), state.batch_stats
    metrics = summed_metrics(logits, batch["label"], batch["mask"])
    return grads, metrics, batch_stats


def train_steps(
    state: TrainState,
    dataset: Dataset,
    indices: jax.Array,
    rng: jax.Array,
    *,
    step_fn: Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]],
) -> tuple[TrainState, Metrics]:
    """K optimizer steps in one `lax.scan` over a data set that is on the device.

    Args:
      state: the state before; callers donate it.
      dataset: images uint8 [N, 28, 28, 1] and labels int32 [N].
      indices: int32 [K, B], the examples of each step; -1 is padding.
      rng: key of the run.
      step_fn: `train_step` with its keywords bound.

    Returns:
      The state after K steps, and the metrics summed over them, with what was free of
      infinities and NaN: `finite`, bool [K, L + 1], each of the L arrays of weights
      after each step, and its loss; and `finite_state`, bool [2, M], each array of the
      whole state before the first and after the last.
    """

    def body(state: TrainState, chosen: jax.Array) -> tuple[TrainState, Metrics]:
        batch = {
            "image": dataset.images[chosen],
            "label": dataset.labels[chosen],
            "mask": chosen >= 0,
        }
        state, metrics = step_fn(state, batch, rng)
        # A loss can stay finite when weights are not: relu and pooling may drop NaN.
        finite = sums_are_finite([*jax.tree.leaves(state.params), metrics["loss"]])
        return state, {**metrics, "finite": finite}

    # All of the state at every step would cost 2 % of its time. What else than weights
    # is once infinite or NaN stays so.
    before = elements_are_finite(state)
    state, metrics = jax.lax.scan(body, state, indices)
    finite = metrics.pop("finite")
    return state, {
        **{k: jnp.sum(m, axis=0) for k, m in metrics.items()},
        "finite": finite,
        "finite_state": jnp.stack([before, elements_are_finite(state)]),
    }


@functools.partial(jax.jit, static_argnames=("num_examples", "batch_size"))
def epoch_indices(
    rng: jax.Array, epoch: jax.Array, *, num_examples: int, batch_size: int
) -> jax.Array:
    """The data order of one epoch, a pure function of `(rng, epoch)`.

    Returns:
      int32 [steps, batch_size]: every example once; the last, short batch is filled
      up with -1.
    """
    order = jax.random.permutation(jax.random.fold_in(rng, epoch), num_examples)
    steps = math.ceil(num_examples / batch_size)
    padding = steps * batch_size - num_examples
    order = jnp.pad(order.astype(jnp.int32), (0, padding), constant_values=-1)
    return order.reshape(steps, batch_size)
