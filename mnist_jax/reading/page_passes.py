"""Runs the page net on a picture: at rising scales, until it finds digits.

    grey [H, W] ─► rising scales ─► digits ─► the scale at which they are 36 pixels high

The net has learned digits of 10 to 100 pixels, most of 20 to 48, and is best at 36. So
a picture is first reduced to a shorter side of 48 pixels, then to twice that and so on,
until nothing more is found. Where digits are not about 36 pixels high, the part of the
picture that holds them is read once more, at the scale at which they are.
"""

import collections
import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from mnist_jax.models.page_net import NOISE
from mnist_jax.reading.page_points import Points, find_points
from mnist_jax.reading.page_tiles import (
    MARGIN,
    OVERLAP,
    Corner,
    Shape,
    choose_tiles,
    edge_level,
    pad,
    with_writing,
)

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded

# Pixels of a call: tiles of one shape are marked together. A call has either that many
# tiles or one, so that each shape compiles twice at most.
_CALL = 2**16
_MARGIN_AGAIN = 0.35  # heights around digits that are read once more
_HEIGHT = 36  # pixels; of a digit where the net reads best
_NEAR = 1.3  # heights within this factor of `_HEIGHT` need no second pass
_FIRST = 48  # pixels that the shorter side has in the first pass
_LARGEST = 4.0  # most that a picture is enlarged
_ENLARGED_AREA = 432 * 464  # pixels; larger pictures are not enlarged
_LOWEST = 8  # pixels; nothing can be read on a lower strip
_SPREAD = 0.45  # of the logarithm of heights that fit
_EXPLAINED = 0.9  # share of all contrast that is in digits, where nothing else is
_POSSIBLE = 0.1  # a centre that is likelier is kept
_SURE = 0.5  # a centre that is likelier ends the search for scales
_SAME = 0.6  # share of the smaller of two boxes that both have, if of one digit
_EARLIER = 0.5  # weight of what an earlier pass says, beside the last one
_SIZES = 2.0  # digits whose heights differ by more are read at scales of their own


class Found(NamedTuple):
    """What may be digits: N places of a picture."""

    box: np.ndarray  # float64 [N, 4]: centre x, centre y, width, height, in pixels
    score: np.ndarray  # float64 [N]: how likely a digit's centre is there
    classes: np.ndarray  # float64 [N, 10]: probabilities of the classes
    fit: np.ndarray  # float64 [N]: the score, less where the net sees it small or large
    scale: np.ndarray  # float64 [N]: at which it was found

    def pick(self, which: np.ndarray) -> "Found":
        """Returns those that a mask or an array of indices selects."""
        return Found(*(values[which] for values in self))


