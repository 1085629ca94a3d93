"""Looks for infinities and NaN during training.

Inside the compiled program, `watch_step` and `watch_steps` add metrics that say what
was finite. They wrap functions of `train_step.py` and keep their signatures. Outside
of it, `check_steps` reads these metrics and raises an error.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.checkpoint.format import flatten
from mnist_jax.errors import UserError
from mnist_jax.losses import Batch
from mnist_jax.metrics import Metrics
from mnist_jax.train_state import TrainState
from mnist_jax.train_step import TrainStep


def watch_step(train_step: TrainStep) -> TrainStep:
    """Wraps `train_step` to add the metric `finite`, bool [L + 1].

    It has one entry for each of the L arrays of weights after the step, and a last one
    for the step's loss.
    """

    def watched(
        state: TrainState, batch: Batch, rng: jax.Array
    ) -> tuple[TrainState, Metrics]:
        state, metrics = train_step(state, batch, rng)
        # The loss alone is not enough, because relu and pooling may hide a NaN weight.
        finite = sums_are_finite([*jax.tree.leaves(state.params), metrics["loss"]])
        return state, {**metrics, "finite": finite}

    return watched


def watch_steps(train_steps: Any) -> Any:
    """Wraps `train_steps` to add the metric `finite_state`, bool [2, M].

    It has one entry for each of the M arrays of the whole state, before the first step
    and after the last. Looking at the whole state at every step would cost 2 % of the
    time, and is not needed: an infinity or NaN outside of the weights does not go away,
    so it is found at the end of the call.
    """

    def watched(
        state: TrainState, data: Any, indices: jax.Array, rng: jax.Array
    ) -> tuple[TrainState, Metrics]:
        before = elements_are_finite(state)
        state, metrics = train_steps(state, data, indices, rng)
        both = jnp.stack([before, elements_are_finite(state)])
        return state, {**metrics, "finite_state": both}

    return watched


def sums_are_finite(leaves: Iterable[jax.Array]) -> jax.Array:
    """Tells which arrays are free of infinities and NaN; bool [number of arrays].

    It looks only at the sum of magnitudes, which is cheap, and which is infinite or NaN
    if one of the terms is.
    """
    return jnp.stack([jnp.isfinite(jnp.sum(jnp.abs(leaf))) for leaf in leaves])


def elements_are_finite(state: TrainState) -> jax.Array:
    """Tells which of the `float_leaves` are free of infinities and NaN; bool [M].

    It looks at each element. That compiles faster than `sums_are_finite` and runs
    slower.
    """
    leaves = float_leaves(state).values()
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])


def float_leaves(state: TrainState) -> dict[str, jax.Array]:
    """Returns the leaves of float dtypes by path, such as "params/Dense_0/bias"."""
    return {
        path: leaf
        for path, leaf in flatten(state).items()
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def add_metrics(
    totals: dict[str, Any], metrics: Metrics, end: int, state: TrainState
) -> dict[str, Any]:
    """Adds the sums of one call of `train_steps`, which ended at step `end`.

    Raises:
      UserError: the state or the loss became infinite or NaN; says which and when.
    """
    check_steps(metrics, end, state)
    sums = {k: m for k, m in metrics.items() if k not in ("finite", "finite_state")}
    # Adds in 64 bits, because a float32 cannot hold the sums of many batches exactly.
    return {k: totals.get(k, 0) + np.asarray(sums[k], np.float64) for k in sums}


def check_steps(metrics: Metrics, end: int, state: TrainState) -> None:
    """Checks the metrics of one call of `train_steps` for infinities and NaN.

    Args:
      metrics: from `train_steps`; with S seeds its leaves have a leading axis [S].
      end: the number of steps done at the end of that call.
      state: for the names of its leaves; its values are not read.

    Raises:
      UserError: the state or the loss became infinite or NaN; says which and when.
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
    """Raises a `UserError` if something is not finite.

    Args:
      names: of L arrays.
      finite: bool [L].
      what: what the error says of them, such as "became infinite or NaN at step 5".
    """
    if finite.all():
        return
    bad = [name for name, ok in zip(names, finite, strict=True) if not ok]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    raise UserError(
        f"training diverged: {bad[0]}{more} {what}; lower "
        "config.optimizer.learning_rate, or set config.optimizer.clip_norm=1"
    )


def check_losses(losses: Sequence[float], what: str) -> None:
    """Raises a `UserError` if the loss of a seed on held-out images is not finite."""
    check(["the loss on images held out"], np.isfinite([losses]).all(axis=1), what)


def _of_all_seeds(finite: jax.Array) -> np.ndarray:  # [(S,) K, L] to [K, L]
    each = np.asarray(finite)
    each = each.reshape(-1, *each.shape[-2:])
    return np.logical_and.reduce(each)  # typed as an array by every NumPy, unlike all()
