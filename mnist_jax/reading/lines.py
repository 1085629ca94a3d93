"""Puts the digits of a page into reading order: lines, and digits from the left."""

import numpy as np

_ON_LINE = 0.5  # heights that a digit may stand above or below its line's end
_NEIGHBOUR = 4.0  # heights between two neighbours of a line, at most
_STEEPEST = 0.5  # slope of a line


def order_by_line(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the lines that digits stand on.

    Args:
      boxes: float [N, 4]: centre x, centre y, width, height.

    Returns:
      The digits in reading order, int [N], and the line of each of them, int [N], from
      0 at the top.
    """
    if not len(boxes):
        return np.zeros(0, int), np.zeros(0, int)
    x, height = boxes[:, 0], boxes[:, 3]
    # Seen along the slope that neighbours have, lines are level.
    y = boxes[:, 1] - _slope(boxes) * x
    lines: list[list[int]] = []
    for i in np.argsort(x, kind="stable"):
        near = [
            (abs(y[i] - y[line[-1]]) / max(height[i], height[line[-1]]), line)
            for line in lines
        ]
        away, line = min(near, key=lambda pair: pair[0], default=(np.inf, []))
        if away < _ON_LINE:
            line.append(i)
        else:
            lines.append([i])
    lines.sort(key=lambda line: float(np.mean(y[line])))
    order = np.concatenate([np.array(line) for line in lines])
    return order, np.repeat(np.arange(len(lines)), [len(line) for line in lines])


def _slope(boxes: np.ndarray) -> float:
    """Returns the median slope from digits to their next neighbours to the right."""
    x, y, _, height = boxes.T
    across, down = x[None] - x[:, None], np.abs(y[None] - y[:, None])
    high = np.maximum(height[None], height[:, None])
    near = (across > 0) & (across < _NEIGHBOUR * high) & (down < _STEEPEST * across)
    near &= down < high
    distance = np.where(near, across + 2 * down, np.inf)
    first = distance.argmin(1)
    which = np.flatnonzero(np.isfinite(distance.min(1)))
    if len(which) < 2:
        return 0.0
    rise = y[first[which]] - y[which]
    return float(np.median(rise / across[which, first[which]]))
