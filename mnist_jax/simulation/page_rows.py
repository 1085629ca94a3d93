"""Rows of digits and signs: what is written, and how close to each other."""

from collections.abc import Iterator, Sequence

import numpy as np

from mnist_jax.drawing.strokes import draw_strokes
from mnist_jax.simulation import page_marks
from mnist_jax.simulation.page_digits import Rng, write_digit
from mnist_jax.simulation.page_sheet import UNREADABLE, Sheet

_ROUND = (0, 6, 8, 9)  # such digits stay what they are where a stroke joins them
_COVERED = 0.12  # a digit is left out if more of it would stand on ink

Item = int | str  # a digit; the name of a sign, "letter", "word", "prefix" or " "


def draw_labels(rng: Rng, count: int) -> list[Item]:
    """Draws digits: any, at times runs of one digit."""
    labels = rng.integers(10, size=count)
    if rng.random() < 0.15 and count > 1:
        start = int(rng.integers(count - 1))
        labels[start : start + int(rng.integers(2, 5))] = rng.choice([0, 0, 1, 1, 7])
    return [int(label) for label in labels]


def draw_count(rng: Rng) -> int:
    """Draws how many digits a number has."""
    shares = [0.1, 0.17, 0.16, 0.15, 0.13, 0.11, 0.08, 0.06, 0.02, 0.02]
    return int(rng.choice(10, p=shares)) + 1


def rows(sheet: Sheet, pitch: float) -> Iterator[tuple[int, float]]:
    """Yields the number and the middle of each row to write.

    Args:
      sheet: where. If its `second_height` is not None, later rows have that height.
      pitch: from row to row, as a multiple of the digits' height.
    """
    rng, (down, _) = sheet.rng, sheet.shape
    step = pitch * sheet.height
    most = max(1, int(down / step))
    count = 1 if rng.random() < 0.4 else int(rng.integers(1, most + 1))
    if rng.random() < 0.12:  # the page goes on above and below
        count, y = most + 2, float(rng.uniform(-0.5, 0.5)) * step
    else:
        spare = down - count * step
        y = step / 2 + spare * float(rng.uniform(0.1, 0.9))
    for line in range(count):
        yield line, y + sheet.height * 0.04 * float(rng.normal())
        if line == 0 and sheet.second_height is not None:
            sheet.height = sheet.second_height
        y += step


def draw_start(sheet: Sheet) -> float:
    """Draws where a row begins: at a margin, anywhere, or left of the picture."""
    rng, across = sheet.rng, sheet.shape[1]
    kind = rng.random()
    if kind < 0.12:
        return -sheet.height * float(rng.uniform(0, 0.8))
    if kind < 0.7:
        return sheet.height * float(rng.uniform(0.1, 1.5))
    return across * float(rng.uniform(0.05, 0.6))


def write_items(
    sheet: Sheet,
    items: Sequence[Item],
    x: float,
    y: float,
    line: int,
    gap: float,
    touch: float = 0.0,
    joined: float = 0.0,
) -> float:
    """Writes a row.

    Args:
      sheet: where.
      items: what.
      x: where it begins.
      y: its middle.
      line: its number.
      gap: between items, as a share of the digits' height; below zero, boxes overlap.
      touch: which share of a digit's ink may stand on the ink before it.
      joined: how likely the pen goes on from one round digit to the next.

    Returns:
      x of its end.
    """
    rng, height = sheet.rng, sheet.height
    start, slope, end = x, float(rng.normal(0, 0.02)), x
    if rng.random() < 0.03:  # a row that climbs or sinks
        slope = float(rng.uniform(-0.5, 0.5))
    before: Item = " "
    for item in items:
        if x > sheet.shape[1] + height:
            break
        own = y + slope * (x - start) + height * float(rng.normal(0, 0.03))
        if isinstance(item, str):
            x += _write_mark(sheet, item, x, own)
            before, space = item, max(0.08, gap * float(rng.uniform(0.4, 1)))
        else:
            count = len(sheet.digits)
            left, right = write_one(sheet, item, x, own, line, touch)
            is_pair = before in _ROUND and item in _ROUND
            is_written = len(sheet.digits) > count
            if is_pair and rng.random() < joined and is_written:
                _join_digits(sheet, end, left, right, own)
            before = item if is_written else " "
            x, space = right, gap * (1 + 0.3 * float(rng.normal()))
        end = x
        x += space * height
    return x


