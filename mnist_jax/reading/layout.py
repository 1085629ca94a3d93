"""Finds and reads the digits of a picture that may hold several.

    ink ─► pieces ─► lines ─► cut where digits may touch ─► join what makes digits

Strokes are broken and digits touch, so no rule of geometry tells where one digit ends.
As usual for numbers, ink is cut too often, the recogniser reads every run of
neighbouring pieces that may be a digit, and dynamic programming finds the likeliest
way to join the pieces (O. Matan et al., "Multi-digit recognition using a space
displacement neural network", NIPS 1991; Y. LeCun et al., "Gradient-based learning
applied to document recognition", 1998, section VI).
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from mnist_jax.datasets.geometry import check_ink
from mnist_jax.errors import ArgumentError, suggest
from mnist_jax.reading.pictures import main_digit, to_mnist
from mnist_jax.reading.pieces import (
    PageInk,
    Piece,
    bounds,
    cut_lines,
    divide,
    find_lines,
)

Mode = Literal["auto", "digit", "number"]

# Of uint8 [N, 28, 28], white on black: probabilities [N, C]. Rows may sum to less than
# 1, where the rest is the probability that the image shows none of the classes.
Classify = Callable[[np.ndarray], np.ndarray]

# Lengths are shares of the typical height of a digit.
_LOWEST, _BROAD, _BROADEST = 0.4, 0.9, 1.5  # digits; _BROAD is still common

_RUN = 8  # pieces of a digit, at most
_SLIVER = 0.7  # strokes; what is cut off and thinner is no digit

# Chosen on numbers composed of digits held out of MNIST's train split: log-odds that
# neighbouring pieces belong to two digits, ...
_CUT, _CUT_STROKE = 0.6, -2.3  # ... where ink was cut; and for each stroke cut
_GAP, _GAP_WIDTH, _LEAST, _MOST = 4.0, 15.0, -4.0, 6.0  # ... where there was a gap
_STROKE_GAP = -1.0  # ... and one is a stroke; as `_GAP`
# ... and what else is added to a way's score.
_TRUST = 6.0  # weight of the recogniser's log-probabilities
_HEIGHT_SPREAD = 0.4  # standard deviation of the logarithm of heights
_TOO_BROAD = 5.0  # penalty on a digit for each height that it is broader than `_BROAD`
_LEFT_OUT = 4.0  # penalty on ink that is in no digit, and more for larger pieces
_LINES = 4.0  # penalty on one digit of several lines

# In "auto":
_AHEAD = 3.0  # how much better several digits must score
_SURE = 0.8  # geometric mean of the confidences of several digits, at least


@dataclasses.dataclass(frozen=True)
class Region:
    """Where a digit is.

    Attributes:
      box: left, top, right, bottom in pixels, the last two just outside.
      line: of text, from 0 at the top.
      ink: float32 [bottom - top, right - left], the digit's own ink, 0 to 1.
    """

    box: tuple[int, int, int, int]
    line: int
    ink: np.ndarray = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a region was read as.

    Attributes:
      region: where.
      image: uint8 [28, 28], what the recogniser saw.
      probabilities: float64 [C].
    """

    region: Region
    image: np.ndarray = dataclasses.field(repr=False, compare=False)
    probabilities: np.ndarray = dataclasses.field(repr=False, compare=False)


def read_digits(
    ink: np.ndarray, classify: Classify, mode: Mode = "auto"
) -> list[Reading]:
    """Reads the digits of a picture, in reading order.

    Args:
      ink: float [H, W], 0 for paper and 1 for ink; not all 0.
      classify: the recogniser; called once.
      mode: "digit" reads one digit, "number" looks for several, and "auto" does so
        too, but in doubt reads one.

    Returns:
      One or more readings.

    Raises:
      ArgumentError: `ink` is none, or `mode` is another word.
    """
    check_ink(ink)
    if mode not in get_args(Mode):
        raise ArgumentError(f"mode={mode!r}: {suggest(str(mode), get_args(Mode))}")
    ink = np.asarray(ink / ink.max(), np.float32)
    if mode == "digit":
        return _read([_main(ink)], classify)
    page = divide(ink)
    lines = cut_lines(page, find_lines(page))
    runs = [_runs(page, line, k) for k, line in enumerate(lines)]
    regions = [region for spans in runs for region in spans.values()]
    one, *several = _read([_main(ink), *regions], classify)
    found: list[Reading] = []
    # Two lines of one digit each are more often one digit that is broken.
    ahead = -_score(one, page.height) + _LINES * max(0, len(lines) - 2)
    for line, spans in zip(lines, runs, strict=True):
        readings, several = several[: len(spans)], several[len(spans) :]
        split, join = _boundaries(line, page.height)
        score, best = _best_way(
            line, dict(zip(spans, readings, strict=True)), split, join, page.height
        )
        found += best
        ahead += score - join.sum()
    if not found or (mode == "auto" and not _is_number(found, ahead)):
        return [one]
    return found