class PagePasses:
    """Finds digits in pictures with a page net.

    Args:
      loaded: from `load.load_model`, of the task "pages".
    """

    def __init__(self, loaded: "Loaded") -> None:
        def points(variables: Any, pictures: jax.Array) -> Points:
            outputs: Any = loaded.model.apply(variables, pictures)
            places = outputs.shape[1] * outputs.shape[2]
            return find_points(outputs, min(256, places // 16))

        self._points = jax.jit(points)
        self._variables = loaded.variables

    def find(self, greys: Sequence[np.ndarray]) -> list[Found | Exception]:
        """Finds what may be digits in each of some pictures, all at the same time.

        Args:
          greys: uint8 [H, W] each, dark on light or light on dark.

        Returns:
          What was found in each, or what went wrong with it.
        """
        results: dict[int, Found | Exception] = {}
        searches = dict(enumerate(map(_search, greys)))
        answers: dict[int, list[Found] | None] = dict.fromkeys(searches)
        while searches:
            wanted: dict[int, list[np.ndarray]] = {}
            for i, search in list(searches.items()):
                try:
                    wanted[i] = search.send(answers[i])  # type: ignore[arg-type]
                except StopIteration as end:
                    results[i] = end.value
                except Exception as error:  # the other pictures are read nevertheless
                    results[i] = error
                if i in results:
                    del searches[i]
            marked = iter(self._mark([tile for i in searches for tile in wanted[i]]))
            answers = {i: [next(marked) for _ in wanted[i]] for i in searches}
        return [results[i] for i in range(len(greys))]

    def _mark(self, tiles: Sequence[np.ndarray]) -> list[Found]:
        """Runs the net on tiles, float32 [h, w] of `SHAPES`; those of a shape together.

        Boxes are in pixels of the tile.
        """
        marked: dict[int, Found] = {}
        of_shape: dict[Shape, list[int]] = collections.defaultdict(list)
        for i, tile in enumerate(tiles):
            of_shape[tile.shape].append(i)
        for shape, places in of_shape.items():
            size = max(1, _CALL // math.prod(shape))
            together = len(places) // size * size
            calls = [places[k : k + size] for k in range(0, together, size)]
            for call in calls + [[place] for place in places[together:]]:
                batch = np.stack([tiles[i] for i in call])[..., None]
                points = jax.device_get(self._points(self._variables, batch))
                marked |= zip(call, map(_likely, *points), strict=True)
        return [marked[i] for i in range(len(tiles))]


# What looks for digits in a picture: it yields tiles, float32 [h, w] of `SHAPES`, and
# is sent what the net marks on each of them.
Search = Generator[list[np.ndarray], list[Found], Found]


def _search(grey: np.ndarray) -> Search:
    """Looks for digits in a picture, uint8 [H, W]."""
    found, is_fine = _nothing(), False
    for scale in _scales(grey.shape):
        sure = found.score > _SURE
        # An enlarged picture shows no more than its own pixels did.
        if sure.any() and (is_fine or _explained(grey, found.box[sure]) > _EXPLAINED):
            break
        is_fine = scale >= 1
        # A digit that is seen at several scales counts where it fits best. What would
        # fit better at this one than where it was found, and is not seen, is none.
        stays = abs(_misfit(found, scale)) > abs(_misfit(found, found.scale))
        seen = yield from _at_scale(grey, scale, found.box[sure & stays])
        fit = seen.score * np.exp(-0.5 * (_misfit(seen, scale) / _SPREAD) ** 2)
        seen = seen._replace(fit=fit)
        found = without_doubles(_join([found.pick(stays), seen]))
        is_new = (found.scale == scale) & (found.score > _SURE)
        if sure.any() and not is_new.any():
            break
    return (yield from _look_again(grey, found))


def _look_again(grey: np.ndarray, found: Found) -> Search:
    """Reads digits once more whose height was not what the net reads best."""
    parts = []
    for group in _by_height(found):
        likely = group.fit >= min(_SURE, group.fit.max())
        height = float(np.median(group.box[likely, 3]))
        seen = height * group.scale[likely] / _HEIGHT
        if seen.min() > 1 / _NEAR and seen.max() < _NEAR:
            parts.append(group)
            continue
        margin = _MARGIN_AGAIN * height
        left, top, right, bottom = _around(group.box, margin, grey.shape)
        part = grey[top:bottom, left:right]
        again = yield from _at_scale(part, _HEIGHT / height, known=np.zeros((0, 4)))
        again.box[:, :2] += left, top
        ratio = again.box[:, 3] / height
        again = again.pick((ratio > 1 / _SIZES) & (ratio < _SIZES))
        parts.append(_with_opinions(again, group))
    return without_doubles(_join(parts))


def _at_scale(grey: np.ndarray, scale: float, known: np.ndarray) -> Search:
    """Finds digits in a picture that is first reduced or enlarged.

    Args:
      grey: uint8 [H, W].
      scale: how much.
      known: boxes [N, 4] of digits; where only these are, it does not look.
    """
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    image = Image.fromarray(grey)
    if image.size != tuple(size):
        # Box first: it is fast, and what follows still has twice the pixels.
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    shape, corners = choose_tiles(size)
    if len(corners) > 1 or len(known):
        corners = with_writing(_paint_over(image, known * scale), corners, shape)
    page = pad(standardised(np.asarray(image)), shape)
    tiles = [
        page[top + MARGIN :, left + MARGIN :][: shape[0], : shape[1]]
        for left, top in corners
    ]
    parts = []
    for found, corner in zip((yield tiles), corners, strict=True):
        found.box[:, :2] += corner
        parts.append(_whole_ones(without_doubles(found), corner, shape, size))
    found = without_doubles(_join(parts))
    found.box[:] *= np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]] * 2)
    return found._replace(scale=np.full(len(found.score), scale))


def _paint_over(image: Image.Image, boxes: np.ndarray) -> Image.Image:
    """Paints over what is in some boxes, with the paper around each."""
    levels = np.array(image)
    for left, top, right, bottom in _with_margin(boxes, levels.shape):
        part = levels[top:bottom, left:right]
        if not part.size:  # a centre may be marked outside of the picture
            continue
        part[:] = edge_level(part)
    return Image.fromarray(levels)


def _likely(score: np.ndarray, box: np.ndarray, classes: np.ndarray) -> Found:
    """Takes what may be digits from the points of a tile, [K, ...] each."""
    which = score > _POSSIBLE
    box, score, classes = (v[which].astype(np.float64) for v in (box, score, classes))
    return Found(box, score, classes, fit=score, scale=np.ones(len(score)))


def standardised(pixels: np.ndarray) -> np.ndarray:
    """As `page_task.standardise`, of one picture [H, W] before it is padded."""
    levels = pixels.astype(np.float32)
    levels -= levels.mean()
    return levels / (levels.std() + NOISE)


def without_doubles(found: Found) -> Found:
    """Drops boxes that mostly cover one that fits better; the best come first."""
    if len(found.score) < 2:
        return found
    found = found.pick(np.argsort(-found.fit, kind="stable"))
    kept: list[int] = []
    for i in range(len(found.score)):
        if not (_covered(found.box[[i]], found.box[kept]) > _SAME).any():
            kept.append(i)
    return found.pick(np.array(kept, int))