def _join_digits(sheet: Sheet, end: float, left: float, right: float, y: float) -> None:
    """Draws the stroke by which a hand goes on from one digit to the next.

    Args:
      sheet: where.
      end: x of the first digit's right side.
      left: x of the next one's left side.
      right: x of its right side.
      y: its middle.
    """
    rng, height = sheet.rng, sheet.height
    level = height * float(rng.choice([-0.38, 0.38], p=[0.75, 0.25]))
    heights = y + level + height * rng.normal(0, 0.06, 3)
    first, last = end - 0.25 * height, left + 0.3 * (right - left)
    points = list(zip((first, (end + left) / 2, last), heights, strict=True))
    pen = max(1.0, 0.8 * sheet.hand.width * height)
    sheet.line(points, pen, on=sheet.ink)


def write_one(
    sheet: Sheet, label: int, x: float, y: float, line: int, touch: float = 0.0
) -> tuple[float, float]:
    """Writes a digit with its left side at x, or further right if ink is there.

    Returns:
      x of its left and of its right side.
    """
    rng, height = sheet.rng, sheet.height
    turn = sheet.turn_at(x, y)
    mask = write_digit(rng, sheet.hand, sheet.pool, label, height, turn)
    width = mask.shape[1] / max(float(np.hypot(*turn[:, 0])), 0.3)
    middle = x + width / 2
    for _ in range(14):
        covered = sheet.overlap(mask, middle, y)
        if covered <= touch:
            break
        middle += max(1.0, 0.04 * height)
    if covered > max(touch, _COVERED):
        return middle - width / 2, middle + width / 2
    if rng.random() < 0.004:  # crossed out
        label = UNREADABLE
    sheet.put_digit(mask, middle, y, label, line)
    if label == UNREADABLE:
        sheet.put(page_marks.draw_scribble(sheet, height * 0.8), middle, y)
    return middle - width / 2, middle + max(width / 2, 0.12 * height)


def _write_mark(sheet: Sheet, item: str, x: float, y: float) -> float:
    """Writes what is no digit, and returns its width."""
    rng, height = sheet.rng, sheet.height
    if item == " ":
        return height * float(rng.uniform(0.3, 0.9))
    if item == "letter":
        mask = page_marks.draw_letter(sheet, height * float(rng.uniform(0.6, 1)), x, y)
    elif item == "word":
        size = height * float(rng.uniform(0.5, 1.1))
        draw = page_marks.draw_word if rng.random() < 0.5 else page_marks.draw_script
        mask = draw(sheet, size, x, y)
    elif item == "prefix":
        size = height * float(rng.uniform(0.75, 1.15))
        mask = page_marks.draw_word(sheet, size, x, y, is_prefix=True)
    elif item == "scribble":
        mask = page_marks.draw_scribble(sheet, height * float(rng.uniform(0.5, 1)))
    elif item == "dash":  # a long one, that runs into what follows
        pen = max(1.0, sheet.hand.width * height)
        length = height * float(rng.uniform(0.4, 2.5))
        bend = height * rng.normal(0, 0.06, 2)
        ends = np.array([(0, 0), (length / 2, bend[0]), (length, bend[1])])
        mask = draw_strokes([ends], pen)
    else:
        return page_marks.put_sign(sheet, item, x, y)
    sheet.put(mask, x + mask.shape[1] / 2, y)
    return float(mask.shape[1])


def write_cells(
    sheet: Sheet, labels: Sequence[Item], sides: np.ndarray, y: float, line: int
) -> None:
    """Writes a digit into each cell; `sides` are the n + 1 sides of n cells."""
    rng = sheet.rng
    shift = rng.normal(0, 0.05, 2) * sheet.height
    for label, left, right in zip(labels, sides, sides[1:], strict=False):
        middle = (left + right) / 2 + shift[0] + rng.normal(0, 0.06) * sheet.height
        own = y + shift[1] + float(rng.normal(0, 0.05)) * sheet.height
        if not -sheet.height < middle < sheet.shape[1] + sheet.height:
            continue
        if rng.random() < 0.05:
            continue
        if isinstance(label, str):
            sheet.put(page_marks.draw_letter(sheet, sheet.height, left, y), middle, own)
            continue
        turn = sheet.turn_at(middle, own)
        mask = write_digit(rng, sheet.hand, sheet.pool, label, sheet.height, turn)
        if sheet.overlap(mask, middle, own) < _COVERED:
            sheet.put_digit(mask, middle, own, label, line)
