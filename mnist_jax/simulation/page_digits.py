"""The ink of a digit on a page: whose hand and which pen, at any height."""

from typing import NamedTuple

import numpy as np

from mnist_jax.drawing.figures import DIGIT_WIDTHS, DIGITS, Sign
from mnist_jax.drawing.masks import (
    character_mask,
    crop_mask,
    sharpen_mask,
    thicken_mask,
    trace_mask,
    warp_mask,
)
from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.drawing.strokes import (
    draw_strokes,
    jitter_figure,
    parse_figure,
    smooth_stroke,
)

Rng = np.random.Generator

_FONTS = (
    *("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono"),
    *("STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10"),
)
# Sides of seven segments: two ends (x, y) in a unit box, and the digits that have them.
_SEGMENTS = (
    ((0, 0), (1, 0), "02356789"),
    ((0, 0), (0, 0.5), "045689"),
    ((1, 0), (1, 0.5), "01234789"),
    ((0, 0.5), (1, 0.5), "2345689"),
    ((0, 0.5), (0, 1), "0268"),
    ((1, 0.5), (1, 1), "013456789"),
    ((0, 1), (1, 1), "0235689"),
)


class Pool(NamedTuple):
    """Images to write with."""

    images: np.ndarray  # uint8 [M, 28, 28]
    labels: np.ndarray  # int [M]


class Hand(NamedTuple):
    """How one writer writes, with one pen."""

    slant: float  # x per y
    width: float  # of the pen, as a share of the digits' height
    unsteady: float  # tilt of each digit, radians
    bend: float  # as a share of the digits' height
    stretch: float  # width of digits
    spread: float  # of the digits' heights, as a share
    sources: tuple[float, float]  # shares of MNIST and of strokes; the rest are fonts
    level: float  # where MNIST's edges are cut: a low one makes them thick
    is_traced: bool  # MNIST's strokes get the width of the pen
    is_brush: bool  # strokes are of uneven width


def draw_hand(rng: Rng) -> Hand:
    """Draws a writer and a pen."""
    sources = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.45), (0.0, 0.0))
    kind = rng.choice(4, p=[0.48, 0.24, 0.24, 0.04])
    return Hand(
        slant=float(np.clip(rng.normal(0.03, 0.18), -0.45, 0.55)),
        width=float(np.exp(rng.uniform(np.log(0.035), np.log(0.17)))),
        unsteady=float(abs(rng.normal(0, 0.07))),
        bend=float(rng.uniform(0, 0.05)) * (rng.random() < 0.6),
        stretch=float(rng.uniform(0.78, 1.25)),
        spread=float(rng.uniform(0, 0.12)),
        sources=sources[kind],
        level=float(rng.uniform(55, 165)),
        is_traced=bool(rng.random() < 0.2),
        is_brush=bool(rng.random() < 0.3),
    )


def write_digit(
    rng: Rng, hand: Hand, pool: Pool, label: int, height: float, turn: np.ndarray
) -> np.ndarray:
    """Writes a digit.

    Args:
      rng: what differs from the hand's last digit is drawn from it.
      hand: who writes.
      pool: images of digits.
      label: 0 to 9.
      height: of the ink, in pixels.
      turn: float [2, 2], from the page to the picture.

    Returns:
      Coverage uint8 [h, w], cropped to the ink.
    """
    height = max(5.0, height * (1 + hand.spread * float(rng.normal())))
    source = rng.random()
    if source < hand.sources[0]:
        image = _find_image(rng, pool, label)
        if image is not None:
            return _write_image(rng, hand, label, image, height, turn)
    if source < sum(hand.sources):
        return _write_strokes(rng, hand, label, height, turn)
    font = _FONTS[rng.integers(len(_FONTS))]
    mask = character_mask(font, str(label))
    return write_mask(rng, hand, mask, height, turn)


def _find_image(rng: Rng, pool: Pool, label: int) -> np.ndarray | None:
    """Returns the first image of a digit after a random one, or None."""
    start = int(rng.integers(len(pool.labels)))
    near = np.flatnonzero(pool.labels[start : start + 100] == label)
    if len(near):
        return pool.images[start + near[0]]
    anywhere = rng.integers(len(pool.labels), size=100)
    found = anywhere[pool.labels[anywhere] == label]
    return pool.images[found[0]] if len(found) else None


