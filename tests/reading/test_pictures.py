import numpy as np
import pytest
from mnist_fixture import make_dataset
from PIL import Image, ImageFilter, ImageOps

from mnist_jax.datasets import offline_digits
from mnist_jax.drawing import glyphs
from mnist_jax.errors import PictureError
from mnist_jax.reading import pictures
from mnist_jax.simulation import scenes

BLACK, WHITE = (0.1, 0.1, 0.1), (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def digits():
    """One digit of each class in MNIST's geometry, uint8 [10, 28, 28]."""
    images, labels = offline_digits.load_digits()
    return images[[np.flatnonzero(labels == k)[0] for k in range(10)], :, :, 0]


def draw(digit, pen=(0, 0, 0), paper=(255, 255, 255), scale=8, margin=0):
    """A digit as a large picture: ink of one colour on paper of another."""
    side = 28 * scale
    ink = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.pad(np.asarray(ink) / 255, margin)[..., None]
    colours = np.array(paper) * (1 - ink) + np.array(pen) * ink
    return Image.fromarray(colours.astype(np.uint8))


def prepare(picture):
    return pictures.prepare(picture.convert("RGB"))


def distance(a, b):
    """0 for equal images, 1 for images with no ink in common."""
    a, b = a.astype(float), b.astype(float)
    return np.abs(a - b).sum() / (a.sum() + b.sum())


def shade(picture, light):
    """Multiplies by `light` [W], as a lamp at one side does."""
    return Image.fromarray(
        (np.asarray(picture) * light[None, :, None]).astype(np.uint8)
    )


def grain(picture, amount):
    noise = np.random.default_rng(0).normal(0, amount, (*picture.size[::-1], 1))
    return Image.fromarray(
        np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
    )


def frame(picture, width):
    framed = Image.new("RGB", picture.size, (30, 30, 30))
    framed.paste(ImageOps.crop(picture, width), (width, width))
    return framed


CHANGES = {
    "white on black": lambda d: draw(d, (255, 255, 255), (0, 0, 0)),
    "black on white": draw,
    "28 pixels": lambda d: draw(d, scale=1),
    "faint blue pen": lambda d: grain(draw(d, (150, 160, 215), (235, 232, 225)), 4),
    "chalk": lambda d: draw(d, (220, 220, 210), (40, 80, 60)),
    "only the hue differs": lambda d: draw(d, (250, 130, 120), (180, 180, 60)),
    "low contrast": lambda d: draw(d, (215, 215, 215), (240, 240, 240)),
    "small on a large page": lambda d: grain(draw(d, scale=3, margin=200), 4),
    "light from one side": lambda d: shade(
        draw(d, margin=40), np.linspace(0.35, 1, 304)
    ),
    "shadow": lambda d: shade(
        draw(d, margin=100), np.where(np.arange(424) < 150, 0.6, 1)
    ),
    "grain": lambda d: grain(draw(d, margin=50), 20),
    "blur": lambda d: draw(d).filter(ImageFilter.GaussianBlur(4)),
    "frame": lambda d: frame(draw(d, margin=40), 6),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_pictures_of_a_digit_become_the_digit(digits, change):
    distances = [distance(prepare(change(digit)), digit) for digit in digits]
    # A shift of one pixel, which rounding can bring about, costs about 0.3.
    assert np.median(distances) < 0.15
    assert max(distances) < 0.45


def test_geometry_is_that_of_mnist(digits):
    rng = np.random.default_rng(0)
    for digit in digits:
        height, width = rng.integers(60, 300, 2)
        ink = Image.fromarray(digit).resize((int(width), int(height)))
        image = pictures.to_mnist(np.asarray(ink, np.float32) / 255)
        assert image.dtype == np.uint8
        assert image.shape == (28, 28)
        assert image.max() == 255
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        mass = image.sum(dtype=float)
        assert abs(image.sum(1) @ np.arange(28) / mass - 14) <= 0.5
        assert abs(image.sum(0) @ np.arange(28) / mass - 14) <= 0.5


def test_to_mnist_leaves_mnist_as_it_is(digits):
    for digit in digits:
        np.testing.assert_array_equal(pictures.to_mnist(digit / 255), digit)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_ink_of_any_shape_fits_in(shape):
    image = pictures.to_mnist(np.ones(shape))
    assert image.max() == 255
    # The mass is centred, so nothing was cut off at the edge.
    assert image[0].max() == image[-1].max() == 0


def test_pieces_of_a_digit_stay_together_and_specks_go():
    colours = np.full((200, 200), 255, np.uint8)
    colours[40:60, 60:140] = 0  # the bar of a 5, a little above
    colours[70:170, 60:80] = 0
    colours[180:183, 190:193] = 0  # a speck
    ink = pictures.find_ink(Image.fromarray(colours).convert("RGB"))
    assert ink[50, 100] == ink[100, 70] == 1
    assert ink[181, 191] == 0


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (200, 100), "white"),
        Image.new("RGB", (1, 1), "black"),
        Image.new("RGB", (3, 500), (120, 30, 60)),
        grain(Image.new("RGB", (300, 300), (230, 228, 220)), 6),
        shade(Image.new("RGB", (300, 300), (230, 228, 220)), np.linspace(0.5, 1, 300)),
    ],
    ids=["white", "one pixel", "one colour", "paper", "paper in uneven light"],
)
def test_blank_pictures_are_refused(picture):
    with pytest.raises(PictureError, match="blank"):
        pictures.find_ink(picture)


