"""Skeletons of shapes, as pixels, points and segments."""

import itertools
from collections.abc import Sequence

import numpy as np


def thin(mask: np.ndarray) -> np.ndarray:
    """Returns the skeleton of a shape, bool [H, W].

    T. Y. Zhang and C. Y. Suen, "A fast parallel algorithm for thinning digital
    patterns" (Communications of the ACM, 1984).
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    height, width = mask.shape
    # The neighbours, clockwise from the one above, which stands at the end again.
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


def skeleton_points(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the points (y, x) of the skeletons of several shapes.

    Args:
      masks: the shapes, bool [h, w] each.

    Returns:
      float [n, 2] for each shape.
    """
    # All shapes are thinned in one picture, because each pass has a fixed cost.
    starts = np.cumsum([0] + [mask.shape[1] for mask in masks])
    atlas = np.zeros((max(len(mask) for mask in masks), starts[-1]), bool)
    for start, mask in zip(starts, masks, strict=False):
        atlas[: len(mask), start : start + mask.shape[1]] = mask
    skeletons = np.split(thin(atlas), starts[1:-1], axis=1)
    return [np.argwhere(skeleton).astype(float) for skeleton in skeletons]


def trace(skeleton: np.ndarray) -> np.ndarray:
    """Returns the segments between neighbouring pixels, with the steps smoothed away.

    Args:
      skeleton: bool [H, W].

    Returns:
      float32 [M, 2, 2], the ends (x, y) of each segment, in pixels.
    """
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
