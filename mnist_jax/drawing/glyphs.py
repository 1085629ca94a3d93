"""Shapes to write pictures with: digits of MNIST, strokes and letters.

A `Glyph` has two forms: a solid, which is the shape as its writer left it, and a path,
which a pen of any width can follow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mnist_jax.datasets.geometry import crop_to_ink
from mnist_jax.drawing.fonts import load_font
from mnist_jax.drawing.thinning import thin, trace

Polyline = Sequence[tuple[float, float]]

_SIDE = 128  # pixels of the longest side of a solid glyph

# Letters that nobody takes for a digit. O, l and Z, say, are left out.
LATIN = "ACEFHKMNPQRUVWXacdefhkmnprtuvwx"
GREEK = "αβγδεζηθκλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ"
_FONTS = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")


class Glyph(NamedTuple):
    """A shape without colour or size."""

    solid: np.ndarray  # float32 [h, w], coverage in [0, 1]; the longest side is 128
    path: np.ndarray  # float32 [M, 2, 2]: the ends (x, y) of segments, in those pixels


def from_image(image: np.ndarray) -> Glyph:
    """Makes a glyph of an image uint8 [28, 28], white on black, with smooth edges."""
    levels = Image.fromarray(np.pad(image, 2)).resize(
        (_SIDE * 2, _SIDE * 2), Image.Resampling.BICUBIC
    )
    return _from_mask(np.asarray(levels) > 110)


def from_letter(letter: str, font: int) -> Glyph:
    """Makes a glyph of a letter of one of the four STIX fonts; `font` is 0 to 3."""
    image = Image.new("L", (2 * _SIDE, 2 * _SIDE))
    centre = (_SIDE, _SIDE)
    ImageDraw.Draw(image).text(
        centre, letter, 255, load_font(_FONTS[font], _SIDE), anchor="mm"
    )
    return _from_mask(np.asarray(image) > 127)


def from_polylines(polylines: Sequence[Polyline], width: float = 0.09) -> Glyph:
    """Makes a glyph of strokes.

    Args:
      polylines: the points (x, y) of each stroke, y downwards, in any unit.
      width: of the solid's strokes, as a share of the longest side.
    """
    pieces = [np.asarray(line, np.float32) for line in polylines]
    path = np.concatenate([np.stack([p[:-1], p[1:]], 1) for p in pieces])
    low, high = path.min((0, 1)), path.max((0, 1))
    path = (path - low) * (_SIDE / (high - low).max())
    return Glyph(_pen(path, _SIDE, width * _SIDE, soft=True), path)


def _from_mask(mask: np.ndarray) -> Glyph:
    crop = crop_to_ink(mask)
    scale = _SIDE / max(crop.shape)
    size = [max(2, round(side * scale)) for side in crop.shape[::-1]]
    picture = Image.fromarray(crop.astype(np.float32))
    solid = np.asarray(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR))
    return Glyph(solid, trace(thin(solid > 0.5)))


def write_glyph(glyph: Glyph, size: int, width: float | None = None) -> np.ndarray:
    """Writes a glyph.

    Args:
      glyph: what to write.
      size: pixels of its longest side, without the pen's width.
      width: pixels of the pen; None for the strokes as they are. At 1 or less, lines
        are of whole pixels, as drawing programs make them.

    Returns:
      Coverage float32 [h, w], cropped to its ink.
    """
    if width is not None:
        return _pen(glyph.path, size, width, soft=width > 1)
    height, across = (max(1, round(n * size / _SIDE)) for n in glyph.solid.shape)
    solid = Image.fromarray(glyph.solid)
    smooth = solid.resize((across, height), Image.Resampling.BICUBIC)
    # This keeps an edge about a pixel wide at any size.
    steep = max(1.0, size / _SIDE)
    return np.clip((np.asarray(smooth) - 0.5) * steep + 0.5, 0, 1)


def _pen(path: np.ndarray, size: int, width: float, soft: bool) -> np.ndarray:
    """Draws segments with a round pen, antialiased if `soft`."""
    finer = 3 if soft else 1
    scale, radius = size * finer / _SIDE, max(width * finer / 2, 0.5)
    edge = int(np.ceil(radius)) + finer
    extent = np.ceil(path.max((0, 1)) * scale).astype(int) + 2 * edge + 1
    extent = -(-extent // finer) * finer
    image = Image.new("L", (int(extent[0]), int(extent[1])))
    canvas = ImageDraw.Draw(image)
    for start, end in path * scale + edge:
        (x0, y0), (x1, y1) = start.tolist(), end.tolist()
        canvas.line((x0, y0, x1, y1), 255, max(1, round(2 * radius)))
        if radius > 1:
            for x, y in ((x0, y0), (x1, y1)):
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    if finer > 1:
        image = image.reduce(finer)
    return crop_to_ink(np.asarray(image, np.float32) / 255)


def rounded(points: np.ndarray) -> Polyline:
    """Cuts corners [N, 2] twice, as a fast hand does (Chaikin's algorithm)."""
    for _ in range(2):
        a, b = points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return [(float(x), float(y)) for x, y in points]
