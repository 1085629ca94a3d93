"""The strokes of a pen that would write the digit of an image."""

import numpy as np
from PIL import Image

from mnist_jax.drawing.thinning import thin

_FINER = 4  # pixels for each of the image's, so that the skeleton is smooth
_EVERY = 5  # of these pixels, between two points
_SHORTEST = 6  # pixels; shorter twigs of a skeleton are none of its strokes


def strokes_of(image: np.ndarray) -> list[np.ndarray]:
    """Returns the strokes of an image, uint8 [28, 28], white on black.

    Each is float [n, 2]: x and y as shares of the image's side, as the pen goes.
    """
    side = _FINER * image.shape[0]
    larger = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    y, x = np.nonzero(thin(np.asarray(larger) > 110))
    left = [(int(a), int(b)) for a, b in zip(x, y, strict=True)]
    strokes = []
    while left:
        ends = [p for p in left if len(_near(p, left)) == 1]
        stroke = [min(ends or left)]
        left.remove(stroke[0])
        while near := _near(stroke[-1], left):
            stroke.append(min(near, key=lambda p: _bend(stroke, p)))
            left.remove(stroke[-1])
        if len(stroke) >= _SHORTEST:
            points = stroke[:-1:_EVERY] + stroke[-1:]
            strokes.append((np.array(points, float) + 0.5) / side)
    return strokes


def _near(point, others):
    x, y = point
    return [(a, b) for a, b in others if 0 < max(abs(a - x), abs(b - y)) < 2]


def _bend(stroke, point):
    """How far a point is from where the stroke has been going."""
    x, y = np.array(stroke[-1]) + stroke[-1] - stroke[max(0, len(stroke) - 6)]
    return (point[0] - x) ** 2 + (point[1] - y) ** 2
