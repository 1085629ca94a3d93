"""Cuts a digit out of a page as a 28x28 image, as a digit net sees it."""

import math

import numpy as np
from PIL import Image

from mnist_jax.datasets.binary_images import label_pieces
from mnist_jax.datasets.geometry import IMAGE_SIDE, to_mnist

_MARGIN = 0.15  # heights around a box
_HEIGHT = 48  # pixels; a digit is cut at about this height
_FAINT, _SOLID = 0.25, 0.85  # shares of full ink that become 0 and 1
_FULL = 0.97  # share of pixels that are not darker than full ink
_STROKE = 0.5  # share of full ink that makes a stroke


def cut_digit(grey: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """Cuts out the ink in a box.

    Args:
      grey: uint8 [H, W], dark on light or light on dark.
      box: float [4]: centre x, centre y, width, height, in pixels.

    Returns:
      uint8 [28, 28], white ink on black; None if there is no ink.
    """
    pixels, inner = _enlarge(grey, box)
    ink = _own(_ink(pixels), inner)
    return to_mnist(ink) if ink.max() > _STROKE else None


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Puts images [28, 28] in rows, about as many rows as columns: uint8 [H, W]."""
    columns = max(1, math.ceil(len(images) ** 0.5))
    rows = max(1, -(-len(images) // columns))
    sheet = np.zeros((rows * IMAGE_SIDE, columns * IMAGE_SIDE), np.uint8)
    for i, image in enumerate(images):
        top, left = (n * IMAGE_SIDE for n in divmod(i, columns))
        sheet[top : top + IMAGE_SIDE, left : left + IMAGE_SIDE] = image
    return sheet


def _enlarge(grey: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brings the pixels of a box and its margin to a usual height.

    Returns:
      float32 [h, w], and which of these pixels are in the box itself, bool [h, w].
    """
    x, y, width, height = box
    half = np.array([width, height]) / 2
    centre, margin = np.array([x, y]), _MARGIN * height
    left, top = np.floor(np.maximum(centre - half - margin, 0)).astype(int)
    right, bottom = np.ceil(centre + half + margin).astype(int)
    # At least one pixel, where a box lies beside the picture.
    left, top = min(left, grey.shape[1] - 1), min(top, grey.shape[0] - 1)
    right = min(max(right, left + 1), grey.shape[1])
    bottom = min(max(bottom, top + 1), grey.shape[0])
    part = Image.fromarray(grey[top:bottom, left:right])
    size = [max(2, round(side * _HEIGHT / height)) for side in part.size]
    pixels = np.asarray(part.resize(size, Image.Resampling.BICUBIC), np.float32)
    across = left + (np.arange(size[0]) + 0.5) * (right - left) / size[0]
    down = top + (np.arange(size[1]) + 0.5) * (bottom - top) / size[1]
    inner = (abs(down - y) <= half[1])[:, None] & (abs(across - x) <= half[0])
    return pixels, inner


def _ink(pixels: np.ndarray) -> np.ndarray:
    """Tells ink from paper, whichever is darker: 0 for paper, 1 for ink."""
    sorted_pixels = np.sort(pixels, axis=None)
    # Even a thick digit leaves more paper than that.
    away = pixels - sorted_pixels[pixels.size // 2]
    # Ink is what differs most, and is the smaller part.
    is_dark = (away * away * away).sum() < 0
    place = round((1 - _FULL if is_dark else _FULL) * (pixels.size - 1))
    full = sorted_pixels[place] - sorted_pixels[pixels.size // 2]
    share = away / (min(full, -1e-6) if is_dark else max(full, 1e-6))
    ink: np.ndarray = (share - _FAINT) / (_SOLID - _FAINT)
    return ink.clip(0, 1)


def _own(ink: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Drops strokes that are mostly outside of a box: of neighbours, lines, frames."""
    pieces, count = label_pieces(ink > 0.1)
    if count < 2:
        return ink
    mass = np.bincount(pieces.ravel(), ink.ravel(), count + 1)
    inside = np.bincount(pieces[inner], ink[inner], count + 1)
    mass[0] = inside[0] = 0
    drop = (inside < 0.5 * mass) | (mass < 0.02 * inside.max())
    drop[inside.argmax()] = False
    return np.where(drop[pieces], 0, ink)
