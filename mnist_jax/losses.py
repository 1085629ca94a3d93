"""Losses, and `LOSSES`, where a config looks them up by name.

To add one, write a function `(outputs, batch, config) -> float32 [B]` and a line in
`LOSSES`; or name your own by `config.loss = "my_package.losses:focal"`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

Batch = dict[str, jax.Array]
Loss = Callable[[Any, Batch, ConfigDict], jax.Array]


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Softmax cross-entropy of each example, in nats.

    Args:
      logits: [B, C].
      labels: int32 [B]; -1 marks an example of no class. Its target is spread evenly
        over all classes: outlier exposure (Hendrycks et al. 2019, arXiv:1812.04606).
      label_smoothing: share of the target that is spread evenly over all C classes
        (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Returns:
      float32 [B].
    """
    log_probabilities = jax.nn.log_softmax(logits)
    even = -jnp.mean(log_probabilities, axis=-1)
    chosen = jnp.maximum(labels, 0)[:, None]
    right = -jnp.take_along_axis(log_probabilities, chosen, axis=-1)[:, 0]
    share = jnp.where(labels < 0, 1.0, label_smoothing)
    # Without smoothing `even` is left out, because 0 times an infinite loss is NaN.
    return jnp.where(share == 0, right, (1 - share) * right + share * even)


def smoothed_cross_entropy(
    outputs: jax.Array, batch: Batch, config: ConfigDict
) -> jax.Array:
    """`cross_entropy` with `config.label_smoothing`."""
    return cross_entropy(outputs, batch["label"], config.label_smoothing)


LOSSES: dict[str, Loss] = {"cross_entropy": smoothed_cross_entropy}
