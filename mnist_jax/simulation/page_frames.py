"""What is printed around writing: boxes, combs, tables, rulings, circles, patterns."""

import numpy as np

from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.simulation.page_digits import Rng
from mnist_jax.simulation.page_sheet import Sheet

FAR = 3000.0  # pixels; lines of that length reach beyond every page


def line_width(sheet: Sheet) -> float:
    """Draws the width of printed lines, in pixels."""
    return float(np.exp(sheet.rng.uniform(np.log(0.6), np.log(0.13 * sheet.height))))


def draw_box(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    width: float,
    on: np.ndarray | None = None,
) -> None:
    """Draws a rectangle (left, top, right, bottom) on the page."""
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    sheet.line(corners, width, closed=True, on=on)


def draw_rounded_box(
    sheet: Sheet, box: tuple[float, float, float, float], width: float
) -> None:
    """Draws a rectangle with round corners, or an ellipse if it is narrow."""
    left, top, right, bottom = box
    radius = min(right - left, bottom - top) * float(sheet.rng.uniform(0.1, 0.5))
    turn = np.linspace(0, np.pi / 2, 6)
    arc = np.column_stack([np.cos(turn), np.sin(turn)]) * radius
    corners = [
        arc * [1, 1] + [right - radius, bottom - radius],
        arc[::-1] * [-1, 1] + [left + radius, bottom - radius],
        arc * [-1, -1] + [left + radius, top + radius],
        arc[::-1] * [1, -1] + [right - radius, top + radius],
    ]
    sheet.line(np.concatenate(corners), width, closed=True)


def draw_dots(sheet: Sheet, ends: list[tuple[float, float]], width: float) -> None:
    """Draws a line of dots or dashes between two places, as on forms."""
    start, end = np.array(ends, float)
    length = max(float(np.linalg.norm(end - start)), 1.0)
    pitch = max(3.0, float(sheet.rng.uniform(2, 6)) * width)
    dash = (end - start) / length * pitch * float(sheet.rng.uniform(0.1, 0.6))
    for share in np.arange(0, 1, pitch / length):
        place = start + (end - start) * share
        sheet.line(np.array([place, place + dash]), width)


def draw_comb(
    sheet: Sheet, sides: np.ndarray, bottom: float, teeth: float, width: float
) -> None:
    """Draws a line below cells and teeth of some height between them."""
    sheet.line([(sides[0], bottom), (sides[-1], bottom)], width)
    for x in sides:
        sheet.line([(x, bottom), (x, bottom - teeth)], width)


def draw_grid(
    sheet: Sheet, columns: np.ndarray, rows: np.ndarray, width: float, heavy: int = 0
) -> None:
    """Draws a table's lines.

    Args:
      sheet: where.
      columns: x of the upright lines.
      rows: y of the level ones.
      width: of the lines, in pixels.
      heavy: every so many lines are thicker, as in a sudoku; 0 for none.
    """
    for i, x in enumerate(columns):
        own = width * 2 + 0.5 if heavy and i % heavy == 0 else width
        sheet.line([(x, rows[0]), (x, rows[-1])], own)
    for i, y in enumerate(rows):
        own = width * 2 + 0.5 if heavy and i % heavy == 0 else width
        sheet.line([(columns[0], y), (columns[-1], y)], own)


def draw_rulings(sheet: Sheet, pitch: float, start: float, width: float) -> None:
    """Draws the lines of ruled paper, with a margin at times."""
    rng, (down, across) = sheet.rng, sheet.shape
    shade = int(rng.choice([255, 255, 150]))
    for y in np.arange(start % pitch - pitch, down + pitch, pitch):
        sheet.line([(-FAR, y), (FAR, y)], width, shade=shade)
    if rng.random() < 0.25:
        x = float(rng.uniform(0, across))
        sheet.line([(x, -FAR), (x, FAR)], width * float(rng.uniform(0.8, 2)))


