"""Draws on a picture a box, the answer and its confidence for each digit; saves it."""

import contextlib
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.local_files import writing
from mnist_jax.reading.files import SUFFIXES
from mnist_jax.reading.paths import Source

if TYPE_CHECKING:
    from mnist_jax.reading.predictions import Box, Digit

_SURE, _UNSURE = (31, 95, 191), (201, 60, 8)  # white text can be read on both
_LINE = (20, 130, 60)  # joins the digits of a line of text
_WHITE = (255, 255, 255)

# In pixels. Small pictures are enlarged, so that there is room for text.
_DIGIT_HEIGHT, _PICTURE_SIDE, _LARGEST_SIDE, _SMALLEST_FONT = 64, 320, 2048, 11


def check_drawing(path: str, sources: Sequence[Source]) -> None:
    """Checks, before anything is read, that a picture can be drawn into a file.

    Args:
      path: of the file.
      sources: what will be read.

    Raises:
      ConfigError: it is no name of a picture, or that of the picture to be read; or
        there is not one picture.
    """
    if os.path.splitext(path)[1].lower() not in SUFFIXES - {".npy"}:
        raise ConfigError(f"--draw={path}: end the name with .png")
    if len(sources) != 1:
        raise ConfigError(f"--draw takes one picture, and {len(sources):,} are given")
    with contextlib.suppress(OSError):
        if os.path.samefile(path, sources[0].name):
            raise ConfigError(f"--draw={path} is the picture to be read")


def draw_answers(picture: Image.Image, digits: Sequence["Digit"]) -> Image.Image:
    """Draws answers on a copy of a picture, and joins the digits of each line.

    Args:
      picture: RGB, from `files.read_picture`. If that has reduced it, boxes refer to
        the size `picture.info["full_size"]`.
      digits: what was read; those without a box are not drawn. An unsure digit has
        another colour, and a question mark.

    Returns:
      RGB; larger than `picture` if the picture or its digits are small.
    """
    boxed = [(digit.box, digit) for digit in digits if digit.box]
    drawn = picture.convert("RGB").copy()
    if not boxed:
        return drawn
    scale = picture.width / picture.info.get("full_size", picture.size)[0]
    height = scale * float(np.median([box[3] - box[1] for box, _ in boxed]))
    side = max(picture.size)
    enough = math.ceil(max(_DIGIT_HEIGHT / height, _PICTURE_SIDE / side))
    # A whole number, so that all pixels are enlarged alike.
    enlarged = max(1, min(enough, _LARGEST_SIDE // side))
    size = (picture.width * enlarged, picture.height * enlarged)
    drawn = drawn.resize(size, Image.Resampling.NEAREST)
    height, scale = height * enlarged, scale * enlarged
    boxes = [_inside([round(n * scale) for n in box], size) for box, _ in boxed]
    font_size = min(0.3 * height, 0.06 * max(size))
    line = max(1, round(font_size / 10))
    _join_lines(drawn, boxes, [digit.line for _, digit in boxed], line)
    for box, (_, digit) in zip(boxes, boxed, strict=True):
        _draw_box(drawn, box, _colour(digit), line)
    taken = boxes.copy()
    for box, (_, digit) in zip(boxes, boxed, strict=True):
        label = _label(digit, font_size)
        label.thumbnail(size)
        place = _place(box, label.size, taken, size, 2 * line)
        drawn.paste(label, place[:2])
        taken.append(place)
    return drawn


def save_picture(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Writes a picture; the suffix of `path` chooses the format.

    If that fails, the old file is left as it was.

    Raises:
      UserError: it cannot be written there, or in that format.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        content = io.BytesIO()  # Pillow may not notice that a file is cut short
        picture.save(content, Image.registered_extensions()[suffix])
        with writing(repr(str(path))), atomic_file(Path(path)) as file:
            file.write(content.getvalue())
    except KeyError as error:
        raise UserError(f"cannot write {str(path)!r}: end it with .png") from error
    except (OSError, ValueError) as error:  # Pillow cannot encode it
        raise UserError(f"cannot write {str(path)!r}: {error}") from error


def _colour(digit: "Digit") -> tuple[int, int, int]:
    return _SURE if digit.status == "ok" else _UNSURE


def _inside(box: Sequence[int], size: tuple[int, int]) -> "Box":
    """Returns the part of a box that is in the picture; at least one pixel."""
    left, top = (min(max(0, n), side - 1) for n, side in zip(box, size, strict=False))
    right, bottom = min(box[2], size[0]), min(box[3], size[1])
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _draw_box(
    picture: Image.Image, box: "Box", colour: tuple[int, int, int], line: int
) -> None:
    """Draws a frame around a box, and a white one around that for dark pictures."""
    canvas = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    for n, tone in ((2 * line, _WHITE), (line, colour)):
        wider = (left - n, top - n, right + n, bottom + n)
        x0, y0, x1, y1 = _inside(wider, picture.size)
        canvas.rectangle((x0, y0, x1 - 1, y1 - 1), outline=tone, width=line)


def _join_lines(
    picture: Image.Image, boxes: Sequence["Box"], lines: Sequence[int], width: int
) -> None:
    """Joins the feet of the digits that stand on one line of text."""
    canvas = ImageDraw.Draw(picture)
    for number in sorted(set(lines)):
        own = [box for box, line in zip(boxes, lines, strict=True) if line == number]
        feet = [((left + right) // 2, bottom + width) for left, _, right, bottom in own]
        canvas.line(feet, _LINE, width)


def _label(digit: "Digit", font_size: float) -> Image.Image:
    """Draws the digit, and below it the confidence, which is never rounded up."""
    name = digit.guesses[0].name + ("" if digit.status == "ok" else "?")
    confidence = f"{math.floor(digit.confidence * 100)}%"
    lines = [
        _text(text, max(_SMALLEST_FONT, size), _colour(digit))
        for text, size in ((name, font_size), (confidence, 0.6 * font_size))
    ]
    width = max(line.width for line in lines)
    label = Image.new(
        "RGB", (width, sum(line.height for line in lines)), _colour(digit)
    )
    y = 0
    for line in lines:
        label.paste(line, ((width - line.width) // 2, y))
        y += line.height
    return label


def _text(text: str, size: float, colour: tuple[int, int, int]) -> Image.Image:
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    margin = math.ceil(size / 7)
    width, height = (math.ceil(n) + 2 * margin for n in (right - left, bottom - top))
    line = Image.new("RGB", (width, height), colour)
    ImageDraw.Draw(line).text((margin - left, margin - top), text, _WHITE, font)
    return line


def _place(
    box: "Box",
    label: tuple[int, int],
    taken: Sequence["Box"],
    size: tuple[int, int],
    gap: int,
) -> "Box":
    """Finds the place where a label [width, height] covers least of other boxes."""
    left, top, right, bottom = box
    width, height = label
    x, y = (left + right - width) // 2, (top + bottom - height) // 2
    above, below = top - gap - height, bottom + gap
    corners = [(x, above), (x, below), (right + gap, y), (left - gap - width, y)]
    corners += [(x, top), (left, top), (right - width, top)]
    corners += [(left, bottom - height), (right - width, bottom - height)]
    places = []
    for x, y in corners:
        x = min(max(0, x), size[0] - width)
        y = min(max(0, y), size[1] - height)
        places.append((x, y, x + width, y + height))
    return min(places, key=lambda place: sum(_shared(place, b) for b in taken))


def _shared(a: "Box", b: "Box") -> int:
    """Returns the area, in pixels, that two boxes share."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down)
