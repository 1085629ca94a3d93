"""Layouts of pages without forms: each writes one kind of page on a sheet."""

import numpy as np

from mnist_jax.simulation import page_frames, page_marks
from mnist_jax.simulation.page_digits import Rng, write_segments
from mnist_jax.simulation.page_rows import (
    Item,
    draw_count,
    draw_labels,
    draw_start,
    rows,
    write_items,
    write_one,
)
from mnist_jax.simulation.page_sheet import Sheet


def fill_labels(sheet: Sheet, count: int) -> list[Item]:
    """Draws digits to write, none if the sheet is to stay empty."""
    return [] if sheet.is_empty else draw_labels(sheet.rng, count)


def write_plain(sheet: Sheet) -> None:
    """Writes numbers with space between the digits."""
    gap = float(sheet.rng.uniform(0.06, 0.6 if sheet.rng.random() < 0.7 else 1.3))
    for line, y in rows(sheet, float(sheet.rng.uniform(1.25, 2.2))):
        x = draw_start(sheet)
        while x < sheet.shape[1]:
            labels = fill_labels(sheet, draw_count(sheet.rng))
            x = write_items(sheet, labels, x, y, line, gap)
            if sheet.rng.random() < 0.7 or not labels:
                break
            x += sheet.height * float(sheet.rng.uniform(0.8, 2))


def write_touching(sheet: Sheet) -> None:
    """Writes numbers whose digits touch, nearly touch or overlap a little."""
    rng = sheet.rng
    touch = float(rng.choice([0.0, 0.0, 0.03, 0.08]))
    gap = float(rng.uniform(-0.35, 0.06))
    for line, y in rows(sheet, float(rng.uniform(1.2, 1.8))):
        labels = fill_labels(sheet, draw_count(rng) + 1)
        joined = 0.3 if rng.random() < 0.3 else 0.0
        write_items(sheet, labels, draw_start(sheet), y, line, gap, touch, joined)


def _amount(rng: Rng) -> list[Item]:
    """Draws a number with separators."""
    items: list[Item] = []
    start = rng.random()
    if start < 0.3:
        items.append(page_marks.pick(rng, (*page_marks.CURRENCIES, "-", "+")))
    elif start < 0.36:
        items += ["prefix", " "]
    kind = rng.integers(7)
    if kind > 4:  # days
        mark = page_marks.pick(rng, ("/", "/", "steep /", "/", ".", "-"))
        ends = (2, 4) if rng.random() < 0.3 else (2, 2)
        items += draw_labels(rng, int(rng.integers(1, 3)))
        for count in ends:
            items += [mark, *draw_labels(rng, count)]
    elif kind == 0:  # thousands and decimals
        first, mark = int(rng.integers(1, 4)), page_marks.pick(rng, ",.")
        items += draw_labels(rng, first)
        for _ in range(rng.integers(0, 3)):
            is_round = rng.random() < 0.25
            items += [mark, *([0, 0, 0] if is_round else draw_labels(rng, 3))]
        if rng.random() < 0.7:
            items += [".,"[mark == "."], *draw_labels(rng, 2)]
    else:  # times, telephone numbers, versions, fractions
        mark = page_marks.pick(rng, (*page_marks.SEPARATORS, "/", "/", "-"))
        parts = 2 if kind < 3 else 3
        for part in range(parts):
            items += [mark] * (part > 0) + draw_labels(rng, int(rng.integers(1, 5)))
    if rng.random() < 0.2:
        items.append(page_marks.pick(rng, ("-", "dash", "=", "percent", "euro")))
    return items


def write_separators(sheet: Sheet) -> None:
    """Writes amounts, dates, times and telephone numbers."""
    rng = sheet.rng
    gap = float(rng.uniform(0.02, 0.45))
    for line, y in rows(sheet, float(rng.uniform(1.4, 2.2))):
        write_items(sheet, _amount(rng), draw_start(sheet), y, line, gap)


def write_cheque(sheet: Sheet) -> None:
    """Writes an amount as on cheques: after dashes or stars, in a box at times."""
    rng, height = sheet.rng, sheet.height
    ends = ("dash", "-", "star", "=", "steep /")
    for line, y in rows(sheet, float(rng.uniform(1.5, 2.5))):
        lead = str(rng.choice(["star", "dash", "hash", "dollar", "-", "="]))
        items = [*[lead] * int(rng.integers(0, 4)), *_amount(rng)]
        if rng.random() < 0.5:
            items += [page_marks.pick(rng, ends)] * int(rng.integers(1, 4))
        start = draw_start(sheet)
        gap = float(rng.uniform(-0.1, 0.2))
        joined = 0.5 if rng.random() < 0.4 else 0.0
        end = write_items(sheet, items, start, y, line, gap, 0.03, joined)
        if rng.random() < 0.25:
            end = _write_cents(sheet, end, y, line)
        if rng.random() < 0.5:
            margin = height * float(rng.uniform(0.1, 0.8))
            box = (start - margin, y - height * 0.9, end + margin, y + height * 0.9)
            page_frames.draw_box(sheet, box, page_frames.line_width(sheet))


