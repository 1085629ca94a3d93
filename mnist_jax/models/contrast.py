"""Even contrast: what a model may see in place of the image as it came.

It is a pure function of each image alone, with nothing random and nothing learned. It
is applied in training and in evaluation alike. It hardly changes images like MNIST's.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.models.inputs import check_input
from mnist_jax.ops import compute_once

_PAPER = 0.1  # below this share of the strongest contrast, a pixel counts as paper
_INK = 0.95  # above this share, it counts as full ink


def even_contrast(images: jax.Array) -> jax.Array:
    """Removes lone pixels and the level of the paper, and makes the ink full.

    1. Each pixel is held between the second least and the second greatest of its
       eight neighbours: conservative smoothing, which leaves strokes as they are.
    2. Ink is what differs from the paper, whichever is lighter. The paper's level is
       taken column by column: the median of the column's two ends, where MNIST has a
       margin, and of the level of the whole border.
    3. The strongest contrast (of a mean of 2x2 pixels) becomes 1; what is next to the
       paper's level becomes 0.

    Args:
      images: float [B, H, W, 1] in [0, 1].

    Returns:
      [B, H, W, 1] in [0, 1], of the same dtype, light ink on black. It is computed in
      float32.

    Raises:
      ArgumentError: they have another shape or dtype.
    """
    check_input(images)
    # Each step is computed once. XLA might else repeat it for each pixel that the next
    # step looks at (16 images then take eight times as long as 32, where it does not),
    # or repeat all of it for each tap of a convolution's gradient.
    smooth = compute_once(_hold_between_neighbours(images.astype(jnp.float32)))
    ink = compute_once(jnp.abs(smooth - _paper(smooth)))
    # This lower bound keeps the noise of blank paper faint.
    share = ink / jnp.maximum(_strongest(ink), 0.02)
    even = compute_once(jnp.clip((share - _PAPER) / (_INK - _PAPER), 0.0, 1.0))
    return even.astype(images.dtype)


def _strongest(ink: jax.Array) -> jax.Array:
    """Returns the greatest mean of 2x2 pixels, [B, 1, 1, 1]."""
    pairs = ink[:, 1:] + ink[:, :-1]
    fours = compute_once(pairs[:, :, 1:] + pairs[:, :, :-1])
    return compute_once(jnp.max(fours, axis=(1, 2, 3), keepdims=True) / 4)


def _hold_between_neighbours(images: jax.Array) -> jax.Array:
    height, width = images.shape[1:3]
    padded = compute_once(
        jnp.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
    )
    near = [
        padded[:, down : down + height, across : across + width]
        for down, across in np.ndindex(3, 3)
        if not down == across == 1
    ]
    second_least = _second(near, jnp.minimum, jnp.maximum)
    second_greatest = _second(near, jnp.maximum, jnp.minimum)
    return jnp.clip(images, second_least, second_greatest)


def _second(
    values: Sequence[jax.Array],
    first_of: Callable[[jax.Array, jax.Array], jax.Array],
    last_of: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Returns the second of 2, 4, 8 ... values in an order, by a tournament."""
    pairs = [
        (first_of(a, b), last_of(a, b))
        for a, b in zip(values[::2], values[1::2], strict=True)
    ]
    while len(pairs) > 1:
        pairs = [
            (first_of(a, c), first_of(last_of(a, c), first_of(b, d)))
            for (a, b), (c, d) in zip(pairs[::2], pairs[1::2], strict=True)
        ]
    return pairs[0][1]


def _paper(images: jax.Array) -> jax.Array:
    """Returns the level of the paper, [B, 1, W, 1]."""
    ends = []
    for row in (0, -1):
        end = images[:, row, :, 0]  # [B, W]
        padded = jnp.pad(end, [(0, 0), (1, 1)], mode="edge")
        ends.append(_median(padded[:, :-2], end, padded[:, 2:]))
    sides = [
        images[:, :2],
        images[:, -2:],
        images[:, :, :2],
        images[:, :, -2:],
    ]
    means = jnp.stack([jnp.mean(side, axis=(1, 2, 3)) for side in sides])  # [4, B]
    middle = jnp.sum(means, 0) - jnp.max(means, 0) - jnp.min(means, 0)
    level = jnp.broadcast_to(middle[:, None] / 2, ends[0].shape)
    return _median(ends[0], ends[1], level)[:, None, :, None]


def _median(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.minimum(a, b), jnp.minimum(jnp.maximum(a, b), c))
