"""Runs the page net on a picture: at rising scales, until it finds digits.

    grey [H, W] ─► rising scales ─► digits ─► the scale at which they are 36 pixels high

The net has learned digits of 10 to 100 pixels, most of 20 to 48, and is best at 36. So
a picture is first reduced to a shorter side of 48 pixels, then to twice that and so on,
until nothing more is found. Where digits are not about 36 pixels high, the part of the
picture that holds them is read once more, at the scale at which they are.

Of a picture that takes several tiles, only those are looked at in which a smaller net,
which sees it at a quarter of its size, proposes a digit of any size.
"""

import collections
import functools
import math
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from mnist_jax.reading.page_points import find_points
from mnist_jax.reading.page_tiles import (
    MARGIN,
    OVERLAP,
    Corner,
    Shape,
    box_around,
    choose_tiles,
    explained,
    pad,
    paint_over,
    standardised,
    with_writing,
)
from mnist_jax.run.saved_programs import SavedProgram

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
# The page net looks at a place whose score from the proposal net is above `_PROPOSED`,
# and above `_PROPOSED_SHARE` of the highest one. On faint pages all scores are low.
_PROPOSED, _PROPOSED_SHARE = 0.1, 0.25
_REDUCED = 0.25  # of a picture's size, where the proposal net looks
_LOWEST = 8  # pixels; nothing can be read on a lower strip
_SPREAD = 0.45  # of the logarithm of heights that fit
_EXPLAINED = 0.97  # share of all contrast that is in digits, where nothing else is
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

    def above(self, least: float, share: float) -> np.ndarray:
        """Tells whose score is above `least`, and above a share of the highest one."""
        above: np.ndarray = self.score > max(least, share * self.score.max(initial=0))
        return above


# What looks for digits in a picture: it yields tiles, float32 [h, w] of `SHAPES`, and
# is sent what the net marks on each of them.
Search = Generator[list[np.ndarray], list[Found], Found]


class PagePasses:
    """Finds digits in pictures with a page net.

    Args:
      loaded: from `load.load_model`, of the task "pages".
      load_proposals: loads a net of the task "page_proposals". It is called once a
        large picture comes.
    """

    def __init__(
        self, loaded: "Loaded", load_proposals: Callable[[], "Loaded"]
    ) -> None:
        self._points, self._load_proposals = _to_points(loaded), load_proposals

    @functools.cached_property
    def _proposals(self) -> SavedProgram:
        return _to_points(self._load_proposals())

    def find(self, greys: Sequence[np.ndarray]) -> list[Found | Exception]:
        """Finds what may be digits in each of some pictures, all at the same time.

        Args:
          greys: uint8 [H, W] each, dark on light or light on dark.

        Returns:
          What was found in each, or what went wrong with it.

        Raises:
          CheckpointError: the proposal net cannot be loaded.
        """
        large = [i for i, grey in enumerate(greys) if _takes_several(grey.shape)]
        proposals: dict[int, Found | Exception] = {}
        if large:
            looks = {i: _propose(greys[i]) for i in large}
            proposals = _search_all(looks, self._proposals)
        results = _search_all(
            {i: _search(grey, proposals.get(i)) for i, grey in enumerate(greys)},
            self._points,
        )
        return [results[i] for i in range(len(greys))]


def _search_all(
    searches: dict[int, Search], points: SavedProgram
) -> dict[int, Found | Exception]:
    """Goes on with searches until each has ended, and returns what they found."""
    results: dict[int, Found | Exception] = {}
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
        marked = iter(_mark([tile for i in searches for tile in wanted[i]], points))
        answers = {i: [next(marked) for _ in wanted[i]] for i in searches}
    return results