def _is_number(found: Sequence[Reading], ahead: float) -> bool:
    """Whether several digits are so likely that a picture is not one of one digit."""
    sure = np.exp(np.mean([_log_confidence(reading) for reading in found]))
    return len(found) > 1 and ahead >= _AHEAD and bool(sure >= _SURE)


def _read(regions: Sequence[Region], classify: Classify) -> list[Reading]:
    images = np.stack([to_mnist(region.ink) for region in regions])
    rows = np.asarray(classify(images), np.float64)
    return [Reading(*row) for row in zip(regions, images, rows, strict=True)]


def _main(ink: np.ndarray) -> Region:
    """The only digit of a picture."""
    ink = main_digit(ink)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    return Region((left, top, right, bottom), 0, ink[top:bottom, left:right])


def _runs(
    page: PageInk, line: Sequence[Piece], number: int
) -> dict[tuple[int, int], Region]:
    """The runs of pieces [i, j) of a line that may be a digit, by their size."""
    runs = {}
    for i in range(len(line)):
        for j in range(i + 1, min(i + _RUN, len(line)) + 1):
            left, top, right, bottom = bounds(line[i:j])
            is_narrow = right - left <= _BROADEST * page.height or j == i + 1
            if not is_narrow or bottom - top < _LOWEST * page.height:
                continue
            region = _region(page, line[i:j], number)
            # A sliver cut off a stroke looks like a 1, once it is enlarged.
            was_cut = line[i].cut is not None or (j < len(line) and line[j].cut)
            least = _SLIVER * page.stroke * (bottom - top)
            if not was_cut or region.ink.sum() >= least:
                runs[i, j] = region
    return runs


def _region(page: PageInk, pieces: Sequence[Piece], line: int) -> Region:
    left, top, right, bottom = box = bounds(pieces)
    place = np.s_[top:bottom, left:right]
    own = np.isin(page.labels[place], [piece.label for piece in pieces])
    return Region(box, line, np.where(own, page.ink[place], 0))


def _boundaries(line: Sequence[Piece], height: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities that each piece but the first begins a digit, or does not."""
    odds = []
    for before, after in itertools.pairwise(line):
        if after.cut is not None:
            odds.append(_CUT + _CUT_STROKE * after.cut)
        else:
            gap = (after.left - before.right) / height
            bias = _STROKE_GAP if before.is_stroke or after.is_stroke else _GAP
            odds.append(np.clip(bias + _GAP_WIDTH * gap, _LEAST, _MOST))
    both = np.array(odds, np.float64)
    return -np.logaddexp(0, -both), -np.logaddexp(0, both)


def _score(reading: Reading, height: float) -> float:
    """How likely a reading is, by its confidence and its size."""
    tall, wide = np.array(reading.region.ink.shape) / height
    size = (np.log(tall) / _HEIGHT_SPREAD) ** 2 / 2 + _TOO_BROAD * max(wide - _BROAD, 0)
    return _TRUST * _log_confidence(reading) - float(size)


def _log_confidence(reading: Reading) -> float:
    return float(np.log(max(reading.probabilities.max(), 1e-6)))


def _best_way(
    line: Sequence[Piece],
    readings: dict[tuple[int, int], Reading],
    split: np.ndarray,
    join: np.ndarray,
    height: float,
) -> tuple[float, list[Reading]]:
    """Finds the likeliest way to join the pieces of a line (dynamic programming).

    Args:
      line: its pieces.
      readings: of runs [i, j) of them.
      split: log-probability that a digit begins at piece 1, 2, ...
      join: that none does.
      height: of a typical digit.

    Returns:
      The score and the digits.
    """
    joined = np.append(0, join.cumsum())
    best: list[tuple[float, list[Reading]]] = [(0.0, [])]
    for j, last in enumerate(line, 1):
        size = max(last.height, last.width) / height
        score, digits = best[j - 1]
        ways = [(score - _LEFT_OUT * (1 + 8 * size), digits)]
        for i in range(max(0, j - _RUN), j):
            if (i, j) in readings:
                score, digits = best[i]
                score += _score(readings[i, j], height) + joined[j - 1] - joined[i]
                score += split[i - 1] if i else 0.0
                ways.append((score, [*digits, readings[i, j]]))
        best.append(max(ways, key=lambda way: way[0]))
    return best[-1]
