"""Covers a picture with tiles of few shapes, as a page net sees it."""

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mnist_jax.models.page_net import NOISE

# Height and width of what the net sees, in pixels; each of them compiles once. Shorter
# sides of 48, 96 and 192 pixels, as `page_passes` reduces pictures to, fit with their
# margins. The shapes took fewest pixels for pictures like those that people send.
SHAPES = (
    *((64, 64), (64, 128), (64, 272), (112, 128)),
    *((112, 416), (208, 272), (240, 368), (448, 480)),
)
MARGIN = 8  # pixels around a picture, at least
_PER_TILE = 2000  # what a tile costs besides its pixels, in pixels
PAPER_RANGE = 24  # levels of 255 that noise and uneven paper may differ
_FAINTEST = 4  # such levels of paper without noise
OVERLAP = 64  # pixels that tiles of a large picture share

Shape = tuple[int, int]  # height and width
Corner = tuple[int, int]  # left and top


def choose_tiles(
    size: Sequence[int], places: np.ndarray | None = None
) -> tuple[Shape, list[Corner]]:
    """Covers a picture, (width, height), and a margin around it, with fewest pixels.

    Args:
      size: width and height.
      places: x and y of what has to be covered, float [N, 2]; None for all.

    Returns:
      A shape, and the left and top of each tile of it, in pixels of the picture.
    """

    def corners(shape: Shape) -> list[Corner] | None:
        """Returns those of the tiles to use; None if such tiles cannot overlap."""
        rows, columns = _starts(size[1], shape[0]), _starts(size[0], shape[1])
        if len(rows) * len(columns) > 1 and places is not None:
            return _showing(places, rows, columns, shape)
        return [(left, top) for top in rows for left in columns] or None

    def cost(shape: Shape) -> float:
        chosen = covers[shape]
        each = math.prod(shape) + _PER_TILE
        return math.inf if chosen is None else len(chosen) * each

    covers = {shape: corners(shape) for shape in SHAPES}
    best = min(SHAPES, key=cost)
    return best, covers[best] or []


def _showing(
    places: np.ndarray, rows: list[int], columns: list[int], shape: Shape
) -> list[Corner]:
    """Returns the corners of tiles that show a place, of float [N, 2].

    Each place is looked up: of a large picture, few of many tiles show any.
    """
    shown: set[tuple[int, int]] = set()
    for x, y in places.tolist():
        down, across = _around(y, rows, shape[0]), _around(x, columns, shape[1])
        shown.update((top, left) for top in down for left in across)
    return [(left, top) for top, left in sorted(shown)]


def _around(place: float, starts: list[int], size: int) -> list[int]:
    """Returns those starts of tiles, in rising order, between which a place lies."""
    return starts[bisect_right(starts, place - size) : bisect_right(starts, place)]


def _starts(length: int, size: int) -> list[int]:
    """Returns where tiles begin that cover a length with a margin, and overlap.

    The list is empty if tiles of this size are too small to overlap.
    """
    length += 2 * MARGIN
    if length <= size:
        return [-MARGIN]
    if size <= OVERLAP:
        return []
    count = math.ceil((length - OVERLAP) / (size - OVERLAP))
    return [round(k * (length - size) / (count - 1)) - MARGIN for k in range(count)]


def with_writing(
    image: Image.Image, corners: Sequence[Corner], shape: Shape
) -> list[Corner]:
    """Returns the corners of those tiles of a picture that show more than paper."""
    small = np.asarray(image.reduce(2)).astype(np.int16)
    steps = [np.abs(np.diff(small, axis=axis)).ravel() for axis in (0, 1)]
    noise = float(np.median(np.concatenate(steps)))
    # Noise alone differs by some nine deviations, which are as many medians of steps.
    least = min(PAPER_RANGE, 0.25 * np.ptp(small), max(_FAINTEST, 9 * noise))
    kept = []
    for left, top in corners:
        part = small[max(0, top) // 2 : (top + shape[0] + 1) // 2]
        part = part[:, max(0, left) // 2 : (left + shape[1] + 1) // 2]
        if np.ptp(part) >= least:
            kept.append((left, top))
    return kept


def pad(pixels: np.ndarray, shape: Shape) -> np.ndarray:
    """Puts a margin of the median of the edges around pixels; it fills a tile."""
    height, width = pixels.shape
    sides = [max(n + 2 * MARGIN, s) for n, s in zip(pixels.shape, shape, strict=True)]
    page = np.full(sides, edge_level(pixels), np.float32)
    page[MARGIN : MARGIN + height, MARGIN : MARGIN + width] = pixels
    return page


def edge_level(pixels: np.ndarray) -> float:
    """Returns the median of the outermost pixels, [H, W]."""
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    return float(np.median(np.concatenate(edges)))


def standardised(pixels: np.ndarray) -> np.ndarray:
    """As `page_task.standardise`, of one picture [H, W] before it is padded."""
    levels = pixels.astype(np.float32)
    levels -= levels.mean()
    return levels / (levels.std() + NOISE)


def with_margin(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns left, top, right and bottom around each box, int [N, 4], in a picture."""
    middle, half = boxes[:, :2], boxes[:, 2:] / 2
    margin = half + 0.2 * boxes[:, 3:]
    corners = np.concatenate([middle - margin, middle + margin + 1], 1)
    inside: np.ndarray = np.clip(corners, 0, [*shape[::-1], *shape[::-1]]).astype(int)
    return inside


def box_around(
    boxes: np.ndarray, margin: float, shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom around boxes, inside of the picture."""
    low = (boxes[:, :2] - boxes[:, 2:] / 2).min(0) - margin
    high = (boxes[:, :2] + boxes[:, 2:] / 2).max(0) + margin
    left, top = np.maximum(0, np.floor(low)).astype(int)
    right, bottom = np.minimum(shape[::-1], np.ceil(high)).astype(int)
    return left, top, right, bottom


def paint_over(image: Image.Image, boxes: np.ndarray) -> Image.Image:
    """Paints over what is in some boxes, with the paper around each."""
    levels = np.array(image)
    for left, top, right, bottom in with_margin(boxes, levels.shape):
        part = levels[top:bottom, left:right]
        if not part.size:  # a centre may be marked outside of the picture
            continue
        part[:] = edge_level(part)
    return Image.fromarray(levels)


def explained(grey: np.ndarray, boxes: np.ndarray) -> float:
    """Returns the share of a picture's contrast that lies in or near some boxes."""
    image = Image.fromarray(grey)
    image.thumbnail((256, 256), Image.Resampling.BOX, reducing_gap=2.0)
    levels = np.asarray(image, np.float32)
    contrast = np.abs(levels - np.median(levels))
    contrast[contrast < 0.25 * contrast.max()] = 0  # paper and noise
    inside = np.zeros(levels.shape, bool)
    boxes = boxes * (image.width / grey.shape[1])
    for left, top, right, bottom in with_margin(boxes, levels.shape):
        inside[top:bottom, left:right] = True
    return float(contrast[inside].sum() / max(float(contrast.sum()), 1e-6))
