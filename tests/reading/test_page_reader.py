import numpy as np
import pytest
from number_pictures import STYLES, draw_number
from PIL import Image

from mnist_jax.checkpoint.load import load_model
from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.reading import page_reader, reader
from mnist_jax.reading.page_nets import load_page_net
from mnist_jax.reading.page_passes import Found
from mnist_jax.reading.page_reader import (
    READ,
    READ_SHARE,
    PageReader,
    combine,
    shows_something,
    to_grey,
)
from mnist_jax.run.config_files import PRETRAINED


@pytest.fixture(scope="module")
def read_page():
    """Reads an RGB picture with the nets that come along."""
    digits = load_model(PRETRAINED)
    pages = PageReader(load_page_net(), lambda x: reader.predict(digits, x))
    return lambda picture: pages.read([to_grey(picture)])[0]


def as_lines(reading):
    lines = {}
    for digit in reading.digits:
        name = str(digit.probabilities.argmax())
        lines[digit.line] = lines.get(digit.line, "") + name
    return tuple(lines[line] for line in sorted(lines))


@pytest.mark.parametrize("style", ["spaced", "close", "two lines", "sloped", "photo"])
def test_numbers_are_read(read_page, style):
    images, labels = load_digits()
    rng = np.random.default_rng(5)
    right = []
    for _ in range(12):
        number = draw_number(images[..., 0], labels, STYLES[style], rng)
        lines = as_lines(read_page(number.picture))
        assert len(lines) == len(number.lines)
        right += [a == b for a, b in zip(lines, number.lines, strict=True)]
    assert np.mean(right) >= 0.7


def test_a_single_digit_is_a_number_of_one(read_page):
    images, labels = load_digits()
    right = 0
    for image, label in zip(images[:20, :, :, 0], labels[:20], strict=True):
        picture = Image.fromarray(255 - image).resize((200, 200)).convert("RGB")
        right += as_lines(read_page(picture)) == (str(label),)
    assert right >= 18


def test_a_large_digit_does_not_hide_small_ones(read_page):
    images, labels = load_digits()
    seven = images[np.flatnonzero(labels == 7)[0], :, :, 0]
    page = Image.new("L", (600, 900), 255)
    page.paste(Image.fromarray(255 - seven).resize((400, 400)), (100, 150))
    small = Image.fromarray(255 - seven).resize((50, 50))
    for place in range(6):
        page.paste(small, (100 + 70 * place, 750))
    lines = as_lines(read_page(page.convert("RGB")))
    assert [len(line) for line in lines] == [1, 6]


def test_boxes_are_where_the_digits_are(read_page):
    images, _ = load_digits()
    page = np.full((300, 500), 255, np.uint8)
    places = [(40, 60), (200, 150), (380, 90)]
    for image, (left, top) in zip(images[:3, :, :, 0], places, strict=True):
        digit = np.asarray(Image.fromarray(image).resize((84, 84)))
        page[top : top + 84, left : left + 84] -= digit
    reading = read_page(Image.fromarray(page).convert("RGB"))
    found = sorted(digit.box for digit in reading.digits)
    assert len(found) == 3
    for (left, top, right, bottom), (x, y) in zip(found, places, strict=True):
        ink = np.argwhere(page[y : y + 84, x : x + 84] < 128)
        corner = np.array([y, x])
        first, last = ink.min(0) + corner, ink.max(0) + corner + 1
        assert np.abs(np.subtract((top, left), first)).max() < 9
        assert np.abs(np.subtract((bottom, right), last)).max() < 9


def test_a_page_without_digits_has_none(read_page):
    blank = Image.new("RGB", (300, 200), (240, 238, 230))
    assert read_page(blank).digits == ()
    assert read_page(blank).certainty == 1
    assert not shows_something(blank)
    noise = np.random.default_rng(0).normal(230, 3, (200, 300, 1)).repeat(3, 2)
    assert not shows_something(Image.fromarray(noise.astype(np.uint8)))
    lined = np.full((200, 300, 3), 240, np.uint8)
    lined[100:104] = 20
    assert shows_something(Image.fromarray(lined))


def test_colours_of_one_lightness_differ_in_grey():
    """Red on a green that is as light: their lightness differs by one level."""
    colours = np.full((40, 60, 3), (60, 130, 60), np.uint8)
    colours[10:30, 20:26] = (202, 60, 60)
    picture = Image.fromarray(colours)
    assert np.ptp(np.asarray(picture.convert("L"), int)) < 4
    grey = to_grey(picture).astype(int)
    assert abs(grey[20, 22] - grey[5, 5]) > 200


