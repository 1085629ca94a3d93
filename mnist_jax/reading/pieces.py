"""Divides ink into pieces: each of one digit, if all goes well, or of a part of one.

    divide       ink -> pieces that hang together, without specks
    find_lines   pieces -> lines, in reading order
    cut_lines    pieces -> more of them, cut wherever digits may touch

Strokes may be broken, so what makes a digit of several pieces is decided elsewhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnist_jax.reading.seams import find_seams

MAX_PIECES = 150  # the largest; a picture with more shows a texture

_MOST_CUT = 100  # pieces that come of cutting, about
_INKED = 0.4  # share of full ink that makes a stroke

# Lengths are shares of the typical height of a digit.
_SPECK = 0.12  # what is smaller is dirt
_TALL = 0.5  # what may be a digit; what is smaller is a stroke, a comma or a dash
_NEAR = 0.25  # a stroke farther from the digits than this is not one of theirs
_WIDE, _WIDEST = 0.6, 16.0  # what may be several digits that touch
_SMALLEST_PART = 0.1  # of a piece that is cut: that much of a stroke


class PageInk(NamedTuple):
    """A picture whose ink is divided into pieces."""

    ink: np.ndarray  # float32 [H, W]
    labels: np.ndarray  # int [H, W], the piece that each pixel belongs to; 0 is paper
    height: float  # of a typical digit, in pixels
    stroke: float  # its width, in pixels


class Piece(NamedTuple):
    """Ink that belongs to one digit, or to none."""

    label: int
    left: int
    top: int
    right: int
    bottom: int
    is_stroke: bool = False  # too small for a digit
    cut: float | None = None  # strokes cut through at its left, if it was cut there

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def x(self) -> float:
        """The column of its middle."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """The row of its middle."""
        return (self.top + self.bottom) / 2


def bounds(pieces: Sequence[Piece]) -> tuple[int, int, int, int]:
    """The box around pieces: left, top, right, bottom."""
    return (
        min(piece.left for piece in pieces),
        min(piece.top for piece in pieces),
        max(piece.right for piece in pieces),
        max(piece.bottom for piece in pieces),
    )


def divide(ink: np.ndarray) -> PageInk:
    """Divides ink [H, W], of at most 1, into what hangs together, without specks."""
    from scipy import ndimage

    strong = ink > _INKED
    labels, _ = ndimage.label(strong, np.ones((3, 3)))
    area = np.bincount(labels.ravel())
    area[0] = 0
    keep = np.zeros(len(area), bool)
    keep[np.argsort(-area, kind="stable")[:MAX_PIECES]] = True
    keep &= area > 0
    pieces = _pieces(np.where(keep[labels], labels, 0))
    # Each counts by its height, so that strokes and specks do not decide.
    heights = np.sort([piece.height for piece in pieces])
    height = float(heights[np.searchsorted(heights.cumsum(), heights.sum() / 2)])
    for piece in pieces:
        keep[piece.label] = max(piece.height, piece.width) >= _SPECK * height
    labels = np.where(keep[labels], labels, 0)
    # The soft edges of strokes belong to the nearest.
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    soft = (ink > 0) & ~strong & (distance <= max(2, 0.05 * height))
    labels = np.where(soft, labels[tuple(nearest)], labels)
    # A stroke has two edges.
    stroke = 2 * strong.sum() / (strong & ~ndimage.binary_erosion(strong)).sum()
    return PageInk(ink, labels, height, float(stroke))


def _pieces(labels: np.ndarray) -> list[Piece]:
    from scipy import ndimage

    return [
        Piece(label, place[1].start, place[0].start, place[1].stop, place[0].stop)
        for label, place in enumerate(ndimage.find_objects(labels), 1)
        if place
    ]


def find_lines(page: PageInk) -> list[list[Piece]]:
    """Sorts pieces into lines, top to bottom, and in them from left to right.

    Each that is tall is linked with the nearest at its right that is beside it, so
    lines may slope. Strokes join the nearest line, if near.
    """
    pieces = _pieces(page.labels)
    tall = [piece for piece in pieces if piece.height >= _TALL * page.height]
    line_of = list(range(len(tall)))
    rise = run = 0.0
    for i, piece in enumerate(tall):
        linked = [j for j, p in enumerate(tall) if _stacked(piece, p, page.height)]
        beside = [j for j, p in enumerate(tall) if p.x > piece.x and _beside(piece, p)]
        if beside:
            j = min(beside, key=lambda j: tall[j].left)
            linked.append(j)
            rise, run = rise + tall[j].y - piece.y, run + tall[j].x - piece.x
        for j in linked:
            line_of = [line_of[i] if k == line_of[j] else k for k in line_of]
    slope = rise / run if run else 0.0
    lines = [
        [p for p, k in zip(tall, line_of, strict=True) if k == n] for n in {*line_of}
    ]
    lines.sort(key=lambda line: np.mean([p.y - slope * p.x for p in line]))
    strokes: list[list[Piece]] = [[] for _ in lines]
    for piece in pieces:
        if piece.height < _TALL * page.height:
            distances = [min(_distance(piece, p) for p in line) for line in lines]
            nearest = int(np.argmin(distances))
            if distances[nearest] <= _NEAR * page.height:
                strokes[nearest].append(piece._replace(is_stroke=True))
    return [
        sorted(line + more, key=lambda piece: piece.x)
        for line, more in zip(lines, strokes, strict=True)
    ]


def _beside(a: Piece, b: Piece) -> bool:
    shared = min(a.bottom, b.bottom) - max(a.top, b.top)
    return shared >= 0.5 * min(a.height, b.height)


def _stacked(a: Piece, b: Piece, height: float) -> bool:
    """Whether two pieces lie one over the other as the parts of a digit do."""
    shared = min(a.right, b.right) - max(a.left, b.left)
    both = max(a.bottom, b.bottom) - min(a.top, b.top)
    return shared > 0 and both <= 1.3 * height


def _distance(a: Piece, b: Piece) -> float:
    across = max(a.left - b.right, b.left - a.right, 0)
    down = max(a.top - b.bottom, b.top - a.bottom, 0)
    return float(np.hypot(across, down))


def cut_lines(page: PageInk, lines: Sequence[Sequence[Piece]]) -> list[list[Piece]]:
    """Cuts the pieces that are wide, in the page's map as well.

    What is wider than any number, and what comes after many pieces, is left whole, so
    that the time this takes is bounded.
    """
    room = _MOST_CUT
    cut = []
    for line in lines:
        pieces: list[Piece] = []
        for piece in line:
            is_wide = _WIDE <= piece.width / page.height <= _WIDEST
            may_be_several = is_wide and not piece.is_stroke and room > 0
            parts = _cut(page, piece) if may_be_several else [piece]
            room -= len(parts)
            pieces += parts
        cut.append(sorted(pieces, key=lambda piece: piece.x))
    return cut


def _cut(page: PageInk, piece: Piece) -> list[Piece]:
    place = np.s_[piece.top : piece.bottom, piece.left : piece.right]
    own = page.labels[place] == piece.label
    ink = np.where(own, page.ink[place], 0)
    columns = np.arange(piece.width)
    least = _SMALLEST_PART * page.height * page.stroke  # of ink
    rest = own
    cut: float | None = None
    parts: list[Piece] = []
    first = int(page.labels.max()) + 1
    for seam in find_seams(ink, page.height, page.stroke):
        is_left = columns < seam.columns[:, None]
        part = rest & is_left
        if min(ink[part].sum(), ink[rest & ~is_left].sum()) >= least:
            parts.append(_part(page, piece, part, first + len(parts), cut))
            rest, cut = rest & ~is_left, seam.strokes
    return [*parts, _part(page, piece, rest, first + len(parts), cut)]


def _part(
    page: PageInk, piece: Piece, mask: np.ndarray, label: int, cut: float | None
) -> Piece:
    """Makes a part [h, w] of a piece a piece of its own."""
    place = np.s_[piece.top : piece.bottom, piece.left : piece.right]
    page.labels[place][mask] = label
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom = piece.top + int(rows[0]), piece.top + int(rows[-1]) + 1
    left, right = piece.left + int(columns[0]), piece.left + int(columns[-1]) + 1
    return Piece(label, left, top, right, bottom, piece.is_stroke, cut)
