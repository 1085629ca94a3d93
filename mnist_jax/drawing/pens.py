"""Draws points with a pen, as an unsteady hand would."""

import numpy as np

from mnist_jax.datasets.geometry import INK_SIDE, to_mnist

# Strokes of MNIST are 1.4 to 5 pixels wide, with a median of 2.5: log-normal.
_RADIUS, _RADIUS_SPREAD = 1.25, 0.26
_CROWDED = 115  # above this radius times pixels crossed, strokes become a stain
_PIXELS = np.argwhere(np.ones((INK_SIDE, INK_SIDE))) / INK_SIDE  # [400, 2]


def draw_by_hand(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Draws strokes as a hand would, with a pen as wide as MNIST's.

    Args:
      rng: the hand and the pen are drawn from it.
      points: (y, x), close to each other along the strokes, float [n, 2], in any unit.

    Returns:
      uint8 [28, 28].
    """
    points = _hand(rng, points)
    low, high = points.min(0), points.max(0)
    points = (points - low) / max((high - low).max(), 1e-6)
    crossed = len(np.unique((points * INK_SIDE).astype(int) @ [INK_SIDE + 1, 1]))
    radius = _RADIUS * np.exp(rng.normal(0, _RADIUS_SPREAD))
    radius = np.clip(min(radius, _CROWDED / crossed), 0.6, 2.4)
    points = (points * (INK_SIDE - 2 * radius) + radius).astype(np.float32)
    pixels = np.arange(INK_SIDE, dtype=np.float32)[:, None] + 0.5
    down, across = ((pixels - side) ** 2 for side in points.T)  # [20, n] each
    distance = np.sqrt((down[:, None] + across[None]).min(-1))
    pressure = 1 - 0.25 * _wave(rng, _PIXELS, 1.0).reshape(distance.shape)
    return to_mnist(np.clip(radius * pressure - distance + 0.5, 0, 1))


def _hand(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Slants, turns, stretches and bends points, float [n, 2], a little."""
    points = points - (points.min(0) + points.max(0)) / 2
    points = points / max(np.abs(points).max(), 1e-6)  # in [-1, 1]
    y = points[:, 0] * np.exp(rng.normal(0, 0.12))
    x = points[:, 1] - rng.uniform(-0.2, 0.35) * y
    cos, sin = np.cos(angle := np.deg2rad(rng.normal(0, 6))), np.sin(angle)
    points = np.stack([y * cos - x * sin, y * sin + x * cos], 1)
    bend = [_wave(rng, points, 2.0) + _wave(rng, points, 4.0) / 2 for _ in (0, 1)]
    return points + rng.uniform(0.02, 0.07) * np.stack(bend, 1)


def _wave(rng: np.random.Generator, points: np.ndarray, bends: float) -> np.ndarray:
    """Returns a plane wave of random direction at points: float [n] in [-1, 1]."""
    return np.sin(points @ rng.normal(0, bends, 2) + rng.uniform(0, 2 * np.pi))