def hand_matrix(rng: Rng, hand: Hand, turn: np.ndarray) -> np.ndarray:
    """Returns how one character stands on the page: slanted and tilted, [2, 2]."""
    angle = hand.unsteady * float(rng.normal())
    slant = hand.slant + 0.04 * float(rng.normal())
    cos, sin = np.cos(angle), np.sin(angle)
    return turn @ np.array([[cos, -sin - slant * cos], [sin, cos - slant * sin]])


def _write_image(
    rng: Rng, hand: Hand, label: int, image: np.ndarray, height: float, turn: np.ndarray
) -> np.ndarray:
    mask = crop_mask(image)
    tall = max(mask.shape[0], 0.75 * mask.shape[1], 12)  # wide ones are low
    border = load_opencv().BORDER_CONSTANT
    mask = load_opencv().copyMakeBorder(mask, 2, 2, 2, 2, border)
    scale = height / tall
    stretch = hand.stretch * float(rng.uniform(0.92, 1.08))
    matrix = hand_matrix(rng, hand, turn) @ np.diag([scale * stretch, scale])
    bent = warp_mask(rng, mask, matrix, hand.bend * height)
    if scale > 1:
        level = float(np.clip(hand.level + rng.normal(0, 12), 45, 175))
        bent = sharpen_mask(bent, level, min(scale, 4.0))
    if hand.is_traced and height > 26:
        bent = _trace(hand, bent, height)
    elif hand.width > 0.12 and height > 16 and label not in (0, 3, 6, 8, 9):
        bent = thicken_mask(bent, max(1, round((hand.width - 0.11) * height * 0.8)))
    elif height > 16 and rng.random() < 0.35:
        bent = _add_national_stroke(rng, label, bent)
    return crop_mask(bent)


def _trace(hand: Hand, mask: np.ndarray, height: float) -> np.ndarray:
    """Draws a shape's middle lines with the hand's pen, if it has any."""
    thin = trace_mask(mask, max(1.2, hand.width * height * 0.8))
    return thin if thin.max() > 200 else mask


