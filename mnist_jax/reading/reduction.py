"""Brings decoded pictures, and arrays of numbers, to 8 bits and to a moderate size.

What is large is handled some rows at a time, so that there is no second copy of it.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from mnist_jax.errors import PictureError

MAX_SIDE = 2048  # pixels; larger pictures are reduced to this size
MIN_SIDE = 64  # pixels that the shorter side keeps, as digits may be as high as that
_BAND = 2**20  # pixels that are handled at a time


def reduced_size(size: tuple[int, int], side: int = MAX_SIDE) -> tuple[int, int]:
    """Returns the size that a picture is reduced to; its aspect stays.

    The longer side becomes `side` pixels. But a strip may stay longer, up to `side`
    squared pixels in all, so that its shorter side does not fall below 64 pixels.

    Args:
      size: width and height in pixels.
      side: pixels of the longer side.
    """
    short, long = sorted(size)
    readable = min(MIN_SIDE / short, side / (short * long) ** 0.5)
    scale = min(1.0, max(side / long, readable))
    width, height = (max(1, round(scale * pixels)) for pixels in size)
    return width, height


def reduce_picture(image: Image.Image) -> Image.Image:
    """Converts a decoded picture of any mode to RGB or RGBA of `reduced_size`.

    Of modes of numbers ("I", "F" and their kin), the largest number becomes 255.

    Raises:
      PictureError: a number is infinite or NaN.
    """
    convert: Callable[[Image.Image], Image.Image] = _convert_mode
    if image.mode[0] in "IF":
        convert = _converter(np.asarray(band) for band in _bands(image, 1))
    size = reduced_size(image.size)
    # To somewhat more than that size by means of squares, which is fast and exact.
    across, down = (
        max(1, int(old / new)) for old, new in zip(image.size, size, strict=True)
    )
    if across == down == 1 and image.mode[0] not in "IF":
        whole = convert(image)
    else:
        parts = (convert(band).reduce((across, down)) for band in _bands(image, down))
        first = next(parts)
        squares = first.width, -(-image.height // down)
        whole, top = Image.new(first.mode, squares), 0
        for part in itertools.chain([first], parts):
            whole.paste(part, (0, top))
            top += part.height
    if whole.size == size:
        return whole
    # The last square of a row may reach beyond the picture.
    box = (0, 0, image.width / across, image.height / down)
    return whole.resize(size, Image.Resampling.BICUBIC, box)


def levels_to_8_bits(numbers: np.ndarray) -> np.ndarray:
    """Scales numbers [N, ...] of any dtype to uint8, so that the largest becomes 255.

    The scale depends on the numbers alone and not on their dtype: 0 and 1, 0 to 16, 0
    to 1.0 and 0 to 255 look the same. 0 becomes 0; if there are negative numbers, the
    lowest does.

    Raises:
      PictureError: a number is infinite or NaN.
    """
    step = max(1, _BAND * len(numbers) // max(1, numbers.size))
    starts = range(0, len(numbers), step)
    levels = _levels(_extremes(numbers[i : i + step] for i in starts))
    scaled = np.empty(numbers.shape, np.uint8)
    for i in starts:
        scaled[i : i + step] = levels(numbers[i : i + step])
    return scaled


def _convert_mode(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # no way leads from it to RGBA at once
        image = image.convert("LA")
    # Pillow leaves the later frames of a grey GIF without a palette of their own.
    has_palette = image.mode != "P" or image.palette is not None
    mode = "RGBA" if has_palette and image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _converter(bands: Iterator[np.ndarray]) -> Callable[[Image.Image], Image.Image]:
    levels = _levels(_extremes(bands))
    return lambda band: Image.fromarray(levels(np.asarray(band))).convert("RGB")


def _bands(image: Image.Image, multiple: int) -> Iterator[Image.Image]:
    """Yields the rows of a picture, a `multiple` of some number at a time."""
    rows = max(1, _BAND // image.width // multiple) * multiple
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield image.crop((0, top, image.width, bottom))


def _extremes(bands: Iterator[np.ndarray]) -> tuple[float, float]:
    low, high = 0.0, -np.inf
    for band in bands:
        lowest, highest = float(band.min()), float(band.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            kind = "NaN" if np.isnan(lowest) else "infinite"
            raise PictureError(f"holds numbers that are not finite ({kind})")
        low, high = min(low, lowest), max(high, highest)
    return low, high


def _levels(extremes: tuple[float, float]) -> Callable[[np.ndarray], np.ndarray]:
    low, high = extremes
    # In 64 bits, as the difference of two numbers of 32 bits may not fit into these.
    scale = 255 / ((high - low) or 1)
    return lambda numbers: np.rint((numbers.astype(np.float64) - low) * scale).astype(
        np.uint8
    )
