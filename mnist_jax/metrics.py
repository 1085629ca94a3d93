"""The loss, and sums that training and evaluation turn into the same metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

Metrics = dict[str, jax.Array]


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Softmax cross-entropy of each example, in nats.

    Args:
      logits: [B, C].
      labels: int32 [B].
      label_smoothing: share of the target spread evenly over all C classes
        (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Returns:
      float32 [B].
    """
    if not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing
    )
    return optax.softmax_cross_entropy(logits, targets)


def summed_metrics(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Metrics:
    """Sums over the examples that count, so that sums of batches add up exactly.

    Args:
      logits: [B, C].
      labels: int32 [B].
      mask: [B], 1 where the example counts, 0 where it is padding.

    Returns:
      `loss` float32, `correct` int32 and `count` int32: sums over the batch.
    """
    counts = mask.astype(bool)
    loss = jnp.where(counts, cross_entropy(logits, labels), 0.0)
    correct = counts & (jnp.argmax(logits, -1) == labels)
    return {
        "loss": jnp.sum(loss),
        "correct": jnp.sum(correct, dtype=jnp.int32),
        "count": jnp.sum(counts, dtype=jnp.int32),
    }


def mean_metrics(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over all examples of any number of `summed_metrics`.

    Returns:
      `loss` (nats) and `accuracy` (0 to 1), the means; `correct` and `count`, integers.
    """
    # In the 64 bits of Python: sums of many batches outgrow the digits of a float32.
    loss, correct, count = (
        sum(float(each[name]) for each in sums) for name in ("loss", "correct", "count")
    )
    return {
        "loss": loss / count,
        "accuracy": correct / count,
        "correct": int(correct),
        "count": int(count),
    }