def test_grey_is_lightness_where_that_differs():
    picture = Image.effect_noise((50, 40), 80).convert("RGB")
    np.testing.assert_array_equal(to_grey(picture), np.asarray(picture.convert("L")))
    assert to_grey(Image.new("RGB", (1, 1), (9, 9, 9))).shape == (1, 1)


def found_with(score, classes):
    count = len(score)
    return Found(
        np.tile([50.0, 50, 20, 30], (count, 1)),
        np.array(score),
        np.array(classes),
        np.array(score),
        np.ones(count),
    )


def test_both_nets_decide_which_digit_it_is():
    torn = np.full(10, 0.02)
    torn[[1, 7]] = 0.44, 0.40
    seven = np.full(10, 0.01)
    seven[7] = 0.91
    one_of_both = combine(found_with([0.9], [torn]), seven[None])
    assert one_of_both[0].argmax() == 7
    agreed = combine(found_with([0.9], [seven]), seven[None])
    assert agreed[0].argmax() == 7
    assert agreed[0, 7] > one_of_both[0, 7]


def test_the_page_nets_opinion_can_count_for_less():
    one, seven = np.full((2, 10), 0.005)
    one[1] = seven[7] = 0.955
    seven[1] = 0.02
    found = found_with([0.9], [one])
    rows = {w: combine(found, seven[None], w)[0] for w in (1, 0.25, 0)}
    assert rows[0.25].argmax() == rows[0].argmax() == 7
    assert rows[1][7] < rows[0.25][7] < rows[0][7]
    np.testing.assert_array_equal(rows[1], combine(found, seven[None])[0])


def test_rows_are_probabilities_and_surer_nets_make_them_surer():
    rng = np.random.default_rng(0)
    classes = rng.dirichlet(np.full(10, 0.3), 200)
    seen = rng.dirichlet(np.full(10, 0.3), 200) * rng.uniform(0.2, 1, (200, 1))
    rows = combine(found_with(rng.uniform(0.1, 1, 200), classes), seen)
    assert rows.shape == (200, 10)
    assert (rows >= 0).all()
    assert (rows.sum(1) <= 1 + 1e-9).all()
    same = np.tile(classes[0], (4, 1))
    scores = [0.2, 0.5, 0.8, 0.99]
    rising = combine(found_with(scores, same), np.tile(seen[0], (4, 1)))
    assert (np.diff(rising.max(1)) > 0).all()


@pytest.fixture
def read_scores(monkeypatch):
    """Reads a page with two strokes, where the page net gives them these scores."""

    class OnePass:
        def __init__(self, scores, load_proposals):
            self.scores = scores

        def find(self, greys):
            found = found_with(self.scores, np.full((len(self.scores), 10), 0.1))
            found.box[1:, 0] = 150
            return [found]

    monkeypatch.setattr(page_reader, "PagePasses", OnePass)
    grey = np.full((100, 200), 255, np.uint8)
    grey[40:60, 48:52] = grey[40:60, 148:152] = 0

    def read(*scores):
        pages = PageReader(scores, lambda images: np.full((len(images), 10), 0.1))
        return pages.read([grey])[0]

    return read


def test_what_may_be_a_digit_and_is_not_read_costs_certainty(read_scores):
    readings = [read_scores(0.95, score) for score in (0.11, 0.2, READ - 0.01)]
    assert [len(reading.digits) for reading in readings] == [1, 1, 1]
    first, second, third = (reading.certainty for reading in readings)
    assert 1 > first > second > third > 0


def test_more_digits_are_more_that_may_be_overlooked(read_scores):
    one, two = read_scores(0.95).certainty, read_scores(0.95, 0.94).certainty
    assert 1 > one > two == pytest.approx(one**2)


def test_how_likely_a_digit_must_be_depends_on_the_likeliest_one(read_scores):
    least = READ_SHARE * 0.95
    assert len(read_scores(0.95, least + 0.01).digits) == 2
    assert len(read_scores(0.95, least - 0.01).digits) == 1
    # Where nothing is sure, both are read.
    assert len(read_scores(0.5, least - 0.01).digits) == 2
    assert len(read_scores(0.5, READ - 0.01).digits) == 1
