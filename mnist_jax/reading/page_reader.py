"""Reads the digits of a page: a page net finds them, a digit net is asked again.

    grey [H, W] ─► PagePasses ─► boxes and classes ─► 28x28 images ─► the digit net
                                        └──────────► confidences ◄──────────┘

Everything that the page net marks as possible has a probability that it is a digit and
that its class is right. The probability that the whole text is right is the product of
those of the digits that are read, and of what is left unread being no digits.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mnist_jax.reading.digit_cuts import cut_digit
from mnist_jax.reading.lines import order_by_line
from mnist_jax.reading.page_nets import load_proposal_net
from mnist_jax.reading.page_passes import Found, PagePasses
from mnist_jax.reading.page_tiles import PAPER_RANGE

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded

# Of uint8 [N, 28, 28], white on black: probabilities [N, C]. Rows may sum to less than
# 1, where the rest is the probability that the image shows none of the classes.
Classify = Callable[[np.ndarray], np.ndarray]

# A mark is read as a digit if its score is above `READ`, and above `READ_SHARE` of the
# picture's highest score. Where the net knows the kind of writing well, digits score
# high, and a mark with half of their score is rarely one. Elsewhere digits score low.
READ, READ_SHARE = 0.36, 0.5

# Two logistic regressions on `_features`, fitted on 22,000 marks of 2,600 simulated
# pages, of images that no net was trained on: of whether a mark is a digit, and of
# whether its class is right if it is one. Marks of the 479 pages without digits counted
# four times in the first: people send more of those.
_IS_DIGIT = np.array([-0.97, 3.50, 0.09, 0.05])
_IS_RIGHT = np.array([0.20, 0.03, 0.71, 0.27])
# For each digit that is read, so many are not marked at all.
_OVERLOOKED = 0.005
_SECOND = 0.75  # weight of the digit net's log-probabilities beside the page net's
_FLOOR = 0.01  # no net is surer than that of a class being wrong


@dataclasses.dataclass(frozen=True)
class PageDigit:
    """A digit of a page.

    Attributes:
      box: left, top, right, bottom in pixels, right and bottom just outside.
      line: of text, from 0 at the top.
      image: uint8 [28, 28], what the digit net saw.
      probabilities: float64 [10]; they sum to less than 1, as it may be no digit.
    """

    box: tuple[float, float, float, float]
    line: int
    image: np.ndarray = dataclasses.field(repr=False, compare=False)
    probabilities: np.ndarray = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class PageReading:
    """What a page says.

    Attributes:
      digits: in reading order.
      certainty: the probability that nothing was left unread, 0 to 1.
    """

    digits: tuple[PageDigit, ...]
    certainty: float


class PageReader:
    """Reads pages with a page net and a digit net.

    Args:
      loaded: the page net, from `load.load_model`.
      classify: the digit net.
      page_weight: of the page net's classes, 0 to 1; see `combine`.
    """

    def __init__(
        self, loaded: "Loaded", classify: Classify, page_weight: float = 1.0
    ) -> None:
        self._passes = PagePasses(loaded, load_proposal_net)
        self._classify = classify
        self._page_weight = page_weight

    def read(self, greys: Sequence[np.ndarray]) -> list[PageReading | Exception]:
        """Reads all digits of each of some pictures.

        Args:
          greys: uint8 [H, W] each, dark on light or light on dark, from `to_grey`.

        Returns:
          What each says, or what went wrong with it.
        """
        found = self._passes.find(greys)
        whole = [f for f in found if not isinstance(f, Exception)]
        places = [
            (grey, box)
            for grey, f in zip(greys, found, strict=True)
            if not isinstance(f, Exception)
            for box in f.box
        ]
        images, seen = self._ask_again(places)
        ends = np.cumsum([len(f.score) for f in whole])[:-1]
        parts = np.split(images, ends), np.split(seen, ends)
        each = iter(zip(whole, *parts, strict=True))
        return [
            f
            if isinstance(f, Exception)
            else _to_reading(*next(each), self._page_weight)
            for f in found
        ]

    def _ask_again(
        self, places: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the image at each place, uint8 [N, 28, 28], and its classes [N, 10].

        Without ink, an image is black and its classes are 0.

        Args:
          places: a page and a box each.
        """
        images = np.zeros((len(places), 28, 28), np.uint8)
        inked = np.zeros(len(images), bool)
        for i, (grey, box) in enumerate(places):
            cut = cut_digit(grey, box)
            if cut is not None:
                images[i], inked[i] = cut, True
        seen = np.zeros((len(images), 10))
        if inked.any():
            seen[inked] = self._classify(images[inked])
        return images, seen


