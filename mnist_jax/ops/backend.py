"""Chooses between a CPU's own way of an operation and XLA's native one."""

from collections.abc import Callable
from typing import Any

from jax import lax


def by_platform(cpu: Callable[..., Any], native: Callable[..., Any], *args: Any) -> Any:
    """Runs `cpu(*args)` where the program is lowered for a CPU, else `native(*args)`.

    The choice is made when a program is lowered, not when it is traced, so a program
    that a CPU machine lowers for a GPU is right too.
    """
    return lax.platform_dependent(*args, cpu=cpu, default=native)
