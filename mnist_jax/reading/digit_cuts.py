"""Cuts a digit out of a page as a 28x28 image, as a digit net sees it."""

import numpy as np
from PIL import Image

from mnist_jax.datasets.geometry import to_mnist

_MARGIN = 0.15  # heights around a box
_HEIGHT = 48  # pixels; a digit is cut at about this height
_FAINT, _SOLID = 0.25, 0.85  # shares of full ink that become 0 and 1
_STROKE = 0.5  # share of full ink that makes a stroke


def cut_digit(grey: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """Cuts out the ink in a box.

    Args:
      grey: uint8 [H, W], dark on light or light on dark.
      box: float [4]: centre x, centre y, width, height, in pixels.

    Returns:
      uint8 [28, 28], white ink on black; None if there is no ink.
    """
    ink = _ink(_enlarge(grey, box))
    ink = _own(ink)
    if ink.max() <= _STROKE:
        return None
    return to_mnist(ink)


def _enlarge(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Returns the pixels of a box and its margin, at a usual height, as float32."""
    x, y, width, height = box
    margin = _MARGIN * height
    scale = _HEIGHT / height
    corners = x - width / 2 - margin, y - height / 2 - margin
    corners += x + width / 2 + margin, y + height / 2 + margin
    left, top = np.floor(np.maximum(corners[:2], 0)).astype(int)
    right, bottom = np.ceil(np.minimum(corners[2:], grey.shape[::-1])).astype(int)
    part = Image.fromarray(
        grey[top : max(bottom, top + 1), left : max(right, left + 1)]
    )
    size = [max(2, round(side * scale)) for side in part.size]
    return np.asarray(part.resize(size, Image.Resampling.BICUBIC), np.float32)


def _ink(pixels: np.ndarray) -> np.ndarray:
    """Tells ink from paper, whichever is darker: 0 for paper, 1 for ink."""
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    away = pixels - np.median(edges)
    # Ink is what differs most, and is the smaller part.
    away *= np.sign((away**3).sum()) or 1.0
    full = np.percentile(away, 97)
    share = away / max(float(full), 1e-6)
    return np.clip((share - _FAINT) / (_SOLID - _FAINT), 0, 1)


def _own(ink: np.ndarray) -> np.ndarray:
    """Drops strokes that only reach in from outside: of neighbours, lines and boxes."""
    from scipy import ndimage

    pieces, count = ndimage.label(ink > 0.1, np.ones((3, 3)))
    if count < 2:
        return ink
    mass = np.bincount(pieces.ravel(), ink.ravel(), count + 1)
    mass[0] = 0
    edges = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    outer = np.isin(np.arange(count + 1), edges)
    main = np.argmax(np.where(outer, 0.3, 1.0) * mass)
    drop = (outer & (mass < 0.5 * mass[main])) | (mass < 0.02 * mass[main])
    drop[main] = False
    return np.where(drop[pieces], 0, ink)
