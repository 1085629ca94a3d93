"""A picture of one digit becomes a 28x28 image, the way MNIST itself was made.

    read_picture   file         -> picture       (files.py)
    find_ink       picture      -> ink [H, W]    of all that is drawn
    main_digit     ink [H, W]   -> ink [H, W]    of one digit, without what lies around
    to_mnist       ink [H, W]   -> uint8 [28, 28]

`prepare` does the last three. No stage knows digits: letters come out as well.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from mnist_jax.datasets.geometry import crop_to_ink, to_mnist
from mnist_jax.errors import ArgumentError, PictureError
from mnist_jax.reading.reduction import reduced_size

_MIN_CONTRAST, _WEAK = 0.06, 0.25  # of ink, and of texture; black on white has 1
_INKED = 0.35  # share of full ink that makes a stroke
_FAINT, _SOLID = 0.05, 0.9  # shares that become 0 and 1 in and beside a stroke
_WORKING = 400  # pixels: larger pictures are reduced to it
_TINY, _SMALL = 24, 64  # pixels: the paper of smaller pictures is of one tone
# Widest strokes to try in turn, as shares of the longer side, each with the doubt (see
# `_doubt`) that is low enough to stop there. With 0, all paper is of one tone.
_TRIES = ((0.5, 0.3), (0.25, 1.4))
_TRIES_OF_SMALL = ((0.0, 0.3), (0.5, 1.0), (0.25, 1.4))
_HOPELESS = 3.0  # doubt; 99.5 % of 1,300 pictures that were read right had below 1.45
_EVERY_SIDE = np.ones((3, 3), bool)  # neighbours


class BlankError(PictureError):
    """A picture with no ink in it."""


def prepare(picture: Image.Image) -> np.ndarray:
    """Returns uint8 [28, 28], white ink on black; takes and raises as `find_ink`."""
    return to_mnist(main_digit(find_ink(picture)))


def find_ink(picture: Image.Image) -> np.ndarray:
    """Tells ink from paper.

    Args:
      picture: RGB, dark on light or light on dark.

    Returns:
      float32 [H, W] from 0, paper, to 1, ink: all that is drawn, without shadows,
      specks and what surrounds the paper.

    Raises:
      BlankError: there is no ink.
      ArgumentError: the picture is not RGB.
    """
    ink = Image.fromarray(_maps(picture)["ink"])
    enlarged = ink.resize(picture.size, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged), 0, 1)


def main_digit(ink: np.ndarray) -> np.ndarray:
    """Keeps the largest piece of ink [H, W] and the pieces near it; the rest becomes 0.

    Near is less than a quarter of its size away, or of that of what is near it, so
    parts of a broken digit stay together. What lies at the picture's border, if the
    largest piece does not, belongs to something else.
    """
    pieces, count = ndimage.label(ink > 0.25, _EVERY_SIDE)
    if count < 2:
        return ink
    mass = np.bincount(pieces.ravel(), ink.ravel())
    mass[0] = 0
    outer = np.isin(np.arange(count + 1), np.concatenate(_sides(pieces)))
    kept = np.arange(count + 1) == np.argmax(np.where(outer, 0.2, 1) * mass)
    rest = ~kept & (mass > 0.01 * mass.max()) & ~(outer & ~outer[kept])
    while rest.any():
        inside = kept[pieces]
        reach = 0.25 * max(crop_to_ink(inside).shape)
        near = np.unique(pieces[ndimage.maximum_filter(inside, 2 * int(reach) + 1)])
        joined = np.isin(np.arange(count + 1), near) & rest
        if not joined.any():
            break
        kept |= joined
        rest &= ~joined
    inside = kept[pieces]
    return np.where(
        ndimage.maximum_filter(inside, 5) & ((pieces == 0) | inside), ink, 0
    )


def stages(picture: Image.Image) -> list[tuple[str, np.ndarray]]:
    """Names what becomes of an RGB picture, each uint8 [H, W] or [H, W, 3].

    The last is "28x28", as from `prepare`, unless the picture is blank.
    """
    shown = [("picture", np.asarray(picture))]
    try:
        maps = _maps(picture)
    except BlankError:
        return shown
    for name, levels in maps.items():
        scaled = levels / max(float(np.percentile(levels, 99.9)), 1e-6)
        shown.append((name, (np.clip(scaled, 0, 1) * 255).astype(np.uint8)))
    return [*shown, ("28x28", prepare(picture))]


def stages_strip(shown: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Draws `stages` side by side, with their names."""
    side, top = 224, 24
    strip = Image.new("RGB", ((side + 8) * len(shown) + 8, side + top + 8), "white")
    canvas = ImageDraw.Draw(strip)
    for index, (name, levels) in enumerate(shown):
        left = 8 + index * (side + 8)
        canvas.text((left, 5), name, "black", ImageFont.load_default(13))
        small = max(levels.shape) < 64
        how = Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC
        image = Image.fromarray(levels).convert("RGB")
        strip.paste(ImageOps.pad(image, (side, side), how, "#e4e4e4"), (left, top))
    return strip