def draw_graph_paper(sheet: Sheet, pitch: float, width: float) -> None:
    """Draws squared or millimetre paper."""
    rng, (down, across) = sheet.rng, sheet.shape
    shade = int(rng.integers(90, 256))
    heavy = int(rng.choice([0, 0, 5, 10]))
    offset = rng.uniform(0, pitch, 2)
    for axis, extent in enumerate((across, down)):
        places = np.arange(offset[axis] - 2 * pitch, extent + 2 * pitch, pitch)
        for i, place in enumerate(places):
            is_heavy = heavy and i % heavy == 0
            own = shade if is_heavy or not heavy else shade // 2
            ends = [(place, -FAR), (place, FAR)]
            if axis:
                ends = [(y, x) for x, y in ends]
            sheet.line(ends, width * 1.6 if is_heavy else width, shade=own)


def draw_circle(
    sheet: Sheet, box: tuple[float, float, float, float], by_hand: bool
) -> None:
    """Draws an ellipse round a box; by hand it is open or overlaps."""
    rng = sheet.rng
    left, top, right, bottom = box
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    radii = np.array([right - left, bottom - top]) / 2 * 1.2
    start = float(rng.uniform(0, 6.3))
    turn = np.linspace(start, start + 2 * np.pi * (1.06 if by_hand else 1), 40)
    drift = np.linspace(1, 1 + 0.1 * float(rng.normal()) * by_hand, 40)
    points = np.column_stack([np.cos(turn), np.sin(turn)]) * radii * drift[:, None]
    if by_hand:
        width = max(1.0, sheet.hand.width * sheet.height)
        on = sheet.ink if rng.random() < 0.5 else sheet.frame
    else:
        width, on = line_width(sheet), sheet.frame
    sheet.line(points + middle, width, on=on)


def draw_across(sheet: Sheet, y: float, width: float) -> None:
    """Draws a level line from edge to edge."""
    sheet.line([(-FAR, y), (FAR, y)], width)


def draw_strays(sheet: Sheet) -> None:
    """Draws long lines that have nothing to do with the writing: folds, edges."""
    rng, (down, across) = sheet.rng, sheet.shape
    for _ in range(rng.integers(1, 3)):
        width = float(np.exp(rng.uniform(0, 1.8)))
        if rng.random() < 0.5:
            x = float(rng.choice([rng.uniform(0, 6), across - rng.uniform(0, 6)]))
            x = x if rng.random() < 0.7 else float(rng.uniform(0, across))
            sheet.line([(x, -FAR), (x, FAR)], width)
        else:
            y = float(rng.choice([rng.uniform(0, 5), down - rng.uniform(0, 5)]))
            y = y if rng.random() < 0.7 else float(rng.uniform(0, down))
            sheet.line([(-FAR, y), (FAR, y)], width)


def make_guilloche(rng: Rng, shape: tuple[int, int], finer: float = 1.0) -> np.ndarray:
    """Makes the pattern of a cheque's or another patterned paper.

    Args:
      rng: its curves are drawn from it.
      shape: of the picture.
      finer: above one for denser lines.

    Returns:
      float32 [H, W], 0 to 1.
    """
    cv2 = load_opencv()
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None]
    pattern = np.zeros(shape, np.float32)
    for _ in range(rng.integers(1, 4)):
        angle = float(rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]))
        sin, cos = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        swing, length = rng.uniform(0, 8), rng.uniform(20, 200)
        along = (x * cos - y * sin) * np.float32(2 * np.pi / length)
        pitch = np.float32(rng.uniform(3, 14) / finer)
        wave = np.sin(along + np.float32(rng.uniform(0, 6)))
        height = x * sin + y * cos + np.float32(swing) * wave
        ripple = np.cos(height * (2 * np.pi / pitch))
        if rng.random() < 0.6:  # thin lines
            ripple = np.maximum(ripple * 3 - 2, 0)
        np.maximum(pattern, ripple, out=pattern)
    return cv2.GaussianBlur(np.maximum(pattern, 0), (0, 0), 0.6)
