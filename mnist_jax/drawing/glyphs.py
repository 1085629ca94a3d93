"""Shapes to write pictures with: digits of MNIST, strokes drawn by hand, letters.

A `Glyph` is solid, as its writer left it, and a path, which any pen can follow.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Polyline = Sequence[tuple[float, float]]

_SIDE = 128  # pixels of the longest side of a solid glyph

# Letters that no reader takes for a digit, as O, l and Z may be.
LATIN = "ACEFHKMNPQRUVWXacdefhkmnprtuvwx"
GREEK = "αβγδεζηθκλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ"
_FONTS = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")


class Glyph(NamedTuple):
    """A shape without colour or size."""

    solid: np.ndarray  # float32 [h, w], coverage in [0, 1]; the longest side is 128
    path: np.ndarray  # float32 [M, 2, 2]: the ends (x, y) of segments, in those pixels


def from_image(image: np.ndarray) -> Glyph:
    """A glyph of an image uint8 [28, 28], white on black, with smooth edges."""
    levels = Image.fromarray(np.pad(image, 2)).resize(
        (_SIDE * 2, _SIDE * 2), Image.Resampling.BICUBIC
    )
    return _from_mask(np.asarray(levels) > 110)


def from_letter(letter: str, font: int) -> Glyph:
    """A letter of the STIX fonts, which come with matplotlib; `font` from 0 to 3."""
    image = Image.new("L", (2 * _SIDE, 2 * _SIDE))
    centre = (_SIDE, _SIDE)
    ImageDraw.Draw(image).text(centre, letter, 255, _font(font), anchor="mm")
    return _from_mask(np.asarray(image) > 127)


@functools.cache
def _font(font: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{_FONTS[font]}.ttf"), _SIDE)


def from_polylines(polylines: Sequence[Polyline], width: float = 0.09) -> Glyph:
    """A glyph of strokes.

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
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _SIDE / max(crop.shape)
    size = [max(2, round(side * scale)) for side in crop.shape[::-1]]
    picture = Image.fromarray(crop.astype(np.float32))
    solid = np.asarray(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR))
    return Glyph(solid, _trace(thin(solid > 0.5)))


