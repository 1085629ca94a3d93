"""What pens, paper, light and cameras do: pure functions on colours."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_jax.drawing import glyphs
from mnist_jax.drawing.glyphs import Glyph

Colours = np.ndarray  # float32 [H, W, 3] in [0, 1]
Colour = tuple[float, float, float]
Rng = np.random.Generator

BLACK, WHITE = (0.08, 0.08, 0.09), (1.0, 1.0, 1.0)
PENS: dict[str, Colour] = {
    "black": (0.1, 0.1, 0.12),
    "blue": (0.12, 0.17, 0.55),
    "red": (0.75, 0.12, 0.15),
    "green": (0.05, 0.42, 0.2),
    "pencil": (0.38, 0.38, 0.4),
}


def scene(
    rng: Rng,
    glyph: Glyph,
    *,
    size: int | None = None,
    width: float | None = None,
    pen: Colour | None = None,
    paper: Colour = (0.96, 0.95, 0.93),
    margins: tuple[float, float] = (0.15, 0.6),
) -> Colours:
    """A glyph on plain paper.

    Args:
      rng: what is not given is drawn from it.
      glyph: what to write.
      size: pixels of the longest side.
      width: of the pen, as a share of `size`; None for the glyph's own strokes.
      pen: colour of the ink.
      paper: colour of the paper.
      margins: least and most, at each side, as shares of `size`.
    """
    size = size or int(np.exp(rng.uniform(np.log(60), np.log(260))))
    ink = glyphs.write_glyph(glyph, size, None if width is None else width * size)
    sides = (rng.uniform(*margins, 4) * size).astype(int)
    return paint(np.pad(ink, sides.reshape(2, 2)), pen or any_pen(rng), paper)


def paint(ink: np.ndarray, pen: Colour, paper: Colour | Colours) -> Colours:
    """Ink [H, W] on paper."""
    ink = ink[..., None]
    colours = ink * np.array(pen) + (1 - ink) * np.asarray(paper)
    return colours.astype(np.float32)


def any_pen(rng: Rng) -> Colour:
    """One of `PENS`."""
    return list(PENS.values())[rng.integers(len(PENS))]


def to_picture(colours: Colours) -> Image.Image:
    """An RGB picture."""
    levels = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(levels)


def smooth_field(rng: Rng, shape: tuple[int, int], waves: int) -> np.ndarray:
    """A smooth random field [H, W] in [0, 1]."""
    coarse = rng.random((waves + 1, waves + 1)).astype(np.float32)
    field = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
    levels = np.asarray(field)
    return (levels - levels.min()) / max(float(np.ptp(levels)), 1e-6)


def grain(rng: Rng, colours: Colours, amount: float) -> Colours:
    """Noise of a standard deviation, mostly the same in all colours."""
    shape = colours.shape
    noise = rng.normal(0, amount, (*shape[:2], 1)) + rng.normal(0, amount / 3, shape)
    return (colours + noise).astype(np.float32)


def uneven_light(rng: Rng, colours: Colours, least: float = 0.4) -> Colours:
    """Lit from one side, and a little unevenly."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * x + np.sin(angle) * y) / 2.83 + 0.5
    bumps = smooth_field(rng, (height, width), 3)
    light = least + (1 - least) * (0.8 * slope + 0.2 * bumps)
    return colours * light[..., None].astype(np.float32)


def cast_shadow(rng: Rng, colours: Colours) -> Colours:
    """The shadow of a straight edge, a hand or a phone."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
    softness = rng.uniform(0.01, 0.15)
    across = np.cos(angle) * x + np.sin(angle) * y - place
    shade = 1 / (1 + np.exp(np.clip(across / softness, -50, 50)))
    return colours * (1 - rng.uniform(0.3, 0.55) * shade[..., None]).astype(np.float32)


def lines(
    rng: Rng, colours: Colours, *, squared: bool, spacing: float | None = None
) -> Colours:
    """Ruled or squared paper, printed under the ink."""
    height, width = colours.shape[:2]
    spacing = spacing or min(height, width) * rng.uniform(0.15, 0.5)
    thickness = max(1.0, spacing * rng.uniform(0.02, 0.05))
    tilt = np.tan(np.deg2rad(rng.uniform(-3, 3)))
    y, x = np.mgrid[:height, :width]
    ruled = ((y + tilt * x + rng.uniform(0, spacing)) % spacing) < thickness
    if squared:
        ruled |= ((x - tilt * y + rng.uniform(0, spacing)) % spacing) < thickness
    blue = np.array([0.55, 0.68, 0.85]) if rng.random() < 0.7 else np.full(3, 0.65)
    return np.where(ruled[..., None], colours * blue, colours).astype(np.float32)


def table(rng: Rng, colours: Colours) -> Colours:
    """The paper lies on a dark table, which shows at some sides or all around."""
    height, width = colours.shape[:2]
    side = int(max(height, width) * rng.uniform(0.06, 0.25))
    shown = rng.random(4) < 0.7
    shown[rng.integers(4)] = True
    sides = np.where(shown, side, 0).reshape(2, 2)
    wood = np.array([0.35, 0.22, 0.12]) * rng.uniform(0.4, 1.1)
    place = np.pad(np.ones((height, width, 1)), (*sides, (0, 0)))
    place = turn(place, rng.uniform(-4, 4), np.zeros(1))
    inner = np.pad(colours, (*sides, (0, 0)), mode="edge")
    texture = 0.8 + 0.4 * smooth_field(rng, place.shape[:2], 9)[..., None]
    return (place * inner + (1 - place) * wood * texture).astype(np.float32)


def turn(colours: np.ndarray, degrees: float, ground: np.ndarray) -> np.ndarray:
    """Turned about the centre; `ground` [C] fills the corners."""
    planes = [
        Image.fromarray(np.ascontiguousarray(colours[..., c], np.float32)).rotate(
            degrees, Image.Resampling.BICUBIC, fillcolor=float(ground[c])
        )
        for c in range(colours.shape[-1])
    ]
    return np.clip(np.stack([np.asarray(p) for p in planes], -1), 0, 1)


def at_an_angle(rng: Rng, colours: Colours) -> Colours:
    """Mild perspective, as of a phone that is not held straight above."""
    height, width = colours.shape[:2]
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)], float)
    moved = corners + rng.uniform(-0.1, 0.1, (4, 2)) * min(height, width)
    # The eight coefficients of the projection that takes `corners` to `moved`.
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, moved, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    coefficients = np.linalg.solve(rows, values)
    pad = int(0.15 * min(height, width))
    ground = to_picture(np.pad(colours, ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
    shift = np.array([[1, 0, pad], [0, 1, pad], [0, 0, 1]])
    matrix = shift @ np.append(coefficients, 1).reshape(3, 3)
    matrix /= matrix[2, 2]
    seen = ground.transform(
        (width, height),
        Image.Transform.PERSPECTIVE,
        matrix.ravel()[:8].tolist(),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(seen, np.float32) / 255


def compress(picture: Image.Image, quality: int) -> Image.Image:
    """What JPEG leaves of it."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def fibres(rng: Rng, colours: Colours) -> Colours:
    """Texture of rough or crumpled paper."""
    shape = colours.shape[:2]
    coarse = smooth_field(rng, shape, 12)
    noise = rng.normal(0, 1, shape).astype(np.float32)
    fine = ndimage.uniform_filter(noise, 3)
    texture = 1 + 0.12 * (coarse - 0.5) + 0.06 * fine
    return colours * texture[..., None]
