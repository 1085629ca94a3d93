"""Tells ink from paper in a picture: from colours to a map of ink.

    _contrast    how far each pixel is from paper, in the light there
    _level       soft shadows taken away
    _unrule      ruled and squared lines taken away
    _surround    tables and frames around the paper taken away
    _to_ink      a threshold, and specks taken away

Each stage looks at the picture alone: nothing is learned, and no stage knows digits.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_jax.errors import ArgumentError, PictureError
from mnist_jax.reading.reduction import reduced_size

MIN_CONTRAST = 0.06  # of ink with paper; black on white has 1
_INKED = 0.35  # share of full ink that makes a stroke
_FAINT, _SOLID = 0.05, 0.9  # shares that become 0 and 1 in and beside a stroke
_WORKING = 640  # pixels: larger pictures are reduced to it
# Doubts of clear writing, of what may be some, and of what is none. Of 1,300 pictures
# that were read right, half had less than 0.23, and 99.5 % less than 1.45.
_CLEAR, _UNCLEAR, _HOPELESS = 0.25, 0.7, 3.0
_WEAK = 0.25  # contrast that a texture may have
_TINY, _SMALL = 24, 64  # pixels: pictures with few that tell light, lines and frames
_EVERY_SIDE = np.ones((3, 3), bool)  # neighbours


class BlankError(PictureError):
    """A picture with no ink in it."""


def find_ink(picture: Image.Image) -> np.ndarray:
    """Tells ink from paper.

    Args:
      picture: RGB, dark on light or light on dark.

    Returns:
      float32 [H, W] from 0, paper, to 1, ink: all that is written, of however many
      digits, and no ruled lines, frames, shadows and specks.

    Raises:
      BlankError: there is no ink.
      ArgumentError: the picture is not RGB.
    """
    ink = Image.fromarray(ink_stages(picture)["ink"])
    if ink.size == picture.size:
        return np.asarray(ink)
    enlarged = ink.resize(picture.size, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged), 0, 1)


def ink_stages(picture: Image.Image) -> dict[str, np.ndarray]:
    """What `find_ink` goes through: maps float32 [h, w], of which the last is "ink".

    Large pictures are reduced, and enlarged ones brought back to their own pixels.
    """
    if picture.mode != "RGB":
        raise ArgumentError(f"a picture must be RGB, as from read_picture: {picture!r}")
    picture = _own_pixels(picture)
    if (size := reduced_size(picture.size, _WORKING)) != picture.size:
        picture = picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    likely, sure = _darker(picture)
    best: dict[str, np.ndarray] = {}
    doubt = np.inf
    for widest, sloped, enough in _rounds(max(picture.size), sure):
        inked = doubt <= enough
        for darker in (likely, ~likely):
            if doubt > enough:
                stages = _stages(picture, darker, widest, sloped)
                inked |= bool(stages)
                # The likelier ones come first; only what is clearly better counts.
                if stages and (other := _doubt(stages)) < 0.8 * doubt:
                    best, doubt = stages, other
        if not inked and sloped:  # nor was it before, but for the slope of the light
            doubt = np.inf
    if doubt > _HOPELESS:
        raise BlankError("is blank: no ink stands out from the paper")
    return best


def _rounds(side: int, sure: bool) -> list[tuple[float | None, bool, float]]:
    """What to try in turn: `widest` and `sloped` of `_stages`.

    Each comes with the doubt that is low enough to do without it. The paper of small
    pictures is mostly of one tone, and their strokes may be as wide as anything.
    """
    clear = 2 * _CLEAR if sure else _CLEAR
    if side < _TINY:
        return [(None, False, clear)]
    uneven = [(0.5, True, _UNCLEAR), (0.25, True, 2 * _UNCLEAR)]
    if side < _SMALL:
        return [(None, False, clear), (0.5, False, 1.0), *uneven]
    return [(0.5, False, clear), *uneven]


def _own_pixels(picture: Image.Image) -> Image.Image:
    """Undoes an enlargement that made a square of each pixel."""
    levels = np.asarray(picture)
    steps = [
        np.flatnonzero((np.diff(levels, axis=axis) != 0).any(tuple({0, 1, 2} - {axis})))
        for axis in (0, 1)
    ]
    scale = int(
        np.gcd.reduce(np.concatenate([*[s + 1 for s in steps], levels.shape[:2]]))
    )
    if scale < 2:
        return picture
    return picture.resize(
        (picture.width // scale, picture.height // scale), Image.Resampling.NEAREST
    )


def _stages(
    picture: Image.Image, darker: np.ndarray, widest: float | None, sloped: bool
) -> dict[str, np.ndarray] | None:
    """The stages if ink is darker than paper in some colours, and lighter in others.

    None if there is no ink then. No stroke is wider than `widest`, as a share of the
    picture's longer side; if that is None, all paper is of one tone. With `sloped`, the
    light may fall off to one side.
    """
    contrast = _contrast(picture, darker, widest, sloped)
    stages = {"contrast": contrast}
    if max(picture.size) < _TINY:
        ink = np.clip(contrast / max(float(contrast.max()), 1e-6), 0, 1)
    else:
        if widest is not None:
            contrast = _surround(_unrule(_level(contrast)))
            contrast = stages["levelled"] = _level(contrast)
        ink = _to_ink(contrast)
    stages["ink"] = ink
    return None if _is_blank(contrast, ink) else stages


def _to_ink(contrast: np.ndarray) -> np.ndarray:
    """A threshold with a soft ramp, and no specks: float32 [H, W] in [0, 1]."""
    base, _ = _base_and_noise(contrast)
    contrast = contrast - base
    contrast = contrast / max(_full(contrast), 1e-6)
    share = np.clip((contrast - _FAINT) / (_SOLID - _FAINT), 0, 1)
    return (_strokes(contrast) * share).astype(np.float32)


def _is_blank(contrast: np.ndarray, ink: np.ndarray) -> bool:
    """Whether what was found is but grain or texture of the paper."""
    base, noise = _base_and_noise(contrast)
    full = _full(contrast) - base
    if full < MIN_CONTRAST:
        return True
    if full > _WEAK or max(contrast.shape) < _TINY:
        return False
    if full < 6 * noise:
        return True
    pieces, _ = ndimage.label(ink > 0, _EVERY_SIDE)
    mass = np.bincount(pieces.ravel(), contrast.ravel() - base)[1:]
    largest = ndimage.find_objects(pieces)[int(np.argmax(mass))]
    size = max(side.stop - side.start for side in largest)
    every = (contrast - base)[contrast - base > _INKED * full].sum()
    return bool(size < 0.1 * max(contrast.shape) or mass.max() < 0.25 * every)


def _stroke_width(ink: np.ndarray) -> float:
    """Pixels, more of the wider strokes than of the others.

    In a stroke, distances from the edge are spread evenly up to half its width.
    """
    strong = ink > 0.65  # which shadows are not
    distance = ndimage.distance_transform_edt(strong)[strong] - 0.5
    return float(np.sqrt(12 * np.mean(distance**2))) + 1 if strong.any() else 1.0


def _doubt(stages: dict[str, np.ndarray]) -> float:
    """How unlike writing it is, about 0.2 for writing and 1 for what lies between.

    Strokes are long for their width, few lie at the border, and they stand out.
    """
    ink = stages["ink"]
    border = np.concatenate([ink[[0, -1]].ravel(), ink[:, [0, -1]].ravel()]) > 0.5
    boxes = ndimage.find_objects((ink > 0.5).astype(np.uint8))
    if not boxes:
        return np.inf
    step = max(side.stop - side.start for side in boxes[0]) // 100 + 1
    mask = ndimage.maximum_filter(ink[boxes[0]], step)[::step, ::step] > 0.5
    pieces, _ = ndimage.label(np.pad(mask, 1), _EVERY_SIDE)
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    box = ndimage.find_objects(pieces)[largest - 1]
    length = max(side.stop - side.start for side in box)
    width = 4 * ndimage.distance_transform_edt(pieces)[pieces == largest].mean()
    contrast = stages.get("levelled", stages["contrast"])
    level = float(np.median(contrast[stages["ink"] > 0.5]))
    return (width / length + border.mean()) / np.clip(level, 0.1, 1)


# The paper.


def _small(picture: Image.Image) -> np.ndarray:
    small = picture.copy()
    small.thumbnail((64, 64), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _darker(picture: Image.Image) -> tuple[np.ndarray, bool]:
    """In which colours ink is likely darker than paper, bool [3]; and whether surely.

    Of the two tones of a picture, paper has the corners, the border and most of the
    area: two of the three will do.
    """
    colours = _small(picture)
    difference = colours - colours.mean((0, 1))
    flat = difference.reshape(-1, 3)
    tones = difference @ np.linalg.eigh(flat.T @ flat)[1][:, -1]
    high = tones > _otsu(tones)
    if not high.any():
        return np.ones(3, bool), False
    height, width = high.shape
    border = np.concatenate([high[[0, -1]].ravel(), high[:, [0, -1]].ravel()])
    down, across = max(1, height // 10), max(1, width // 10)
    corners = np.concatenate([high[:down], high[-down:]])
    corners = np.concatenate([corners[:, :across], corners[:, -across:]])
    votes = float(border.mean() + corners.mean() + high.mean())
    paper = high == (votes > 1.5)
    return colours[paper].mean(0) >= colours[~paper].mean(0), abs(votes - 1.5) > 1.2


def _otsu(levels: np.ndarray) -> float:
    """The threshold that parts levels best (N. Otsu, 1979)."""
    ordered = np.sort(levels, axis=None)
    count = np.arange(1, len(ordered))
    if not len(count):
        return float(ordered[0])
    low = np.cumsum(ordered)[:-1]
    mean_low, mean_high = low / count, (ordered.sum() - low) / count[::-1]
    best = int(np.argmax(count * count[::-1] * (mean_high - mean_low) ** 2))
    return float((ordered[best] + ordered[best + 1]) / 2)


def _contrast(
    picture: Image.Image, darker: np.ndarray, widest: float | None, sloped: bool
) -> np.ndarray:
    """How far each pixel is from paper, towards the ink's colour: float32 [H, W].

    That colour is the mean of the differences, the largest counting most, so red ink
    shows as well as black. Where ink is darker, it is a share of the paper's light,
    so that it is as black in shadow.
    """
    colours = _smooth(np.asarray(picture, np.float32) / 255)
    if sloped and min(picture.size) >= _TINY:
        colours = colours / _slope(picture)
    difference = np.empty_like(colours)
    for channel, dark in enumerate(darker):
        levels = colours[..., channel]
        paper = _paper(levels, bool(dark), widest)
        away = (paper - levels) / np.maximum(paper, 0.1) if dark else levels - paper
        difference[..., channel] = away
    weights = np.sum(difference**2, axis=-1, keepdims=True) ** 1.5
    direction = np.maximum((weights * difference).sum((0, 1)), 0)
    # Black on white has a contrast of 1, not the square root of 3.
    return difference @ (direction / (float(np.linalg.norm(direction)) or 1) / 3**0.5)


def _slope(picture: Image.Image) -> np.ndarray:
    """How light falls off to one side, alike in all colours: [H, W, 1], mean 1.

    A plane through the tones of a small copy, fitted to their absolute differences (by
    iteratively reweighted least squares), so ink does not tilt it.
    """
    tones = _small(picture).mean(-1)
    y, x = (np.linspace(-1, 1, side) for side in tones.shape)
    y, x = (part.ravel() for part in np.meshgrid(y, x, indexing="ij"))
    terms = np.stack([np.ones_like(x), y, x], axis=-1)
    fitted = np.full(tones.size, np.median(tones))
    for _ in range(8):
        weights = 1 / np.maximum(np.abs(tones.ravel() - fitted), 0.02)[:, None]
        plane = np.linalg.solve(
            terms.T @ (weights * terms), terms.T @ (weights[:, 0] * tones.ravel())
        )
        fitted = terms @ plane
    if plane[0] < 0.25:  # of what is dark, light says little
        return np.ones((1, 1, 1), np.float32)
    _, down, across = plane / plane[0]
    y, x = np.linspace(-1, 1, picture.height), np.linspace(-1, 1, picture.width)
    light = np.maximum(1 + down * y[:, None] + across * x, 0.3)
    return light[..., None].astype(np.float32)


def _paper(levels: np.ndarray, dark: bool, widest: float | None) -> np.ndarray:
    """The level of the paper at each pixel [H, W], in the light that falls on it.

    What a square wider than any stroke sees, wherever it fits into the picture: a
    morphological closing if ink is dark, else an opening. It follows the edges of
    shadows, as no smooth surface does.
    """
    short, long = sorted(levels.shape)
    if widest is None:
        paper = (levels > _otsu(levels)) == dark
        return np.median(levels[paper] if paper.any() else levels)
    side = max(3, round(min(widest * long, 0.9 * short)))
    size = tuple(min(side, length) for length in levels.shape)
    filters = [ndimage.grey_dilation, ndimage.grey_erosion]
    for filter_ in filters if dark else filters[::-1]:
        # So that no square that lies partly outside ever counts.
        outside = np.inf if dark else -np.inf
        levels = filter_(levels, size, mode="constant", cval=outside)
    return levels


def _smooth(colours: np.ndarray) -> np.ndarray:
    """Evens out grain, which only large pictures have and show no detail in."""
    sigma = min(colours.shape[:2]) / 400
    if sigma <= 0.3:
        return colours
    return ndimage.gaussian_filter(colours, (sigma, sigma, 0))


def _level(contrast: np.ndarray) -> np.ndarray:
    """Takes away what is clearly wider than the strokes, as soft shadows are."""
    size = max(3, round(3.5 * _stroke_width(_to_ink(contrast))))
    if size >= min(contrast.shape):
        return contrast
    shade = ndimage.grey_opening(contrast, (size, size))
    return (contrast - shade) / np.clip(1 - shade, 0.2, 1)


def _base_and_noise(contrast: np.ndarray) -> tuple[float, float]:
    """The contrast of paper, and the standard deviation of its grain."""
    step = contrast.size // 4096 + 1
    paper = contrast <= _otsu(contrast.ravel()[::step])
    # Between neighbours, which light and shadow leave alike.
    grain = np.diff(contrast, axis=1)[paper[:, 1:] & paper[:, :-1]]
    noise = float(np.median(np.abs(grain))) if grain.size else 0.0
    return float(np.median(contrast[paper])), 1.4826 / 2**0.5 * noise


def _full(contrast: np.ndarray) -> float:
    """The contrast of full ink: of the darkest piece that is no speck."""
    rank = contrast.size // 10_000 + 1
    highest = float(np.partition(contrast, -rank, axis=None)[-rank])
    pieces, _ = ndimage.label(contrast > _INKED * highest, _EVERY_SIDE)
    mass = np.bincount(pieces.ravel(), contrast.ravel())
    mass[0] = 0
    large = np.argsort(mass)[-10:]  # a texture has thousands
    large = large[mass[large] >= max(0.1 * mass.max(), 1e-6)]
    levels = [np.percentile(contrast[pieces == piece], 90) for piece in large]
    return float(max(levels, default=highest))


# Lines and surroundings.


def _unrule(contrast: np.ndarray) -> np.ndarray:
    """Takes away straight lines across the whole picture, nearly level or upright."""
    return _unrule_level(_unrule_level(contrast).T).T


def _unrule_level(contrast: np.ndarray) -> np.ndarray:
    """Takes away lines from the left side to the right.

    A line is a row, slanted by up to 6 degrees, of which 4 in 5 pixels stand out from
    the rows around. It is sought in a small copy, in which it may bend by a pixel.
    """
    height, width = contrast.shape
    reduce = max(1, -(-max(height, width) // 128))
    if min(height, width) // reduce < _TINY:
        return contrast
    rows = contrast[: height // reduce * reduce, : width // reduce * reduce]
    small = rows.reshape(height // reduce, reduce, -1, reduce).max((1, 3))
    _, noise = _base_and_noise(small)
    thick = ndimage.maximum_filter1d(small, 3, axis=0)
    slopes = np.tan(np.deg2rad(np.arange(-6, 7)))
    middle = (small.shape[1] - 1) / 2
    strength = np.stack([_along(thick, slope, middle) for slope in slopes])
    # More than what is a little above and below.
    around = np.pad(strength, ((0, 0), (4, 4)), mode="edge")
    strength = strength - np.maximum(around[:, :-8], around[:, 8:])
    lines: list[tuple[float, int]] = []
    least = max(4 * noise, 0.1 * _full(small), 0.03)
    while strength.max() > least and len(lines) < 40:
        which, row = np.unravel_index(np.argmax(strength), strength.shape)
        lines.append((slopes[which], int(row)))
        strength[:, max(0, row - 3) : row + 4] = 0
    return contrast if not lines else _erase(contrast, lines, reduce)


def _along(levels: np.ndarray, slope: float, middle: float) -> np.ndarray:
    """For each row [H], the level that 4 in 5 pixels along it reach."""
    height, width = levels.shape
    x = np.arange(0, width, 2)  # half of them tell as much
    y = np.arange(height)[:, None] + np.rint(slope * (x - middle)).astype(int)
    along = levels[np.clip(y, 0, height - 1), x]
    return np.partition(along, len(x) // 5, axis=1)[:, len(x) // 5]


def _erase(
    contrast: np.ndarray, lines: list[tuple[float, int]], reduce: int
) -> np.ndarray:
    """Erases lines, but not the ink that crosses them."""
    height, width = contrast.shape
    x = np.arange(width)
    erased = contrast.copy()
    for slope, row in lines:
        centre = (row + 0.5) * reduce + slope * (x - width / 2)
        reach = 2 * reduce
        near = np.rint(centre + np.arange(-reach, reach + 1)[:, None]).astype(int)
        reached = contrast[np.clip(near, 0, height - 1), x].max(0)
        level = np.percentile(reached, 30)  # digits are on less than the rest
        for column, y in zip(x, centre, strict=True):
            low, high = max(0, round(y - reach)), min(height, round(y + reach) + 1)
            if low >= high:
                continue
            above = contrast[max(0, low - 1), column]
            below = contrast[min(height - 1, high), column]
            part = contrast[low:high, column]
            # Ink that is darker than the line stays, and ink on both sides crosses.
            keep = np.where(part > 1.4 * level, part, min(above, below))
            erased[low:high, column] = np.minimum(part, np.maximum(keep, 0))
    return erased


def _surround(contrast: np.ndarray) -> np.ndarray:
    """Takes away what lies around the paper: a table's edge, a frame, a cell.

    Only if something is left; or else it is the ink itself.
    """
    base, _ = _base_and_noise(contrast)
    mask = contrast - base > _INKED * (_full(contrast) - base)
    pieces, count = ndimage.label(mask, _EVERY_SIDE)
    around = np.zeros(count + 1, bool)
    for side in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        around |= np.bincount(side, minlength=count + 1) > 0.6 * len(side)
    for index, box in enumerate(ndimage.find_objects(pieces), 1):
        around[index] |= _is_frame(pieces[box] == index, mask.shape)
    around[0] = False
    if not around.any():
        return contrast
    gone = ndimage.binary_dilation(around[pieces], _EVERY_SIDE, iterations=2)
    rest = np.where(gone, base, contrast)
    longest = max(mask.shape)
    if _full(rest) - base < max(MIN_CONTRAST, 0.15 * _full(contrast)):
        return contrast
    left, _ = ndimage.label(rest - base > _INKED * (_full(rest) - base), _EVERY_SIDE)
    sizes = [max(b.stop - b.start for b in box) for box in ndimage.find_objects(left)]
    return rest if max(sizes, default=0) > 0.12 * longest else contrast


def _is_frame(piece: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a piece, cropped to its box, is the outline of most of the picture."""
    height, width = piece.shape
    if height < 0.5 * shape[0] or width < 0.5 * shape[1] or min(piece.shape) < _TINY:
        return False
    inner = piece[height // 8 : -(height // 8), width // 8 : -(width // 8)]
    edges = [piece[: height // 8], piece[-(height // 8) :]]
    sides = [piece[:, : width // 8], piece[:, -(width // 8) :]]
    full = [edge.any(0).mean() for edge in edges] + [
        side.any(1).mean() for side in sides
    ]
    return bool(inner.sum() < 0.1 * piece.sum() and min(full) > 0.9)


def _strokes(contrast: np.ndarray) -> np.ndarray:
    """Where the strokes are, bool [H, W], and not dust and grain.

    Pieces of one digit may lie apart, so every piece of some size is kept.
    """
    pieces, _ = ndimage.label(contrast > _INKED, _EVERY_SIDE)
    mass = np.bincount(pieces.ravel(), contrast.ravel())
    dark = np.bincount(pieces[contrast > 0.6], minlength=len(mass)) > 0
    mass[0], dark[0] = 0, False
    keep = dark & (mass >= 0.03 * mass[dark].max(initial=0))
    # With the soft edge that antialiasing gives to strokes.
    return ndimage.binary_dilation(keep[pieces], _EVERY_SIDE)
