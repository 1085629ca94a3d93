"""Arrays of numbers as people keep digits: which shapes and scales they may have."""

import math
from typing import IO

import numpy as np

from mnist_jax.errors import ArgumentError, PictureError

_SIDE = 28
_PIXELS = _SIDE * _SIDE
_OTHER_SCALE = 16  # a largest number up to this is of another scale, such as 0 to 16
_IMAGES = ((_SIDE, _SIDE), (_PIXELS,))  # shapes of an image, but for axes of 1


def is_array(file: IO[bytes]) -> bool:
    """Whether a file is a NumPy array (.npy); leaves it at its start."""
    magic = np.lib.format.MAGIC_PREFIX
    found = file.read(len(magic)) == magic
    file.seek(0)
    return found


def read_shape(file: IO[bytes]) -> tuple[int, ...]:
    """Reads the shape of a .npy file from its header, and goes back to its start.

    Raises:
      PictureError: it holds no numbers.
    """
    shape, _ = _read_header(file)
    file.seek(0)
    return shape


def read_numbers(file: IO[bytes], size: int) -> np.ndarray:
    """Reads a .npy file of `size` bytes; never pickles, which could run code.

    Raises:
      PictureError: it holds no numbers, or fewer than it says.
    """
    shape, dtype = _read_header(file)
    if math.prod(shape) * dtype.itemsize > size - file.tell():
        raise PictureError("damaged (it ends too early)")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.kind not in "buif":
        raise PictureError(f"holds {dtype.name}, not numbers")
    return tuple(shape), dtype


def picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns [H, W], [H, W, 3] or [H, W, 4] of an array of one picture.

    Args:
      shape: that, or [H, W, 1], with one more axis of 1 in front or not; or of 784
        numbers in a row, which are an image of 28 by 28.

    Raises:
      PictureError: it is the shape of something else.
    """
    if math.prod(shape) == max(shape, default=0) == _PIXELS:
        return _SIDE, _SIDE
    picture = shape[1:] if len(shape) > 2 and shape[0] == 1 else shape
    if len(picture) == 3 and picture[0] == 1 and picture[2] not in (1, 3, 4):
        picture = picture[1:]
    if len(picture) != 2 and may_be_stack(shape):
        raise PictureError(f"has the shape {shape}: images of digits, and no picture")
    if len(picture) != 2 and not (len(picture) == 3 and picture[2] in (1, 3, 4)):
        raise PictureError(
            f"has the shape {shape}, which is not that of one picture, nor of images "
            "of digits, [N, 28, 28] or [N, 784]"
        )
    if 0 in picture:
        raise PictureError(f"has the shape {shape}, and so no pixels")
    return picture[:2] if picture[2:] == (1,) else picture


def may_be_stack(shape: tuple[int, ...]) -> bool:
    """Whether a shape may be that of N > 1 images of 28 by 28."""
    return len(shape) > 1 and shape[0] > 1 and _image_sides(shape) in _IMAGES


def is_stack(numbers: np.ndarray) -> bool:
    """Whether numbers are N > 1 images of 28 by 28, and not one picture 784 wide.

    In a picture, a pixel is like the one below it. In an image whose rows stand one
    after another, it is like the one 28 numbers on; and if all images are alike, more
    so than like the one 14 numbers on, half a row away.
    """
    if not may_be_stack(numbers.shape):
        return False
    if _image_sides(numbers.shape) == (_SIDE, _SIDE):
        return True
    rows = numbers.reshape(-1, _PIXELS)[:1000].astype(np.float64)
    below = np.abs(rows[1:] - rows[:-1]).mean()
    row, half = (np.abs(rows[:, n:] - rows[:, :-n]).mean() for n in (28, 14))
    return bool(row < below or (row < half and below < half / 10))


def _image_sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape[1:] if side != 1)


def white_on_black(images: np.ndarray) -> np.ndarray:
    """Returns images with light ink, whether their ink or their paper is light.

    Args:
      images: uint8 [N, 28, 28, 1], all of one kind.
    """
    border = np.concatenate([images[:, [0, -1]], images[:, :, [0, -1]].swapaxes(1, 2)])
    return 255 - images if np.median(border) > 127 else images


def as_images(numbers: np.ndarray) -> np.ndarray:
    """Returns images as MNIST's are: uint8 [N, 28, 28, 1], white ink on black.

    Args:
      numbers: of any dtype, from 0 to 255, or from 0 to 1 (`False` and `True` too):
        [28, 28]; [N, 28, 28]; [N, 28, 28, 1]; [N, 1, 28, 28]; [784]; or [N, 784].

    Raises:
      ArgumentError: they have another shape, or other numbers.
    """
    numbers = np.asarray(numbers)
    found = f"got {numbers.dtype} {list(numbers.shape)}"
    if numbers.dtype.kind not in "buif":
        raise ArgumentError(f"images must be numbers: {found}")
    if numbers.shape in _IMAGES:
        numbers = numbers[None]
    if numbers.ndim < 2 or _image_sides(numbers.shape) not in _IMAGES:
        raise ArgumentError(
            f"images must be [N, 28, 28, 1], [N, 28, 28] or [N, 784]: {found}"
        )
    numbers = numbers.reshape(-1, _SIDE, _SIDE, 1)
    if not numbers.size:
        return numbers.astype(np.uint8)
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= 0 and high <= 255) or 1 < high <= _OTHER_SCALE:  # true for NaN too
        raise ArgumentError(
            "images must have numbers from 0 to 255, or from 0 to 1, with white ink on "
            f"black: {found} from {low:.4g} to {high:.4g}"
        )
    if numbers.dtype == np.uint8 and high > 1:
        return numbers
    return np.rint(numbers.astype(np.float32) * (1 if high > 1 else 255)).astype(
        np.uint8
    )
