"""Where digits that touch may be cut: ways from top to bottom through little ink."""

from typing import NamedTuple

import numpy as np

# Lengths are shares of the typical height of a digit.
_APART = 0.15  # least distance between seams
_THICKEST = 2.5  # strokes that a seam may cut through
_ASIDE = 1.0  # strokes that a way aside costs, for the height of a digit
_MOVES = (0, -1, 1, -2, 2)  # columns aside in a row


class Seam(NamedTuple):
    """A way from the top of a piece of ink to its bottom."""

    columns: np.ndarray  # int [h], one in each row; what is left of it is cut off
    strokes: float  # that it cuts through


def find_seams(ink: np.ndarray, height: float, stroke: float) -> list[Seam]:
    """Finds the cheapest seams by dynamic programming.

    A seam passes each row once, at most two columns aside of where it passed the row
    before, so it can follow a slanted gap. For each column of the middle row there is
    a cheapest seam through it; of these the cheapest are taken that lie apart.

    Args:
      ink: float32 [h, w], 0 to 1.
      height: of a typical digit, in pixels.
      stroke: width of a stroke in pixels.

    Returns:
      From left to right, more than are needed; none that cuts too many strokes.
    """
    cost = ink / stroke
    middle = len(ink) // 2
    down, steps_down = _descend(cost[: middle + 1], _ASIDE / height)
    up, steps_up = _descend(cost[middle:][::-1], _ASIDE / height)
    total = down + up - cost[middle]
    apart = max(1, round(_APART * height))
    places: list[int] = []
    for x in np.argsort(total, kind="stable"):
        if total[x] <= _THICKEST and all(abs(x - other) >= apart for other in places):
            places.append(int(x))
    return [
        Seam(
            np.append(_follow(steps_down, x)[::-1], _follow(steps_up, x)[1:]),
            float(total[x]),
        )
        for x in sorted(places)
    ]


def _descend(cost: np.ndarray, aside: float) -> tuple[np.ndarray, np.ndarray]:
    """Finds the cheapest ways from the top row to each pixel of the last.

    Args:
      cost: float32 [h, w], of each pixel.
      aside: added for each column aside.

    Returns:
      Their costs, float32 [w], and the last step to each pixel, int8 [h, w].
    """
    total = cost[0]
    steps = np.zeros(cost.shape, np.int8)
    width = cost.shape[1]
    for y in range(1, len(cost)):
        padded = np.pad(total, 2, constant_values=np.inf)
        # A step aside crosses more ink than one straight down.
        ways = np.stack([
            padded[2 - m : 2 - m + width] + abs(m) * (0.5 * cost[y] + aside)
            for m in _MOVES
        ])  # fmt: skip
        steps[y] = np.take(_MOVES, ways.argmin(0))
        total = ways.min(0) + cost[y]
    return total, steps


def _follow(steps: np.ndarray, x: int) -> np.ndarray:
    """The columns of the way that ends at x in the last row, from there to the top."""
    columns = [x]
    for row in steps[:0:-1]:
        columns.append(columns[-1] - int(row[columns[-1]]))
    return np.array(columns)
