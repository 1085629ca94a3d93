"""Images that show no digit, made in MNIST's geometry, to teach a model doubt.

For outlier exposure: D. Hendrycks, M. Mazeika and T. Dietterich, "Deep Anomaly
Detection with Outlier Exposure" (ICLR 2019). Most are lines drawn with a pen: letters
and signs, as skeletons of the fonts that matplotlib ships, and scribbles. (The STIX
fonts are left for validation, see `glyphs.py`.) The rest are stains, textures, several
digits at once, and nearly empty images.

Whatever a person could read as one digit is left out: O, Z, q, δ, Φ, ч and such.
"""

import functools
from collections.abc import Callable

import numpy as np

from mnist_jax.datasets.arrays import check_images
from mnist_jax.datasets.geometry import IMAGE_SIDE, INK_SIDE, crop_to_ink, to_mnist
from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.drawing.fonts import letter_mask
from mnist_jax.drawing.pens import draw_by_hand
from mnist_jax.drawing.thinning import skeleton_points
from mnist_jax.errors import ArgumentError

_LATIN = "ACEFHKLMNPRTUVW" + "cdefhkmnprtuvw"
_GREEK = "ΓΔΞΠΣΨΩ" + "αβγεζηκλμνξπρςτυφχψω"
_CYRILLIC = "ЖИЙКЛПШЩЮЯЌЉЊҖ" + "джийлмпхшщюќљњ"
_OTHERS = "אחמשת" + "بتسشصضغكن" + "ԲԺԽՊժխմպփ" + "თლოღ"
_SIGNS = (
    "+−=≠≈±×÷∞√∑∏∇∈∉⊂⊃∪∩∨⊕⊗≤≥≡<>^~_#%@*∀∝∴∵"  # noqa: RUF001
    "…№€£¥®™←→↔⇐⇒⇔↺↻⇄☼♡♤♧☆✗✉✂☎☁♫⌘⚓⚖△▽"
)
# Fonts, and the characters that are taken from each.
_GLYPHS = (
    (("DejaVuSans", "DejaVuSerif", "cmr10", "cmti10", "cmmi10"), _LATIN),
    (("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic"), _GREEK),
    # TeX's mathematical italics, which have Greek letters at other code points.
    (("cmmi10",), "®¯°²³´¸¹º»¼½¾¿ÂÃ!"),  # noqa: RUF001
    (("DejaVuSans", "DejaVuSerif"), _CYRILLIC),
    (("DejaVuSans",), "Xx" + _OTHERS + _SIGNS),
)
_WIDE = 11  # columns of ink; a digit as wide as this is not a 1


def make_negatives(
    count: int, seed: int, digits: np.ndarray | None = None
) -> np.ndarray:
    """Makes images that show no digit.

    Args:
      count: how many; the first of more are the same.
      seed: 0 or more.
      digits: uint8 [N, 28, 28, 1], for those that show several at once; None for
        scikit-learn's.

    Returns:
      uint8 [count, 28, 28, 1].

    Raises:
      ArgumentError: `count` is below 0, or the digits are others.
    """
    if count < 0:
        raise ArgumentError(f"count={count} is below 0")
    if digits is not None:
        check_images(digits)
    kind_rng, rng = np.random.default_rng(seed).spawn(2)
    digits = load_digits()[0] if digits is None else digits
    wide = digits[digits.any((1, 3)).sum(1) >= _WIDE, :, :, 0]
    makers: dict[str, Callable[[], np.ndarray]] = {
        name: functools.partial(_written, rng, strokes)
        for name, strokes in STROKES.items()
    }
    makers |= {name: functools.partial(fill, rng) for name, fill in FILLS.items()}
    makers["number"] = functools.partial(_number, rng, wide)
    chances = np.array([SHARES[name] for name in makers])
    names = kind_rng.choice(list(makers), count, p=chances / chances.sum())
    images = np.empty((count, IMAGE_SIDE, IMAGE_SIDE, 1), np.uint8)
    for image, name in zip(images, names, strict=True):
        image[..., 0] = makers[name]()
    return images


def _written(
    rng: np.random.Generator, strokes: Callable[[np.random.Generator], np.ndarray]
) -> np.ndarray:
    return draw_by_hand(rng, strokes(rng))


@functools.cache
def _glyphs() -> list[np.ndarray]:
    """Returns points along the skeletons of all characters, float [n, 2] each."""
    masks = [
        letter_mask(name, character)
        for fonts, characters in _GLYPHS
        for name in fonts
        for character in characters
    ]
    return skeleton_points(masks)


def _letter(rng: np.random.Generator) -> np.ndarray:
    return _glyphs()[rng.integers(len(_glyphs()))]


def _word(rng: np.random.Generator) -> np.ndarray:
    letters, right = [], 0.0
    for _ in range(rng.integers(2, 4)):
        letter = _letter(rng) - [0, right]
        letters.append(letter - letter.min(0) + [rng.uniform(0, 4), right])
        right = letters[-1][:, 1].max() + rng.uniform(3, 9)
    return np.concatenate(letters)


def _along(corners: np.ndarray, count: int = 240) -> np.ndarray:
    """Returns points spaced evenly on a line through corners [k, 2]."""
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1)))
    places = np.linspace(0, length[-1], count)
    return np.stack([np.interp(places, length, side) for side in corners.T], 1)


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """Makes one smooth line, with more turns than any digit has."""
    from scipy.interpolate import CubicSpline

    knots = rng.uniform(-1, 1, (rng.integers(12, 22), 2)) * rng.uniform(0.6, 1, 2)
    spline = CubicSpline(np.arange(len(knots)), knots)
    return spline(np.linspace(0, len(knots) - 1, 400))