def test_a_large_stain_does_not_hide_the_digit(digits):
    colours = np.asarray(draw(digits[3], margin=200)).copy()
    colours[450:600, 80:540] = 140
    assert distance(prepare(Image.fromarray(colours)), digits[3]) < 0.2


def test_noisy_images_of_28_pixels_are_read():
    for image in make_dataset(10, seed=0).images[..., 0]:
        prepared = prepare(Image.fromarray(image))
        assert 0 < (prepared > 127).mean() < 0.3


@pytest.mark.parametrize("width", [1, 2, 12, 100])
def test_strokes_get_a_width_that_mnist_has(width):
    ink = np.zeros((500, 500), np.float32)
    ink[50:450, 250 - width // 2 : 250 + (width + 1) // 2] = 1
    ink[50 : 50 + width, 100:400] = 1
    image = pictures.to_mnist(ink)
    stroke = (image[18] / 255).sum()  # pixels across the stem
    assert 1.4 < stroke < 5.2


def test_ordinary_strokes_keep_their_width():
    ink = np.zeros((200, 200), np.float32)
    ink[:, 80:120] = ink[:40] = 1
    image = pictures.to_mnist(ink)
    assert (image[18] / 255).sum() == pytest.approx(4, abs=0.3)


def test_the_main_digit_is_kept_whole_and_alone():
    ink = np.zeros((200, 300), np.float32)
    ink[50:150, 100:110] = 1  # a stem
    ink[50:60, 120:160] = 1  # its bar, a little away
    ink[20:60, 280:290] = 1  # something else
    ink[180:200, 100:130] = 1  # cut by the border
    kept = pictures.main_digit(ink)
    assert kept[100, 105] == kept[55, 140] == 1
    assert kept[40, 285] == kept[190, 110] == 0


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("scale", [1, 13])
def test_pictures_of_8_pixels(inverted, scale):
    """As in the data that scikit-learn has, black ink or white, enlarged or not."""
    import sklearn.datasets

    digits = sklearn.datasets.load_digits().images[:20] * 255 / 16
    expected = offline_digits.load_digits()[0][:20, :, :, 0]
    distances = []
    for levels, image in zip(digits.astype(np.uint8), expected, strict=True):
        picture = Image.fromarray(255 - levels if inverted else levels)
        side = 8 * scale
        large = picture.resize((side, side), Image.Resampling.NEAREST)
        distances.append(distance(prepare(large), image))
    assert np.median(distances) < 0.25
    assert max(distances) < 0.6


def test_stages_end_with_what_the_model_sees(digits):
    picture = draw(digits[3], margin=40)
    stages = pictures.stages(picture)
    names = [name for name, _ in stages]
    assert names == ["picture", "contrast", "ink", "28x28"]
    assert all(levels.dtype == np.uint8 for _, levels in stages)
    np.testing.assert_array_equal(stages[0][1], np.asarray(picture))
    np.testing.assert_array_equal(stages[-1][1], pictures.prepare(picture))


def test_stages_of_a_blank_picture():
    blank = Image.new("RGB", (50, 40), "white")
    assert [name for name, _ in pictures.stages(blank)] == ["picture"]
    assert pictures.stages_strip(pictures.stages(blank)).mode == "RGB"


def test_strip_shows_all_stages_side_by_side(digits):
    picture = draw(digits[3], margin=40)
    strip = pictures.stages_strip(pictures.stages(picture))
    assert strip.width == 4 * 232 + 8
    assert strip.height < 300
    last = np.asarray(strip)[24:248, -232:-8]
    np.testing.assert_array_equal(last[4::8, 4::8, 0], pictures.prepare(picture))


# Ink and paper.


@pytest.fixture(scope="module")
def digit():
    """Ink of a 3, float32 [h, w], 120 pixels high, with a margin of 60."""
    images, labels = offline_digits.load_digits()
    glyph = glyphs.from_image(images[np.flatnonzero(labels == 3)[0], :, :, 0])
    return np.pad(glyphs.write_glyph(glyph, 120, 10), 60)


def rng():
    return np.random.default_rng(0)


def found(colours):
    return pictures.find_ink(scenes.to_picture(colours)) > 0.5


def assert_same(a, b, least=0.8):
    """The ink in common, as a share of all ink."""
    b = b > 0.5
    assert a.shape == b.shape
    assert (a & b).sum() / (a | b).sum() > least


PENS = {
    "black on white": (BLACK, WHITE),
    "white on black": (WHITE, BLACK),
    "red on white": ((0.8, 0.1, 0.1), WHITE),
    "yellow on white": ((0.9, 0.8, 0.2), WHITE),
    "faint blue": ((0.72, 0.75, 0.9), (0.93, 0.93, 0.9)),
    "blue on red": ((0.1, 0.3, 0.8), (0.8, 0.25, 0.2)),
    "only the hue differs": ((0.1, 0.6, 0.9), (1.0, 0.15, 0.4)),
    "low contrast": ((0.5,) * 3, (0.62,) * 3),
}


@pytest.mark.parametrize(("pen", "paper"), PENS.values(), ids=PENS)
def test_any_pen_on_any_paper(digit, pen, paper):
    colours = scenes.grain(rng(), scenes.paint(digit, pen, paper), 0.005)
    assert_same(found(colours), digit)


def inset_frame(colours):
    colours = colours.copy()
    colours[8:12, 8:-8] = colours[-12:-8, 8:-8] = 0.1
    colours[8:-8, 8:12] = colours[8:-8, -12:-8] = 0.1
    return colours


def outer_frame(colours):
    colours = colours.copy()
    colours[:6] = colours[-6:] = colours[:, :6] = colours[:, -6:] = 0.1
    return colours


def dark_table(colours):
    """Shows at the left and below, broader than any stroke."""
    colours = colours.copy()
    colours[:, :30] = colours[-40:] = (0.25, 0.15, 0.1)
    return colours


def stain(colours):
    colours = colours.copy()
    colours[-35:-5, 10:-10] *= 0.6
    return colours


def specks(colours):
    colours = colours.copy()
    y, x = rng().integers(5, 35, (2, 20))
    colours[y, x] = 0
    return colours


AROUND = {
    "frame inside": inset_frame,
    "frame at the edge": outer_frame,
    "table": dark_table,
    "stain": stain,
    "specks": specks,
    "uneven light": lambda c: scenes.uneven_light(rng(), c),
    "shadow": lambda c: scenes.cast_shadow(rng(), c),
    "paper's texture": lambda c: scenes.fibres(rng(), c),
    "grain": lambda c: scenes.grain(rng(), c, 0.06),
}


@pytest.mark.parametrize("change", AROUND.values(), ids=AROUND)
def test_what_is_around_the_ink_goes(digit, change):
    mask = found(change(scenes.paint(digit, BLACK, WHITE)))
    assert_same(mask, digit, 0.75)
    away = ~np.pad(np.ones(np.subtract(digit.shape, 100), bool), 50)
    assert mask[away].mean() < 0.004


@pytest.mark.parametrize("pen", [BLACK, WHITE])
def test_tight_crops_keep_their_ink(digit, pen):
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    tight = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    paper = WHITE if pen == BLACK else BLACK
    assert_same(found(scenes.paint(tight, pen, paper)), tight)


def test_all_digits_of_a_picture_are_kept(digit):
    row = np.concatenate([digit] * 4, axis=1)
    assert_same(found(scenes.paint(row, BLACK, WHITE)), row)


def test_lines_of_one_pixel_are_kept(digit):
    image = np.zeros((600, 600), np.float32)
    image[100:500, 300] = image[100, 200:400] = 1
    mask = found(scenes.paint(image, BLACK, WHITE))
    assert mask[image > 0].all()
    assert mask.sum() <= 4 * image.sum()  # as the picture was reduced


def test_large_pictures_keep_their_size(digit):
    picture = scenes.to_picture(scenes.paint(digit, BLACK, WHITE)).resize((1024, 900))
    assert pictures.find_ink(picture).shape == (900, 1024)


def test_ink_is_a_share():
    levels = rng().random((90, 70, 3)).astype(np.float32)
    try:
        shares = pictures.find_ink(scenes.to_picture(levels))
    except pictures.BlankError:
        return
    assert shares.dtype == np.float32
    assert 0 <= shares.min() <= shares.max() <= 1


BLANK = {
    "white": np.ones((80, 200, 3)),
    "black": np.zeros((300, 100, 3)),
    "one pixel": np.full((1, 1, 3), 0.3),
    "one column": np.full((500, 1, 3), 0.3),
    "grain": scenes.grain(rng(), np.full((300, 200, 3), 0.8), 0.015),
    "texture": scenes.fibres(rng(), np.full((300, 300, 3), 0.9, np.float32)),
}


@pytest.mark.parametrize("colours", BLANK.values(), ids=BLANK)
def test_blank_pages(colours):
    with pytest.raises(pictures.BlankError, match="blank"):
        pictures.find_ink(scenes.to_picture(colours))


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 40), (25, 3), (24, 24), (23, 9)])
def test_pictures_of_any_size(size):
    levels = rng().integers(0, 2, (*size, 1), np.uint8) * np.full(3, 255, np.uint8)
    try:
        shares = pictures.find_ink(Image.fromarray(levels))
    except pictures.BlankError:
        return
    assert shares.shape == size
