"""A picture file becomes a 28x28 image, the way MNIST itself was made.

    read_picture   file         -> picture       checked, decoded, upright, in colour
    find_ink       picture      -> ink [H, W]    paper, light and specks taken away
    to_mnist       ink [H, W]   -> uint8 [28, 28]

Each is made of small stages, one function each. `PictureError`s hold the reason only:
whoever shows one knows which file it is about.
"""

import os
import stat
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_jax.errors import PictureError

# Formats without scripts, external programs or references to other files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000  # decoded; a 48-megapixel photo passes
_TOO_LARGE = f"has more than {MAX_PIXELS // 10**6} million pixels"
MAX_SIDE = 1024  # pixels: larger pictures are reduced to it

MIN_CONTRAST = 0.06  # of ink with paper; black on white has 1
_INKED = 0.35  # share of full ink that makes a stroke
_FAINT, _SOLID = 0.05, 0.9  # shares that become 0 and 1 in and beside a stroke
_STROKE = 0.3  # share of the longer side that no stroke is as wide as

INK_SIDE, IMAGE_SIDE, CENTRE = 20, 28, 14  # pixels, as in MNIST


def load_digit(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture of one digit.

    Args:
      path: a picture file.

    Returns:
      uint8 [28, 28], white ink on black.

    Raises:
      PictureError: it cannot be read, or shows nothing.
    """
    return to_mnist(find_ink(read_picture(path)))


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Opens, checks and decodes a picture file.

    Args:
      path: a regular file in one of `FORMATS`; of several frames the first is read.

    Returns:
      An RGB picture, upright, transparency filled in, `MAX_SIDE` at most.

    Raises:
      PictureError: it is missing, unreadable, no picture, too large or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts; sizes are checked below
        try:
            with _open_regular_file(path) as file:
                return _decode(file)
        except PictureError:
            raise
        except Image.DecompressionBombError as error:
            raise PictureError(_TOO_LARGE) from error
        except UnidentifiedImageError as error:
            formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise PictureError(f"not a {formats} picture") from error
        except OSError as error:
            reason = (error.strerror or f"damaged ({_one_line(error)})").lower()
            raise PictureError(reason) from error
        except MemoryError as error:
            raise PictureError("too large for this machine's memory") from error
        except Exception as error:  # of every kind: decoders meet any bytes at all
            raise PictureError(f"damaged ({_one_line(error)})") from error


def _open_regular_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a file for reading, but no directory, pipe or device, which may hang."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise PictureError("is a directory, not a picture file")
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("is a pipe or a device, not a picture file")
    if not status.st_size:
        raise PictureError("is empty")
    return Path(path).open("rb")


def _decode(file: IO[bytes]) -> Image.Image:
    image: Image.Image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:  # known from the header alone
        raise PictureError(_TOO_LARGE)
    image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))  # lets JPEG skip most of the work
    image.load()
    image = _to_8_bits(_upright(image))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return _fill_transparency(image)


def _upright(image: Image.Image) -> Image.Image:
    """Turns a picture as its camera noted; a note that is damaged turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # of every kind, as in decoding
        return image


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Brings any mode to RGB or RGBA; 16 bits and floats by their own largest value."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode[0] not in "IF":
        return image.convert("RGB")
    levels = np.asarray(image).astype(np.float32)
    finite = np.isfinite(levels)
    if not finite.any():
        raise PictureError("holds no numbers")
    # What is no number becomes paper, which most of a picture is.
    levels = np.where(finite, levels, np.median(levels[finite]))
    levels = levels - min(float(levels.min()), 0)
    levels = levels * (255 / (float(levels.max()) or 1))
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _fill_transparency(image: Image.Image) -> Image.Image:
    """Puts a picture on a ground of one colour on which its ink can be seen.

    Where most of the picture is opaque and not of one tone, that is a drawing on
    paper, and the ground is the paper. Else what is opaque is ink, black, white or
    coloured, and the ground is white or black, whichever is farther.
    """
    if image.mode == "RGB":
        return image
    opaque = np.asarray(image.getchannel("A")) > 127
    if opaque.all():
        return image.convert("RGB")
    if not opaque.any():
        raise PictureError("is wholly transparent")
    colours = np.asarray(image.convert("RGB"))[opaque]  # [M, 3]
    tones = colours.mean(-1)
    low, high = np.percentile(tones, (2, 98))
    if opaque.mean() > 0.5 and high - low > 64:
        ground = tuple(int(c) for c in np.median(colours, axis=0))
    else:
        ground = (0, 0, 0) if tones.mean() > 127 else (255, 255, 255)
    filled = Image.new("RGBA", image.size, (*ground, 255))
    filled.alpha_composite(image)
    return filled.convert("RGB")


def find_ink(picture: Image.Image) -> np.ndarray:
    """Tells ink from paper.

    Args:
      picture: RGB, dark on light or light on dark.

    Returns:
      float32 [H, W] from 0, paper, to 1, ink.

    Raises:
      PictureError: there is no ink.
    """
    colours = np.asarray(picture, np.float32) / 255  # [H, W, 3]
    contrast = _level(_smooth(_contrast(colours - _paper(picture))))
    contrast -= np.median(contrast)  # most of a picture is paper
    noise = 1.4826 * float(np.median(np.abs(contrast)))  # as a standard deviation
    # The contrast of full ink, but for the few pixels that may be glare or dust.
    rank = contrast.size // 10_000 + 1
    full = float(np.partition(contrast, -rank, axis=None)[-rank])
    if full < max(MIN_CONTRAST, 6 * noise):
        raise PictureError("is blank: no ink stands out from the paper")
    strokes = _strokes(contrast / full)
    return strokes * np.clip((contrast / full - _FAINT) / (_SOLID - _FAINT), 0, 1)


def _paper(picture: Image.Image) -> np.ndarray:
    """The colour of the paper at each pixel, float32 [H, W, 3] in [0, 1].

    A quadratic surface for each colour, fitted to a small copy of the picture. It
    starts at the colour of the border, and what is far from it counts ever less
    (iteratively reweighted least squares with Cauchy's weights), so ink does not
    bend it, and whether paper is lighter or darker than ink does not matter.
    """
    small = picture.copy()
    small.thumbnail((64, 64), Image.Resampling.BOX)
    colours = np.asarray(small, np.float64) / 255  # [h, w, 3]
    border = np.concatenate([colours[[0, -1]].reshape(-1, 3), *colours[:, [0, -1]]])
    terms = _quadratic_terms(*colours.shape[:2]).reshape(-1, 6)
    colours = colours.reshape(-1, 3)
    fitted = np.broadcast_to(np.median(border, axis=0), colours.shape)
    for _ in range(10):
        distance = np.linalg.norm(colours - fitted, axis=1)
        scale = max(1.5 * np.median(distance), 0.02)
        weights = 1 / (1 + (distance / scale) ** 2)[:, None]
        # A little of the identity keeps pictures of few pixels solvable.
        normal = terms.T @ (weights * terms) + 1e-6 * np.eye(6)
        coefficients = np.linalg.solve(normal, terms.T @ (weights * colours))
        fitted = terms @ coefficients
    paper = _quadratic_terms(picture.height, picture.width) @ coefficients
    return paper.astype(np.float32)


def _quadratic_terms(height: int, width: int) -> np.ndarray:
    """1, x, y, x², xy and y² at each pixel: float64 [H, W, 6], x and y in [-1, 1]."""
    y = ((np.arange(height) + 0.5) / height * 2 - 1)[:, None]
    x = ((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
    terms = np.broadcast_arrays(np.ones_like(x * y), x, y, x * x, x * y, y * y)
    return np.stack(terms, axis=-1)


def _contrast(difference: np.ndarray) -> np.ndarray:
    """How far each pixel is from paper, towards the ink's colour: float32 [H, W].

    That colour is the mean of the differences [H, W, 3], the largest counting most,
    so it does not matter whether ink is darker, lighter or only of another hue.
    """
    weights = np.sum(difference**2, axis=-1, keepdims=True) ** 1.5
    direction = (weights * difference).sum((0, 1))
    length = np.linalg.norm(direction)
    # Black on white has a contrast of 1, not the square root of 3.
    return difference @ (direction / (length or 1) / 3**0.5)


def _smooth(contrast: np.ndarray) -> np.ndarray:
    """Evens out grain, which only large pictures have and show no detail in."""
    from scipy import ndimage

    sigma = min(contrast.shape) / 400
    return ndimage.gaussian_filter(contrast, sigma) if sigma > 0.3 else contrast


def _level(contrast: np.ndarray) -> np.ndarray:
    """Takes away shadows: all that is wider than any stroke (a white top-hat)."""
    from scipy import ndimage

    size = max(3, round(_STROKE * max(contrast.shape)))
    return contrast - ndimage.grey_opening(contrast, size=(size, size))


def _strokes(contrast: np.ndarray) -> np.ndarray:
    """Where the strokes are, bool [H, W], and not dust, stains, frames and lines.

    Pieces of one digit may lie apart, so every piece of some size is kept.
    """
    from scipy import ndimage

    neighbours = np.ones((3, 3))
    pieces, count = ndimage.label(contrast > _INKED, neighbours)
    index = np.arange(1, count + 1)
    mass = ndimage.sum_labels(contrast, pieces, index)
    peak = ndimage.maximum(contrast, pieces, index)
    dark = peak > 0.6  # never none: the darkest pixel has 1 or more
    keep = dark & (mass >= 0.03 * mass[dark].max())
    sides = [pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]
    touched = sum(np.isin(index, side).astype(int) for side in sides)
    inside = keep & (touched == 0)
    if inside.any() and mass[inside].max() > 0.1 * mass[keep].max():
        keep &= touched < 2  # the rest are frames, lines and edges of the paper
    # With the soft edge that antialiasing gives to strokes.
    return ndimage.binary_dilation(np.append(False, keep)[pieces], neighbours)


def to_mnist(ink: np.ndarray) -> np.ndarray:
    """Brings ink to MNIST's geometry.

    The longest side of the ink becomes 20 pixels, antialiased, with its aspect kept;
    a shift by whole pixels brings the centre of mass, rounded, to pixel (14, 14); the
    brightest pixel becomes 255 (LeCun et al., 1998; yann.lecun.com/exdb/mnist).

    Args:
      ink: float [H, W], 0 for paper and 1 for ink; not all 0.

    Returns:
      uint8 [28, 28].
    """
    return _stretch(_centre(_resize(_crop(ink))))


def _crop(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resize(ink: np.ndarray) -> np.ndarray:
    scale = INK_SIDE / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    picture = Image.fromarray(ink.astype(np.float32))
    # Pillow's bilinear filter widens as it reduces, so nothing is skipped. Of its
    # filters it gave the likeliest digits, on MNIST drawn large and brought back.
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _centre(ink: np.ndarray) -> np.ndarray:
    """Puts ink [h, w] of at most 20x20 on an empty image, float32 [28, 28]."""
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.float32)
    corner = []
    for axis, side in enumerate(ink.shape):
        mean = ink.sum(1 - axis) @ np.arange(side) / ink.sum()
        # A shift never puts ink outside: 14 - 19 is below 0.
        corner.append(int(np.clip(CENTRE - round(mean), 0, IMAGE_SIDE - side)))
    top, left = corner
    image[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return image


def _stretch(image: np.ndarray) -> np.ndarray:
    return np.rint(image * (255 / image.max())).astype(np.uint8)
