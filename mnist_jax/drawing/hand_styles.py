"""Digits in styles that MNIST, written in the USA, has few of, made for training.

Some are printed digits, as skeletons of fonts. The others are strokes: the 1 with an
upstroke, the barred 7, the slashed 0, the 4 closed at its top, the 9 with a straight
tail. All are drawn by the same pen as `negatives.py` draws with. `unseen_styles.py` has
like styles, with other strokes, to measure models on.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from mnist_jax.drawing.fonts import letter_mask
from mnist_jax.drawing.pens import draw_by_hand
from mnist_jax.drawing.thinning import skeleton_points
from mnist_jax.errors import ArgumentError

_FONTS = (
    *("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono"),
    *("cmr10", "cmti10", "cmss10", "cmtt10"),
)
_PRINTED = 0.35  # share

Corners = Sequence[tuple[float, float]]  # (y, x), downwards and to the right


def make_styled_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes digits in other styles than MNIST's.

    Args:
      count: how many; the first of more are the same.
      seed: 0 or more.

    Returns:
      images uint8 [count, 28, 28, 1] and labels int32 [count].

    Raises:
      ArgumentError: `count` is below 0.
    """
    if count < 0:
        raise ArgumentError(f"count={count} is below 0")
    rng = np.random.default_rng(seed)
    images = np.empty((count, 28, 28, 1), np.uint8)
    labels = np.empty(count, np.int32)
    for i in range(count):
        if rng.random() < _PRINTED:
            labels[i], points = _printed()[rng.integers(len(_printed()))]
        else:
            labels[i], style = HAND_STYLES[rng.integers(len(HAND_STYLES))]
            points = style(rng)
        images[i, ..., 0] = draw_by_hand(rng, points)
    return images, labels


@functools.cache
def _printed() -> list[tuple[int, np.ndarray]]:
    digits = [(font, digit) for font in _FONTS for digit in range(10)]
    masks = [letter_mask(font, str(digit)) for font, digit in digits]
    points = skeleton_points(masks)
    return [(digit, own) for (_, digit), own in zip(digits, points, strict=True)]


def _strokes(*strokes: Corners | np.ndarray) -> np.ndarray:
    """Returns points, close to each other, on lines through each stroke's corners."""
    points = []
    for corners in strokes:
        ends = np.asarray(corners, float)
        for start, end in itertools.pairwise(ends):
            steps = max(2, int(60 * np.linalg.norm(end - start)))
            points.append(start + (end - start) * np.linspace(0, 1, steps)[:, None])
    return np.concatenate(points)


def _arc(
    centre: tuple[float, float], radii: tuple[float, float], start: float, end: float
) -> np.ndarray:
    """Returns corners along an ellipse, by degrees clockwise from the top."""
    angles = np.deg2rad(np.linspace(start, end, 24))
    y = centre[0] - radii[0] * np.cos(angles)
    return np.stack([y, centre[1] + radii[1] * np.sin(angles)], 1)


def _upstroke_1(rng: np.random.Generator) -> np.ndarray:
    low, wide = rng.uniform(0.12, 0.6), rng.uniform(0.12, 0.45)
    strokes: list[Corners] = [[(low, -wide), (0, 0), (1, rng.uniform(-0.1, 0.1))]]
    if rng.random() < 0.4:  # with a foot
        half = rng.uniform(0.12, 0.35)
        strokes.append([(1, -half), (1, half)])
    return _strokes(*strokes)


def _plain_1(rng: np.random.Generator) -> np.ndarray:
    return _strokes([(0, rng.uniform(-0.1, 0.25)), (1, 0)])


def _barred_7(rng: np.random.Generator) -> np.ndarray:
    foot, bar = rng.uniform(0, 0.4), rng.uniform(0.4, 0.62)
    top: Corners = [(rng.uniform(-0.05, 0.08), 0), (0, 0.62), (1, foot)]
    if rng.random() < 0.3:  # with a serif
        top = [(rng.uniform(0.08, 0.2), 0), *top]
    middle, half = 0.62 + (foot - 0.62) * bar, rng.uniform(0.13, 0.28)
    tilt = rng.uniform(-0.06, 0.06)
    return _strokes(top, [(bar + tilt, middle - half), (bar - tilt, middle + half)])


