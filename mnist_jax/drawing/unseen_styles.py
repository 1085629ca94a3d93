"""Styles of digits that are often misread, kept for choosing and testing.

Nothing is trained on them. `hand_styles.py` draws like styles for training, on purpose
with other strokes: a model must not be measured on what it was trained on.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from mnist_jax.drawing.glyphs import Polyline, rounded


def by_hand(rng: np.random.Generator, polylines: Sequence[Polyline]) -> list[Polyline]:
    """Slants and stretches strokes, and makes them a little unsteady."""
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


def _arc(
    centre: tuple[float, float], radii: tuple[float, float], start: float, end: float
) -> Polyline:
    """Returns points of an arc, by degrees clockwise from the right."""
    angles = np.deg2rad(np.linspace(start, end, 24))
    x = centre[0] + radii[0] * np.cos(angles)
    y = centre[1] + radii[1] * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _straight(*corners: tuple[float, float]) -> Polyline:
    """Returns so many points on straight lines that an unsteady hand shows."""
    points = [
        a + (b - a) * t
        for a, b in itertools.pairwise(np.array(corners))
        for t in np.linspace(0, 1, 9)
    ]
    return [(float(x), float(y)) for x, y in points]


def _seven_with_bar(rng: np.random.Generator) -> list[Polyline]:
    foot, bar = rng.uniform(0.1, 0.35), rng.uniform(0.42, 0.58)
    lines = [_straight((0, 0.03), (0.6, 0), (foot, 1))]
    if rng.random() < 0.3:  # with a serif
        lines.append(_straight((0, 0.03), (0, 0.15)))
    middle = 0.6 + (foot - 0.6) * bar
    return [*lines, _straight((middle - 0.2, bar), (middle + 0.22, bar - 0.04))]


def _one_with_serif(rng: np.random.Generator) -> list[Polyline]:
    flag = rng.uniform(0.2, 0.42)
    lines = [_straight((0.4 - rng.uniform(0.2, 0.38), flag), (0.4, 0), (0.4, 1))]
    if rng.random() < 0.5:
        lines.append(_straight((0.15, 1), (0.65, 1)))
    return lines


def _one_without_serif(rng: np.random.Generator) -> list[Polyline]:
    return [_straight((rng.uniform(0, 0.2), 0), (0.1, 1))]


def _four_closed(rng: np.random.Generator) -> list[Polyline]:
    bar = rng.uniform(0.55, 0.72)
    return [_straight((0.45, 1), (0.45, 0), (0, bar), (rng.uniform(0.55, 0.72), bar))]


def _four_open(rng: np.random.Generator) -> list[Polyline]:
    bar, top = rng.uniform(0.45, 0.6), rng.uniform(0, 0.2)
    left = _straight((0.1, 0), (0.02, bar), (0.6, bar))
    return [left, _straight((0.48, top), (0.45, 1))]


def _nine_with_long_tail(rng: np.random.Generator) -> list[Polyline]:
    loop = _arc((0.25, 0.2), (0.22, 0.2), -20, -380)
    foot = rng.uniform(0.1, 0.45)
    return [[*loop, *_straight((0.46, 0.13), (0.46, 0.4), (foot, 1))]]


def _zero_with_slash(rng: np.random.Generator) -> list[Polyline]:
    reach = rng.uniform(0.9, 1.2)
    ends = [(0.32 + side * 0.28 * reach, 0.5 - side * 0.42 * reach) for side in (-1, 1)]
    return [_arc((0.32, 0.5), (0.32, 0.5), -90, 270), _straight(*ends)]


def _two_with_loop(rng: np.random.Generator) -> list[Polyline]:
    head = _arc((0.32, 0.25), (0.28, 0.25), -160, 40)
    down = np.array([head[-1], (0.3, 0.72), (0.08, 0.95), (0, 0.85), (0.12, 0.8)])
    out = np.array([(0.12, 0.8), (0.3, 0.95), (0.5, 1), (0.7, rng.uniform(0.85, 0.97))])
    return [[*head, *rounded(down), *rounded(out)]]


# {name: (the digit, what draws its strokes)}.
UNSEEN_STYLES: dict[
    str, tuple[int, Callable[[np.random.Generator], list[Polyline]]]
] = {
    "barred 7": (7, _seven_with_bar),
    "seriffed 1": (1, _one_with_serif),
    "plain 1": (1, _one_without_serif),
    "closed 4": (4, _four_closed),
    "open 4": (4, _four_open),
    "long-tailed 9": (9, _nine_with_long_tail),
    "slashed 0": (0, _zero_with_slash),
    "2 with a loop": (2, _two_with_loop),
}