def _zigzag(rng: np.random.Generator) -> np.ndarray:
    count = rng.integers(7, 16)
    upright = rng.random() < 0.3  # and not narrow, or it could be read as a 1
    swing = (-1.0) ** np.arange(count) * rng.uniform(0.6 if upright else 0.25, 1)
    way = np.linspace(-1, 1, count)
    corners = np.stack([way, swing] if upright else [swing, way], 1)
    return _along(corners + rng.normal(0, 0.1, corners.shape), 300)


def _coil(rng: np.random.Generator) -> np.ndarray:
    """Makes a line of loops, or a spiral."""
    angle = np.linspace(0, 1, 300) * 2 * np.pi * rng.uniform(3, 6)
    circle = np.stack([np.sin(angle), np.cos(angle) * rng.choice([-1, 1])], 1)
    if rng.random() < 0.3:
        return circle * (angle + 1)[:, None]
    step = np.stack([np.zeros_like(angle), angle], 1)
    return circle * [rng.uniform(0.8, 2), 1] + step * rng.uniform(0.15, 0.4)


def _lines(rng: np.random.Generator) -> np.ndarray:
    """Makes rules, a grid, or straight lines in any direction."""
    kind = rng.integers(3)
    if kind == 2:
        ends = rng.uniform(-1, 1, (rng.integers(5, 9), 2, 2))
    else:
        down = np.linspace(-0.8, 0.8, rng.integers(1 + kind, 5))
        rules = np.array([[[y, -1], [y, 1]] for y in down * rng.uniform(0.4, 1)])
        ends = rules if kind == 0 else np.concatenate([rules, rules[..., ::-1]])
        ends = ends + rng.normal(0, 0.06, ends.shape)
    return np.concatenate([_along(line, 60) for line in ends])


def _star(rng: np.random.Generator) -> np.ndarray:
    """Makes rays from the centre, or a star drawn in one line."""
    count = rng.integers(5, 9)
    start = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        angles = start + 2 * np.pi * np.arange(count) / count
        tips = np.stack([np.sin(angles), np.cos(angles)], 1)
        return np.concatenate([_along(np.stack([0 * tip, tip]), 40) for tip in tips])
    angles = start + 4 * np.pi * np.arange(6) / 5
    return _along(np.stack([np.sin(angles), np.cos(angles)], 1))


def _dots(rng: np.random.Generator) -> np.ndarray:
    centres = rng.uniform(-1, 1, (rng.integers(4, 14), 1, 2))
    return (centres + rng.normal(0, 0.03, (len(centres), 3, 2))).reshape(-1, 2)


def _stain(rng: np.random.Generator) -> np.ndarray:
    """Makes a filled shape, at least about as wide as high, with a bumpy edge."""
    y, x = np.mgrid[-1:1:40j, -1:1:40j] * 1.6
    x = x * rng.uniform(0.6, 1)  # not less, or it could be read as a thick 1
    orders = np.arange(1, 7)[:, None, None]
    phases = rng.uniform(0, 2 * np.pi, orders.shape)
    bumps = np.cos(orders * np.arctan2(y, x) + phases) / orders
    edge = 1 + np.tensordot(rng.normal(0, 0.25, 6), bumps, 1)
    return to_mnist(np.clip((edge - np.hypot(y, x)) * rng.uniform(3, 15), 0, 1))


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Makes noise, fine or coarse, hard or soft; or stripes."""
    from scipy import ndimage

    height, width = rng.integers(12, INK_SIDE + 1, 2).tolist()
    if rng.random() < 0.35:
        y, x = np.indices((height, width))
        angle, period = rng.uniform(0, np.pi), rng.uniform(2.5, 6)
        level = np.sin((y * np.sin(angle) + x * np.cos(angle)) * 2 * np.pi / period)
    else:
        grain = rng.normal(size=(height, width))
        level = ndimage.gaussian_filter(grain, rng.uniform(0, 1.2))
        level /= level.std()
    level = level * rng.uniform(0.3, 2) + rng.uniform(-0.5, 0.7)
    return to_mnist(np.clip(level, 0.01, 1))


def _faint(rng: np.random.Generator) -> np.ndarray:
    """Makes an empty image with grain, or with a few specks."""
    grain = np.abs(rng.normal(size=(IMAGE_SIDE, IMAGE_SIDE))) * rng.uniform(0, 25)
    specks = np.where(rng.random(grain.shape) < 0.01, rng.uniform(0, 255), 0)
    return np.clip(grain if rng.random() < 0.5 else specks, 0, 255).astype(np.uint8)


def _number(rng: np.random.Generator, digits: np.ndarray) -> np.ndarray:
    """Puts two or three digits side by side."""
    row = np.zeros((IMAGE_SIDE, 0), np.uint8)
    for digit in digits[rng.integers(len(digits), size=rng.integers(2, 4))]:
        crop = crop_to_ink(digit)
        height, width = crop.shape
        piece = np.zeros((IMAGE_SIDE, width + int(rng.integers(2, 6))), np.uint8)
        top = int(rng.integers(IMAGE_SIDE - height + 1))
        piece[top : top + height, :width] = crop
        row = np.hstack([row, piece])
    return to_mnist(row / 255)


STROKES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "letter": _letter,
    "word": _word,
    "scribble": _scribble,
    "zigzag": _zigzag,
    "coil": _coil,
    "lines": _lines,
    "star": _star,
    "dots": _dots,
}
FILLS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "stain": _stain,
    "texture": _texture,
    "faint": _faint,
}
SHARES = {  # parts of the whole
    "letter": 50,
    "word": 5,
    "scribble": 10,
    "zigzag": 4,
    "coil": 5,
    "lines": 6,
    "star": 2,
    "dots": 3,
    "stain": 3,
    "texture": 4,
    "faint": 2,
    "number": 5,
}
