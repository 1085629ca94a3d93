"""Pages of digits, made to train and to measure readers of pages.

Each page is a pure function of a seed and its index (`make_page`), so that any process
can make any of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mnist_jax.drawing.masks import ink_box
from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.simulation import page_forms, page_frames, page_layouts, page_marks
from mnist_jax.simulation.page_camera import pad_picture, take_picture
from mnist_jax.simulation.page_digits import Pool, Rng, draw_hand
from mnist_jax.simulation.page_photos import crop_photo
from mnist_jax.simulation.page_sheet import Sheet


class Page(NamedTuple):
    """A picture, and the digits in it."""

    picture: np.ndarray  # uint8 [H, W], grey
    # float32 [N, 6]: x and y of the centre, width and height of the ink's box (pixels),
    # the digit (-1: cut or covered, to be ignored) and the line, from 0.
    digits: np.ndarray
    condition: str  # one of CONDITIONS


# {condition: (share of pages, layout)}; None for what is no sheet.
_LAYOUTS: dict[str, tuple[float, Callable[[Sheet], None] | None]] = {
    "single digit": (0.11, page_layouts.write_single),
    "plain": (0.07, page_layouts.write_plain),
    "touching": (0.095, page_layouts.write_touching),
    "separators": (0.14, page_layouts.write_separators),
    "marks beside": (0.16, page_layouts.write_marks),
    "boxes": (0.1, page_forms.write_boxes),
    "comb": (0.035, page_forms.write_comb),
    "table": (0.045, page_forms.write_table),
    "grid": (0.03, page_forms.write_grid),
    "underline": (0.04, page_forms.write_underlined),
    "circle": (0.025, page_forms.write_circled),
    "ruled": (0.045, page_forms.write_ruled),
    "struck": (0.015, page_forms.write_struck),
    "sum": (0.02, page_forms.write_sum),
    "cheque": (0.04, page_layouts.write_cheque),
    "display": (0.015, page_layouts.write_display),
    "letters": (0.09, page_layouts.write_letters),
    "shapes": (0.05, page_layouts.write_shapes),
    "empty form": (0.03, page_forms.write_empty_form),
    "photo": (0.015, None),
    "blank": (0.01, None),
}
CONDITIONS: tuple[str, ...] = tuple(_LAYOUTS)
_SHARES = np.cumsum([share for share, _ in _LAYOUTS.values()])
_SMALL = 0.2  # of pages with more than one digit are small pictures on a tile
_ALONE = ("single digit", "letters", "shapes")  # these often fill a small picture


def make_page(
    seed: int,
    index: int,
    images: np.ndarray,
    labels: np.ndarray,
    shape: tuple[int, int] = (128, 256),
) -> Page:
    """Makes a page.

    Args:
      seed: 0 or more.
      index: which page of that seed, 0 or more.
      images: digits to write with, uint8 [M, 28, 28], white on black.
      labels: int [M].
      shape: height and width of the page, from 64x64.

    Returns:
      The page. The same arguments give the same page, with the same versions of
      OpenCV and NumPy to the bit.

    Raises:
      UserError: if OpenCV is not installed.
    """
    load_opencv()
    rng = np.random.default_rng((seed, index))
    place = int(np.searchsorted(_SHARES, rng.random() * _SHARES[-1], side="right"))
    condition = CONDITIONS[min(place, len(CONDITIONS) - 1)]
    is_small = rng.random() < (0.85 if condition in _ALONE else _SMALL)
    layout = _LAYOUTS[condition][1]
    room = (shape[0] - 20, shape[1] - 20) if is_small else shape
    if layout is None:
        picture = _make_surface(rng, condition, room, is_small)
        digits = np.zeros((0, 6), np.float32)
    else:
        sheet = _make_sheet(rng, condition, room, Pool(images, labels))
        layout(sheet)
        _add_extras(sheet, condition)
        window = _choose_window(sheet, condition, is_small)
        digits = sheet.boxes(window)
        picture = _photograph(sheet, condition, window)
    if is_small:
        picture, left, top = pad_picture(rng, picture, shape)
        digits[:, 0] += left
        digits[:, 1] += top
    return Page(picture, digits, condition)


def _make_sheet(rng: Rng, condition: str, shape: tuple[int, int], pool: Pool) -> Sheet:
    low, high = (20, 48) if rng.random() < 0.65 else (10, 100)
    height = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    height = min(height, 0.8 * min(shape))
    if condition == "cheque":
        height = min(height, 0.45 * shape[0])
    matrix = _draw_view(rng, shape)
    sheet = Sheet(rng, shape, matrix, height, draw_hand(rng), pool)
    if rng.random() < 0.12 and condition not in ("boxes", "comb", "table", "grid"):
        sheet.second_height = max(10.0, height * float(rng.uniform(0.45, 0.8)))
    if rng.random() < 0.15:
        sheet.faintest = float(rng.uniform(0.6, 0.9))
    return sheet


def _draw_view(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Draws from where a page is seen: float [3, 3], from the page to the picture."""
    kind = rng.random()
    if kind < 0.5:
        angle = 0.0
    elif kind < 0.9:
        angle = float(rng.normal(0, 0.04))
    elif kind < 0.985:
        angle = float(rng.uniform(-0.22, 0.22))
    else:
        angle = float(rng.uniform(-0.6, 0.6))
    cos, sin = np.cos(angle), np.sin(angle)
    view = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    if kind > 0.4 and rng.random() < 0.3:  # not from straight above
        view[:2, :2] += rng.normal(0, 0.05, (2, 2))
        view[2, :2] = rng.normal(0, 0.15, 2) / max(shape)
    middle = np.array([[1, 0, shape[1] / 2], [0, 1, shape[0] / 2], [0, 0, 1]])
    return middle @ view @ np.linalg.inv(middle)


