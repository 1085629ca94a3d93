"""Infinities and NaN in training: found inside the program, told outside of it."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.checkpoint.format import flatten
from mnist_jax.errors import UserError
from mnist_jax.metrics import Metrics
from mnist_jax.train_state import TrainState


def sums_are_finite(leaves: Iterable[jax.Array]) -> jax.Array:
    """Whether each is free of infinities and NaN; bool [number of leaves].

    By its sum, which is cheap: it is infinite or NaN if one of the terms is.
    """
    return jnp.stack([jnp.isfinite(jnp.sum(jnp.abs(leaf))) for leaf in leaves])


def elements_are_finite(state: TrainState) -> jax.Array:
    """The same of all `float_leaves`, once a call: faster to compile, slower to run."""
    leaves = float_leaves(state).values()
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])


def float_leaves(state: TrainState) -> dict[str, jax.Array]:
    """The leaves that can be infinite or NaN, by path: "params/Dense_0/bias"."""
    return {
        path: leaf
        for path, leaf in flatten(state).items()
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def check_steps(metrics: Metrics, end: int, state: TrainState) -> None:
    """Checks what one call found.

    Args:
      metrics: from `train_steps`; with S seeds its leaves have a leading axis [S].
      end: the number of steps done at the end of that call.
      state: for the names of its leaves; its values are not read.

    Raises:
      UserError: the state or the loss became infinite or NaN, where and when.
    """
    steps, (before, after) = map(
        _of_all_seeds, (metrics["finite"], metrics["finite_state"])
    )
    start = end - len(steps)
    names = list(float_leaves(state))
    weights = [name for name in names if name.startswith("params/")]
    check(names, before, f"was infinite or NaN at step {start}")
    for step, finite in enumerate(steps, start + 1):
        when = f"became infinite or NaN at step {step}"
        check([*weights, "the loss"], finite, when)
    when = f"became infinite or NaN between steps {start + 1} and {end}"
    check(names, after, when)


def check(names: Sequence[str], finite: np.ndarray, what: str) -> None:
    """Raises a `UserError` that says `what` of the names that are not finite, if any.

    Args:
      names: L of them.
      finite: bool [L].
      what: "became infinite or NaN at step 5", say.
    """
    if finite.all():
        return
    bad = [name for name, ok in zip(names, finite, strict=True) if not ok]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    raise UserError(
        f"training diverged: {bad[0]}{more} {what}; lower "
        "config.optimizer.learning_rate, or set config.optimizer.clip_norm=1"
    )


def _of_all_seeds(finite: jax.Array) -> np.ndarray:  # [(S,) K, L] to [K, L]
    each = np.asarray(finite)
    each = each.reshape(-1, *each.shape[-2:])
    return np.logical_and.reduce(each)  # whose type is an array on every NumPy