def _slashed_0(rng: np.random.Generator) -> np.ndarray:
    wide, reach = rng.uniform(0.26, 0.42), rng.uniform(0.7, 1.25)
    half = np.array([-0.45, wide * rng.uniform(0.6, 1.1)]) * reach
    slash = np.array([0.5, 0]) + np.stack([half, -half])
    return _strokes(_arc((0.5, 0), (0.5, wide), 0, 360), slash)


def _closed_4(rng: np.random.Generator) -> np.ndarray:
    bar, right = rng.uniform(0.52, 0.75), rng.uniform(0.4, 0.55)
    over = rng.uniform(0.05, 0.25)
    return _strokes([(1, right), (0, right), (bar, 0), (bar, right + over)])


def _open_4(rng: np.random.Generator) -> np.ndarray:
    bar, right = rng.uniform(0.42, 0.62), rng.uniform(0.4, 0.52)
    left = [(0, rng.uniform(0, 0.15)), (bar, 0), (bar, right + rng.uniform(0.05, 0.2))]
    return _strokes(left, [(rng.uniform(0, 0.3), right), (1, right)])


def _tailed_9(rng: np.random.Generator) -> np.ndarray:
    tall, wide = rng.uniform(0.16, 0.26), rng.uniform(0.17, 0.26)
    tail = [(tall, wide), (1, rng.uniform(-0.15, wide))]
    return _strokes(_arc((tall, 0), (tall, wide), 60, 420), tail)


def _straight_6(rng: np.random.Generator) -> np.ndarray:
    tall, wide = rng.uniform(0.18, 0.28), rng.uniform(0.18, 0.28)
    back = [(0, rng.uniform(-0.1, 0.3)), (1 - tall, -wide)]
    return _strokes(back, _arc((1 - tall, 0), (tall, wide), -90, 270))


def _looped_2(rng: np.random.Generator) -> np.ndarray:
    head = _arc((0.27, 0), (0.27, 0.3), -80, 120)
    loop = _arc((0.88, -0.22), (0.1, rng.uniform(0.07, 0.14)), 40, 330)
    foot = [tuple(loop[-1]), (0.92, 0.1), (rng.uniform(0.88, 1.02), 0.38)]
    return _strokes(head, [tuple(head[-1]), tuple(loop[0])], loop, foot)


def _flat_3(rng: np.random.Generator) -> np.ndarray:
    top = [(0, 0), (0, 0.5), (rng.uniform(0.35, 0.45), 0.18)]
    bowl = _arc((0.69, 0.22), (0.31, rng.uniform(0.25, 0.35)), -10, 240)
    return _strokes([*top, tuple(bowl[0])], bowl)


def _two_stroke_5(rng: np.random.Generator) -> np.ndarray:
    left = rng.uniform(-0.02, 0.05)
    bar = [(rng.uniform(-0.06, 0.06), left + rng.uniform(0, 0.06)), (0, 0.5)]
    bowl = _arc((0.69, 0.18), (0.31, rng.uniform(0.24, 0.34)), -35, 235)
    return _strokes(bar, [(0.02, left), (0.45, left), tuple(bowl[0])], bowl)


def _two_ring_8(rng: np.random.Generator) -> np.ndarray:
    split = rng.uniform(0.38, 0.5)
    rings = [
        _arc((centre, rng.uniform(-0.03, 0.03)), (tall, rng.uniform(0.2, 0.32)), 0, 360)
        for centre, tall in ((split / 2, split / 2), ((1 + split) / 2, (1 - split) / 2))
    ]
    return _strokes(*rings)


# A digit and what draws its strokes. The rarer a style is in MNIST, the more often it
# stands here.
HAND_STYLES: tuple[tuple[int, Callable[[np.random.Generator], np.ndarray]], ...] = (
    *[(1, _upstroke_1)] * 4,
    *[(7, _barred_7)] * 3,
    *[(0, _slashed_0)] * 2,
    *[(4, _closed_4)] * 2,
    *[(9, _tailed_9)] * 2,
    *((1, _plain_1), (4, _open_4), (6, _straight_6), (2, _looped_2), (3, _flat_3)),
    *((5, _two_stroke_5), (8, _two_ring_8)),
)
