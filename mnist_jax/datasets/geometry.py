"""MNIST's geometry: how ink of any size becomes a 28x28 image like MNIST's."""

import numpy as np

from mnist_jax.datasets.binary_images import distance_to_zero
from mnist_jax.errors import ArgumentError

INK_SIDE, IMAGE_SIDE, CENTRE = 20, 28, 14  # pixels, as in MNIST

_BITMAP_SIDE = 100  # pixels of a digit while its strokes are measured and altered
# Widths of strokes, in pixels at MNIST's size. 88 of 100 of MNIST's lie between.
_THINNEST, _THICKEST = 1.8, 4.8


def to_mnist(ink: np.ndarray) -> np.ndarray:
    """Brings ink to MNIST's geometry.

    The longest side of the ink becomes 20 pixels, antialiased, and the aspect is kept.
    A shift by whole pixels brings the centre of mass, rounded, to pixel (14, 14). The
    brightest pixel becomes 255 (LeCun et al., 1998; yann.lecun.com/exdb/mnist). Strokes
    thinner or thicker than MNIST's are first brought to a width that MNIST has.

    Args:
      ink: float [H, W], 0 for paper, the greatest value for full ink; not all 0.

    Returns:
      uint8 [28, 28].

    Raises:
      ArgumentError: it has another shape, or no ink.
    """
    check_ink(ink)
    ink = crop_to_ink(ink) / ink.max()
    if max(ink.shape) == INK_SIDE:
        return _stretch(_centre(_resize(ink)))
    return _stretch(_centre(_resize(crop_to_ink(_adjust_strokes(_bitmap(ink))))))


def _bitmap(ink: np.ndarray) -> np.ndarray:
    """Resizes ink so that its longest side has about `_BITMAP_SIDE` pixels."""
    from PIL import Image

    scale = _BITMAP_SIDE / max(ink.shape)
    padded = np.pad(ink, 1).astype(np.float32)  # room for edges
    height, width = (max(1, round(side * scale)) for side in padded.shape)
    if scale < 1:
        whole = _reduce_whole(padded, int(1 / scale))
        if _stroke_width(whole > 0.5 * whole.max()) < 4:
            return whole
        picture = Image.fromarray(padded)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    enlarged = Image.fromarray(padded).resize((width, height), Image.Resampling.BICUBIC)
    # An enlarged edge is too soft, so it is sharpened.
    return np.clip((np.asarray(enlarged) - 0.5) * 1.5 + 0.5, 0, 1)


def _reduce_whole(ink: np.ndarray, factor: int) -> np.ndarray:
    """Reduces ink to the maximum of each square, so that the thinnest lines last."""
    height, width = (-(-side // factor) * factor for side in ink.shape)
    padded = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    return padded.reshape(height // factor, factor, -1, factor).max((1, 3))


def _stroke_width(mask: np.ndarray) -> float:
    """Returns the mean width of strokes in pixels, for a mask [H, W], not empty.

    The mean distance of a stroke's pixels from its edge is a quarter of its width.
    """
    distance = distance_to_zero(np.pad(mask, 1))
    return 4 * (float(distance[distance > 0].mean()) - 0.5)


def _adjust_strokes(ink: np.ndarray) -> np.ndarray:
    """Brings the width of strokes into the range of MNIST's.

    Edges move in or out by `step` on each side. That changes the size of the whole as
    well, which the formula for `step` takes into account.
    """
    ink = np.pad(ink / ink.max(), _BITMAP_SIDE // 8)
    mask = ink > 0.5
    whole = crop_to_ink(mask)
    length = max(whole.shape)
    share = _stroke_width(whole) / length
    wanted = np.clip(share, _THINNEST / INK_SIDE, _THICKEST / INK_SIDE)
    step = (wanted - share) * length / (2 * (1 - wanted))
    if abs(step) < 0.5:
        return ink
    most = abs(step) + 2  # pixels further from the edge stay what they are
    edge = distance_to_zero(mask, most) - distance_to_zero(~mask, most)
    moved = np.clip((edge + step) / 2 + 0.5, 0, 1)
    return moved if moved.max() > 0.5 else ink


def check_ink(ink: np.ndarray) -> None:
    """Checks a map of ink: finite numbers [H, W] of 0 or more, and not all 0.

    Raises:
      ArgumentError: it is something else.
    """
    if ink.ndim != 2 or not ink.size or ink.dtype.kind not in "buif":
        found = f"got {ink.dtype} {list(ink.shape)}"
        raise ArgumentError(f"ink must be numbers [H, W]: {found}")
    low, high = float(ink.min()), float(ink.max())
    if not (low >= 0 and 0 < high < np.inf):  # true for NaN too
        found = f"got {low:.4g} to {high:.4g}"
        raise ArgumentError(f"ink must be 0 for paper, and more for ink: {found}")


def crop_to_ink(ink: np.ndarray) -> np.ndarray:
    """Drops the empty rows and columns around ink [H, W], which is not all 0."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resize(ink: np.ndarray) -> np.ndarray:
    from PIL import Image

    scale = INK_SIDE / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    picture = Image.fromarray(ink.astype(np.float32))
    # Pillow's bilinear filter widens as it reduces, so it skips no pixel. Of Pillow's
    # filters it gave the likeliest digits, on MNIST drawn large and brought back.
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _centre(ink: np.ndarray) -> np.ndarray:
    """Puts ink [h, w] of at most 20x20 on an empty image, float32 [28, 28]."""
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.float32)
    corner = []
    for axis, side in enumerate(ink.shape):
        mean = ink.sum(1 - axis) @ np.arange(side) / ink.sum()
        # The limits keep all of the ink inside the image.
        corner.append(int(np.clip(CENTRE - round(mean), 0, IMAGE_SIDE - side)))
    top, left = corner
    image[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return image


def _stretch(image: np.ndarray) -> np.ndarray:
    return np.rint(image * (255 / image.max())).astype(np.uint8)