def _with_opinions(found: Found, before: Found) -> Found:
    """Takes the mean of scores, and joins classes, with those of an earlier pass.

    The classes of the same digit there count as another witness's: log-probabilities
    are added.

    Args:
      found: of the last pass, which says where they are.
      before: of passes at other scales.
    """
    shared = _covered(found.box, before.box)  # [N, M]
    if not shared.size:
        return found
    same = shared.argmax(1)
    weight = np.where(shared.max(1) > _SAME, _EARLIER, 0)
    score = (found.score + weight * before.score[same]) / (1 + weight)
    log = np.log(found.classes + 1e-6)
    log += weight[:, None] * np.log(before.classes[same] + 1e-6)
    classes = np.exp(log - log.max(1, keepdims=True))
    classes /= classes.sum(1, keepdims=True)
    return found._replace(score=score, fit=score, classes=classes)


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which share of the smaller one two boxes have in common: [N, M]."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    left, right = others[:, :2] - others[:, 2:] / 2, others[:, :2] + others[:, 2:] / 2
    shared = np.minimum(high[:, None], right) - np.maximum(low[:, None], left)
    areas = np.minimum(boxes[:, 2:].prod(1)[:, None], others[:, 2:].prod(1))
    covered: np.ndarray = np.maximum(shared, 0).prod(2) / np.maximum(areas, 1e-9)
    return covered


def _misfit(found: Found, scale: float | np.ndarray) -> np.ndarray:
    """Returns the logarithm of heights at a scale, as multiples of the best one."""
    heights: np.ndarray = np.maximum(found.box[:, 3] * scale, 1) / _HEIGHT
    return np.log(heights)


def _nothing() -> Found:
    return Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 10)), *[np.zeros(0)] * 2)


def _join(parts: list[Found]) -> Found:
    parts = parts or [_nothing()]
    return Found(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _scales(shape: tuple[int, ...]) -> list[float]:
    """Returns scales to look for digits at, the coarsest first."""
    area, side = math.prod(shape), min(shape)
    largest = min(_LARGEST, (_ENLARGED_AREA / area) ** 0.5)
    largest = largest if largest > 2**0.5 else 1.0
    scales = [min(_FIRST / side, largest)]
    while scales[-1] < largest:
        scale = min(2 * scales[-1], largest)
        # The picture's own pixels are not passed over.
        scales.append(1.0 if 0.5**0.5 < scale < 2**0.5 else scale)
    return [scale for scale in scales if scale * side >= _LOWEST]


def _explained(grey: np.ndarray, boxes: np.ndarray) -> float:
    """Returns the share of a picture's contrast that lies in or near some boxes."""
    image = Image.fromarray(grey)
    image.thumbnail((256, 256), Image.Resampling.BOX, reducing_gap=2.0)
    levels = np.asarray(image, np.float32)
    contrast = np.abs(levels - np.median(levels))
    contrast[contrast < 0.25 * contrast.max()] = 0  # paper and noise
    inside = np.zeros(levels.shape, bool)
    boxes = boxes * (image.width / grey.shape[1])
    for left, top, right, bottom in _with_margin(boxes, levels.shape):
        inside[top:bottom, left:right] = True
    return float(contrast[inside].sum() / max(float(contrast.sum()), 1e-6))


def _with_margin(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns left, top, right and bottom around each box, int [N, 4], in a picture."""
    middle, half = boxes[:, :2], boxes[:, 2:] / 2
    margin = half + 0.2 * boxes[:, 3:]
    corners = np.concatenate([middle - margin, middle + margin + 1], 1)
    inside: np.ndarray = np.clip(corners, 0, [*shape[::-1], *shape[::-1]]).astype(int)
    return inside


def _by_height(found: Found) -> list[Found]:
    """Divides what was found where heights leap by more than a factor."""
    found = found.pick(np.argsort(found.box[:, 3]))
    heights = found.box[:, 3]
    groups, start = [], 0
    for end in range(1, len(heights) + 1):
        if end == len(heights) or heights[end] > _SIZES * np.median(heights[start:end]):
            groups.append(found.pick(np.arange(start, end)))
            start = end
    return groups


def _around(
    boxes: np.ndarray, margin: float, shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom around boxes, inside of the picture."""
    low = (boxes[:, :2] - boxes[:, 2:] / 2).min(0) - margin
    high = (boxes[:, :2] + boxes[:, 2:] / 2).max(0) + margin
    left, top = np.maximum(0, np.floor(low)).astype(int)
    right, bottom = np.minimum(shape[::-1], np.ceil(high)).astype(int)
    return left, top, right, bottom


def _whole_ones(
    found: Found, corner: Corner, shape: Shape, size: Sequence[int]
) -> Found:
    """Drops boxes that an inner edge of a tile may cut; another tile has them whole."""
    kept = np.ones(len(found.score), bool)
    for axis in (0, 1):
        start, end = corner[axis], corner[axis] + shape[1 - axis]
        centre = found.box[:, axis]
        if start > 0:
            kept &= centre > start + OVERLAP / 4
        if end < size[axis]:
            kept &= centre < end - OVERLAP / 4
    return found.pick(kept)
