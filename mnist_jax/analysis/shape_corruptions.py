"""Corruptions of the digit's place and shape; see `corruptions`."""

import numpy as np
from scipy import ndimage

from mnist_jax.analysis.camera_corruptions import gaussian_blur

_SIDE = 28  # pixels
_CENTRE = (_SIDE - 1) / 2


def shear_digit(images: np.ndarray, draws: np.ndarray, slope: float) -> np.ndarray:
    """Slants to the left or right: `slope` pixels across for each pixel down."""
    y, x = _pixels()
    return _read(images, y, x - slope * _side(draws[:, 0]) * y)


def scale_digit(images: np.ndarray, draws: np.ndarray, factor: float) -> np.ndarray:
    """Shrinks height and width, about the centre, to `factor` times what they were."""
    y, x = _pixels()
    return _read(images, y / factor, x / factor)


def rotate_digit(images: np.ndarray, draws: np.ndarray, radians: float) -> np.ndarray:
    """Turns by `radians` about the centre, clockwise or counterclockwise."""
    y, x = _pixels()
    angle = radians * _side(draws[:, 0])
    sin, cos = np.sin(angle), np.cos(angle)
    return _read(images, cos * y - sin * x, sin * y + cos * x)


def move_digit(images: np.ndarray, draws: np.ndarray, pixels: float) -> np.ndarray:
    """Moves by `pixels` up or down, and by as many left or right."""
    y, x = _pixels()
    down, across = _side(draws[:, 0]), _side(draws[:, 1])
    return _read(images, y - pixels * down, x - pixels * across)


def canny_edges(
    images: np.ndarray, draws: np.ndarray, share: float, sigma: float
) -> np.ndarray:
    """Replaces the digit by its outline.

    A pixel is on the outline if the gradient is larger there than at its neighbours
    along the gradient's direction, and if it is above a high threshold, or above a low
    one and connected to pixels above the high one (J. Canny, "A Computational Approach
    to Edge Detection", 1986).

    Args:
      images: float32 [N, 28, 28].
      draws: unused; float64 [N, 0].
      share: weight of the outline in a blend with the image.
      sigma: of the Gaussian blur before, in pixels.
    """
    smooth = gaussian_blur(images, sigma)
    down, across = (_sobel(smooth, along, other) for along, other in ((1, 2), (2, 1)))
    size = np.hypot(down, across)
    padded = np.pad(size, [(0, 0), (1, 1), (1, 1)])

    def neighbour(dy: int, dx: int) -> np.ndarray:
        return padded[:, 1 + dy : _SIDE + 1 + dy, 1 + dx : _SIDE + 1 + dx]

    steep = np.abs(down) > np.abs(across)
    long = np.maximum(np.abs(down), np.abs(across))
    slant = np.minimum(np.abs(down), np.abs(across)) / np.maximum(long, 1e-12)
    diagonal = np.where(down * across > 0, 1, -1)
    peak = size > 0
    for way in (1, -1):  # interpolate along the gradient, and against it
        straight = np.where(steep, neighbour(way, 0), neighbour(0, way))
        falling = neighbour(way, way)
        rising = np.where(steep, neighbour(way, -way), neighbour(-way, way))
        aside = np.where(diagonal > 0, falling, rising)
        beside = (1 - slant) * straight + slant * aside
        peak &= (size > beside) if way > 0 else (size >= beside)
    weak, strong = peak & (size > 0.1), peak & (size > 0.2)
    joined = np.zeros((3, 3, 3), bool)
    joined[1] = True  # pixels of one image only
    parts, count = ndimage.label(weak, joined)
    kept = np.zeros(count + 1, bool)
    kept[parts[strong]] = True
    edges = kept[parts] & weak
    return images + np.float32(share) * (edges - images)


def _sobel(images: np.ndarray, along: int, other: int) -> np.ndarray:
    slope = ndimage.correlate1d(images, [-1, 0, 1], along, mode="constant")
    smooth: np.ndarray = ndimage.correlate1d(slope, [1, 2, 1], other, mode="constant")
    return smooth


def _side(draws: np.ndarray) -> np.ndarray:
    """Returns -1 or 1 for each random number, [N, 1, 1]."""
    return np.where(draws < 0.5, -1, 1)[:, None, None]


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """Distances from the centre of the rows [28, 1] and of the columns [1, 28]."""
    places = np.arange(_SIDE) - _CENTRE
    return places[:, None], places[None, :]


def _read(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Interpolates images [N, 28, 28] bilinearly; outside they are 0.

    `y` and `x` are distances from the centre, and broadcast to [N, 28, 28].
    """
    shape = np.broadcast_shapes(images.shape, y.shape, x.shape)
    # Points beside an edge, and those far outside, fall on a margin of zeros.
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2)])
    y, x = (np.clip(p + _CENTRE + 2, 0.5, _SIDE + 2.5) for p in (y, x))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, across = (y - top).astype(np.float32), (x - left).astype(np.float32)
    every = np.arange(len(images))[:, None, None]
    above = padded[every, top, left] * (1 - across)
    above = above + padded[every, top, left + 1] * across
    below = padded[every, top + 1, left] * (1 - across)
    below = below + padded[every, top + 1, left + 1] * across
    return np.broadcast_to(above + down * (below - above), shape)
