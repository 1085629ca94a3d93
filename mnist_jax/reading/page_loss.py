"""What the page net learns: where digits' centres are, which digits, and their boxes.

A digit is a row of float32 [6]: x and y of its centre, its width and height (pixels of
the picture), its class and its line. A class below 0 marks a digit that is cut or
covered: whatever the net says there is neither right nor wrong. Rows of padding have a
width of 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from mnist_jax.losses import Batch
from mnist_jax.models.page_net import STRIDES

UNIT = 16.0  # pixels, of boxes and offsets
_DIGITS_A_PAGE = 6.0  # about; the losses are of this size
_SPREAD = 8.0  # a target's standard deviation is the box divided by this
_SHARPEST = (2.4, 1.4)  # pixels down and across, the least standard deviation


class Targets(NamedTuple):
    """What the map should be; h x w places."""

    heat: jax.Array  # float32 [B, h, w]: 1 at the place next to a centre, falling off
    counts: jax.Array  # bool [B, h, w]: False where a digit is to be ignored
    box: jax.Array  # float32 [B, h, w, 4]: of the nearest digit, as the net gives it
    digit: jax.Array  # int32 [B, h, w]: its class
    weight: jax.Array  # float32 [B, h, w]: about one digit's worth around each centre


def page_targets(digits: jax.Array, shape: tuple[int, int]) -> Targets:
    """Draws the target maps of digits float32 [B, M, 6] for a map of h x w places."""
    y, x = (
        (jnp.arange(n, dtype=jnp.float32) + 0.5) * s
        for n, s in zip(shape, STRIDES, strict=True)
    )
    centre_x, centre_y, width, height, digit = jnp.moveaxis(digits[..., :5], -1, 0)
    is_digit = (width > 0) & (digit >= 0)
    sharp_y = jnp.maximum(height / _SPREAD, _SHARPEST[0])
    sharp_x = jnp.maximum(width / _SPREAD, _SHARPEST[1])
    # The centre moves to the middle of its place, where the target is then exactly 1.
    at_y = (jnp.floor(centre_y / STRIDES[0]) + 0.5) * STRIDES[0]
    at_x = (jnp.floor(centre_x / STRIDES[1]) + 0.5) * STRIDES[1]

    def bell(place: jax.Array, centre: jax.Array, sharp: jax.Array) -> jax.Array:
        return jnp.exp(-0.5 * ((place - centre[..., None]) / sharp[..., None]) ** 2)

    down = bell(y, at_y, sharp_y) * is_digit[..., None]  # [B, M, h]
    across = bell(x, at_x, sharp_x)  # [B, M, w]
    heat, nearest = _highest_bells(down, across, width > 0)

    def of_nearest(values: jax.Array) -> jax.Array:
        return jax.vmap(lambda v, i: v[i])(values, nearest)

    ignored = (width > 0) & (digit < 0)
    inside_y = jnp.abs(y - centre_y[..., None]) <= height[..., None] / 2 + STRIDES[0]
    inside_x = jnp.abs(x - centre_x[..., None]) <= width[..., None] / 2 + STRIDES[1]
    inside_y &= ignored[..., None]
    hidden = jnp.einsum("bmh,bmw->bhw", inside_y * 1.0, inside_x * 1.0) > 0
    box = [
        jnp.log(jnp.maximum(of_nearest(width), 1.0) / UNIT),
        jnp.log(jnp.maximum(of_nearest(height), 1.0) / UNIT),
        (of_nearest(centre_x) - x) / UNIT,
        (of_nearest(centre_y) - y[:, None]) / UNIT,
    ]
    area = 2 * jnp.pi * of_nearest(sharp_x * sharp_y) / (STRIDES[0] * STRIDES[1])
    return Targets(
        heat=heat,
        counts=~hidden | (heat > 0.5),
        box=jnp.stack(box, -1),
        digit=of_nearest(digit).astype(jnp.int32),
        weight=jnp.where(heat > 0.2, heat, 0) / jnp.maximum(area, 1.0),
    )


def _highest_bells(
    down: jax.Array, across: jax.Array, there: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the highest bell at each place, [B, h, w], and which of M it is.

    Most of the M are padding, so it goes through those alone that some page has: one
    product of all M made a training step longer by a sixth.

    Args:
      down: the bells' heights in each row, [B, M, h].
      across: those in each column, [B, M, w].
      there: which of M are no padding, bool [B, M]; padding comes last.
    """

    def add(i: int, so_far: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        heat, nearest = so_far
        bell = down[:, i, :, None] * across[:, i, None, :]
        return jnp.maximum(heat, bell), jnp.where(bell > heat, i, nearest)

    b, m, h = down.shape
    count = jnp.max(jnp.where(there, jnp.arange(1, m + 1), 0))
    heat = jnp.zeros((b, h, across.shape[2]), down.dtype)
    start = heat, jnp.zeros(heat.shape, jnp.int32)
    highest: tuple[jax.Array, jax.Array] = lax.fori_loop(0, count, add, start)
    return highest


def page_loss(outputs: Any, batch: Batch, config: ConfigDict) -> jax.Array:
    """Returns the loss of each page, float32 [B].

    It is the penalty-reduced focal loss of centres (arXiv:1904.07850, equation 1), the
    cross-entropy of classes, and the distance of boxes (L1), all of them divided by a
    usual number of digits, so that each digit counts alike.

    Args:
      outputs: of `PageNet`, float32 [B, h, w, 5 + classes].
      batch: `label`, the digits, float32 [B, M, 6].
      config: not used.
    """
    targets = page_targets(batch["label"], outputs.shape[1:3])
    centre, box, classes = outputs[..., 0], outputs[..., 1:5], outputs[..., 5:]
    p = jax.nn.sigmoid(centre)
    is_centre = targets.heat > 0.999
    hit = -((1 - p) ** 2) * jax.nn.log_sigmoid(centre)
    false = -((1 - targets.heat) ** 4) * p**2 * jax.nn.log_sigmoid(-centre)
    focal = jnp.where(is_centre, hit, false) * targets.counts
    log_classes = jax.nn.log_softmax(classes)
    chosen = jnp.maximum(targets.digit, 0)[..., None]
    wrong = -jnp.take_along_axis(log_classes, chosen, -1)[..., 0]
    away = jnp.abs(box - targets.box).sum(-1)
    every = focal + targets.weight * (wrong + away)
    return every.sum((1, 2)) / _DIGITS_A_PAGE
