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

from mnist_jax.datasets.geometry import crop_to_ink, to_mnist
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
        reach = 0.25 * max(crop_to_ink(inside).shape)
        near = ndimage.distance_transform_edt(~inside) < reach
        joined = np.isin(np.arange(count + 1), pieces[near]) & rest
        if not joined.any():
            break
        kept |= joined
        rest &= ~joined
    inside = kept[pieces]
    soft = ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=2)
    return np.where(soft & ((pieces == 0) | inside), ink, 0)
