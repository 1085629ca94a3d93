"""Pictures of digits by one person, who always writes in the same unusual way.

They are made to measure how well a reader adapts to a hand: `make_hand` draws what is
fixed of a hand, and `write_as` lets it write a digit once more.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnist_jax.drawing.glyphs import Polyline
from mnist_jax.drawing.hand_styles import HAND_STYLES
from mnist_jax.drawing.unseen_styles import UNSEEN_STYLES

_SIDE = 96  # pixels of a digit's longest side
_ODDNESS = 0.16  # how far a hand bends its own shapes; of the digit's size

Shape = Callable[[np.random.Generator], np.ndarray]  # (y, x) of points, float [n, 2]


class OddHand(NamedTuple):
    """What is the same each time that a person writes.

    Attributes:
      shapes: what draws each of the ten digits.
      bends: float [10, 4, 4], of each digit the waves that its strokes are bent by:
        direction (y, x), phase, and amplitude across.
      slant: pixels across per pixel up.
      stretch: of the width.
      turn: degrees.
      pen: radius in pixels.
    """

    shapes: tuple[Shape, ...]
    bends: np.ndarray
    slant: float
    stretch: float
    turn: float
    pen: float


def make_hand(seed: int) -> OddHand:
    """Draws a hand that writes unlike MNIST: see `_ODDNESS`."""
    rng = np.random.default_rng([seed, 20])
    shapes: list[list[Shape]] = [[] for _ in range(10)]
    for digit, draw in UNSEEN_STYLES.values():
        shapes[digit].append(functools.partial(_points_of_style, draw))
    for digit, style in HAND_STYLES:
        if digit in (3, 5, 6, 8):  # digits that are in no unseen style
            shapes[digit].append(style)
    bends = rng.normal(0, (2.2, 2.2, 0, 1), (10, 4, 4))
    bends[..., 2] = rng.uniform(0, 2 * np.pi, (10, 4))
    return OddHand(
        tuple(own[rng.integers(len(own))] for own in shapes),
        bends,
        slant=rng.uniform(-0.45, 0.6),
        stretch=np.exp(rng.normal(0, 0.2)),
        turn=rng.normal(0, 10),
        pen=rng.uniform(2.5, 6),
    )


def write_as(rng: np.random.Generator, hand: OddHand, digit: int) -> np.ndarray:
    """Lets a hand write a digit on white paper, a little differently each time.

    Args:
      rng: what differs from one time to the next is drawn from it.
      hand: from `make_hand`.
      digit: 0 to 9.

    Returns:
      uint8 [H, W], dark on light.
    """
    points = hand.shapes[digit](rng)
    points = points - (points.min(0) + points.max(0)) / 2
    points = points / np.abs(points).max()  # in [-1, 1]
    bends = hand.bends[digit] + rng.normal(0, 0.12, (4, 4))
    waves = np.sin(points @ bends[:, :2].T + bends[:, 2])  # [n, 4]
    moves = np.stack([waves[:, :2] @ bends[:2, 3], waves[:, 2:] @ bends[2:, 3]], 1)
    y, x = (points + _ODDNESS * moves).T
    x = x * hand.stretch * np.exp(rng.normal(0, 0.06))
    x = x - (hand.slant + rng.normal(0, 0.05)) * y
    angle = np.deg2rad(hand.turn + rng.normal(0, 3))
    y, x = y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)
    radius = hand.pen * np.exp(rng.normal(0, 0.1))
    return _draw(np.stack([y, x], 1), radius, ink=int(rng.integers(10, 90)))


def write_pictures(folder: Path, seed: int, count: int, first: int = 0) -> None:
    """Writes `count` pictures of each digit as FOLDER/DIGIT/NUMBER.png.

    Args:
      folder: it is made if it is not there.
      seed: of the hand.
      count: of each digit.
      first: number of the first picture; other numbers are other pictures.
    """
    hand = make_hand(seed)
    for digit, number in itertools.product(range(10), range(first, first + count)):
        rng = np.random.default_rng([seed, digit, number])
        path = folder / str(digit) / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(write_as(rng, hand, digit)).save(path)


def _points_of_style(
    draw: Callable[[np.random.Generator], Sequence[Polyline]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns points (y, x), close to each other, on the lines that a style draws."""
    points = [
        start + (end - start) * np.linspace(0, 1, 12)[:, None]
        for line in draw(rng)
        for start, end in itertools.pairwise(np.asarray(line, float)[:, ::-1])
    ]
    return np.concatenate(points)


def _draw(points: np.ndarray, radius: float, ink: int) -> np.ndarray:
    """Draws points (y, x) with a round pen; returns uint8 [H, W] with a margin."""
    points = points - points.min(0)
    points = points * (_SIDE / points.max()) + 2 * radius + 6
    height, width = np.ceil(points.max(0) + 2 * radius + 6).astype(int)
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    distance = np.full((height, width), np.inf)
    for y, x in points:
        top, left = (max(0, int(v - radius - 2)) for v in (y, x))
        part = np.s_[top : int(y + radius + 3), left : int(x + radius + 3)]
        near = np.hypot(rows[part[0]] - y, columns[part[1]] - x)
        distance[part] = np.minimum(distance[part], near)
    covered = np.clip(radius - distance + 0.5, 0, 1)
    return (245 - covered * (245 - ink)).astype(np.uint8)
