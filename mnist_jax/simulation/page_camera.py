"""Turns a sheet's ink into a picture: pen, paper, light, lens, sensor, file."""

from typing import NamedTuple

import numpy as np

from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.reading.page_tiles import edge_level
from mnist_jax.simulation.page_digits import Rng
from mnist_jax.simulation.page_frames import make_guilloche

READABLE = 8.0  # pixels: digits are not made lower than that in a reduced picture


class Tones(NamedTuple):
    """Grey levels of a page, on a paper of 1."""

    paper: float  # grey level, 0 to 255
    ink: float  # what the writing takes away, as a share of the paper
    frame: float  # what printed lines take away
    noise: float  # how much of the ink's contrast noise may have
    roughness: float  # multiplies the shares of faults; a clean scan has 0.1


def draw_tones(rng: Rng, height: float, pen: float) -> Tones:
    """Draws how dark paper, ink and printed lines are.

    Colours that differ while their lightness hardly does are faint inks here. The ink
    of low digits and of thin pens is not faint; `height` and `pen` are in pixels.
    """
    roughness = float(rng.choice([0.1, 0.8, 1.5], p=[0.35, 0.4, 0.25]))
    lowest = 215 if roughness < 0.5 else 110
    paper = 255.0 if rng.random() < 0.25 else float(rng.uniform(lowest, 255))
    kind = rng.random()
    if kind < 0.75:
        ink = float(rng.uniform(0.5, 1.0))
    elif kind < 0.94:
        ink = float(rng.uniform(0.25, 0.5))
    else:
        ink = float(rng.uniform(0.12, 0.25))
    ink = max(ink, 24 / paper, min(0.55, 0.75 / pen), min(0.6, 7 / height))
    kind = rng.random()
    if kind < 0.55:  # up to as dark as the ink
        frame = ink * float(rng.uniform(0.25, 1.0))
    elif kind < 0.75:
        frame = ink * float(rng.uniform(0.06, 0.25))
    else:
        frame = float(rng.uniform(ink, 1.0))
    noise = float(rng.uniform(0.0, 0.25)) if rng.random() < 0.35 * roughness else 0.03
    noise = min(noise, 0.03 + 0.05 * pen)
    return Tones(paper, ink, min(frame, 0.97), noise, roughness)


def take_picture(
    rng: Rng,
    ink: np.ndarray,
    frame: np.ndarray,
    height: float,
    pen: float,
    background: np.ndarray | None = None,
) -> np.ndarray:
    """Takes a picture of a page.

    Args:
      rng: tones and all faults are drawn from it.
      ink: coverage uint8 [H, W].
      frame: printed lines, coverage uint8 [H, W].
      height: of its digits in pixels; no fault makes such digits unreadable.
      pen: its width in pixels.
      background: what the paper shows, float32 [H, W] in [0, 1], as a share of what
        ink takes away; None for nothing.

    Returns:
      uint8 [H, W].
    """
    cv2 = load_opencv()
    tones = draw_tones(rng, height, pen)
    paper = _make_paper(rng, ink.shape, tones)
    if rng.random() < 0.02:  # the other side shines through
        other = ink[:, ::-1].astype(np.float32) * np.float32(rng.uniform(0.05, 0.2))
        paper *= 1 - np.float32(tones.ink / 255) * cv2.GaussianBlur(other, (0, 0), 1.2)
    if background is not None:
        paper *= 1 - np.float32(tones.ink) * background
    picture = paper * _cover(rng, ink, frame, height, tones)
    contrast = tones.paper * tones.ink
    picture = _scan(rng, picture, tones)
    if rng.random() < 0.05 and tones.roughness < 0.5:  # a scan in black and white
        limit = tones.paper * (1 - tones.ink * float(rng.uniform(0.35, 0.6)))
        picture = np.where(picture < limit, np.float32(0), np.float32(255))
    picture = _lose_sharpness(rng, picture, height, contrast, tones.roughness)
    picture = _add_noise(rng, picture, contrast * tones.noise)
    levels = cv2.convertScaleAbs(np.clip(picture, 0, 255))
    if rng.random() < 0.3:
        lowest = 25 if contrast > 70 and height > 14 else 60
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(lowest, 96))]
        _, code = cv2.imencode(".jpg", levels, quality)
        levels = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    if rng.random() < 0.3:
        levels = 255 - levels
    return levels


