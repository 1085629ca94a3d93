"""Checks models and what they are applied to, when traced: it costs a run nothing."""

from collections.abc import Sequence

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


def pair_stages(
    features: Sequence[int], depths: Sequence[int]
) -> list[tuple[int, int]]:
    """Returns channels and number of convolutions of each stage.

    Args:
      features: channels of each stage.
      depths: convolutions of each stage; empty for one each.

    Raises:
      ValueError: `depths` are not one number of 1 or more for each of `features`.
    """
    counts = tuple(depths) or (1,) * len(features)
    are_counts = all(isinstance(count, int) and count >= 1 for count in counts)
    if not are_counts or len(counts) != len(features):
        raise ValueError(
            "depths must have a whole number of 1 or more for each of features, got "
            f"{depths}"
        )
    return list(zip(features, counts, strict=True))
