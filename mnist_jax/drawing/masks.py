"""Shapes as grey pictures: warped to any height, made thinner or thicker."""

import functools

import numpy as np

from mnist_jax.drawing.fonts import load_font
from mnist_jax.drawing.opencv import load_opencv

INK = 60  # a pixel above this is ink, where boxes are measured
_EM = 64  # pixels of a character


def ink_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Returns left, top, right and bottom of the ink, or None where there is none."""
    cv2 = load_opencv()
    ink = mask > INK
    left, top, width, height = cv2.boundingRect(ink.view(np.uint8))
    return (left, top, left + width, top + height) if width else None


def crop_mask(mask: np.ndarray) -> np.ndarray:
    """Returns the part of uint8 [h, w] with ink; the middle pixel if there is none."""
    box = ink_box(mask)
    if box is None:
        return mask[mask.shape[0] // 2 :, mask.shape[1] // 2 :][:1, :1]
    left, top, right, bottom = box
    return mask[top:bottom, left:right]


@functools.lru_cache(2048)
def character_mask(font: str, text: str) -> np.ndarray:
    """Returns a character or a word of a font, coverage uint8 [h, w], read-only."""
    from PIL import Image, ImageDraw

    loaded = load_font(font, _EM)
    left, top, right, bottom = (int(side) for side in loaded.getbbox(text))
    picture = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(picture).text((2 - left, 2 - top), text, 255, loaded)
    mask = crop_mask(np.array(picture))
    mask.flags.writeable = False
    return mask


def warp_mask(
    rng: np.random.Generator,
    mask: np.ndarray,
    matrix: np.ndarray,
    bend: float = 0.0,
) -> np.ndarray:
    """Maps a shape by a matrix, and bends it as an unsteady hand would.

    Args:
      rng: the bends are drawn from it.
      mask: the shape, coverage uint8 [h, w].
      matrix: float [2, 2], from its (x, y) to pixels of the result.
      bend: standard deviation of the bends, in pixels of the result.

    Returns:
      Coverage uint8 [h', w'], with a margin.
    """
    cv2 = load_opencv()
    height, width = mask.shape
    ((a, b), (c, d)) = matrix.tolist()
    shrink = abs(a * d - b * c) ** 0.5
    while shrink < 0.6:  # OpenCV's interpolation reads few pixels
        size = (max(2, mask.shape[1] // 2), max(2, mask.shape[0] // 2))
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / size[0], height / size[1]])
        (height, width), shrink = mask.shape, shrink * 2
    across, down = (np.abs(matrix) @ [width, height]).tolist()
    margin = 3 + 2.5 * bend
    size = (int(across + 2 * margin) + 1, int(down + 2 * margin) + 1)
    middle = np.array([size[0] - 1, size[1] - 1]) / 2
    if not bend:
        shift = middle - matrix @ [(width - 1) / 2, (height - 1) / 2]
        affine = np.column_stack([matrix, shift])
        return cv2.warpAffine(mask, affine, size, flags=cv2.INTER_CUBIC)
    ((a, b), (c, d)) = matrix.tolist()
    scale = 1 / (a * d - b * c)
    coarse = rng.normal(0, bend, (4, 4, 2)).astype(np.float32)
    bends = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    x = bends[..., 0] + np.arange(-middle[0], size[0] - middle[0], dtype=np.float32)
    y = bends[..., 1] + np.arange(
        -middle[1], size[1] - middle[1], dtype=np.float32
    ).reshape(-1, 1)
    bends[..., 0] = x * (d * scale) - y * (b * scale) + (width - 1) / 2
    bends[..., 1] = y * (a * scale) - x * (c * scale) + (height - 1) / 2
    return cv2.remap(mask, bends, None, cv2.INTER_CUBIC)


def sharpen_mask(mask: np.ndarray, level: float, gain: float) -> np.ndarray:
    """Makes edges steep at a level: a low one gives thick strokes, a high one thin.

    Args:
      mask: coverage uint8 [h, w].
      level: 0 to 255, what becomes 128.
      gain: how much steeper edges become at least; 1 keeps them.
    """
    gain = max(gain, 128 / level, 127 / (255 - level))  # 0 and 255 stay
    table = np.clip((np.arange(256) - level) * gain + 128, 0, 255).astype(np.uint8)
    return load_opencv().LUT(mask, table)


def thicken_mask(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Makes strokes thicker by so many pixels, or thinner where it is negative."""
    cv2 = load_opencv()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(pixels) + 1,) * 2)
    if pixels < 0:
        return cv2.erode(mask, kernel)
    side = pixels // 2 + 1
    padded = cv2.copyMakeBorder(mask, side, side, side, side, cv2.BORDER_CONSTANT)
    return cv2.dilate(padded, kernel)


def trace_mask(mask: np.ndarray, width: float) -> np.ndarray:
    """Draws a shape's middle lines with a pen of some width.

    A point belongs to them if it lies about as deep as the deepest near it.

    Args:
      mask: coverage uint8 [h, w], with strokes of at least three pixels.
      width: of the pen, in pixels.
    """
    cv2 = load_opencv()
    padded = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform((padded > 127).view(np.uint8), cv2.DIST_L2, 3)
    # Within a radius below the pen's, all that is deep would belong to the line.
    side = 2 * int(np.ceil(width / 2 + 1.5)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    line = np.clip(depth - cv2.dilate(depth, kernel) + width / 2 + 0.5, 0, 1)
    line[depth == 0] = 0
    return cv2.GaussianBlur((line * 255).astype(np.uint8), (0, 0), 0.5)