def _write_cents(sheet: Sheet, x: float, y: float, line: int) -> float:
    """Writes two small raised digits, over a line or over "100"; returns the end."""
    rng, height = sheet.rng, sheet.height
    if height < 18:
        return x
    sheet.height = height * float(rng.uniform(0.5, 0.7))
    cents = draw_labels(rng, 2) if rng.random() < 0.6 else [0, 0]
    end = write_items(sheet, cents, x, y - 0.2 * height, line, 0.05)
    level, width = y + 0.22 * height, max(1.0, sheet.hand.width * sheet.height)
    if rng.random() < 0.7:
        for again in range(int(rng.integers(1, 3))):
            drop = level + again * 3 * width
            sheet.line([(x, drop), (end, drop)], width, on=sheet.ink)
    if height > 40 and rng.random() < 0.5:
        sheet.height *= 0.8
        write_items(sheet, [1, 0, 0], x, level + 0.75 * sheet.height, line + 1, 0.03)
    sheet.height = height
    return end


def write_marks(sheet: Sheet) -> None:
    """Writes numbers beside ticks, currencies, letters, words; and sums."""
    rng = sheet.rng
    gap = float(rng.uniform(0.05, 0.5))
    names = (*page_marks.TICKS, *page_marks.CURRENCIES, "hash", "percent", "degree")
    others = ("letter", "letter", "word", "word", "scribble", "question", "quotes")
    for line, y in rows(sheet, float(rng.uniform(1.4, 2.2))):
        kind = rng.random()
        first, second = draw_labels(rng, draw_count(rng)), draw_labels(rng, 2)
        mark: list[Item] = [page_marks.pick(rng, (*names, *others))]
        items: list[Item]
        if kind < 0.3:
            operator = page_marks.pick(rng, page_marks.OPERATORS)
            items = [*first[:3], operator, *second]
            if rng.random() < 0.6:
                items += ["=", *draw_labels(rng, int(rng.integers(1, 4)))]
        elif kind < 0.35:
            items = [*mark, *([" "] * int(rng.integers(2))), *first]
        elif kind < 0.4:
            sign = page_marks.pick(rng, page_marks.CURRENCIES)
            items = [sign, *([" "] * int(rng.integers(2))), *first]
        elif kind < 0.54:
            word = page_marks.pick(rng, ("word", "prefix", "prefix", "prefix"))
            items = [word, *([" "] * int(rng.integers(2))), *first]
        elif kind < 0.65:
            tick = page_marks.pick(rng, page_marks.TICKS[:2])
            items = [*first, *([" "] * int(rng.integers(2))), tick]
        elif kind < 0.77:
            items = [*first, *([" "] * int(rng.integers(2))), *mark]
        elif kind < 0.87:
            left, right = [("(", ")"), ("[", "]"), ("<", ">")][rng.integers(3)]
            items = [left, *first, right]
        else:
            items = [*mark, " ", *first, " ", *mark, *second]
        write_items(sheet, items, draw_start(sheet), y, line, gap)


def write_display(sheet: Sheet) -> None:
    """Writes numbers of seven segments; those that are off may be seen faintly."""
    rng, height = sheet.rng, sheet.height
    width = float(rng.uniform(0.07, 0.17))
    slant = float(rng.choice([0, 0.1, 0.17]))
    ghost = float(rng.choice([0, 0, 0.5]))
    for line, y in rows(sheet, float(rng.uniform(1.4, 2.0))):
        x = draw_start(sheet)
        for label in fill_labels(sheet, draw_count(rng)):
            place = (x + 0.3 * height, y)
            on, off = write_segments(
                int(label), height, width, slant, sheet.turn_at(*place)
            )
            sheet.put_digit(on, *place, int(label), line)
            sheet.put((off * ghost).astype(np.uint8), *place, sheet.frame)
            x += height * 0.78
            if rng.random() < 0.08:
                page_marks.put_sign(
                    sheet, page_marks.pick(rng, ".:"), x - 0.12 * height, y
                )