def _add_national_stroke(rng: Rng, label: int, mask: np.ndarray) -> np.ndarray:
    """Bars a 7 and gives an upright 1 an upstroke, as is usual outside the USA."""
    box = crop_mask(mask)
    height, width = box.shape
    pen = max(1.0, 0.09 * height)
    if label == 7:
        middle = height * float(rng.uniform(0.42, 0.6))
        row = np.flatnonzero(box[int(middle)] > 127)
        if not len(row):
            return mask
        reach, tilt = height * rng.uniform(0.14, 0.26), height * rng.normal(0, 0.04)
        centre = float(row.mean())
        ends = (centre - reach, middle + tilt), (centre + reach, middle - tilt)
    elif label == 1:
        row = np.flatnonzero(box[: max(2, height // 8)].max(0) > 127)
        if not len(row) or width > 0.5 * height:
            return mask
        top = (float(row.mean()), pen / 2)
        down, left = rng.uniform(0.15, 0.55), rng.uniform(0.18, 0.4)
        ends = top, (top[0] - left * height, down * height)
    else:
        return mask
    points = np.array(ends)
    line = draw_strokes([points], pen)
    low = np.floor(points.min(0) - pen / 2).astype(int)
    return _join(box, line, int(low[0]), int(low[1]))


def _join(mask: np.ndarray, other: np.ndarray, x: int, y: int) -> np.ndarray:
    """Returns two shapes in one; the second's corner is at (x, y) of the first."""
    left, top = max(0, -x), max(0, -y)
    right = max(mask.shape[1], x + other.shape[1]) + left
    bottom = max(mask.shape[0], y + other.shape[0]) + top
    both = np.zeros((bottom, right), np.uint8)
    both[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    part = both[y + top :, x + left :][: other.shape[0], : other.shape[1]]
    np.maximum(part, other, out=part)
    return both


def _write_strokes(
    rng: Rng, hand: Hand, label: int, height: float, turn: np.ndarray
) -> np.ndarray:
    figure = DIGITS[label][rng.integers(len(DIGITS[label]))]
    sign = Sign(figure, 1.0, DIGIT_WIDTHS[label] * hand.stretch)
    return write_sign(rng, hand, sign, height, turn)


def write_sign(
    rng: Rng, hand: Hand, sign: Sign, height: float, turn: np.ndarray
) -> np.ndarray:
    """Draws a figure with the hand's pen.

    Args:
      rng: what differs from the last time is drawn from it.
      hand: who writes.
      sign: the figure.
      height: of the line's digits, in pixels.
      turn: float [2, 2], from the page to the picture.

    Returns:
      Coverage uint8 [h, w], cropped to the ink.
    """
    pen = max(1.0, hand.width * height)
    size = np.array([sign.width, sign.height]) * max(height - pen, 3)
    size = size * [float(rng.uniform(0.88, 1.12)), 1]
    matrix = hand_matrix(rng, hand, turn)
    strokes = jitter_figure(
        rng, parse_figure(sign.figure), float(rng.uniform(0, 0.033))
    )
    curves = [(smooth_stroke(points) * size) @ matrix.T for points in strokes]
    if hand.bend:
        curves = _bend(rng, curves, hand.bend * height)
    pressure = rng.uniform(0.6, 1.25, 4) if hand.is_brush and pen > 2 else None
    return draw_strokes(curves, pen, pressure)


def _bend(rng: Rng, curves: list[np.ndarray], amount: float) -> list[np.ndarray]:
    waves = rng.normal(0, 0.06, (2, 2))
    phases = rng.uniform(0, 6.3, 2)
    return [points + amount * np.sin(points @ waves + phases) for points in curves]


def write_mask(
    rng: Rng, hand: Hand, mask: np.ndarray, height: float, turn: np.ndarray
) -> np.ndarray:
    """Writes a printed shape, mask uint8 [h, w], as a hand would draw it."""
    scale = height / mask.shape[0]
    stretch = hand.stretch * float(rng.uniform(0.9, 1.1))
    matrix = hand_matrix(rng, hand, turn) @ np.diag([scale * stretch, scale])
    bent = warp_mask(rng, mask, matrix, max(hand.bend, 0.01) * height)
    if hand.is_traced and height > 26:
        bent = _trace(hand, bent, height)
    elif hand.width > 0.09 and height > 16:
        bent = thicken_mask(bent, max(1, round((hand.width - 0.07) * height * 0.7)))
    return crop_mask(bent)


def write_segments(
    label: int, height: float, width: float, slant: float, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a digit of a seven-segment display.

    Args:
      label: 0 to 9.
      height: in pixels.
      width: of the segments, as a share of the height.
      slant: x per y.
      turn: float [2, 2], from the page to the picture.

    Returns:
      Coverage of its segments and of those that are off, uint8 [h, w]; both have the
      size of all segments.
    """
    cv2 = load_opencv()
    pen = max(1.5, width * height)
    size = np.array([0.5 * height, height - pen])
    matrix = turn @ np.array([[1, -slant], [0, 1]])
    corners = (np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * size) @ matrix.T
    low = corners.min(0) - pen - 1
    across, down = np.ceil(corners.max(0) + pen + 1 - low).astype(int).tolist()
    parts = np.zeros((2, down * 2, across * 2), np.uint8)
    for start, end, digits in _SEGMENTS:
        ends = np.array([start, end], float)
        ends += (ends[::-1] - ends) * 0.1 * [1.6, 1]  # gaps between segments
        ends = ((ends * size) @ matrix.T - low) * 32
        (x0, y0), (x1, y1) = np.round(ends).astype(int).tolist()
        part = parts[0 if str(label) in digits else 1]
        thick = max(1, round(2 * pen))
        cv2.line(part, (x0, y0), (x1, y1), 255, thick, cv2.LINE_AA, 4)
    halves = [
        cv2.resize(p, (across, down), interpolation=cv2.INTER_AREA) for p in parts
    ]
    return halves[0], halves[1]