def _cover(
    rng: Rng, ink: np.ndarray, frame: np.ndarray, height: float, tones: Tones
) -> np.ndarray:
    """Returns how much light is left where ink and lines are, float32 [H, W]."""
    cv2 = load_opencv()
    writing, lines = (part.astype(np.float32) / 255 for part in (ink, frame))
    sigma = float(rng.uniform(0, 0.035)) * min(height, 40)
    if sigma > 0.35:
        writing = cv2.GaussianBlur(writing, (0, 0), sigma)
    if sigma > 0.5 and rng.random() < 0.5:
        lines = cv2.GaussianBlur(lines, (0, 0), sigma * 0.7)
    grain = rng.random()
    if grain < 0.15 and tones.ink > 0.3:  # pencil and chalk catch on the paper
        writing *= np.clip(_clouds(rng, ink.shape, 1, 0.25) + 0.85, 0.35, 1)
    elif grain < 0.25:  # a pen that runs dry
        writing *= np.clip(_clouds(rng, ink.shape, 16, 0.2) + 0.9, 0.5, 1)
    if rng.random() < 0.5:
        return (1 - tones.ink * writing) * (1 - tones.frame * lines)
    return 1 - np.maximum(tones.ink * writing, tones.frame * lines)


def _clouds(rng: Rng, shape: tuple[int, ...], size: float, amount: float) -> np.ndarray:
    """Returns smooth noise: its size in pixels, its deviation."""
    cv2 = load_opencv()
    height, width = (max(2, int(side / size) + 1) for side in shape)
    noise = rng.standard_normal((height, width), dtype=np.float32) * np.float32(amount)
    if size == 1:
        return noise[: shape[0], : shape[1]]
    across, down = shape[1], shape[0]
    return cv2.resize(noise, (across, down), interpolation=cv2.INTER_LINEAR)


def _make_paper(rng: Rng, shape: tuple[int, ...], tones: Tones) -> np.ndarray:
    """Returns paper in its light, float32 [H, W]."""
    cv2 = load_opencv()
    height, width = shape
    paper = np.full(shape, tones.paper, np.float32)
    is_strong, rough = tones.ink > 0.3, tones.roughness
    if rng.random() < 0.4 * rough:  # uneven light
        darkest = 0.45 if is_strong else 0.75
        corners = rng.uniform(darkest, 1.1, (2, int(rng.integers(2, 4))))
        light = corners.astype(np.float32)
        paper *= cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.1 * rough:  # a shadow with an edge
        paper *= _shadow(rng, shape, 0.5 if is_strong else 0.8)
    if rng.random() < 0.08 * rough:  # glare
        paper += _glare(rng, shape, 255 - tones.paper * (1 - 0.2 * tones.ink))
    kind = rng.random() / rough
    if kind < 0.3:  # fibres, stains, a board
        size = float(np.exp(rng.uniform(np.log(1.5), np.log(40))))
        limit = (0.16 if size > 6 else 0.09) * tones.ink
        paper *= 1 + _clouds(rng, shape, size, float(rng.uniform(0.01, limit)))
    elif kind < 0.4:  # patterned paper
        strength = float(rng.uniform(0.03, 0.3)) * tones.ink
        paper *= 1 - make_guilloche(rng, (height, width)) * np.float32(strength)
    elif kind < 0.43 and is_strong:  # a screen seen by a camera
        paper *= _moire(rng, shape, float(rng.uniform(0.02, 0.1)))
    return paper


def _axis(shape: tuple[int, ...], angle: float) -> np.ndarray:
    """Returns how far each pixel is from the middle in a direction, float32 [H, W]."""
    y = np.arange(shape[0], dtype=np.float32)[:, None] - shape[0] / 2
    x = np.arange(shape[1], dtype=np.float32)[None] - shape[1] / 2
    return x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))


def _shadow(rng: Rng, shape: tuple[int, ...], darkest: float) -> np.ndarray:
    side = _axis(shape, rng.uniform(0, 6.3)) - rng.uniform(-0.3, 0.3) * max(shape)
    soft = np.float32(np.exp(rng.uniform(0, 3.3)))
    depth = 1 - float(rng.uniform(darkest, 0.9))
    return 1 - np.float32(depth) * np.clip(side / soft + 0.5, 0, 1)


