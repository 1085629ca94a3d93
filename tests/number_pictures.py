"""Pictures of numbers, composed of images of single digits."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter


class Style(NamedTuple):
    """How numbers are written; lengths are shares of a digit's height."""

    gap: tuple[float, float]  # from ink to ink, along the rows; below 0 they overlap
    lines: int = 1
    slope: float = 0.0  # degrees, at most
    photo: bool = False
    roofs: float = 0.15  # how far a digit may reach over or under its neighbour


STYLES = {
    "spaced": Style((0.2, 0.6), roofs=-0.1),
    "close": Style((0.04, 0.15)),
    "touching": Style((-0.06, 0.0)),
    "two lines": Style((0.08, 0.4), lines=2),
    "sloped": Style((0.08, 0.4), slope=8.0),
    "photo": Style((0.08, 0.4), slope=3.0, photo=True),
}


class NumberPicture(NamedTuple):
    """A picture and what it shows."""

    picture: Image.Image  # RGB
    ink: np.ndarray  # float32 [H, W], 0 to 1: what a perfect `find_ink` would give
    lines: tuple[str, ...]


def draw_number(
    images: np.ndarray, labels: np.ndarray, style: Style, rng: np.random.Generator
) -> NumberPicture:
    """Writes `style.lines` numbers of 2 to 8 digits, chosen from `images`.

    Args:
      images: uint8 [N, 28, 28], white on black.
      labels: int [N].
      style: how.
      rng: decides all that is left to chance.
    """
    height = int(rng.integers(40, 100))
    rows, lines = [], []
    for _ in range(style.lines):
        chosen = rng.integers(len(images), size=rng.integers(2, 9))
        lines.append("".join(str(labels[k]) for k in chosen))
        rows.append(_write_line([images[k] for k in chosen], height, style, rng))
    ink = _stack(rows, int(height * rng.uniform(0.25, 0.7)))
    ink = np.pad(ink, int(height * rng.uniform(0.4, 1.2)))
    angle = rng.uniform(-style.slope, style.slope)
    turned = Image.fromarray(ink).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    ink = np.clip(np.asarray(turned), 0, 1)
    return NumberPicture(_put_on_paper(ink, height, style, rng), ink, tuple(lines))


def enlarge(image: np.ndarray, height: float) -> np.ndarray:
    """The ink of an image of 28x28, at `height` pixels for 20: float32 [h, w]."""
    scale = height / 20
    side = round(28 * scale)
    large = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    # Edges as sharp as a pen's, which MNIST's are not once enlarged.
    ink = np.clip((np.asarray(large, np.float32) / 255 - 0.5) * scale + 0.5, 0, 1)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _write_line(
    images: list[np.ndarray], height: int, style: Style, rng: np.random.Generator
) -> np.ndarray:
    line = np.zeros((2 * height, 2 * height * len(images)), np.float32)
    end = 0  # of the ink so far
    for image in images:
        ink = enlarge(image, height * rng.uniform(0.85, 1.15))
        bottom = round(height * (1.5 + rng.uniform(-0.07, 0.07)))
        rows = slice(bottom - ink.shape[0], bottom)
        left = 0
        if end:
            gap = round(height * rng.uniform(*style.gap))
            left = max(
                _touching_place(line[rows], ink) + gap,
                end - round(height * style.roofs),
            )
        place = line[rows, left : left + ink.shape[1]]
        np.maximum(place, ink, out=place)
        end = max(end, left + ink.shape[1])
    return line[:, :end]


def _touching_place(before: np.ndarray, ink: np.ndarray) -> int:
    """The column at which `ink` [h, w] just meets the ink in `before` [h, W]."""
    columns = np.arange(before.shape[1])
    ends = np.where(before > 0.5, columns + 1, 0).max(1)
    starts = np.where((ink > 0.5).any(1), (ink > 0.5).argmax(1), before.shape[1])
    met = ends > 0
    return max(0, int((ends - starts)[met].max(initial=0)))


def _stack(rows: list[np.ndarray], gap: int) -> np.ndarray:
    rows = [row[np.flatnonzero(row.any(1))[0] :] for row in rows]
    rows = [row[: np.flatnonzero(row.any(1))[-1] + 1] for row in rows]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(r, ((0, gap), (0, width - r.shape[1]))) for r in rows]
    return np.concatenate(padded)


def _put_on_paper(
    ink: np.ndarray, height: int, style: Style, rng: np.random.Generator
) -> Image.Image:
    paper, pen = rng.uniform(200, 250, 3), rng.uniform(0, 90, 3)
    colours = paper * (1 - ink[..., None]) + pen * ink[..., None]
    if not style.photo:
        colours += rng.normal(0, 3, colours.shape)
        return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]] / max(ink.shape)
    angle = rng.uniform(0, 2 * np.pi)
    light = 0.75 + 0.25 * np.sin(2 * (x * np.cos(angle) + y * np.sin(angle)) + angle)
    grain = rng.normal(0, 10, ink.shape)[..., None]
    photo = np.clip(colours * light[..., None] + grain, 0, 255).astype(np.uint8)
    blur = ImageFilter.GaussianBlur(height * rng.uniform(0.005, 0.03))
    return Image.fromarray(photo).filter(blur)
