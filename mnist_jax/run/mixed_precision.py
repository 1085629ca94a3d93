"""Trains in bfloat16: activations, their gradients and products, and nothing else.

Weights, the optimizer's state, statistics of batch norm, logits and losses stay in
float32, as in "Mixed Precision Training" (Micikevicius et al. 2017, arXiv:1710.03740).
A bfloat16 has the range of a float32, so that losses need not be scaled (Kalamkar et
al. 2019, arXiv:1905.12322). Evaluation and prediction are in float32.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mnist_jax.losses import Batch
from mnist_jax.tasks import Task
from mnist_jax.train_state import TrainState
from mnist_jax.train_step import Gradients, loss_gradients

PyTree = Any


def bind_gradients(task: Task, model: nn.Module, config: ConfigDict) -> Gradients:
    """Binds `loss_gradients` to a config, in the dtype that it asks for.

    A model that has a field `dtype`, as linen's own layers do, gets it, and casts where
    it wants. All others get weights and images of that dtype: their layers then compute
    in it, but for those that say otherwise, as last layers do.

    Returns:
      The function `(state, batch, rng, total) -> (gradients, outputs, batch_stats)` of
      `loss_gradients`; all that it takes and returns is float32.
    """
    dtype = compute_dtype(config)
    has_field = "dtype" in model.__dataclass_fields__
    if has_field and dtype != "float32":
        model = model.clone(dtype=dtype)
    bound = functools.partial(loss_gradients, model=model, config=config)
    if has_field or dtype == "float32":
        return functools.partial(bound, task=task)

    def loss(outputs: Any, batch: Batch, config: ConfigDict) -> jax.Array:
        return task.loss(_cast(outputs, "float32"), batch, config)

    bound = functools.partial(bound, task=dataclasses.replace(task, loss=loss))

    def gradients(
        state: TrainState, batch: Batch, rng: jax.Array, total: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        coarse = state.replace(params=_cast(state.params, dtype))  # type: ignore[attr-defined]
        images = _cast(batch["image"], dtype)
        grads, outputs, batch_stats = bound(
            coarse, {**batch, "image": images}, rng, total
        )
        return _cast(grads, "float32"), _cast(outputs, "float32"), batch_stats

    return gradients


def compute_dtype(config: ConfigDict) -> str:
    """Returns the dtype that a run trains in; runs before that field had float32."""
    # Page nets had a dtype of their own before the field.
    default = config.model.kwargs.get("dtype", "float32")
    dtype: str = config.get("compute_dtype", "float32")
    return default if dtype == "float32" else dtype


def _cast(tree: PyTree, dtype: str) -> PyTree:
    """Casts the leaves of float dtypes."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
