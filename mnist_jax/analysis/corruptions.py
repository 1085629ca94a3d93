"""Corrupted digits, to measure a model on; never to be trained on.

The fifteen corruptions are those of MNIST-C (N. Mu and J. Gilmer, "MNIST-C: A
Robustness Benchmark for Computer Vision", 2019, arXiv:1906.02337), written anew with
NumPy and SciPy. MNIST-C has one strength of each; here there are five, as in ImageNet-C
(Hendrycks and Dietterich 2019, arXiv:1903.12261), and severity 3 is MNIST-C's. What is
random differs, so that figures are like those on MNIST-C and not the same.

Each is a pure function `(images, draws, *level) -> images`: float32 [N, 28, 28] in
[0, 1], and float64 [N, K] in [0, 1), the random numbers of each image. They depend on
the corruption and the image's place in its split alone, not on the severity or on how
many images are asked for at once.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, special

SIDE = 28  # pixels
SEVERITIES = (1, 2, 3, 4, 5)
PAPER_SEVERITY = 3  # the strength of MNIST-C

# Moves of the whole digit.
GEOMETRIC = ("shear", "scale", "rotate", "translate")

# Fields of `config.augment` that train for a corruption, if only in part.
LIKE: dict[str, tuple[str, ...]] = {
    "shot_noise": ("noise",),
    "impulse_noise": ("noise",),
    "glass_blur": ("blur",),
    "motion_blur": ("blur",),
    "shear": ("shear",),
    "scale": ("scale",),
    "rotate": ("rotation",),
    "translate": ("shift",),
    "brightness": ("levels",),
    "fog": ("levels",),
    "dotted_line": ("marks",),
    "zigzag": ("marks",),
}

_CENTRE = (SIDE - 1) / 2
_CHUNK = 1000  # images at a time, to bound the memory


class Corruption(NamedTuple):
    """A corruption at five strengths."""

    apply: Callable[..., np.ndarray]
    draws: int  # K: random numbers for each image
    levels: Sequence[tuple[float, ...]]  # of severity 1 to 5: the arguments of `apply`


class Robustness(NamedTuple):
    """How a model fared on corrupted images."""

    num_images: int  # of each corruption and severity
    clean: float  # accuracy without corruption
    accuracy: dict[str, list[float]]  # by corruption, of severity 1 to 5
    trained_for: tuple[str, ...]  # corruptions that training had something like

    def mean(self, severity: int | None = None, *, strict: bool = False) -> float:
        """Mean accuracy over the corruptions.

        Args:
          severity: 1 to 5; None for the mean over all.
          strict: without the corruptions that were trained for.
        """
        rows = [
            row
            for name, row in self.accuracy.items()
            if not (strict and name in self.trained_for)
        ]
        table = np.array(rows) if severity is None else np.array(rows)[:, severity - 1]
        return float(table.mean())


def measure(
    answer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    augment: Mapping[str, float],
) -> Robustness:
    """Measures a model on all corruptions at all severities.

    Args:
      answer: maps images uint8 [N, 28, 28, 1] to classes, int [N].
      images: uint8 [N, 28, 28, 1], white on black.
      labels: int [N].
      augment: `config.augment` of the model, to say what it was trained for.
    """

    def accuracy(images: np.ndarray) -> float:
        return float(np.mean(answer(images) == labels))

    return Robustness(
        num_images=len(labels),
        clean=accuracy(images),
        accuracy={
            name: [accuracy(corrupt(images, name, s)) for s in SEVERITIES]
            for name in CORRUPTIONS
        },
        trained_for=tuple(
            name
            for name in CORRUPTIONS
            if any(augment.get(field, 0) for field in LIKE.get(name, ()))
        ),
    )


def examples(images: np.ndarray) -> dict[str, np.ndarray]:
    """One image under each corruption, another for each: uint8 [5, 28, 28]."""
    shown = {}
    for i, name in enumerate(CORRUPTIONS):
        i %= len(images)
        each = [corrupt(images[i : i + 1], name, s, first=i) for s in SEVERITIES]
        shown[name] = np.concatenate(each)[..., 0]
    return shown


def corrupt(images: np.ndarray, name: str, severity: int, first: int = 0) -> np.ndarray:
    """Corrupts images.

    Args:
      images: uint8 [N, 28, 28, 1], white on black.
      name: a key of `CORRUPTIONS`.
      severity: 1 to 5.
      first: place of the first image in its split, which its random numbers depend on.

    Returns:
      uint8 [N, 28, 28, 1].
    """
    corruption = CORRUPTIONS[name]
    level = corruption.levels[severity - 1]
    parts = []
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK, ..., 0].astype(np.float32) / 255
        draws = _draw(name, first + start, len(part))
        result = np.clip(corruption.apply(part, draws, *level), 0, 1)
        parts.append(np.rint(255 * result).astype(np.uint8))
    return np.concatenate(parts)[..., None] if parts else images.copy()


def _draw(name: str, first: int, count: int) -> np.ndarray:
    """The random numbers of images `first` to `first + count`: float64 [count, K]."""
    draws = CORRUPTIONS[name].draws
    bits = np.random.PCG64(zlib.crc32(name.encode()))
    bits.advance(first * draws)  # a float64 takes one step of the generator
    return np.random.Generator(bits).random((count, draws))


# The camera and the light.


def shot_noise(images: np.ndarray, draws: np.ndarray, photons: float) -> np.ndarray:
    """Counts photons: Poisson noise, of so many `photons` where the ink is full."""
    expected = photons * images
    draws = draws.reshape(images.shape).astype(np.float32)
    # The count is how many of the sums of the distribution lie below a random number.
    term = np.exp(-expected)
    total, count = term.copy(), np.zeros_like(images)
    for k in range(1, 100):
        above = draws > total
        if not above.any():
            break
        count += above
        term *= expected / k
        total += term
    return count / np.float32(photons)


def impulse_noise(images: np.ndarray, draws: np.ndarray, share: float) -> np.ndarray:
    """Salt and pepper: a `share` of the pixels becomes black or white."""
    draws = draws.reshape(images.shape)
    return np.where(draws < share / 2, 0, np.where(draws > 1 - share / 2, 1, images))


def glass_blur(
    images: np.ndarray, draws: np.ndarray, sigma: float, passes: float
) -> np.ndarray:
    """As through frosted glass: neighbours change places between two slight blurs.

    In each of the `passes` over the pixels, every other one on average changes places
    with the one above, to the left, or above and to the left.

    Args:
      images: see above.
      draws: see above.
      sigma: of the Gaussian blur, pixels.
      passes: how many.
    """
    images = _gaussian(images, sigma)
    moves = (8 * draws).astype(np.uint8).reshape(len(images), -1, SIDE, SIDE)
    every = np.arange(len(images))
    for i in range(int(passes)):
        for y in range(SIDE - 1, 0, -1):
            for x in range(SIDE - 1, 0, -1):
                move = moves[:, i, y, x]
                swap = move >= 4
                to_y, to_x = y - (swap & (move & 1)), x - (swap & (move >> 1 & 1))
                here = images[:, y, x].copy()
                images[:, y, x] = images[every, to_y, to_x]
                images[every, to_y, to_x] = here
    return _gaussian(images, sigma)


def motion_blur(images: np.ndarray, draws: np.ndarray, sigma: float) -> np.ndarray:
    """A trail to one side, at up to 45 degrees: half a Gaussian of `sigma` pixels.

    One-sided, as is ImageMagick's, which made MNIST-C.
    """
    angle = np.pi / 4 * _signed(draws)  # [N, 1]
    reach = int(np.ceil(3 * sigma))
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach)])
    rows = np.arange(SIDE)[None, :, None]
    columns = np.arange(SIDE)[None, None, :]
    every = np.arange(len(images))[:, None, None]
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    result = np.zeros_like(images)
    for distance, weight in enumerate(weights):
        down = np.rint(distance * np.sin(angle)).astype(int)[..., None] + reach
        across = np.rint(distance * np.cos(angle)).astype(int)[..., None] + reach
        result += weight * padded[every, rows + down, columns + across]
    return result


def brightness(images: np.ndarray, draws: np.ndarray, lift: float) -> np.ndarray:
    """Adds light everywhere; what is brighter than white is white."""
    return np.minimum(images + np.float32(lift), 1)


def fog(
    images: np.ndarray, draws: np.ndarray, thickness: float, smoothness: float
) -> np.ndarray:
    """Fog of uneven density, which takes contrast away.

    A fractal field: a level and noise of octaves, from 64 to 2 pixels a node, each
    `smoothness`^2 times weaker than the one before. (MNIST-C crops its field from one
    of 256 pixels, made by midpoint displacement: A. Fournier, D. Fussell and L.
    Carpenter, "Computer rendering of stochastic models", 1982.)

    Args:
      images: see above.
      draws: see above.
      thickness: brightness of the thickest fog, where full ink is 1.
      smoothness: above 1.
    """
    signed = 2 * draws - 1
    field = 0.5 + 0.2 * signed[:, 0, None, None]
    used = 1
    for octave, nodes in enumerate(_FOG_NODES):
        part = signed[:, used : used + nodes**2].reshape(-1, nodes, nodes)
        used += nodes**2
        read = _FOG_READ[octave]
        field = field + 0.25 * smoothness ** (-2 * octave) * (read @ part @ read.T)
    field = np.clip(field, 0, 1).astype(np.float32)
    return (images + np.float32(thickness) * field) / np.float32(1 + thickness)


def _between_nodes(spacing: int) -> np.ndarray:
    """Weights [28, nodes] that interpolate linearly between nodes so far apart."""
    nodes = (SIDE - 1) // spacing + 2
    places = np.arange(SIDE)[:, None] / spacing
    return np.maximum(0, 1 - np.abs(places - np.arange(nodes)))


_FOG_READ = [_between_nodes(spacing) for spacing in (64, 32, 16, 8, 4, 2)]
_FOG_NODES = [read.shape[1] for read in _FOG_READ]


# The place and the shape of the digit.


def shear(images: np.ndarray, draws: np.ndarray, slope: float) -> np.ndarray:
    """Slants to the left or right by `slope` pixels across per pixel down."""
    y, x = _pixels()
    return _read(images, y, x - slope * _side(draws[:, 0]) * y)


def scale(images: np.ndarray, draws: np.ndarray, factor: float) -> np.ndarray:
    """Shrinks height and width to `factor` of what they were, about the centre."""
    y, x = _pixels()
    return _read(images, y / factor, x / factor)


def rotate(images: np.ndarray, draws: np.ndarray, radians: float) -> np.ndarray:
    """Turns by so much about the centre, one way or the other."""
    y, x = _pixels()
    angle = radians * _side(draws[:, 0])
    sin, cos = np.sin(angle), np.cos(angle)
    return _read(images, cos * y - sin * x, sin * y + cos * x)


def translate(images: np.ndarray, draws: np.ndarray, pixels: float) -> np.ndarray:
    """Moves by so much up or down, and as much left or right."""
    y, x = _pixels()
    down, across = _side(draws[:, 0]), _side(draws[:, 1])
    return _read(images, y - pixels * down, x - pixels * across)


def canny_edges(
    images: np.ndarray, draws: np.ndarray, share: float, sigma: float
) -> np.ndarray:
    """The outline in place of the digit.

    J. Canny, "A Computational Approach to Edge Detection", 1986: the gradient's size
    where it is largest along its own direction, above one threshold, or above a lower
    one and joined to what is above the first.

    Args:
      images: see above.
      draws: none.
      share: of the outline in a blend with the image.
      sigma: of the Gaussian blur before, pixels.
    """
    smooth = _gaussian(images, sigma)
    down, across = (_sobel(smooth, along, other) for along, other in ((1, 2), (2, 1)))
    size = np.hypot(down, across)
    padded = np.pad(size, [(0, 0), (1, 1), (1, 1)])

    def neighbour(dy: int, dx: int) -> np.ndarray:
        return padded[:, 1 + dy : SIDE + 1 + dy, 1 + dx : SIDE + 1 + dx]

    steep = np.abs(down) > np.abs(across)
    long = np.maximum(np.abs(down), np.abs(across))
    slant = np.minimum(np.abs(down), np.abs(across)) / np.maximum(long, 1e-12)
    diagonal = np.where(down * across > 0, 1, -1)
    peak = size > 0
    for way in (1, -1):  # along the gradient and against it, between two neighbours
        straight = np.where(steep, neighbour(way, 0), neighbour(0, way))
        falling = neighbour(way, way)
        rising = np.where(steep, neighbour(way, -way), neighbour(-way, way))
        aside = np.where(diagonal > 0, falling, rising)
        beside = (1 - slant) * straight + slant * aside
        peak &= (size > beside) if way > 0 else (size >= beside)
    weak, strong = peak & (size > 0.1), peak & (size > 0.2)
    joined = np.zeros((3, 3, 3), bool)
    joined[1] = True  # within an image only
    parts, count = ndimage.label(weak, joined)
    kept = np.zeros(count + 1, bool)
    kept[parts[strong]] = True
    edges = kept[parts] & weak
    return images + np.float32(share) * (edges - images)


# What lies over it.


def stripe(images: np.ndarray, draws: np.ndarray, width: float) -> np.ndarray:
    """Turns black to white and back in so many columns at the left and the right."""
    result = images.copy()
    for columns in (slice(None, int(width)), slice(-int(width), None)):
        result[:, :, columns] = 1 - images[:, :, columns]
    return result


def spatter(images: np.ndarray, draws: np.ndarray, cover: float) -> np.ndarray:
    """Grey blots of mud.

    Smooth noise above a level makes wet places; blots are where they are wide.

    Args:
      images: see above.
      draws: see above.
      cover: share of the image that is wet.
    """
    noise = _gaussian(special.ndtri(draws.clip(1e-9)).reshape(images.shape), 1.0)
    noise /= np.sqrt(1 / (4 * np.pi))  # of unit variance: Gaussian of sigma 1, squared
    blots = _gaussian((noise > special.ndtri(1 - cover)).astype(np.float32), 1.5)
    blots = np.where(blots < 0.8, 0, blots)
    return images * (1 - blots) + np.float32(63 / 255) * blots


def dotted_line(
    images: np.ndarray, draws: np.ndarray, lines: float, reach: float
) -> np.ndarray:
    """Dotted lines from edge to edge, each two pixels of line, two of none.

    Args:
      images: see above.
      draws: see above.
      lines: how many.
      reach: how far off its middle a line is lighter than nothing, in pixels.
    """
    columns = np.arange(SIDE)
    dots = columns // 2 % 2 == 1
    for line in range(int(lines)):
        left, right = (26 * draws[:, 2 * line : 2 * line + 2]).T[..., None]
        middle = left + (right - left) * columns / (SIDE - 1)  # [N, 28]
        images = np.minimum(images + _stroke(middle, dots, reach), 1)
    return images


def zigzag(
    images: np.ndarray, draws: np.ndarray, lines: float, reach: float
) -> np.ndarray:
    """Zigzag lines from edge to edge, 2 pixels to each side and 8 from peak to peak.

    Arguments as in `dotted_line`.
    """
    columns = np.arange(SIDE)
    inside = (columns >= 2) & (columns <= 25)
    teeth = 2 - 4 * np.abs((columns - 4) / 4 % 2 - 1)
    for line in range(int(lines)):
        start, lean = draws[:, 2 * line, None], draws[:, 2 * line + 1, None]
        middle = 26 * start + 5 * (2 * lean - 1) * (columns - 2) / 23 + teeth
        images = np.minimum(images + _stroke(middle, inside, reach), 1)
    return images


def _stroke(middle: np.ndarray, drawn: np.ndarray, reach: float) -> np.ndarray:
    """A line of ink, float32 [N, 28, 28], that is at row `middle` [N, 28] of a column.

    Only in columns that are `drawn`, [28]. Brightness falls off as in MNIST-C: with
    the logarithm of the distance that is left to where there is none.
    """
    away = np.abs(np.arange(SIDE)[:, None] - middle[:, None, :]) / reach
    ink = np.maximum(1 + np.log(np.maximum(1 - away, 1e-6)), 0) * drawn
    return ink.astype(np.float32)


def _gaussian(images: np.ndarray, sigma: float) -> np.ndarray:
    blurred: np.ndarray = ndimage.gaussian_filter(images, (0, sigma, sigma))
    return blurred


def _sobel(images: np.ndarray, along: int, other: int) -> np.ndarray:
    slope = ndimage.correlate1d(images, [-1, 0, 1], along, mode="constant")
    smooth: np.ndarray = ndimage.correlate1d(slope, [1, 2, 1], other, mode="constant")
    return smooth


def _signed(draws: np.ndarray) -> np.ndarray:
    """From [0, 1) to [-1, 1)."""
    return 2 * draws - 1


def _side(draws: np.ndarray) -> np.ndarray:
    """-1 or 1 of each, [N, 1, 1]."""
    return np.where(draws < 0.5, -1, 1)[:, None, None]


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """Rows [28, 1] and columns [1, 28], from the centre."""
    places = np.arange(SIDE) - _CENTRE
    return places[:, None], places[None, :]


def _read(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Reads images [N, 28, 28] at points from the centre, bilinearly; 0 outside.

    `y` and `x` broadcast to [N, 28, 28].
    """
    shape = np.broadcast_shapes(images.shape, y.shape, x.shape)
    # A margin of zeros, for points that are beside an edge or far outside.
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2)])
    y, x = (np.clip(p + _CENTRE + 2, 0.5, SIDE + 2.5) for p in (y, x))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, across = (y - top).astype(np.float32), (x - left).astype(np.float32)
    every = np.arange(len(images))[:, None, None]
    above = padded[every, top, left] * (1 - across)
    above = above + padded[every, top, left + 1] * across
    below = padded[every, top + 1, left] * (1 - across)
    below = below + padded[every, top + 1, left + 1] * across
    return np.broadcast_to(above + down * (below - above), shape)