def save_stages(
    shown: list[tuple[str, np.ndarray]], folder: Path, index: int, name: str, page: int
) -> None:
    """Writes the strip of a page into a folder.

    Args:
      shown: for `stages_strip`.
      folder: is there.
      index: number of the source, and with its `name` that of the file.
      name: of the source.
      page: number of the page in its source, from 0.

    Raises:
      UserError: it cannot be written.
    """
    from mnist_jax.reading.annotate import save_picture

    stem = re.sub(r"[^\w.-]", "_", Path(name).stem, flags=re.ASCII)[:80]
    end = f"_{page}" if page else ""
    save_picture(stages_strip(shown), folder / f"{index:05d}_{stem}{end}.png")


def _maps(picture: Image.Image) -> dict[str, np.ndarray]:
    """Maps float32 [h, w], perhaps of a smaller copy: "contrast" with paper and "ink".

    Ink is darker than paper or lighter: both are tried until one looks drawn.
    """
    if picture.mode != "RGB":
        raise ArgumentError(f"a picture must be RGB, as from read_picture: {picture!r}")
    levels = np.asarray(picture)
    edges = [levels != np.roll(levels, 1, axis) for axis in (0, 1)]
    edges = [np.flatnonzero(e.any((1 - axis, 2))) for axis, e in enumerate(edges)]
    # An enlargement that made a square of each pixel is undone.
    scale = int(np.gcd.reduce(np.concatenate([*edges, levels.shape[:2]])))
    picture = picture.resize((picture.width // scale, picture.height // scale), 0)
    size = reduced_size(picture.size, _WORKING)
    picture = picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    colours = np.asarray(picture, np.float32) / 255
    if (sigma := min(size) / 400) > 0.3:  # evens out grain
        colours = ndimage.gaussian_filter(colours, (sigma, sigma, 0))
    picture.thumbnail((64, 64), Image.Resampling.BOX)
    small = np.asarray(picture, np.float32) / 255
    if max(size) >= _SMALL:
        colours /= _slope(small, colours.shape)
    # Paper has most of the border and of the area.
    paper = np.median(np.concatenate(_sides(colours)), 0) / 2
    likely = paper + np.median(colours[::4, ::4], (0, 1)) / 2 >= colours.mean((0, 1))
    best: dict[str, np.ndarray] = {}
    doubt = np.inf
    tries = _TRIES if max(size) >= _SMALL else _TRIES_OF_SMALL
    for widest, enough in tries if max(size) >= _TINY else tries[:1]:
        for darker in (likely, ~likely):
            if doubt <= enough:
                continue
            maps = _separate(colours, darker, widest)
            # The likelier come first; only what is clearly better counts.
            if maps and (other := _doubt(**maps)) < 0.8 * doubt:
                best, doubt = maps, other
    if doubt > _HOPELESS:
        raise BlankError("is blank: no ink stands out from the paper")
    return best


def _slope(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How light falls off to one side, alike in all colours: [H, W, 1], mean 1.

    A plane through the tones of the small copy, fitted to their absolute differences
    (by iteratively reweighted least squares), so that ink does not tilt it.
    """
    y, x = (np.linspace(-1, 1, side) for side in small.shape[:2])
    terms = np.stack([np.ones(small.shape[:2]), *np.meshgrid(y, x, indexing="ij")], -1)
    terms, tones = terms.reshape(-1, 3), small.mean(-1).ravel()
    fitted = np.full(tones.size, np.median(tones))
    for _ in range(8):
        weighted = terms.T / np.maximum(np.abs(tones - fitted), 0.02)
        plane = np.linalg.lstsq(weighted @ terms, weighted @ tones)[0]
        fitted = terms @ plane
    if plane[0] < 0.25:  # of what is dark, light says little
        return np.ones((1, 1, 1), np.float32)
    y, x = (np.linspace(-1, 1, side) for side in shape[:2])
    light = 1 + (plane[1] * y[:, None] + plane[2] * x) / plane[0]
    return np.maximum(light, 0.3).astype(np.float32)[..., None]


def _separate(
    colours: np.ndarray, darker: np.ndarray, widest: float
) -> dict[str, np.ndarray]:
    """The maps, if ink is darker than paper in the colours `darker`; {} if none is."""
    contrast = _contrast(colours, darker, widest)
    if widest:
        contrast = _level(_surround(contrast))
    full = _full(contrast)
    if full < _MIN_CONTRAST:
        return {}
    if max(contrast.shape) < _TINY:
        return {"contrast": contrast, "ink": np.clip(contrast / contrast.max(), 0, 1)}
    share = contrast / full
    pieces, _ = ndimage.label(share > _INKED, _EVERY_SIDE)
    mass = np.bincount(pieces.ravel(), share.ravel())
    mass[0] = 0
    dark = np.bincount(pieces[share > 0.6], minlength=len(mass)) > 0
    # Pieces of one digit may lie apart, so every dark piece of some size is kept.
    kept = dark & (mass > 0.03 * (mass * dark).max())
    if full < _WEAK:  # grain and texture have no large piece
        grain = 1.05 * np.median(np.abs(np.diff(contrast, axis=1)))  # its deviation
        largest = crop_to_ink(pieces == np.argmax(mass))
        whole = mass.max() > 0.25 * mass.sum()
        if full < 6 * grain or max(largest.shape) < 0.1 * max(share.shape) or not whole:
            return {}
    ramp = np.clip((share - _FAINT) / (_SOLID - _FAINT), 0, 1)
    return {"contrast": contrast, "ink": ndimage.maximum_filter(kept[pieces], 3) * ramp}


def _contrast(colours: np.ndarray, darker: np.ndarray, widest: float) -> np.ndarray:
    """How far each pixel is from paper, towards the ink's colour: float32 [H, W].

    Paper has the level that a square wider than any stroke sees, wherever it fits into
    the picture: a morphological closing if ink is dark, else an opening. It follows the
    edges of shadows, as no smooth surface does. Where ink is darker, its contrast is a
    share of the paper's light, so that it is as black in shadow. Its colour is the mean
    of the differences, the largest counting most, so red ink shows as well as black.
    """
    shape = colours.shape[:2]
    side = max(3, round(min(widest * max(shape), 0.9 * min(shape))))
    size = tuple(min(side, length) for length in shape)
    away = np.empty_like(colours)
    for channel, dark in enumerate(darker):
        levels = paper = colours[..., channel]
        filters = [ndimage.grey_dilation, ndimage.grey_erosion]
        for filter_ in filters if dark else filters[::-1]:
            # So that no square that lies partly outside ever counts.
            outside = np.inf if dark else -np.inf
            paper = filter_(paper, size, mode="constant", cval=outside)
        if not widest:
            paper = np.percentile(levels, 75 if dark else 25)
        dimmer = (paper - levels) / np.maximum(paper, 0.1)
        away[..., channel] = dimmer if dark else levels - paper
    weights = np.sum(away**2, axis=-1, keepdims=True) ** 1.5
    direction = np.maximum((weights * away).sum((0, 1)), 0)
    # Black on white has a contrast of 1, not the square root of 3.
    contrast = away @ (direction / (float(np.linalg.norm(direction)) or 1) / 3**0.5)
    return contrast - np.percentile(contrast, 25).astype(np.float32)


def _level(contrast: np.ndarray) -> np.ndarray:
    """Takes away what is clearly wider than the strokes, as soft shadows are."""
    strong = contrast > 0.65 * _full(contrast)
    # Distances from the edge are spread evenly up to half a stroke's width.
    distance = ndimage.distance_transform_edt(strong)[strong] - 0.5
    width = 2 + (12 * np.mean(distance**2)) ** 0.5 if strong.any() else 1
    size = max(3, round(3.5 * width))
    if size >= min(contrast.shape):
        return contrast
    shade = ndimage.grey_opening(contrast, (size, size))
    level = (contrast - shade) / np.clip(1 - shade, 0.2, 1)
    return level - np.percentile(level, 25).astype(np.float32)


def _full(contrast: np.ndarray) -> float:
    """The contrast of full ink."""
    rank = contrast.size // 10_000 + 1
    highest = np.partition(contrast, -rank, axis=None)[-rank]  # without specks
    return float(np.percentile(contrast[contrast >= min(0.6 * highest, highest)], 75))


def _surround(contrast: np.ndarray) -> np.ndarray:
    """Takes away a table's edge and a frame around the paper, if something is left."""
    pieces, count = ndimage.label(contrast > _INKED * _full(contrast), _EVERY_SIDE)
    around = np.zeros(count + 1, bool)
    for side in _sides(pieces):
        around |= np.bincount(side, minlength=count + 1) > 0.6 * len(side)
    for index, box in enumerate(ndimage.find_objects(pieces), 1):
        height, width = pieces[box].shape
        spans = height / contrast.shape[0], width / contrast.shape[1]
        if min(spans) > 0.5 and min(height, width) > 8:
            piece = pieces[box] == index
            inner = piece[height // 8 : -(height // 8), width // 8 : -(width // 8)]
            around[index] |= inner.sum() < 0.1 * piece.sum()  # the outline of a box
    around[0] = False
    rest = np.where(ndimage.maximum_filter(around[pieces], 5), 0, contrast)
    return rest if _full(rest) > 0.15 * _full(contrast) else contrast


def _doubt(contrast: np.ndarray, ink: np.ndarray) -> float:
    """How unlike a drawing it is: about 0.2 for writing, 1 for what lies between.

    Strokes are long for their width, few lie at the border, and they stand out.
    """
    mask = ink > 0.5
    if not mask.any():
        return np.inf
    level = float(np.median(contrast[mask]))
    border = np.concatenate(_sides(mask)).mean()
    pieces, _ = ndimage.label(np.pad(mask, 1), _EVERY_SIDE)
    largest = crop_to_ink(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]))
    width = 4 * ndimage.distance_transform_edt(np.pad(largest, 1)).sum() / largest.sum()
    return float((width / max(largest.shape) + border) / np.clip(level, 0.1, 1))


def _sides(values: np.ndarray) -> tuple[np.ndarray, ...]:
    return values[0], values[-1], values[:, 0], values[:, -1]
