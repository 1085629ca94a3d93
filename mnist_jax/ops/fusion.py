"""Keeps XLA from computing one array several times over.

XLA's CPU backend fuses what looks cheap into every operation that reads it, and so
computes it anew for each of them. That can make a training step twice as slow.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def compute_once(x: jax.Array) -> jax.Array:
    """Returns x, which is written to memory once, however many operations read it.

    XLA of jax 0.10 removes this barrier on the CPU before it fuses. Where the cost of
    that is high, use `compute_in_branch`.
    """
    return lax.optimization_barrier(x)


def compute_in_branch(
    stage: Callable[..., Any],
    *args: Any,
    always: jax.Array,
    otherwise: Callable[..., Any],
) -> Any:
    """Returns `stage(*args)`, computed in a branch of a conditional.

    XLA fuses nothing across the border of a branch, in any version. A conditional makes
    a GPU wait for the host, and under `vmap` it turns into a select, which is fused.

    Args:
      stage: what to compute.
      *args: its arguments.
      always: bool [], a condition that holds, but that XLA cannot work out.
      otherwise: what to compute where it does not hold, of the same shape and dtype.
    """
    return lax.cond(always, stage, otherwise, *args)
