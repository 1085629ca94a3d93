"""Metrics as sums over examples, so that training and evaluation agree to the digit.

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
    """Whether the likeliest class is the label; bool [B]."""
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
      metrics: by name, with values [B].

    Returns:
      The sum of each metric, float32, or int32 where it says yes or no; and `count`,
      int32.
    """
    counts = batch["mask"].astype(bool)
    if batch["label"].ndim == 1:
        counts &= batch["label"] >= 0
    sums = {"count": jnp.sum(counts, dtype=jnp.int32)}
    for name, metric in metrics.items():
        values = metric(outputs, batch)
        dtype = jnp.int32 if values.dtype == bool else None
        sums[name] = jnp.sum(jnp.where(counts, values, 0), dtype=dtype)
    return sums


def mean_metrics(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over all examples of any number of `summed_metrics`.

    Returns:
      The mean of each metric: `loss` (nats) and so on. The mean of `correct` is called
      `accuracy` (0 to 1); `correct` itself and `count` are integers.
    """
    # Python's floats have 64 bits: sums of many batches outgrow those of a float32.
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
