"""Layouts of forms: boxes, combs, tables, lines, circles, sums.

Without digits (`sheet.is_empty`) they are forms that nobody has filled in.
"""

import itertools
from collections.abc import Callable

import numpy as np

from mnist_jax.simulation import page_frames, page_marks
from mnist_jax.simulation.page_layouts import fill_labels, write_plain
from mnist_jax.simulation.page_rows import (
    draw_count,
    draw_labels,
    draw_start,
    rows,
    write_cells,
    write_items,
)
from mnist_jax.simulation.page_sheet import Sheet


def _cell_sides(sheet: Sheet, count: int, narrowest: float = 0.95) -> np.ndarray:
    pitch = sheet.height * float(sheet.rng.uniform(narrowest, 1.9))
    return draw_start(sheet) + pitch * np.arange(count + 1)


def write_boxes(sheet: Sheet) -> None:
    """Writes each digit into a box of its own; boxes stand apart or are joined."""
    rng, height = sheet.rng, sheet.height
    half = height * float(rng.uniform(0.55, 1.0))
    share = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.72, 0.97))
    width, on = page_frames.line_width(sheet), None
    if rng.random() < 0.06:
        on = sheet.ink
    for line, y in rows(sheet, 2 * half / height + float(rng.uniform(0.1, 0.8))):
        count = draw_count(rng) + 1
        sides = _cell_sides(sheet, count, narrowest=0.85 if share == 1 else 1.1)
        for left, right in itertools.pairwise(sides):
            spare = (right - left) * (1 - share) / 2
            box = (left + spare, y - half, right - spare, y + half)
            page_frames.draw_box(sheet, box, width, on)
        filled = count if rng.random() < 0.7 else int(rng.integers(count + 1))
        labels = fill_labels(sheet, filled)
        first = 0 if rng.random() < 0.7 else count - filled
        write_cells(sheet, labels, sides[first:], y, line)


def write_comb(sheet: Sheet) -> None:
    """Writes digits between the teeth of combs."""
    rng, height = sheet.rng, sheet.height
    width = page_frames.line_width(sheet)
    below, teeth = float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.15, 1.5))
    for line, y in rows(sheet, float(rng.uniform(1.6, 2.5))):
        count = draw_count(rng) + 1
        sides = _cell_sides(sheet, count)
        page_frames.draw_comb(sheet, sides, y + below * height, teeth * height, width)
        write_cells(sheet, fill_labels(sheet, count), sides, y, line)


def write_table(sheet: Sheet) -> None:
    """Writes numbers into the cells of a table that may go on beyond the picture."""
    rng, height = sheet.rng, sheet.height
    step = height * float(rng.uniform(1.15, 2.0))
    digits = int(rng.integers(1, 5))
    pitch = height * (0.8 * digits + float(rng.uniform(0.3, 1.5)))
    down, across = sheet.shape
    columns = np.arange(float(rng.uniform(-pitch, height)), across + pitch, pitch)
    lines = np.arange(float(rng.uniform(-step, 0.5 * step)), down + step, step)
    if rng.random() < 0.5:  # the whole table is in the picture
        columns = columns[columns > 0][: max(2, int(across / pitch))]
        lines = lines[lines > 0][: max(2, int(down / step))]
    width = page_frames.line_width(sheet)
    if len(columns) and len(lines):
        page_frames.draw_grid(sheet, columns, lines, width, int(rng.random() < 0.1))
    for line, top in enumerate(lines[:-1]):
        for column, left in enumerate(columns[:-1]):
            kind = rng.random()
            if kind < 0.2 and column == 0:
                x, y = left + pitch / 2, top + step / 2
                word = page_marks.draw_word(sheet, height * 0.5, x, y)
                sheet.put(word, x, y, sheet.frame)
            elif kind < 0.8:
                labels = fill_labels(sheet, int(rng.integers(1, digits + 1)))
                x = left + height * float(rng.uniform(0.1, 0.4))
                write_items(sheet, labels, x, top + step / 2, line, 0.08)


def write_grid(sheet: Sheet) -> None:
    """Writes digits into the cells of a sudoku or another square grid."""
    rng = sheet.rng
    pitch = sheet.height * float(rng.uniform(1.1, 1.9))
    down, across = sheet.shape
    heavy = int(rng.choice([0, 3]))
    columns = float(rng.uniform(-0.5, 1.5)) * pitch + pitch * np.arange(10)
    lines = float(rng.uniform(-0.5, 0.5)) * pitch + pitch * np.arange(10)
    if rng.random() < 0.5:
        count = int(rng.integers(2, 6))
        columns, lines = columns[: count + 1], lines[: count + 1]
    columns = columns[columns < across + 2 * pitch]
    lines = lines[lines < down + 2 * pitch]
    page_frames.draw_grid(sheet, columns, lines, page_frames.line_width(sheet), heavy)
    share = float(rng.uniform(0.3, 1))
    for line, (top, bottom) in enumerate(itertools.pairwise(lines)):
        for left, right in itertools.pairwise(columns):
            if rng.random() < share and not sheet.is_empty:
                sides, middle = np.array([left, right]), (top + bottom) / 2
                write_cells(sheet, draw_labels(rng, 1), sides, middle, line)


