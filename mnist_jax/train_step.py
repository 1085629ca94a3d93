"""The core of training: pure functions of arrays, to be compiled.

`train_step` computes loss and gradient and updates the state. `train_steps` is what a
run compiles and calls: it scans `train_step` over several batches. Micro-batches,
shards and the watch for infinities are wrappers around these functions: see
`parallel.gradients` and `run.finite_checks`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mnist_jax.losses import Batch
from mnist_jax.metrics import Metrics, summed_metrics
from mnist_jax.tasks import Task
from mnist_jax.train_state import TrainState

PyTree = Any
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
Gradients = Callable[
    [TrainState, Batch, jax.Array, jax.Array], tuple[PyTree, PyTree, PyTree]
]


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    gradients: Gradients,
    tx: optax.GradientTransformation,
    ema_decay: float,
) -> tuple[TrainState, Metrics]:
    """Does one optimizer step. It is pure; bind its keywords before jitting it.

    Args:
      state: the state before the step.
      batch: for digits `image` uint8 [B, 28, 28, 1], `label` int32 [B] and `mask`
        bool [B], which is False for padding.
      rng: key of the run; the step's own randomness is `fold_in(rng, state.step)`.
      gradients: `batch_gradients` with its keywords bound, or a wrapper of it.
      tx: the optimizer.
      ema_decay: see `TrainState.apply_gradients`.

    Returns:
      The state after the step, and the sums of `summed_metrics` on the batch as it was
      trained on, with augmentation and dropout.
    """
    rng = jax.random.fold_in(rng, state.step)
    total = jnp.sum(batch["mask"], dtype=jnp.float32)
    grads, metrics, batch_stats = gradients(state, batch, rng, total)
    return state.apply_gradients(grads, batch_stats, tx, ema_decay), metrics


def batch_gradients(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    total: jax.Array,
    *,
    loss_gradients: Gradients,
    task: Task,
    config: ConfigDict,
) -> tuple[PyTree, Metrics, PyTree]:
    """Augments a batch, or a shard of one; then computes its gradients and metrics.

    Args:
      state: the state before the step.
      batch: as in `train_step`.
      rng: key of the augmentation and the dropout.
      total: see the function `loss_gradients` below.
      loss_gradients: that function with its keywords bound, or a wrapper of it.
      task: prepares and augments images, and has the metrics.
      config: for the augmentation.

    Returns:
      The gradients, as `state.params`; the sums of `summed_metrics`; and the new
      running statistics of batch norm.
    """
    augment_rng, dropout_rng = jax.random.split(rng)
    batch = {**batch, "image": task.prepare(batch["image"])}
    batch = task.augment(augment_rng, batch, config)
    grads, outputs, batch_stats = loss_gradients(state, batch, dropout_rng, total)
    return grads, summed_metrics(outputs, batch, task.metrics), batch_stats


def loss_gradients(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    total: jax.Array,
    *,
    task: Task,
    model: nn.Module,
    config: ConfigDict,
) -> tuple[PyTree, PyTree, PyTree]:
    """Differentiates the loss of a batch of prepared images, or of a piece of one.

    Args:
      state: the state before the step.
      batch: `image` float32, and whatever else the loss and the model read. The model
        receives the entries that its `__call__` names, such as `mask`.
      rng: key of the dropout.
      total: number of examples that count in the whole batch. The loss is divided by
        it, so that the gradients of pieces add up to that of the batch's mean loss.
      task: has the loss.
      model: the linen module.
      config: for the loss.

    Returns:
      The gradients; the model's outputs; and the new running statistics.
    """
    wanted = inspect.signature(type(model).__call__).parameters
    named: Any = {k: v for k, v in batch.items() if k in wanted and k != "image"}

    def loss_fn(params: PyTree) -> tuple[jax.Array, tuple[PyTree, PyTree]]:
        outputs, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"],
            train=True,
            rngs={"dropout": rng},
            mutable=["batch_stats"],
            **named,
        )
        losses = task.loss(outputs, batch, config)  # [B]
        loss = jnp.sum(losses * batch["mask"].astype(jnp.float32)) / total
        return loss, (outputs, updated.get("batch_stats", {}))

    grads, (outputs, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.params)
    return grads, outputs, batch_stats


def train_steps(
    state: TrainState,
    data: Any,
    indices: jax.Array,
    rng: jax.Array,
    *,
    step_fn: TrainStep,
    take: Callable[[Any, jax.Array], Batch],
) -> tuple[TrainState, Metrics]:
    """Does K optimizer steps in one `lax.scan` over data that is on the device.

    Args:
      state: the state before the first step; callers donate it.
      data: a `Dataset`, or K batches of a stream.
      indices: int32 [K, B], the examples of each step, where -1 is padding; or, for a
        stream, int32 [K], the place of each step's batch in `data`.
      rng: key of the run.
      step_fn: `train_step` with its keywords bound.
      take: maps (data, indices of a step) to its batch.

    Returns:
      The state after K steps, and the metrics summed over the steps. Metrics that are
      not scalars are stacked [K, ...] instead.
    """

    def body(state: TrainState, chosen: jax.Array) -> tuple[TrainState, Metrics]:
        return step_fn(state, take(data, chosen), rng)

    state, metrics = jax.lax.scan(body, state, indices)
    return state, {k: m.sum(axis=0) if m.ndim == 1 else m for k, m in metrics.items()}
