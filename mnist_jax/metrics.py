"""The loss, and sums that training and evaluation turn into the same metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Metrics = dict[str, jax.Array]


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Softmax cross-entropy of each example, in nats.

    Args:
      logits: [B, C].
      labels: int32 [B]; -1 for what is of no class, whose target is spread evenly over
        all: outlier exposure (Hendrycks et al. 2019, arXiv:1812.04606).
      label_smoothing: share of the target spread evenly over all C classes
        (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Returns:
      float32 [B].
    """
    log_probabilities = jax.nn.log_softmax(logits)
    even = -jnp.mean(log_probabilities, axis=-1)
    chosen = jnp.maximum(labels, 0)[:, None]
    right = -jnp.take_along_axis(log_probabilities, chosen, axis=-1)[:, 0]
    share = jnp.where(labels < 0, 1.0, label_smoothing)
    # Not a weighted sum alone: 0 times an infinite loss is NaN.
    return jnp.where(share == 0, right, (1 - share) * right + share * even)


def summed_metrics(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Metrics:
    """Sums over the examples that count, so that sums of batches add up exactly.

    Args:
      logits: [B, C].
      labels: int32 [B]; what is of no class, -1, does not count.
      mask: [B], 1 where the example counts, 0 where it is padding.

    Returns:
      `loss` float32, `correct` int32 and `count` int32: sums over the batch.
    """
    counts = mask.astype(bool) & (labels >= 0)
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


def confusion_matrix(
    labels: np.ndarray, answers: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts int64 [C, C]: row i, column j is how often an i was taken for a j."""
    cells = np.bincount(labels * num_classes + answers, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)