def _glare(rng: Rng, shape: tuple[int, ...], most: float) -> np.ndarray:
    y = np.arange(shape[0], dtype=np.float32)[:, None] - rng.uniform(0, shape[0])
    x = np.arange(shape[1], dtype=np.float32)[None] - rng.uniform(0, shape[1])
    size = float(rng.uniform(0.15, 0.5)) * max(shape)
    far = np.exp(-(y**2 + x**2) / np.float32(2 * size**2))
    return np.float32(rng.uniform(0.3, 1) * most) * far


def _moire(rng: Rng, shape: tuple[int, ...], amount: float) -> np.ndarray:
    ripples = np.ones(shape, np.float32)
    for _ in range(2):
        pitch = np.float32(2 * np.pi / rng.uniform(2.2, 9))
        ripple = np.sin(_axis(shape, rng.uniform(0, 3.2)) * pitch)
        ripples *= 1 - np.float32(amount) * ripple
    return ripples


def _scan(rng: Rng, picture: np.ndarray, tones: Tones) -> np.ndarray:
    """Adds what scanners and windows show beside the page, in place."""
    height, width = picture.shape
    if rng.random() < 0.06:  # black edges
        dark = float(rng.uniform(0, 70))
        for side in rng.permutation(4)[: rng.integers(1, 4)]:
            thick = int(rng.integers(1, max(2, min(height, width) // 14)))
            upright = picture if side < 2 else picture.T
            upright[slice(None, thick) if side % 2 else slice(-thick, None)] = dark
    if rng.random() < 0.01:  # a bar of an application's window
        picture[: int(rng.integers(4, max(5, height // 6)))] *= np.float32(
            rng.uniform(0.4, 1.3)
        )
    return picture


def _lose_sharpness(
    rng: Rng, picture: np.ndarray, height: float, contrast: float, roughness: float
) -> np.ndarray:
    cv2 = load_opencv()
    share = min(1.0, 0.4 + 0.6 * roughness)
    down, across = picture.shape
    if rng.random() < 0.24 * share and contrast > 45:  # enlarged from few pixels
        most = min(height / READABLE, 5.0)
        if most > 1.15:
            factor = float(np.exp(rng.uniform(np.log(1.1), np.log(most))))
            size = (max(4, round(across / factor)), max(4, round(down / factor)))
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
            way = ways[rng.choice(3, p=[0.5, 0.35, 0.15])] if height > 20 else ways[0]
            return cv2.resize(small, (across, down), interpolation=way)
    if rng.random() < 0.15 * share and height > 12:
        sigma = float(rng.uniform(0.4, min(1.6, 0.045 * height)))
        return cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3))
    if rng.random() < 0.05 and height > 16:  # moved
        reach = int(min(0.1 * height, 6)) // 2 * 2 + 1
        kernel = np.zeros((reach, reach), np.float32)
        kernel[reach // 2] = 1 / reach
        return cv2.filter2D(picture, -1, kernel if rng.random() < 0.5 else kernel.T)
    if rng.random() < 0.08:  # oversharpened, as phones do
        soft = cv2.GaussianBlur(picture, (0, 0), 1.2)
        return picture + np.float32(rng.uniform(0.3, 1.0)) * (picture - soft)
    return picture


def _add_noise(rng: Rng, picture: np.ndarray, deviation: float) -> np.ndarray:
    kind = rng.random()
    if kind < 0.4 or deviation < 0.7:
        return picture
    if kind < 0.93:
        deviation = min(deviation, 28.0)
        if kind < 0.75:
            return picture + _clouds(rng, picture.shape, 1, deviation)
        coarse = float(rng.uniform(1.3, 2.2))
        return picture + _clouds(rng, picture.shape, coarse, 0.7 * deviation)
    specks = rng.random(picture.shape, dtype=np.float32)  # dust on the scanner
    share = np.float32(rng.uniform(0.0005, 0.012))
    picture[specks < share] = 20
    picture[specks > 1 - share] = 245
    return picture


def pad_picture(
    rng: Rng, picture: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, int, int]:
    """Puts a small picture on a tile of the median grey of its border.

    Returns:
      The tile, and x and y of the picture's corner on it.
    """
    tile = np.full(shape, edge_level(picture), np.uint8)
    rest = [
        max(0, room - side) for room, side in zip(shape, picture.shape, strict=True)
    ]
    top, left = (min(int(rng.integers(16, 33)), most) for most in rest)
    tile[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return tile, left, top