def write(glyph: Glyph, size: int, width: float | None = None) -> np.ndarray:
    """Writes a glyph.

    Args:
      glyph: what.
      size: pixels of its longest side, without the pen's width.
      width: pixels of the pen; None for the strokes as they are. At 1 or less, a line
        of whole pixels, as drawing programs make.

    Returns:
      Coverage float32 [h, w], cropped to its ink.
    """
    if width is not None:
        return _pen(glyph.path, size, width, soft=width > 1)
    height, across = (max(1, round(n * size / _SIDE)) for n in glyph.solid.shape)
    solid = Image.fromarray(glyph.solid)
    smooth = solid.resize((across, height), Image.Resampling.BICUBIC)
    # An edge of about a pixel, at any size.
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
    ink = np.asarray(image, np.float32) / 255
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def thin(mask: np.ndarray) -> np.ndarray:
    """The skeleton of a shape, bool [H, W].

    T. Y. Zhang and C. Y. Suen, "A fast parallel algorithm for thinning digital
    patterns" (Communications of the ACM, 1984).
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    height, width = mask.shape
    # Clockwise from above, the first again at the end.
    around = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0), (0, 1)]
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            ring = [padded[y : y + height, x : x + width] for y, x in around]
            count = np.sum(ring[:8], axis=0)
            turns = np.sum([~a & b for a, b in itertools.pairwise(ring)], axis=0)
            n, e, s, w = ring[0], ring[2], ring[4], ring[6]
            kept = (e & s & (n | w)) if first else (n & w & (e | s))
            gone = inner & (count >= 2) & (count <= 6) & (turns == 1) & ~kept
            inner[gone] = False
            changed |= bool(gone.any())
    return inner.copy()


def _trace(skeleton: np.ndarray) -> np.ndarray:
    """The segments between neighbouring pixels, with the steps smoothed away."""
    index = np.full(np.add(skeleton.shape, 2), -1)
    y, x = np.nonzero(skeleton)
    index[y + 1, x + 1] = np.arange(len(y))
    pairs = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = index[y + 1 + dy, x + 1 + dx]
        here = np.flatnonzero(other >= 0)
        pairs.append(np.stack([here, other[here]], 1))
    edges = np.concatenate(pairs)
    points = np.stack([x, y], 1).astype(np.float32) + 0.5
    if not len(edges):  # a dot
        return np.stack([points, points + 0.5], 1)
    degree = np.bincount(edges.ravel(), minlength=len(points))[:, None]
    for _ in range(4):
        total = np.zeros_like(points)
        np.add.at(total, edges[:, 0], points[edges[:, 1]])
        np.add.at(total, edges[:, 1], points[edges[:, 0]])
        # Ends stay where they are.
        moved = (points + total / np.maximum(degree, 1)) / 2
        points = np.where(degree > 1, moved, points)
    return points[edges].astype(np.float32)


def arc(
    centre: tuple[float, float], radii: tuple[float, float], start: float, end: float
) -> Polyline:
    """Points of an arc; degrees from the right, clockwise as y points down."""
    angles = np.deg2rad(np.linspace(start, end, 24))
    x = centre[0] + radii[0] * np.cos(angles)
    y = centre[1] + radii[1] * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def rounded(points: np.ndarray) -> Polyline:
    """Corners [N, 2] cut twice, as a fast hand does (Chaikin's algorithm)."""
    for _ in range(2):
        a, b = points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return [(float(x), float(y)) for x, y in points]


def by_hand(rng: np.random.Generator, polylines: Sequence[Polyline]) -> list[Polyline]:
    """Slanted, stretched and a little unsteady."""
    slant, stretch = rng.uniform(-0.1, 0.25), rng.uniform(0.85, 1.15)
    waves = rng.uniform(0, 2 * np.pi, 4)
    drawn: list[Polyline] = []
    for line in polylines:
        x, y = np.asarray(line).T
        x = x * stretch + slant * (1 - y)
        x = x + 0.015 * np.sin(7 * y + waves[0]) + 0.01 * np.sin(13 * y + waves[1])
        y = y + 0.015 * np.sin(7 * x + waves[2]) + 0.01 * np.sin(13 * x + waves[3])
        drawn.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return drawn


def _straight(*corners: tuple[float, float]) -> Polyline:
    """Enough points on straight lines that an unsteady hand shows."""
    points = [
        a + (b - a) * t
        for a, b in itertools.pairwise(np.array(corners))
        for t in np.linspace(0, 1, 9)
    ]
    return [(float(x), float(y)) for x, y in points]


def _barred_7(rng: np.random.Generator) -> list[Polyline]:
    foot, bar = rng.uniform(0.1, 0.35), rng.uniform(0.42, 0.58)
    lines = [_straight((0, 0.03), (0.6, 0), (foot, 1))]
    if rng.random() < 0.3:  # with a serif
        lines.append(_straight((0, 0.03), (0, 0.15)))
    middle = 0.6 + (foot - 0.6) * bar
    return [*lines, _straight((middle - 0.2, bar), (middle + 0.22, bar - 0.04))]


def _seriffed_1(rng: np.random.Generator) -> list[Polyline]:
    flag = rng.uniform(0.2, 0.42)
    lines = [_straight((0.4 - rng.uniform(0.2, 0.38), flag), (0.4, 0), (0.4, 1))]
    if rng.random() < 0.5:
        lines.append(_straight((0.15, 1), (0.65, 1)))
    return lines


def _plain_1(rng: np.random.Generator) -> list[Polyline]:
    return [_straight((rng.uniform(0, 0.2), 0), (0.1, 1))]


def _closed_4(rng: np.random.Generator) -> list[Polyline]:
    bar = rng.uniform(0.55, 0.72)
    return [_straight((0.45, 1), (0.45, 0), (0, bar), (rng.uniform(0.55, 0.72), bar))]


def _open_4(rng: np.random.Generator) -> list[Polyline]:
    bar, top = rng.uniform(0.45, 0.6), rng.uniform(0, 0.2)
    left = _straight((0.1, 0), (0.02, bar), (0.6, bar))
    return [left, _straight((0.48, top), (0.45, 1))]


def _long_tailed_9(rng: np.random.Generator) -> list[Polyline]:
    loop = arc((0.25, 0.2), (0.22, 0.2), -20, -380)
    foot = rng.uniform(0.1, 0.45)
    return [[*loop, *_straight((0.46, 0.13), (0.46, 0.4), (foot, 1))]]


def _slashed_0(rng: np.random.Generator) -> list[Polyline]:
    reach = rng.uniform(0.9, 1.2)
    ends = [(0.32 + side * 0.28 * reach, 0.5 - side * 0.42 * reach) for side in (-1, 1)]
    return [arc((0.32, 0.5), (0.32, 0.5), -90, 270), _straight(*ends)]


def _looped_2(rng: np.random.Generator) -> list[Polyline]:
    head = arc((0.32, 0.25), (0.28, 0.25), -160, 40)
    down = np.array([head[-1], (0.3, 0.72), (0.08, 0.95), (0, 0.85), (0.12, 0.8)])
    out = np.array([(0.12, 0.8), (0.3, 0.95), (0.5, 1), (0.7, rng.uniform(0.85, 0.97))])
    return [[*head, *rounded(down), *rounded(out)]]


# A digit, and what draws its strokes.
STYLES: dict[str, tuple[int, Callable[[np.random.Generator], list[Polyline]]]] = {
    "barred 7": (7, _barred_7),
    "seriffed 1": (1, _seriffed_1),
    "plain 1": (1, _plain_1),
    "closed 4": (4, _closed_4),
    "open 4": (4, _open_4),
    "long-tailed 9": (9, _long_tailed_9),
    "slashed 0": (0, _slashed_0),
    "2 with a loop": (2, _looped_2),
}
