"""Checks what a model is applied to, when it is traced: it costs a run nothing."""

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