def write_single(sheet: Sheet) -> None:
    """Writes one digit, bare or on any paper."""
    rng, height, (down, across) = sheet.rng, sheet.height, sheet.shape
    x, y, label = across / 2, down / 2, int(rng.integers(10))
    if rng.random() < 0.06:
        slant, width = float(rng.choice([0, 0.12])), float(rng.uniform(0.08, 0.17))
        turn = sheet.turn_at(x, y)
        on, off = write_segments(label, height, width, slant, turn)
        sheet.put_digit(on, x, y, label, 0)
        sheet.put(off // 3, x, y, sheet.frame)
        return
    _draw_around(sheet, x, y, label)
    write_one(sheet, label, x - height * 0.3, y, 0, touch=1.0)


def _draw_around(sheet: Sheet, x: float, y: float, label: int) -> None:
    """Draws what is printed around a single digit, in half of the cases nothing."""
    rng, height, kind = sheet.rng, sheet.height, sheet.rng.random()
    width = page_frames.line_width(sheet)
    if kind < 0.14:
        wide, tall = height * rng.uniform(0.5, 1.1, 2)
        box = (x - wide, y - tall, x + wide, y + tall)
        page_frames.draw_box(sheet, box, width)
    elif kind < 0.22:
        pitch = height * float(rng.uniform(0.8, 2.5))
        start = y + float(rng.uniform(-0.6, 0.6)) * height
        page_frames.draw_rulings(sheet, pitch, start, width)
    elif kind < 0.34:
        pitch = max(3.0, height * float(rng.uniform(0.1, 0.8)))
        page_frames.draw_graph_paper(sheet, pitch, width * 0.6)
    elif kind < 0.42:
        half = height * rng.uniform(0.6, 0.95, 2)
        columns = x + half[0] * np.arange(-5, 6, 2)
        lines = y + half[1] * np.arange(-3, 4, 2)
        page_frames.draw_grid(sheet, columns, lines, width)
    elif kind < 0.46:
        reach = height * float(rng.uniform(0.6, 0.9))
        box = (x - reach, y - reach, x + reach, y + reach)
        page_frames.draw_circle(sheet, box, by_hand=rng.random() < 0.5)
    elif kind < 0.52:
        # A line at the foot of a 7 or a 1 would make a 2 of it, through a 0 an 8.
        lowest = 0.58 if label in (0, 1, 7) else -0.3
        level = y + height * float(rng.uniform(lowest, 0.75))
        page_frames.draw_across(sheet, level, min(width, 0.08 * height))


def write_letters(sheet: Sheet) -> None:
    """Writes letters, alone or in rows, and words: no digits."""
    rng, height = sheet.rng, sheet.height
    (down, across), kind = sheet.shape, rng.random()
    x, y = across / 2, down / 2
    if kind < 0.12:
        sheet.put(page_marks.draw_invented_letter(sheet, height), x, y)
    elif kind < 0.45:
        sheet.put(page_marks.draw_letter(sheet, height, x, y), x, y)
    elif kind < 0.6:
        page_marks.print_text(sheet, height)
    else:
        name = "letter" if kind < 0.8 else "word"
        for line, level in rows(sheet, float(rng.uniform(1.3, 2.2))):
            items: list[Item] = [name] * int(rng.integers(1, 9))
            write_items(sheet, items, draw_start(sheet), level, line, 0.15)


def write_shapes(sheet: Sheet) -> None:
    """Draws shapes, scribbles, signatures: no digits."""
    rng, height, (down, across) = sheet.rng, sheet.height, sheet.shape
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 6))
    for _ in range(count):
        x = across / 2 if count == 1 else float(rng.uniform(0, across))
        y = down / 2 if count == 1 else float(rng.uniform(0, down))
        kind, size = rng.random(), height * float(rng.uniform(0.4, 1.4))
        if kind < 0.35:
            mask = page_marks.draw_scribble(sheet, size)
        elif kind < 0.75:
            mask = page_marks.draw_shape(sheet, size)
        else:
            page_marks.put_sign(sheet, page_marks.pick(rng, ALONE), x, y)
            continue
        sheet.put(mask, x, y)


# Signs that are no digit even if nothing stands beside them.
ALONE = (
    *("+", "-", "=", "times", "divided", "<", ">", "~", "tick", "long tick", "cross"),
    *("star", "hash", "percent", "dollar", "euro", "pound", "yen", "root", "arrow"),
    *("question", "quotes", "brace", ".", ":"),
)
