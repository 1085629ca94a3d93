"""Finds the digits that a page net has marked, and counts those that are right."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.losses import Batch
from mnist_jax.models.page_net import STRIDES
from mnist_jax.reading.page_loss import UNIT

MARKED = 0.3  # a centre at least this likely counts as a digit
MOST_MEASURED = 64  # points of a page that are compared with its digits
_MOST_LINES = 32


class Points(NamedTuple):
    """The K likeliest centres of each page, the likeliest first."""

    score: jax.Array  # float32 [B, K]: how likely a centre is here; 0 for padding
    box: jax.Array  # float32 [B, K, 4]: centre x, centre y, width, height, in pixels
    classes: jax.Array  # float32 [B, K, C]: probabilities


def find_points(outputs: jax.Array, count: int) -> Points:
    """Finds the places that are likelier centres than those around them.

    Args:
      outputs: of `PageNet`, float32 [B, h, w, 5 + C].
      count: K.
    """
    b, h, w, _ = outputs.shape
    logits = outputs[..., 0]
    peaks = jnp.where(are_peaks(logits), logits, -jnp.inf).reshape(b, h * w)
    best, places = lax.top_k(peaks, count)
    chosen = jnp.take_along_axis(
        outputs.reshape(b, h * w, -1), places[..., None], axis=1
    )
    return Points(
        score=jax.nn.sigmoid(best),
        box=decode_boxes(chosen, places % w, places // w),
        classes=jax.nn.softmax(chosen[..., 5:]),
    )


def are_peaks(logits: jax.Array) -> jax.Array:
    """Whether each place is as likely as those around it: bool of [B, h, w]."""
    around = lax.reduce_window(logits, -jnp.inf, lax.max, (1, 3, 5), (1, 1, 1), "SAME")
    return logits >= around


def decode_boxes(outputs: jax.Array, across: jax.Array, down: jax.Array) -> jax.Array:
    """Turns outputs into boxes: centre x, centre y, width and height, in pixels.

    Args:
      outputs: of `PageNet` at some places, float32 [..., 5 + C].
      across: column of each place on the map, [...].
      down: its row, [...].

    Returns:
      float32 [..., 4].
    """
    x = (across + 0.5) * STRIDES[1] + outputs[..., 3] * UNIT
    y = (down + 0.5) * STRIDES[0] + outputs[..., 4] * UNIT
    sizes = jnp.exp(jnp.clip(outputs[..., 1:3], -4.0, 5.0)) * UNIT
    return jnp.concatenate([x[..., None], y[..., None], sizes], -1)


class Counts(NamedTuple):
    """What was read of each page, [B] each."""

    found: jax.Array  # int32: points that count
    wanted: jax.Array  # int32: digits
    right: jax.Array  # int32: digits with a point of their class near their centre
    lines: jax.Array  # int32: lines of digits
    lines_right: jax.Array  # int32: of which all is right, with nothing added
    page_right: jax.Array  # bool: the page has digits, and all lines are right
    empty: jax.Array  # bool: the page has no digits
    empty_sure: jax.Array  # bool: it has none, and yet a point is more than 0.9 sure


def count_right(outputs: jax.Array, batch: Batch) -> Counts:
    """Compares points with the digits of `batch["label"]`, float32 [B, M, 6].

    A digit is right if the likeliest of the points that are nearest to it lies within
    half its box and has its class.
    """
    count = min(MOST_MEASURED, outputs.shape[1] * outputs.shape[2])
    points = find_points(outputs, count)
    x, y, width, height, digit, line = jnp.moveaxis(batch["label"], -1, 0)
    there, is_digit = width > 0, (width > 0) & (digit >= 0)
    # How far points [B, K, 1] are from digits [B, 1, M], in halves of their boxes.
    across = jnp.abs(points.box[..., :1] - x[:, None]) / (width[:, None] / 2 + 1)
    down = jnp.abs(points.box[..., 1:2] - y[:, None]) / (height[:, None] / 2 + 1)
    far = jnp.where(there[:, None], jnp.maximum(across, down), jnp.inf)
    nearest = jnp.argmin(far, -1)  # [B, K]
    marked = points.score > MARKED
    is_nearest = jax.nn.one_hot(nearest, x.shape[1], dtype=bool) & marked[..., None]
    near = is_nearest & (far <= 1)
    ignored = jnp.any(near & (there & ~is_digit)[:, None], -1)
    # Points are in the order of their scores, so the first one near is the likeliest.
    first = jnp.argmax(near, 1)  # [B, M]
    found = jnp.take_along_axis(jnp.argmax(points.classes, -1), first, 1)
    right = is_digit & jnp.any(near, 1) & (found == digit)
    counted = marked & ~ignored
    # What is marked but is nobody's likeliest point spoils the line that it is nearest.
    is_first = jax.nn.one_hot(first, count, axis=1, dtype=bool) & near  # [B, K, M]
    extra = counted & ~jnp.any(is_first, -1)
    spoiled = jnp.any(is_nearest & extra[..., None], 1)  # [B, M]
    of_line = jax.nn.one_hot(line.astype(jnp.int32), _MOST_LINES, axis=1, dtype=bool)
    of_line &= is_digit[:, None]
    lines = jnp.any(of_line, -1)
    bad = jnp.any(of_line & (~right | spoiled)[:, None], -1)
    wanted = is_digit.sum(-1)
    sure = points.score * points.classes.max(-1) > 0.9
    return Counts(
        found=counted.sum(-1),
        wanted=wanted,
        right=right.sum(-1),
        lines=lines.sum(-1),
        lines_right=(lines & ~bad).sum(-1),
        page_right=(wanted > 0) & (right.sum(-1) == wanted) & ~jnp.any(extra, -1),
        empty=~jnp.any(there, -1),
        empty_sure=~jnp.any(there, -1) & jnp.any(sure, -1),
    )


def _metric(name: str) -> Any:
    def metric(outputs: jax.Array, batch: Batch) -> jax.Array:
        values: jax.Array = getattr(count_right(outputs, batch), name)
        return values

    return metric


COUNTS = {name: _metric(name) for name in Counts._fields}