def write_underlined(sheet: Sheet) -> None:
    """Writes numbers over a line, or each digit over a line of its own."""
    rng, height = sheet.rng, sheet.height
    width = page_frames.line_width(sheet)
    below = float(rng.uniform(0.42, 0.75))
    for line, y in rows(sheet, float(rng.uniform(1.5, 2.4))):
        count = draw_count(rng)
        on = sheet.ink if rng.random() < 0.3 else sheet.frame
        if rng.random() < 0.35:
            sides = _cell_sides(sheet, count)
            share = float(rng.uniform(0.05, 0.2)) * (sides[1] - sides[0])
            level = y + below * height
            for left, right in itertools.pairwise(sides):
                sheet.line(
                    [(left + share, level), (right - share, level)], width, on=on
                )
            write_cells(sheet, fill_labels(sheet, count), sides, y, line)
            continue
        x = draw_start(sheet)
        gap = float(rng.uniform(0.0, 0.6))
        end = write_items(sheet, fill_labels(sheet, count), x, y, line, gap)
        reach = height * rng.uniform(-0.1, 1.0, 2)
        end = max(end, x + height)
        tilt = float(rng.normal(0, 0.03)) * (end - x)
        is_dotted = rng.random() < 0.15
        for again in range(1 + (rng.random() < 0.12)):
            level = y + (below + 0.14 * again) * height
            ends = [(x - reach[0], level), (end + reach[1], level + tilt)]
            if is_dotted:
                page_frames.draw_dots(sheet, ends, width)
            else:
                sheet.line(ends, width, on=on)


def write_circled(sheet: Sheet) -> None:
    """Writes numbers in circles, drawn by hand or printed, or in rounded boxes."""
    rng, height = sheet.rng, sheet.height
    for line, y in rows(sheet, float(rng.uniform(1.9, 2.8))):
        x = draw_start(sheet) + 0.4 * height
        for _ in range(rng.integers(1, 4)):
            labels = fill_labels(sheet, int(rng.integers(1, 4)))
            end = write_items(sheet, labels, x, y, line, float(rng.uniform(0, 0.3)))
            end = max(end, x + 0.6 * height)
            side, over = (
                height * rng.uniform(0.15, 0.6),
                height * rng.uniform(0.6, 0.95),
            )
            box = (x - side, y - over, end + side, y + over)
            if rng.random() < 0.75:
                page_frames.draw_circle(sheet, box, by_hand=rng.random() < 0.6)
            else:
                page_frames.draw_rounded_box(sheet, box, page_frames.line_width(sheet))
            x = end + height * float(rng.uniform(1.2, 2.5))


def write_ruled(sheet: Sheet) -> None:
    """Writes numbers on ruled, squared or millimetre paper."""
    rng, height = sheet.rng, sheet.height
    kind = rng.random()
    if kind < 0.45:
        pitch = height * float(rng.uniform(0.6, 2.2))
        start, width = float(rng.uniform(0, pitch)), page_frames.line_width(sheet)
        page_frames.draw_rulings(sheet, pitch, start, width)
    elif kind < 0.8:
        pitch = height * float(rng.uniform(0.35, 1.3))
        page_frames.draw_graph_paper(sheet, pitch, page_frames.line_width(sheet) * 0.7)
    else:
        pitch = max(3.0, height * float(rng.uniform(0.1, 0.25)))
        page_frames.draw_graph_paper(sheet, pitch, float(rng.uniform(0.5, 1.1)))
    write_plain(sheet)


def write_struck(sheet: Sheet) -> None:
    """Writes numbers with a line through them, thin enough that they are readable."""
    rng, height = sheet.rng, sheet.height
    for line, y in rows(sheet, float(rng.uniform(1.4, 2.2))):
        x = draw_start(sheet)
        end = write_items(sheet, fill_labels(sheet, draw_count(rng)), x, y, line, 0.15)
        if rng.random() < 0.7:
            width = min(page_frames.line_width(sheet), 0.06 * height)
            level = y + height * rng.uniform(-0.15, 0.15, 2)
            sheet.line([(x - 4, level[0]), (end + 4, level[1])], width)


def write_sum(sheet: Sheet) -> None:
    """Writes numbers below each other, with an operator and a line, as in a sum."""
    rng, height = sheet.rng, sheet.height
    pitch = height * float(rng.uniform(0.75, 1.3))
    count = int(rng.integers(1, 6))
    left = height * float(rng.uniform(0.3, 2.5))
    sides = left + pitch * np.arange(count + 1)
    step = height * float(rng.uniform(1.15, 1.7))
    lines = int(rng.integers(2, 5))
    y = float(rng.uniform(0.5, 1.2)) * height
    width = max(1.0, sheet.hand.width * height * float(rng.uniform(0.4, 1)))
    for line in range(lines):
        own = int(rng.integers(1, count + 1))
        write_cells(sheet, fill_labels(sheet, own), sides[count - own :], y, line)
        if line == lines - 2:
            level = y + step * float(rng.uniform(0.42, 0.5))
            ends = [(left - 0.5 * height, level), (sides[-1] + 0.3 * height, level)]
            sheet.line(ends, width, on=sheet.ink)
            if rng.random() < 0.6:
                x = left + (count - own) * pitch - 0.7 * height
                page_marks.put_sign(sheet, page_marks.pick(rng, "+-"), x, y)
        y += step


FORMS: tuple[Callable[[Sheet], None], ...] = (
    *(write_boxes, write_comb, write_table, write_grid, write_underlined),
    write_ruled,
)


def write_empty_form(sheet: Sheet) -> None:
    """Draws a form that nobody has filled in."""
    sheet.is_empty = True
    FORMS[sheet.rng.integers(len(FORMS))](sheet)
    if sheet.rng.random() < 0.4:
        height = max(6.0, sheet.height * float(sheet.rng.uniform(0.25, 0.7)))
        page_marks.print_words(sheet, int(sheet.rng.integers(1, 5)), height)
