"""Pictures as people send them, made from digits: for choosing and testing.

    CONDITIONS   a digit, under each of the conditions that pictures come in
    UNSEEN_STYLES   digits of styles that are often misread, drawn stroke by stroke
    NEGATIVES    what is no digit: letters, scribbles, textures, blank paper

Everything is a pure function of its arguments and of a seed.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from mnist_jax.datasets.arrays import check_images
from mnist_jax.drawing import glyphs, unseen_styles
from mnist_jax.drawing.glyphs import Glyph
from mnist_jax.errors import ArgumentError
from mnist_jax.reading.reader import MIN_CONFIDENCE
from mnist_jax.simulation import scenes
from mnist_jax.simulation.scenes import Rng

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded


class Sample(NamedTuple):
    """A picture, and what it shows."""

    condition: str
    picture: Image.Image  # RGB, or RGBA
    label: int | None  # None for no digit


def _clean_scan(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.to_picture(
        scenes.scene(rng, glyph, pen=scenes.BLACK, paper=scenes.WHITE)
    )


def _mnist_like(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.to_picture(
        scenes.scene(rng, glyph, pen=scenes.WHITE, paper=(0, 0, 0), margins=(0.2, 0.2))
    ).resize((28, 28))


def _marker(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.to_picture(
        scenes.grain(rng, scenes.scene(rng, glyph, width=0.13), 0.01)
    )


def _ballpoint(rng: Rng, glyph: Glyph) -> Image.Image:
    pen = scenes.PENS[("blue", "black")[rng.integers(2)]]
    colours = scenes.scene(rng, glyph, width=rng.uniform(0.02, 0.05), pen=pen)
    return scenes.to_picture(
        scenes.grain(rng, scenes.uneven_light(rng, colours, 0.7), 0.015)
    )


def _pencil(rng: Rng, glyph: Glyph) -> Image.Image:
    ink = glyphs.write_glyph(glyph, size := int(rng.uniform(80, 300)), size * 0.04)
    ink = np.pad(ink, size // 4)
    worn = np.clip(rng.normal(0.75, 0.3, ink.shape), 0, 1)  # by the paper's grain
    colours = scenes.paint(ink * worn, scenes.PENS["pencil"], (0.95, 0.94, 0.92))
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _faint_blue_pen(rng: Rng, glyph: Glyph) -> Image.Image:
    paper = (0.9, 0.9, 0.88)
    colours = scenes.scene(rng, glyph, width=0.035, pen=(0.66, 0.7, 0.87), paper=paper)
    return scenes.to_picture(
        scenes.grain(rng, scenes.uneven_light(rng, colours, 0.8), 0.015)
    )


def _mouse_line(rng: Rng, glyph: Glyph) -> Image.Image:
    size = int(rng.uniform(60, 400))
    return scenes.to_picture(
        scenes.scene(rng, glyph, size=size, width=1 / size, paper=scenes.WHITE)
    )


def _very_thick_marker(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.to_picture(scenes.scene(rng, glyph, width=rng.uniform(0.19, 0.24)))


def _light_on_dark(rng: Rng, glyph: Glyph) -> Image.Image:
    board = rng.uniform(0.02, 0.3, 3)
    chalk = rng.uniform(0.75, 1, 3)
    colours = scenes.scene(rng, glyph, pen=tuple(chalk), paper=tuple(board))
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _coloured_on_coloured(rng: Rng, glyph: Glyph) -> Image.Image:
    while True:
        pen, paper = rng.random((2, 3))
        if np.linalg.norm(pen - paper) > 0.5:
            return scenes.to_picture(
                scenes.scene(rng, glyph, pen=tuple(pen), paper=tuple(paper))
            )


def _uneven_light(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.uneven_light(rng, scenes.scene(rng, glyph), 0.25)
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _cast_shadow(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.cast_shadow(rng, scenes.scene(rng, glyph, margins=(0.3, 0.8)))
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _ruled_paper(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.lines(rng, scenes.scene(rng, glyph, width=0.05), squared=False)
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _squared_paper(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.lines(rng, scenes.scene(rng, glyph, width=0.06), squared=True)
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _frame(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.scene(rng, glyph, pen=scenes.BLACK, paper=scenes.WHITE)
    height, width = colours.shape[:2]
    thickness = int(max(1, rng.uniform(0.005, 0.05) * min(height, width)))
    inset = int(rng.choice([0, 0, 0.02, 0.05]) * min(height, width))
    framed = np.tile(np.array(scenes.BLACK, np.float32), (height, width, 1))
    framed[thickness:-thickness, thickness:-thickness] = colours[
        thickness:-thickness, thickness:-thickness
    ]
    sides = ((inset, inset), (inset, inset), (0, 0))
    return scenes.to_picture(np.pad(framed, sides, constant_values=1))


def _on_a_table(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.table(rng, scenes.scene(rng, glyph, margins=(0.3, 0.6)))
    return scenes.to_picture(
        scenes.grain(rng, scenes.uneven_light(rng, colours, 0.7), 0.015)
    )


def _at_an_angle(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.at_an_angle(rng, scenes.scene(rng, glyph, margins=(0.3, 0.6)))
    return scenes.to_picture(
        scenes.grain(rng, scenes.uneven_light(rng, colours, 0.7), 0.015)
    )


def _rotated(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.scene(rng, glyph, margins=(0.3, 0.6))
    degrees = float(rng.choice([-12, 12]))
    return scenes.to_picture(scenes.turn(colours, degrees, colours[0, 0]))


def _blur(rng: Rng, glyph: Glyph) -> Image.Image:
    picture = scenes.to_picture(scenes.scene(rng, glyph))
    radius = 0.02 * max(picture.size) * rng.uniform(0.5, 1)
    return picture.filter(ImageFilter.GaussianBlur(radius))


def _noise(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.to_picture(
        scenes.grain(rng, scenes.scene(rng, glyph), rng.uniform(0.06, 0.12))
    )


def _jpeg_10(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.compress(scenes.to_picture(scenes.scene(rng, glyph)), 10)


def _low_contrast(rng: Rng, glyph: Glyph) -> Image.Image:
    paper, step = rng.uniform(0.4, 0.9), rng.uniform(0.1, 0.16)
    colours = scenes.scene(rng, glyph, pen=(paper - step,) * 3, paper=(paper,) * 3)
    return scenes.to_picture(scenes.grain(rng, colours, 0.006))


def _colour_cast(rng: Rng, glyph: Glyph) -> Image.Image:
    cast = rng.uniform(0.4, 1, 3).astype(np.float32)
    return scenes.to_picture(scenes.grain(rng, scenes.scene(rng, glyph) * cast, 0.015))


def _small_in_a_corner(rng: Rng, glyph: Glyph) -> Image.Image:
    size = int(rng.uniform(30, 60))
    colours = scenes.scene(rng, glyph, size=size, width=0.1, margins=(0.3, 0.5))
    more = int(size * rng.uniform(3, 8))
    sides = [(0, more), (more, 0)]
    down, across = sides[rng.integers(2)], sides[rng.integers(2)]
    colours = np.pad(colours, (down, across, (0, 0)), mode="edge")
    return scenes.to_picture(scenes.grain(rng, colours, 0.01))


def _wide_canvas(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.scene(rng, glyph, pen=scenes.BLACK, paper=scenes.WHITE)
    more = (colours.shape[1] * rng.uniform(0.5, 3, 2)).astype(int)
    sides = ((0, 0), tuple(more), (0, 0))
    return scenes.to_picture(np.pad(colours, sides, mode="edge"))


def _tight_crop(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.scene(rng, glyph, margins=(0, 0))
    return scenes.to_picture(scenes.grain(rng, colours, 0.01))


def _touching_the_border(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.scene(rng, glyph, margins=(0.15, 0.4))
    ink = np.abs(colours - colours[0, 0]).sum(-1) > 0.3
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    for axis, places in ((0, rows), (1, columns)):
        if rng.random() < 0.6:
            colours = np.take(colours, range(places[0], colours.shape[axis]), axis)
        else:
            colours = np.take(colours, range(places[-1] + 1), axis)
    return scenes.to_picture(scenes.grain(rng, colours, 0.01))


def _of_20_pixels(rng: Rng, glyph: Glyph) -> Image.Image:
    picture = scenes.to_picture(
        scenes.scene(rng, glyph, width=0.1, margins=(0.1, 0.25))
    )
    side = 20 / max(picture.size)
    return picture.resize((round(picture.width * side), round(picture.height * side)))


def _of_28_pixels(rng: Rng, glyph: Glyph) -> Image.Image:
    picture = scenes.to_picture(
        scenes.grain(
            rng,
            scenes.uneven_light(rng, scenes.scene(rng, glyph, width=0.07), 0.7),
            0.015,
        )
    )
    side = max(picture.size)
    square = Image.new("RGB", (side, side), picture.getpixel((1, 1)))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((28, 28))


def _upscaled_8x8(rng: Rng, glyph: Glyph) -> Image.Image:
    ink = glyphs.write_glyph(glyph, 160)
    across = max(1, round(ink.shape[1] / 160 * 8))
    coarse = Image.fromarray(ink).resize((across, 8), Image.Resampling.BOX)
    levels = np.pad(np.asarray(coarse), ((0, 0), ((9 - across) // 2,) * 2))
    picture = scenes.to_picture(scenes.paint(levels, scenes.WHITE, (0, 0, 0)))
    scale = int(rng.integers(8, 40))
    size = (picture.width * scale, picture.height * scale)
    how = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)[rng.integers(2)]
    return picture.resize(size, how)


def _alpha(rng: Rng, glyph: Glyph, tone: int) -> Image.Image:
    colours = scenes.scene(rng, glyph, pen=scenes.WHITE, paper=(0, 0, 0))
    picture = Image.new("RGBA", colours.shape[1::-1], (tone, tone, tone, 0))
    picture.putalpha(scenes.to_picture(colours).getchannel(0))
    return picture


def _alpha_black_ink(rng: Rng, glyph: Glyph) -> Image.Image:
    return _alpha(rng, glyph, 0)


def _alpha_white_ink(rng: Rng, glyph: Glyph) -> Image.Image:
    return _alpha(rng, glyph, 255)


def _broken_strokes(rng: Rng, glyph: Glyph) -> Image.Image:
    size = int(rng.uniform(80, 260))
    ink = np.pad(glyphs.write_glyph(glyph, size, 0.06 * size), size // 4)
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    for py, px in rng.permutation(np.argwhere(ink > 0.5))[: rng.integers(2, 6)]:
        ink[(y - py) ** 2 + (x - px) ** 2 < (0.045 * size) ** 2] = 0
    return scenes.to_picture(scenes.paint(ink, scenes.any_pen(rng), (0.96, 0.95, 0.93)))


def _paper_texture(rng: Rng, glyph: Glyph) -> Image.Image:
    return scenes.to_picture(scenes.fibres(rng, scenes.scene(rng, glyph, width=0.06)))


def _specks(rng: Rng, glyph: Glyph) -> Image.Image:
    colours = scenes.scene(rng, glyph)
    height, width = colours.shape[:2]
    y, x = np.mgrid[:height, :width]
    for _ in range(rng.integers(5, 30)):
        radius = rng.uniform(0.5, 0.012 * max(height, width) + 0.5)
        py, px = rng.uniform(0, height), rng.uniform(0, width)
        colours[(y - py) ** 2 + (x - px) ** 2 <= radius**2] = scenes.BLACK
    return scenes.to_picture(colours)


def _phone_photo(rng: Rng, glyph: Glyph) -> Image.Image:
    """Several of them at once, in a large picture."""
    size = int(rng.uniform(150, 400))
    width = rng.uniform(0.03, 0.1)
    colours = scenes.scene(rng, glyph, size=size, width=width, margins=(0.4, 0.9))
    if rng.random() < 0.5:
        colours = scenes.lines(rng, colours, squared=rng.random() < 0.5)
    colours = scenes.at_an_angle(rng, scenes.fibres(rng, colours))
    colours = scenes.uneven_light(rng, colours, 0.5)
    if rng.random() < 0.5:
        colours = scenes.cast_shadow(rng, colours)
    cast = rng.uniform(0.75, 1, 3).astype(np.float32)
    picture = scenes.to_picture(scenes.grain(rng, colours * cast, 0.02))
    return scenes.compress(picture.filter(ImageFilter.GaussianBlur(1)), 70)


CONDITIONS: dict[str, Callable[[Rng, Glyph], Image.Image]] = {
    "clean scan": _clean_scan,
    "28x28 as MNIST": _mnist_like,
    "marker": _marker,
    "ballpoint": _ballpoint,
    "pencil": _pencil,
    "faint blue pen": _faint_blue_pen,
    "one-pixel line": _mouse_line,
    "very thick marker": _very_thick_marker,
    "light on dark": _light_on_dark,
    "coloured on coloured": _coloured_on_coloured,
    "uneven light": _uneven_light,
    "cast shadow": _cast_shadow,
    "ruled paper": _ruled_paper,
    "squared paper": _squared_paper,
    "frame": _frame,
    "paper on a table": _on_a_table,
    "at an angle": _at_an_angle,
    "rotated by 12 degrees": _rotated,
    "blur": _blur,
    "noise": _noise,
    "JPEG of quality 10": _jpeg_10,
    "low contrast": _low_contrast,
    "colour cast": _colour_cast,
    "small in a corner": _small_in_a_corner,
    "wide canvas": _wide_canvas,
    "tight crop": _tight_crop,
    "touching the border": _touching_the_border,
    "20 pixels": _of_20_pixels,
    "28 pixels": _of_28_pixels,
    "8x8, enlarged": _upscaled_8x8,
    "alpha, black ink": _alpha_black_ink,
    "alpha, white ink": _alpha_white_ink,
    "broken strokes": _broken_strokes,
    "paper texture": _paper_texture,
    "specks": _specks,
    "phone photo": _phone_photo,
}


# What is no digit.


def _blank_plain(rng: Rng) -> Image.Image:
    paper = rng.uniform(0.2, 1, 3) if rng.random() < 0.5 else np.ones(3)
    colours = np.tile(paper.astype(np.float32), (*rng.integers(30, 500, 2), 1))
    return scenes.to_picture(scenes.grain(rng, colours, rng.uniform(0, 0.02)))


def _blank_textured(rng: Rng) -> Image.Image:
    colours = np.full((*rng.integers(60, 500, 2), 3), 0.92, np.float32)
    colours = scenes.grain(rng, scenes.fibres(rng, colours), 0.015)
    return scenes.compress(scenes.to_picture(colours), int(rng.integers(20, 95)))


def _blank_shaded(rng: Rng) -> Image.Image:
    colours = np.full((*rng.integers(60, 500, 2), 3), 0.92, np.float32)
    colours = scenes.uneven_light(rng, colours)
    if rng.random() < 0.5:
        colours = scenes.cast_shadow(rng, colours)
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _blank_ruled(rng: Rng) -> Image.Image:
    colours = np.full((*rng.integers(60, 500, 2), 3), 0.92, np.float32)
    colours = scenes.lines(rng, colours, squared=rng.random() < 0.5)
    return scenes.to_picture(scenes.grain(rng, colours, 0.015))


def _scribble(rng: Rng) -> Image.Image:
    count = int(rng.integers(12, 40))
    steps = np.cumsum(rng.normal(0, 1, (count, 2)), axis=0)
    points = rng.random((count, 2)) if rng.random() < 0.5 else steps
    return _on_paper(rng, glyphs.from_polylines([glyphs.rounded(points)]))


def _texture(rng: Rng) -> Image.Image:
    height, width = (int(n) for n in rng.integers(40, 300, 2))
    y, x = np.mgrid[:height, :width]
    period = rng.uniform(4, 60)
    kind = rng.integers(4)
    if kind == 0:
        levels = scenes.smooth_field(rng, (height, width), int(rng.integers(3, 20)))
    elif kind == 1:
        levels = np.sin((x * rng.normal() + y * rng.normal()) * 6.28 / period)
        levels = levels * 0.5 + 0.5
    elif kind == 2:
        levels = ((x // period + y // period) % 2).astype(np.float32)
    else:
        levels = rng.random((height, width))
    ink, paper = rng.random((2, 3))
    return scenes.to_picture(scenes.paint(levels, tuple(ink), tuple(paper)))


def _letter(rng: Rng, letters: str) -> Image.Image:
    letter = letters[rng.integers(len(letters))]
    return _on_paper(rng, glyphs.from_letter(letter, int(rng.integers(4))))


def _latin_letter(rng: Rng) -> Image.Image:
    return _letter(rng, glyphs.LATIN)


def _greek_letter(rng: Rng) -> Image.Image:
    return _letter(rng, glyphs.GREEK)


def _on_paper(rng: Rng, glyph: Glyph) -> Image.Image:
    width = (None, 0.02, 0.05, 0.09, 0.13)[rng.integers(5)]
    paper = scenes.WHITE
    colours = scenes.scene(rng, glyph, width=width, paper=paper)
    return scenes.to_picture(scenes.grain(rng, colours, rng.uniform(0, 0.02)))


NEGATIVES: dict[str, Callable[[Rng], Image.Image]] = {
    "blank, plain": _blank_plain,
    "blank, textured": _blank_textured,
    "blank, shaded": _blank_shaded,
    "blank, ruled": _blank_ruled,
    "scribble": _scribble,
    "texture": _texture,
    "Latin letter": _latin_letter,
    "Greek letter": _greek_letter,
}


# All of them.


def samples(
    images: np.ndarray, labels: np.ndarray, per_condition: int, seed: int = 0
) -> Iterator[Sample]:
    """Pictures of all conditions, styles and negatives.

    Args:
      images: uint8 [N, 28, 28, 1] or [N, 28, 28], that no model was trained on.
      labels: int [N].
      per_condition: how many pictures of each.
      seed: the same one gives the same pictures.

    Raises:
      ArgumentError: the images are others, or there are none, or no label for each.
    """
    check_images(images[..., None] if images.ndim == 3 else images)
    if not len(images) == len(labels) > 0 or per_condition < 1:
        counts = f"got {len(images)}, {len(labels)} and {per_condition}"
        raise ArgumentError(f"give images, a label for each, and a count: {counts}")
    for name, render in CONDITIONS.items():
        for index in range(per_condition):
            rng = _rng(seed, name, index)
            chosen = rng.integers(len(labels))
            glyph = glyphs.from_image(images[chosen].reshape(28, 28))
            yield Sample(name, render(rng, glyph), int(labels[chosen]))
    for name, (label, draw) in unseen_styles.UNSEEN_STYLES.items():
        for index in range(per_condition):
            rng = _rng(seed, name, index)
            glyph = glyphs.from_polylines(unseen_styles.by_hand(rng, draw(rng)))
            yield Sample(name, _on_paper(rng, glyph), label)
    for name, make in NEGATIVES.items():
        for index in range(per_condition):
            yield Sample(name, make(_rng(seed, name, index)), None)


def _rng(seed: int, name: str, index: int) -> Rng:
    """Its own for each picture, so that new conditions leave the others alone."""
    return np.random.default_rng([seed, index, *name.encode()])


class ConditionScore(NamedTuple):
    """How pictures of one condition were read."""

    condition: str
    num_pictures: int
    accuracy: float | None  # blank counts as wrong; None where there is no digit
    wrong_and_sure: float  # share wrong, or no digit, with a confidence above 0.9
    unsure: float  # share that `reader.MIN_CONFIDENCE` refuses
    blank: float  # share in which no ink was found


def prepare_all(pictures: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """What the model sees of each picture.

    Returns:
      uint8 [N, 28, 28, 1], and bool [N], whether there was any ink.
    """
    from mnist_jax.reading.pictures import BlankError, prepare

    images = np.zeros((len(pictures), 28, 28, 1), np.uint8)
    inked = np.ones(len(pictures), bool)
    for index, picture in enumerate(pictures):
        try:
            images[index, ..., 0] = prepare(_decoded(picture))
        except BlankError:
            inked[index] = False
    return images, inked


def _decoded(picture: Image.Image) -> Image.Image:
    """As it comes from its file, transparency filled in."""
    from mnist_jax.reading.files import read_picture

    if picture.mode == "RGB":
        return picture
    file = io.BytesIO()
    picture.save(file, "PNG")
    return read_picture(file.getvalue())


def measure_conditions(
    loaded: "Loaded",
    images: np.ndarray,
    labels: np.ndarray,
    per_condition: int = 100,
    seed: int = 0,
) -> list[ConditionScore]:
    """Reads pictures of every condition with a model; arguments as in `samples`."""
    from mnist_jax.reading.reader import predict

    made, truth, conditions = [], [], []
    num_kinds = len(CONDITIONS) + len(unseen_styles.UNSEEN_STYLES) + len(NEGATIVES)
    every = samples(images, labels, per_condition, seed)
    for sample in tqdm(
        every, "pictures", per_condition * num_kinds, leave=False, disable=None
    ):
        made.append(prepare_all([sample.picture]))
        truth.append(-1 if sample.label is None else sample.label)
        conditions.append(sample.condition)
    prepared, inked = map(np.concatenate, zip(*made, strict=True))
    probabilities = predict(loaded, prepared)
    answers = np.where(inked, probabilities.argmax(1), -1)
    confidences = np.where(inked, probabilities.max(1), np.nan)
    return [
        _score(name, np.array(truth)[at], answers[at], confidences[at])
        for name in dict.fromkeys(conditions)
        for at in [np.array(conditions) == name]
    ]


def _score(
    name: str, truth: np.ndarray, answers: np.ndarray, confidences: np.ndarray
) -> ConditionScore:
    right = (answers == truth) & (truth >= 0)
    return ConditionScore(
        condition=name,
        num_pictures=len(truth),
        accuracy=None if truth[0] < 0 else float(right.mean()),
        wrong_and_sure=float((~right & (confidences > 0.9)).mean()),
        unsure=float((confidences < MIN_CONFIDENCE).mean()),
        blank=float((answers < 0).mean()),
    )


def format_conditions(scores: Sequence[ConditionScore]) -> str:
    """A table: a line for each condition, then digits and others in all."""
    width = max(len(score.condition) for score in scores)
    head = f"{'condition':{width}}  count  accuracy  wrong, sure  unsure   blank"
    rows = [_row(score, width) for score in scores]
    for name, digits in (("all digits", True), ("all others", False)):
        group = [s for s in scores if (s.accuracy is not None) == digits]
        if group:
            rows.append(_row(_total(name, group), width))
    return "\n".join([head, *rows])


def _row(score: ConditionScore, width: int) -> str:
    accuracy = "" if score.accuracy is None else f"{score.accuracy:.1%}"
    return (
        f"{score.condition:{width}}  {score.num_pictures:5}  {accuracy:>8}"
        f"  {score.wrong_and_sure:11.1%}  {score.unsure:6.1%}  {score.blank:6.1%}"
    )


def _total(name: str, scores: Sequence[ConditionScore]) -> ConditionScore:
    counts = np.array([s.num_pictures for s in scores])

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=counts))

    accuracies = [s.accuracy for s in scores if s.accuracy is not None]
    return ConditionScore(
        name,
        int(counts.sum()),
        mean(accuracies) if accuracies else None,
        mean([s.wrong_and_sure for s in scores]),
        mean([s.unsure for s in scores]),
        mean([s.blank for s in scores]),
    )
