"""Checks models and what they are applied to, when traced: it costs a run nothing."""

from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.errors import ArgumentError


def check_input(images: jax.Array) -> None:
    """Checks that images are as a model takes them, but for their values.

    Raises:
      ArgumentError: they are not floating-point [B, H, W, C], as bytes are, whose scale
        is another one: a model would take them and answer nonsense.
    """
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ArgumentError(
            "a model takes float32 [B, H, W, C], from 0 to 1: got "
            f"{images.dtype} {list(images.shape)} (data.normalize scales bytes)"
        )


def stage_depths(model: Any) -> tuple[int, ...]:
    """Returns how many convolutions each stage has: `model.depths`, or one for each.

    Raises:
      ValueError: they are not one number of 1 or more for each of `model.features`.
    """
    depths = tuple(model.depths) or (1,) * len(model.features)
    are_counts = all(isinstance(depth, int) and depth >= 1 for depth in depths)
    if not are_counts or len(depths) != len(model.features):
        raise ValueError(
            "depths must have a whole number of 1 or more for each of features, got "
            f"{model.depths}"
        )
    return depths
