"""Metrics are summed over examples, so that all count alike in the means of a split.

To add one, write a function `(outputs, batch) -> values [B]` and a line in `METRICS`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.losses import Batch, cross_entropy

Metrics = dict[str, jax.Array]
Metric = Callable[[Any, Batch], jax.Array]


def negative_log_likelihood(outputs: jax.Array, batch: Batch) -> jax.Array:
    """The loss of each example without label smoothing, in nats; float32 [B]."""
    return cross_entropy(outputs, batch["label"])


def is_correct(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Tells whether the likeliest class is the label; bool [B]."""
    return jnp.argmax(outputs, -1) == batch["label"]


METRICS: dict[str, Metric] = {"loss": negative_log_likelihood, "correct": is_correct}


def summed_metrics(
    outputs: Any, batch: Batch, metrics: Mapping[str, Metric] = METRICS
) -> Metrics:
    """Sums metrics over the examples that count.

    Args:
      outputs: what the model returns; logits [B, C] for `METRICS`.
      batch: `mask` [B] is 1 where the example counts, 0 where it is padding. An example
        of no class, with label -1, does not count.
      metrics: functions by name, which return values [B].

    Returns:
      The sum of each metric, int32 for those of bool values and float32 for others; and
      `count`, int32, the number of examples that count.
    """
    counts = batch["mask"].astype(bool)
    if batch["label"].ndim == 1 and jnp.issubdtype(batch["label"].dtype, jnp.integer):
        counts &= batch["label"] >= 0
    sums = {"count": jnp.sum(counts, dtype=jnp.int32)}
    for name, metric in metrics.items():
        values = metric(outputs, batch)
        dtype = jnp.int32 if values.dtype == bool else None
        sums[name] = jnp.sum(jnp.where(counts, values, 0), dtype=dtype)
    return sums


def mean_metrics(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Turns the `summed_metrics` of any number of batches into means over all examples.

    Returns:
      The mean of each metric: `loss` (nats) and so on. The mean of `correct` is called
      `accuracy` (0 to 1); `correct` itself and `count` are integers.
    """
    # Adds in 64 bits, because a float32 cannot hold the sums of many batches exactly.
    totals = {name: sum(float(each[name]) for each in sums) for name in sums[0]}
    count = totals.pop("count")
    correct = totals.pop("correct", None)
    means = {"loss": totals.pop("loss") / count}
    if correct is not None:
        means["accuracy"] = correct / count
    means |= {name: total / count for name, total in totals.items()}
    if correct is not None:
        means["correct"] = int(correct)
    return {**means, "count": int(count)}