_PIXELS = SIDE * SIDE

# Severity 3 has the strengths of MNIST-C.
CORRUPTIONS: dict[str, Corruption] = {
    "shot_noise": Corruption(shot_noise, _PIXELS, [(12,), (6,), (3,), (2,), (1.3,)]),
    "impulse_noise": Corruption(
        impulse_noise, _PIXELS, [(0.04,), (0.09,), (0.17,), (0.25,), (0.33,)]
    ),
    "glass_blur": Corruption(
        glass_blur,
        3 * _PIXELS,
        [(0.6, 1), (0.7, 1), (0.7, 2), (0.8, 3), (1.0, 3)],
    ),
    "motion_blur": Corruption(motion_blur, 1, [(1,), (2,), (3,), (4,), (5,)]),
    "shear": Corruption(shear, 1, [(0.2,), (0.3,), (0.4,), (0.5,), (0.6,)]),
    "scale": Corruption(scale, 0, [(0.9,), (0.8,), (0.7,), (0.6,), (0.5,)]),
    "rotate": Corruption(rotate, 1, [(0.2,), (0.3,), (0.4,), (0.5,), (0.6,)]),
    "translate": Corruption(translate, 2, [(1,), (2,), (3,), (4,), (5,)]),
    "brightness": Corruption(brightness, 0, [(0.1,), (0.3,), (0.5,), (0.6,), (0.7,)]),
    "stripe": Corruption(stripe, 0, [(3,), (5,), (7,), (8,), (9,)]),
    "fog": Corruption(
        fog,
        1 + sum(nodes**2 for nodes in _FOG_NODES),
        [(1, 2), (2, 1.7), (3, 1.4), (3.5, 1.4), (4, 1.4)],
    ),
    "spatter": Corruption(spatter, _PIXELS, [(0.4,), (0.45,), (0.5,), (0.55,), (0.6,)]),
    "dotted_line": Corruption(
        dotted_line, 6, [(1, 1.4), (1, 1.8), (1, 2.3), (2, 2.3), (3, 2.3)]
    ),
    "zigzag": Corruption(zigzag, 6, [(1, 1.4), (1, 1.8), (1, 2.3), (2, 2.3), (3, 2.3)]),
    "canny_edges": Corruption(
        canny_edges, 0, [(0.4, 1), (0.7, 1), (1, 1), (1, 1.3), (1, 1.6)]
    ),
}


