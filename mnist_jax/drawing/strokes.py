"""Draws curves with a pen: digits and signs that are given by points on their strokes.

A figure is text: strokes between slashes, each of points "x,y" in percent of a box, y
downwards. A curve goes through the points of a stroke; one with "!" is a corner. A 7
with a bar is "0,4 95,0! 40,100 / 22,52 92,48".
"""

import functools
from collections.abc import Sequence

import numpy as np

from mnist_jax.drawing.masks import crop_mask
from mnist_jax.drawing.opencv import load_opencv

Strokes = Sequence[np.ndarray]  # float [n, 2] each: (x, y)

_STEPS = 8  # of a curve between two points
_SHIFT = 4  # binary digits of OpenCV's coordinates after the point


@functools.cache
def parse_figure(figure: str) -> tuple[np.ndarray, ...]:
    """Returns the points of each stroke of a figure, float [n, 2], in a unit box.

    A corner is two equal points.
    """
    strokes = []
    for stroke in figure.split("/"):
        points = []
        for word in stroke.split():
            x, y = (float(number) / 100 for number in word.rstrip("!").split(","))
            points += [(x, y)] * (2 if word.endswith("!") else 1)
        strokes.append(np.array(points))
    return tuple(strokes)


@functools.cache
def _basis() -> np.ndarray:
    """Weights of four points for the steps of a Catmull-Rom curve, [steps, 4]."""
    t = np.linspace(0, 1, _STEPS, endpoint=False)[:, None]
    powers = np.concatenate([t**0, t, t**2, t**3], axis=1)
    matrix = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    return powers @ matrix / 2


def smooth_stroke(points: np.ndarray) -> np.ndarray:
    """Returns points of a curve through the points of a stroke, float [m, 2]."""
    if len(points) < 3:
        return points
    ends = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    padded = np.concatenate([ends[:1], points, ends[1:]])
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], 1)
    curve = np.einsum("sk,nkd->nsd", _basis(), windows).reshape(-1, 2)
    return np.concatenate([curve, points[-1:]])


def jitter_figure(
    rng: np.random.Generator, strokes: Strokes, amount: float
) -> list[np.ndarray]:
    """Moves the points of strokes; those of a corner move together.

    Args:
      rng: the movements are drawn from it.
      strokes: in a unit box.
      amount: standard deviation, as a share of the box.
    """
    moved = []
    for points in strokes:
        moves = rng.normal(0, amount, points.shape)
        equal = (points[1:] == points[:-1]).all(1).nonzero()[0]
        moves[equal + 1] = moves[equal]
        moved.append(points + moves)
    return moved


def draw_strokes(
    strokes: Strokes, width: float, pressure: np.ndarray | None = None
) -> np.ndarray:
    """Draws strokes with a round pen, cropped to the ink.

    Args:
      strokes: points in pixels, close to each other; their place does not matter.
      width: of the pen, in pixels; may be a fraction.
      pressure: float [k], widths along each stroke as shares of `width`; None for an
        even line.

    Returns:
      Coverage, uint8 [h, w].
    """
    cv2 = load_opencv()
    finer = 1 if width > 9 else 2
    low = np.min([points.min(0) for points in strokes], 0) - width - 2
    high = np.max([points.max(0) for points in strokes], 0) + width + 2
    across, down = (np.ceil(high - low).astype(int) * finer).tolist()
    canvas = np.zeros((down, across), np.uint8)
    scale = finer * 2**_SHIFT
    lines = [np.round((points - low) * scale).astype(np.int32) for points in strokes]
    pen = max(1, round(width * finer))
    if pressure is None:
        cv2.polylines(canvas, lines, False, 255, pen, cv2.LINE_AA, _SHIFT)
    else:
        for line in lines:
            at = np.linspace(0, len(pressure) - 1, len(line) - 1)
            widths = np.interp(at, np.arange(len(pressure)), pressure) * pen
            for start, end, own in zip(line, line[1:], widths, strict=False):
                thick = max(1, round(float(own)))
                cv2.line(canvas, start, end, 255, thick, cv2.LINE_AA, _SHIFT)
    if finer > 1:
        size = (across // finer, down // finer)
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    return crop_mask(canvas)
