import numpy as np
import pytest
from PIL import Image

from mnist_jax.datasets import offline_digits
from mnist_jax.drawing import glyphs
from mnist_jax.reading import ink
from mnist_jax.simulation import scenes

BLACK, WHITE = (0.1, 0.1, 0.1), (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def digit():
    """Ink of a 3, float32 [h, w], 120 pixels high, with a margin of 60."""
    images, labels = offline_digits.load_digits()
    glyph = glyphs.from_image(images[np.flatnonzero(labels == 3)[0], :, :, 0])
    return np.pad(glyphs.write_glyph(glyph, 120, 10), 60)


def rng():
    return np.random.default_rng(0)


def found(colours):
    return ink.find_ink(scenes.to_picture(colours)) > 0.5


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
    "ruled": lambda c: scenes.lines(rng(), c, squared=False),
    "squared": lambda c: scenes.lines(rng(), c, squared=True),
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
    assert_same(found(scenes.paint(image, BLACK, WHITE)), image, 0.3)


def test_enlarged_pixels_are_the_same_picture():
    levels = offline_digits.load_digits()[0][5, :, :, 0]
    picture = Image.fromarray(levels).convert("RGB")
    large = picture.resize((28 * 9, 28 * 9), Image.Resampling.NEAREST)
    small_ink, large_ink = (
        ink.ink_stages(p)["ink"] for p in (picture.resize((28, 28)), large)
    )
    np.testing.assert_array_equal(small_ink, large_ink)
    assert ink.find_ink(large).shape == (252, 252)


def test_large_pictures_keep_their_size(digit):
    picture = scenes.to_picture(scenes.paint(digit, BLACK, WHITE)).resize((1024, 900))
    assert ink.find_ink(picture).shape == (900, 1024)


def test_ink_is_a_share():
    levels = rng().random((90, 70, 3)).astype(np.float32)
    try:
        shares = ink.find_ink(scenes.to_picture(levels))
    except ink.BlankError:
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
    with pytest.raises(ink.BlankError, match="blank"):
        ink.find_ink(scenes.to_picture(colours))


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 40), (25, 3), (24, 24), (23, 9)])
def test_pictures_of_any_size(size):
    levels = rng().integers(0, 2, (*size, 1), np.uint8) * np.full(3, 255, np.uint8)
    try:
        shares = ink.find_ink(Image.fromarray(levels))
    except ink.BlankError:
        return
    assert shares.shape == size