def _to_points(loaded: "Loaded") -> SavedProgram:
    """Returns what maps tiles, float32 [B, h, w, 1], to the fields of `Points`."""

    def points(variables: Any, tiles: jax.Array) -> tuple[jax.Array, ...]:
        outputs: Any = loaded.model.apply(variables, tiles)
        places = outputs.shape[1] * outputs.shape[2]
        return tuple(find_points(outputs, min(256, places // 16)))

    key = loaded.program_key
    return SavedProgram(points, loaded.variables, key and f"points {key}")


def _mark(tiles: Sequence[np.ndarray], points: SavedProgram) -> list[Found]:
    """Runs a net on tiles, float32 [h, w] of `SHAPES`; those of a shape together.

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
            marks = jax.device_get(points(batch))
            marked |= zip(call, map(_likely, *marks), strict=True)
    return [marked[i] for i in range(len(tiles))]


def _takes_several(shape: tuple[int, ...]) -> bool:
    """Whether a picture, [H, W], takes several tiles."""
    return len(choose_tiles(shape[::-1])[1]) > 1


def _propose(grey: np.ndarray) -> Search:
    """Looks for what may be digits, of 10 to 400 pixels."""
    found = yield from _at_scale(grey, _REDUCED, np.zeros((0, 4)))
    return found.pick(found.above(_PROPOSED, _PROPOSED_SHARE))


def _search(grey: np.ndarray, proposed: Found | Exception | None) -> Search:
    """Looks for digits in a picture, uint8 [H, W].

    Args:
      grey: the picture.
      proposed: what may be digits, if it takes several tiles; those without any are
        passed over.
    """
    if isinstance(proposed, Exception):
        raise proposed
    places = None if proposed is None else proposed.box
    found, is_fine = _nothing(), False
    for scale in _scales(grey.shape):
        sure = found.score > _SURE
        # An enlarged picture shows no more than its own pixels did.
        if sure.any() and (is_fine or explained(grey, found.box[sure]) > _EXPLAINED):
            break
        is_fine = scale >= 1
        # A digit that is seen at several scales counts where it fits best. What would
        # fit better at this one than where it was found, and is not seen, is none.
        stays = abs(_misfit(found, scale)) > abs(_misfit(found, found.scale))
        seen = yield from _at_scale(grey, scale, found.box[sure & stays], places)
        fit = seen.score * np.exp(-0.5 * (_misfit(seen, scale) / _SPREAD) ** 2)
        seen = seen._replace(fit=fit)
        found = without_doubles(_join([found.pick(stays), seen]))
        sure = found.score > _SURE
        if sure.any() and not (found.scale[sure] == scale).any():
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
        left, top, right, bottom = box_around(group.box, margin, grey.shape)
        part = grey[top:bottom, left:right]
        again = yield from _at_scale(part, _HEIGHT / height, known=np.zeros((0, 4)))
        again.box[:, :2] += left, top
        ratio = again.box[:, 3] / height
        again = again.pick((ratio > 1 / _SIZES) & (ratio < _SIZES))
        parts.append(_with_opinions(again, group))
    return without_doubles(_join(parts))


def _at_scale(
    grey: np.ndarray,
    scale: float,
    known: np.ndarray,
    proposed: np.ndarray | None = None,
) -> Search:
    """Finds digits in a picture that is first reduced or enlarged.

    Args:
      grey: uint8 [H, W].
      scale: how much.
      known: boxes [N, 4] of digits; where only these are, it does not look.
      proposed: boxes [M, 4]; where it takes several tiles, it looks at these alone.
    """
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    places = None if proposed is None else proposed[:, :2] * scale
    shape, corners = choose_tiles(size, places)
    if not corners:
        return _nothing()
    image = Image.fromarray(grey)
    if image.size != tuple(size):
        # Box first: it is fast, and what follows still has twice the pixels.
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    if len(corners) > 1 or len(known):
        corners = with_writing(paint_over(image, known * scale), corners, shape)
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


def _likely(score: np.ndarray, box: np.ndarray, classes: np.ndarray) -> Found:
    """Takes what may be digits from the points of a tile, [K, ...] each."""
    which = score > _POSSIBLE
    box, score, classes = (v[which].astype(np.float64) for v in (box, score, classes))
    return Found(box, score, classes, fit=score, scale=np.ones(len(score)))


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