def _to_reading(
    found: Found, images: np.ndarray, seen: np.ndarray, page_weight: float
) -> PageReading:
    """Reads what is likely enough, and counts what is left.

    Args:
      found: N places.
      images: what was cut out there, uint8 [N, 28, 28].
      seen: what the digit net says of them, float64 [N, 10].
      page_weight: see `combine`.
    """
    probabilities = combine(found, seen, page_weight)
    is_read = found.above(READ, READ_SHARE)
    left = ~is_read & ~_inside(found, is_read)
    order, lines = order_by_line(found.box[is_read])
    digits = []
    for i, line in zip(np.flatnonzero(is_read)[order], lines, strict=True):
        x, y, width, height = map(float, found.box[i])
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        digits.append(PageDigit(box, int(line), images[i], probabilities[i]))
    unread = np.prod(1 - probabilities[left].sum(1))
    return PageReading(tuple(digits), float(unread * (1 - _OVERLOOKED) ** len(digits)))


def combine(found: Found, seen: np.ndarray, page_weight: float = 1.0) -> np.ndarray:
    """Returns the probability of each class, float64 [N, 10], from both nets.

    Rows sum to the probability that there is a digit, at most.

    Args:
      found: what the page net says.
      seen: what the digit net says of the same places, float64 [N, 10].
      page_weight: exponent of the page net's probabilities of classes. Below 1, the
        digit net decides more alone, which was adapted to a hand, say.
    """
    if not len(seen):
        return np.zeros((0, 10))
    if page_weight != 1:
        powers = found.classes**page_weight
        found = found._replace(classes=powers / powers.sum(1, keepdims=True))
    log = np.log(found.classes + _FLOOR) + _SECOND * np.log(seen + _FLOOR)
    classes = np.exp(log - log.max(1, keepdims=True))
    classes /= classes.sum(1, keepdims=True)
    chosen = classes.argmax(1)
    log_odds = _features(found, seen, chosen) @ np.stack([_IS_DIGIT, _IS_RIGHT], 1)
    is_digit, is_right = (1 / (1 + np.exp(-log_odds))).T
    right, best = is_digit * is_right, classes.max(1)
    # The likeliest class gets the fitted probability, the others their share of what
    # the nets are in doubt about.
    rest = np.minimum(is_digit - right, right * (1 - best) / best)[:, None]
    others = rest * classes / np.maximum(1 - best, 1e-9)[:, None]
    others[np.arange(len(best)), chosen] = right
    return others


def _features(found: Found, seen: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns what tells digits and right classes, float64 [N, 4]; column 0 is 1.

    Args:
      found: as for `combine`.
      seen: as for `combine`.
      chosen: int [N], the classes.
    """
    rows = np.arange(len(chosen))
    score = np.clip(found.score, 0.001, 0.999)
    named = np.clip(found.classes[rows, chosen], 0.001, 0.999)
    agreed = np.clip(seen[rows, chosen], 0.005, 0.995)
    log_odds = [np.log(p / (1 - p)) for p in (score, named, agreed)]
    return np.stack([np.ones(len(chosen)), *log_odds], 1)


def to_grey(picture: Image.Image) -> np.ndarray:
    """Makes a picture grey, so that writing differs from paper.

    Where colours differ in lightness, grey is the lightness. Where they hardly do, as
    red on green may not, it is the direction in which they differ most.

    Args:
      picture: RGB.

    Returns:
      uint8 [H, W].
    """
    small = picture.copy()
    small.thumbnail((64, 64), Image.Resampling.BOX)
    colours = np.asarray(small, np.float64).reshape(-1, 3)
    if (colours == colours[:, :1]).all():
        return np.asarray(picture.convert("L"))
    spread = np.cov(colours.T) if len(colours) > 1 else np.zeros((3, 3))
    lightness = np.array([0.299, 0.587, 0.114])
    lightness /= np.linalg.norm(lightness)
    most, directions = np.linalg.eigh(spread)
    if most[-1] < 4 * (lightness @ spread @ lightness) or most[-1] < 25:
        return np.asarray(picture.convert("L"))
    levels = np.asarray(picture, np.float32) @ directions[:, -1].astype(np.float32)
    low, high = np.percentile(levels, (0.1, 99.9))
    shares = np.clip((levels - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(shares * 255, np.uint8)


def shows_something(picture: Image.Image) -> bool:
    """Whether an RGB picture shows more than paper and noise."""
    small = picture.convert("L")
    small.thumbnail((512, 512), Image.Resampling.BOX)
    low, high = np.percentile(np.asarray(small), (0.1, 99.9))
    return bool(high - low > PAPER_RANGE)


def _inside(found: Found, which: np.ndarray) -> np.ndarray:
    """Whether the centre of each box is well inside of another one of some."""
    others = found.box[which]
    away = np.abs(found.box[:, None, :2] - others[None, :, :2])
    within: np.ndarray = (away < 0.35 * others[None, :, 2:]).all(-1)
    return within.any(1)
