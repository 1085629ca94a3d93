"""Corruptions that lie over the digit; see `corruptions`."""

import numpy as np
from scipy import special

from mnist_jax.analysis.camera_corruptions import gaussian_blur

_SIDE = 28  # pixels


def stripe(images: np.ndarray, draws: np.ndarray, width: float) -> np.ndarray:
    """Inverts `width` columns at the left edge and at the right edge."""
    result = images.copy()
    for columns in (slice(None, int(width)), slice(-int(width), None)):
        result[:, :, columns] = 1 - images[:, :, columns]
    return result


def spatter(images: np.ndarray, draws: np.ndarray, cover: float) -> np.ndarray:
    """Adds grey blots of mud.

    The image is wet where smooth noise is above a level; where wet places are wide,
    there are blots.

    Args:
      images: float32 [N, 28, 28].
      draws: float64 [N, 28 * 28].
      cover: share of the image that is wet.
    """
    noise = gaussian_blur(special.ndtri(draws.clip(1e-9)).reshape(images.shape), 1.0)
    noise /= np.sqrt(1 / (4 * np.pi))  # unit variance: the sum of squares of a Gaussian
    blots = gaussian_blur((noise > special.ndtri(1 - cover)).astype(np.float32), 1.5)
    blots = np.where(blots < 0.8, 0, blots)
    return images * (1 - blots) + np.float32(63 / 255) * blots


def dotted_line(
    images: np.ndarray, draws: np.ndarray, lines: float, reach: float
) -> np.ndarray:
    """Draws dotted lines from edge to edge: two pixels of line, two without.

    Args:
      images: float32 [N, 28, 28].
      draws: float64 [N, 2 * lines or more].
      lines: number of lines.
      reach: how far a line's ink reaches from its middle, in pixels.
    """
    columns = np.arange(_SIDE)
    dots = columns // 2 % 2 == 1
    for line in range(int(lines)):
        left, right = (26 * draws[:, 2 * line : 2 * line + 2]).T[..., None]
        middle = left + (right - left) * columns / (_SIDE - 1)  # [N, 28]
        images = np.minimum(images + _stroke(middle, dots, reach), 1)
    return images


def zigzag(
    images: np.ndarray, draws: np.ndarray, lines: float, reach: float
) -> np.ndarray:
    """Draws zigzag lines from edge to edge: 2 pixels to each side, a peak every 8.

    Arguments as in `dotted_line`.
    """
    columns = np.arange(_SIDE)
    inside = (columns >= 2) & (columns <= 25)
    teeth = 2 - 4 * np.abs((columns - 4) / 4 % 2 - 1)
    for line in range(int(lines)):
        start, lean = draws[:, 2 * line, None], draws[:, 2 * line + 1, None]
        middle = 26 * start + 5 * (2 * lean - 1) * (columns - 2) / 23 + teeth
        images = np.minimum(images + _stroke(middle, inside, reach), 1)
    return images


def _stroke(middle: np.ndarray, drawn: np.ndarray, reach: float) -> np.ndarray:
    """Draws one line on each image.

    Brightness falls off as in MNIST-C, with the logarithm of how far a pixel is from
    where the ink ends.

    Args:
      middle: [N, 28], the row of the line's middle in each column.
      drawn: bool [28], the columns that have ink.
      reach: how far the ink reaches from the middle, in pixels.

    Returns:
      float32 [N, 28, 28], from 0 to 1.
    """
    away = np.abs(np.arange(_SIDE)[:, None] - middle[:, None, :]) / reach
    ink = np.maximum(1 + np.log(np.maximum(1 - away, 1e-6)), 0) * drawn
    return ink.astype(np.float32)
