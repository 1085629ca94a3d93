"""A picture becomes a 28x28 image, the way MNIST itself was made.

    read_picture   file         -> picture       (picture_files.py)
    find_ink       picture      -> ink [H, W]    (ink.py)
    main_digit     ink [H, W]   -> ink [H, W]    of one digit, without what lies around
    to_mnist       ink [H, W]   -> uint8 [28, 28]

`prepare` does the last three, and `stages_strip` draws them.
"""

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mnist_jax.reading.files import read_picture
from mnist_jax.reading.ink import BlankError, find_ink, ink_stages

__all__ = [
    "BlankError",
    "find_ink",
    "load_digit",
    "main_digit",
    "prepare",
    "read_picture",
    "stages",
    "stages_strip",
    "to_mnist",
]

_BITMAP_SIDE = 100  # pixels of a digit while its strokes are measured and altered
# Widths of strokes, in pixels at MNIST's size: 88 in 100 of MNIST's own lie between.
_THINNEST, _THICKEST = 1.8, 4.8

INK_SIDE, IMAGE_SIDE, CENTRE = 20, 28, 14  # pixels, as in MNIST


def load_digit(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Reads a picture of one digit.

    Args:
      source: a picture file's path or content, as `read_picture` takes it.

    Returns:
      uint8 [28, 28], white ink on black.

    Raises:
      PictureError: it cannot be read.
      BlankError: it shows nothing.
    """
    return prepare(read_picture(source))


def prepare(picture: Image.Image) -> np.ndarray:
    """As `load_digit`, of an RGB picture."""
    return to_mnist(main_digit(find_ink(picture)))


def stages(picture: Image.Image) -> list[tuple[str, np.ndarray]]:
    """What becomes of a picture on the way to the model.

    Args:
      picture: RGB.

    Returns:
      The name and uint8 [H, W] or [H, W, 3] of each stage. The last is "28x28", as from
      `prepare`, unless the picture is blank.
    """
    shown = [("picture", np.asarray(picture))]
    try:
        maps = ink_stages(picture)
    except BlankError:
        return shown
    for name, levels in maps.items():
        scaled = levels / (max(float(np.percentile(levels, 99.9)), 1e-6))
        shown.append((name, (np.clip(scaled, 0, 1) * 255).astype(np.uint8)))
    return [*shown, ("28x28", prepare(picture))]


def stages_strip(picture: Image.Image) -> Image.Image:
    """Draws the `stages` of an RGB picture side by side, with their names."""
    shown = stages(picture)
    side, label = 224, 20
    strip = Image.new("RGB", ((side + 8) * len(shown) + 8, side + label + 12), "white")
    canvas = ImageDraw.Draw(strip)
    for index, (name, levels) in enumerate(shown):
        left = 8 + index * (side + 8)
        canvas.text((left, 5), name, "black", ImageFont.load_default(13))
        image = Image.fromarray(levels).convert("RGB")
        small = max(image.size) < 64
        how = Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC
        image = ImageOps.contain(image, (side, side), how)
        canvas.rectangle((left, label + 4, left + side, label + 4 + side), "#e4e4e4")
        corner = (left + (side - image.width) // 2, label + 4)
        strip.paste(image, (corner[0], corner[1] + (side - image.height) // 2))
    return strip


def main_digit(ink: np.ndarray) -> np.ndarray:
    """Keeps the largest piece of ink [H, W] and the pieces near it; the rest becomes 0.

    Near is less than a quarter of its size away, or of that of what is near it, so
    parts of a broken digit stay together. What lies at the picture's border, if the
    largest piece does not, belongs to something else.
    """
    from scipy import ndimage

    pieces, count = ndimage.label(ink > 0.25, np.ones((3, 3)))
    if count < 2:
        return ink
    mass = np.bincount(pieces.ravel(), ink.ravel())
    mass[0] = 0
    sides = [pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]
    outer = np.isin(np.arange(count + 1), np.concatenate(sides))
    kept = np.arange(count + 1) == np.argmax(np.where(outer, 0.2, 1) * mass)
    rest = ~kept & (mass > 0.01 * mass.max()) & ~(outer & ~outer[kept])
    rest[0] = False
    while rest.any():
        inside = kept[pieces]
        reach = 0.25 * max(_crop(inside).shape)
        near = ndimage.distance_transform_edt(~inside) < reach
        joined = np.isin(np.arange(count + 1), pieces[near]) & rest
        if not joined.any():
            break
        kept |= joined
        rest &= ~joined
    inside = kept[pieces]
    soft = ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=2)
    return np.where(soft & ((pieces == 0) | inside), ink, 0)


def to_mnist(ink: np.ndarray) -> np.ndarray:
    """Brings ink to MNIST's geometry.

    The longest side of the ink becomes 20 pixels, antialiased, with its aspect kept;
    a shift by whole pixels brings the centre of mass, rounded, to pixel (14, 14); the
    brightest pixel becomes 255 (LeCun et al., 1998; yann.lecun.com/exdb/mnist). Strokes
    thinner or thicker than MNIST's are first brought to a width that it has.

    Args:
      ink: float [H, W], 0 for paper, the most for full ink; not all 0.

    Returns:
      uint8 [28, 28].
    """
    ink = _crop(ink) / ink.max()
    if max(ink.shape) == INK_SIDE:
        return _stretch(_centre(_resize(ink)))
    return _stretch(_centre(_resize(_crop(_adjust_strokes(_bitmap(ink))))))


def _bitmap(ink: np.ndarray) -> np.ndarray:
    """Ink whose longest side has about `_BITMAP_SIDE` pixels."""
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
    # Of few pixels most are edge; so they become as much sharper.
    return np.clip((np.asarray(enlarged) - 0.5) * 1.5 + 0.5, 0, 1)


def _reduce_whole(ink: np.ndarray, factor: int) -> np.ndarray:
    """Reduces by taking the most of each square, so that the thinnest lines last."""
    height, width = (-(-side // factor) * factor for side in ink.shape)
    padded = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    return padded.reshape(height // factor, factor, -1, factor).max((1, 3))


def _stroke_width(mask: np.ndarray) -> float:
    """Mean width of strokes in pixels, of a mask [H, W] that is not empty.

    In a stroke, distances from the edge are a quarter of its width in the mean.
    """
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(np.pad(mask, 1))
    return 4 * (float(distance[distance > 0].mean()) - 0.5)


def _adjust_strokes(ink: np.ndarray) -> np.ndarray:
    """Thickens thin strokes, and thins thick ones, to the range of MNIST's.

    The edges move in or out by `step` on each side, which alters the size of the whole
    as well: hence its formula.
    """
    from scipy import ndimage

    ink = np.pad(ink / ink.max(), _BITMAP_SIDE // 8)
    mask = ink > 0.5
    length = max(np.ptp(np.flatnonzero(mask.any(axis))) + 1 for axis in (0, 1))
    share = _stroke_width(mask) / length
    wanted = np.clip(share, _THINNEST / INK_SIDE, _THICKEST / INK_SIDE)
    step = (wanted - share) * length / (2 * (1 - wanted))
    if abs(step) < 0.5:
        return ink
    edge = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    moved = np.clip((edge + step) / 2 + 0.5, 0, 1)
    return moved if moved.max() > 0.5 else ink


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