def to_dict(robustness: Robustness) -> dict[str, Any]:
    """What JSON is to hold of it."""
    r = robustness
    summary = {"count": r.num_images, "clean_accuracy": r.clean, "accuracy": r.accuracy}
    for name, strict in (("mean_accuracy", False), ("mean_accuracy_strict", True)):
        summary[name] = [r.mean(s, strict=strict) for s in SEVERITIES]
    paper = {
        "paper_severity": PAPER_SEVERITY,
        "mean_accuracy_at_paper_severity": r.mean(PAPER_SEVERITY),
    }
    return {**summary, **paper, "trained_for": list(r.trained_for)}


def to_text(robustness: Robustness) -> str:
    """A table for people, 80 columns wide."""
    r = robustness
    head = f"{'accuracy by severity':22}" + "".join(f"{s:>9}" for s in SEVERITIES)
    lines = [head + f"{'mean':>11}"]
    for name, row in r.accuracy.items():
        mark = " *" if name in r.trained_for else ""
        lines.append(_row(name.replace("_", " ") + mark, [*row, float(np.mean(row))]))
    for name, strict in means(r).items():
        row = [r.mean(s, strict=strict) for s in SEVERITIES]
        lines.append(_row(name, [*row, r.mean(strict=strict)]))
    notes = [f"Severity {PAPER_SEVERITY} has the strengths of MNIST-C."]
    if r.trained_for:
        notes.append("* training had something like it: see config.augment")
    return "\n".join([*lines, *notes])


def means(robustness: Robustness) -> dict[str, bool]:
    """The names of the means there are, and whether each is strict."""
    every = len(robustness.accuracy)
    names = {f"mean of {every}": False}
    if robustness.trained_for:
        names[f"mean of {every - len(robustness.trained_for)} without *"] = True
    return names


def _row(name: str, values: Sequence[float]) -> str:
    *cells, mean = (f"{value:.2%}" for value in values)
    return f"{name:22}" + "".join(f"{cell:>9}" for cell in cells) + f"{mean:>11}"