def _add_extras(sheet: Sheet, condition: str) -> None:
    """Adds what has nothing to do with the writing: words, stray lines, holes."""
    rng, (down, across) = sheet.rng, sheet.shape
    if rng.random() < 0.13 and condition not in ("single digit", "letters"):
        height = max(6.0, sheet.height * float(rng.uniform(0.25, 0.65)))
        page_marks.print_words(sheet, int(rng.integers(1, 5)), height)
    if rng.random() < 0.07:
        page_frames.draw_strays(sheet)
    if rng.random() < 0.03:
        mask = page_marks.draw_scribble(sheet, sheet.height)
        x, y = float(rng.uniform(0, across)), float(rng.uniform(0, down))
        if sheet.overlap(np.full_like(mask, 255), x, y) == 0:
            sheet.put(mask, x, y)
    if rng.random() < 0.12:
        _punch_holes(sheet)


def _punch_holes(sheet: Sheet) -> None:
    """Draws holes in a row, at a side of the page or beside the writing."""
    rng, down = sheet.rng, sheet.shape[0]
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    radius = float(rng.uniform(0.2, 0.75)) * sheet.height
    x = radius * float(rng.uniform(0.8, 3))
    if sheet.digits and rng.random() < 0.4:
        right = max(digit.left + digit.mask.shape[1] for digit in sheet.digits)
        left = min(digit.left for digit in sheet.digits)
        x = (left - radius - x) if rng.random() < 0.5 else right + radius + x
    on = sheet.ink if rng.random() < 0.4 else sheet.frame  # ink is never cut off
    for y in rng.uniform(0, down, rng.integers(1, 4)):
        mask = np.full((int(2 * radius) + 1,) * 2, 255, np.uint8)
        if sheet.overlap(mask, x, float(y)) == 0:
            sheet.fill(circle * radius + [x, y], 255, on=on)


def _choose_window(
    sheet: Sheet, condition: str, is_small: bool
) -> tuple[int, int, int, int]:
    """Returns which part of the sheet is the picture: left, top, right, bottom."""
    rng, (down, across) = sheet.rng, sheet.shape
    if not is_small:
        return 0, 0, across, down
    ink = sheet.ink if sheet.ink.any() else sheet.frame
    box = ink_box(ink) or (0, 0, across, down)
    if len(sheet.digits) > 1 and rng.random() < 0.15:  # what others cut out: one row
        box = _row_box(sheet)
    height = max(4.0, min(sheet.height, box[3] - box[1] + 4))
    widest = 0.15 if rng.random() < 0.3 else 1.5
    margins = rng.uniform(0.02, widest, 4) * height
    if condition == "single digit" and rng.random() < 0.08:
        margins[rng.integers(4)] = -0.11 * height * float(rng.random())
    left, top = (max(0, int(box[i] - margins[i])) for i in (0, 1))
    right = min(across, int(box[2] + margins[2]) + 1)
    bottom = min(down, int(box[3] + margins[3]) + 1)
    if right - left < 8 or bottom - top < 8:
        return 0, 0, across, down
    return left, top, right, bottom


def _row_box(sheet: Sheet) -> tuple[int, int, int, int]:
    """Returns the box round one row, or round one digit beside cut ones."""
    rng = sheet.rng
    one = sheet.digits[rng.integers(len(sheet.digits))]
    is_row = rng.random() < 0.7
    row = [d for d in sheet.digits if d.line == one.line and (is_row or d is one)]
    down, across = sheet.shape
    return (
        min(max(0, min(d.left for d in row)), across - 1),
        min(max(0, min(d.top for d in row)), down - 1),
        max(1, min(across, max(d.left + d.mask.shape[1] for d in row))),
        max(1, min(down, max(d.top + d.mask.shape[0] for d in row))),
    )


def _photograph(
    sheet: Sheet, condition: str, window: tuple[int, int, int, int]
) -> np.ndarray:
    rng = sheet.rng
    left, top, right, bottom = window
    ink = np.ascontiguousarray(sheet.ink[top:bottom, left:right])
    frame = np.ascontiguousarray(sheet.frame[top:bottom, left:right])
    background = None
    if condition == "cheque" and rng.random() < 0.7:
        strength = np.float32(rng.uniform(0.05, 0.45))
        background = strength * page_frames.make_guilloche(rng, ink.shape, 1.3)
    elif rng.random() < 0.02:
        strength = np.float32(rng.uniform(0.1, 0.5) / 255)
        background = crop_photo(rng, ink.shape).astype(np.float32) * strength
    height = min(sheet.height, sheet.second_height or sheet.height)
    pen = max(1.0, 0.8 * sheet.hand.width * height)
    return take_picture(rng, ink, frame, height, pen, background)


def _make_surface(
    rng: Rng, condition: str, room: tuple[int, int], is_small: bool
) -> np.ndarray:
    """Makes a picture without writing: a photograph, or blank paper."""
    shape = room
    if is_small:
        shape = (int(rng.integers(20, room[0] + 1)), int(rng.integers(20, room[1] + 1)))
    if condition == "photo":
        return crop_photo(rng, shape)
    nothing = np.zeros(shape, np.uint8)
    return take_picture(rng, nothing, nothing, 30.0, 2.0)
