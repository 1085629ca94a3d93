import time

import numpy as np
import pytest
from number_pictures import STYLES, draw_number, enlarge
from scipy import ndimage

from mnist_jax.datasets import offline_digits
from mnist_jax.reading import layout
from mnist_jax.reading.pictures import find_ink, to_mnist

SPREAD, FAR = 0.5, 14.0  # squared distances between images


@pytest.fixture(scope="module")
def classify():
    """A recogniser that is learned in no time, and knows what is far from all digits.

    Each class is as likely as the nearest of its digits is near.
    """
    images, labels = offline_digits.load_digits()
    shifts = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    images = images[:1000, ..., 0]
    seen = _blurred(np.concatenate([np.roll(images, s, (1, 2)) for s in shifts]))
    classes = np.tile(labels[:1000], len(shifts))
    squares = (seen**2).sum(1)

    def classify(images):
        new = _blurred(images)
        distances = squares - 2 * new @ seen.T + (new**2).sum(1)[:, None]
        nearest = np.stack([distances[:, classes == k].min(1) for k in range(10)], 1)
        likely = np.exp(-nearest / SPREAD)
        return likely / (likely.sum(1, keepdims=True) + np.exp(-FAR / SPREAD))

    return classify


@pytest.fixture(scope="module")
def digits(classify):
    """Some it has not seen and reads well alone, so that all else is the layout's."""
    images, labels = offline_digits.load_digits()
    images, labels = images[1000:, ..., 0], labels[1000:]
    rows = classify(images)
    sure = (rows.argmax(1) == labels) & (rows.max(1) > 0.9)
    return images[sure], labels[sure]


def _blurred(images):
    smooth = ndimage.gaussian_filter(images / np.float32(255), (0, 1, 1))
    return smooth[:, ::2, ::2].reshape(len(images), -1)


def as_lines(readings):
    lines = {}
    for reading in readings:
        lines.setdefault(reading.region.line, []).append(
            str(reading.probabilities.argmax())
        )
    return tuple("".join(line) for line in lines.values())


def put(page, ink, top, left):
    place = page[top : top + ink.shape[0], left : left + ink.shape[1]]
    np.maximum(place, ink, out=place)


@pytest.mark.parametrize(
    ("style", "least"),
    # The recogniser has seen no slant but its writers'.
    [("spaced", 9), ("close", 9), ("two lines", 9), ("sloped", 7)],
)
def test_numbers_are_read(digits, classify, style, least):
    rng = np.random.default_rng(1)
    right = 0
    for _ in range(10):
        number = draw_number(*digits, STYLES[style], rng)
        readings = layout.read_digits(number.ink, classify, "auto")
        right += as_lines(readings) == number.lines
    assert right >= least


def test_numbers_on_photographed_paper_are_read(digits, classify):
    rng = np.random.default_rng(2)
    numbers = [draw_number(*digits, STYLES["photo"], rng) for _ in range(6)]
    right = [
        as_lines(layout.read_digits(find_ink(n.picture), classify)) == n.lines
        for n in numbers
    ]
    assert sum(right) >= 4


def test_regions_hold_the_ink_of_one_digit_each(digits, classify):
    rng = np.random.default_rng(3)
    ink = draw_number(*digits, STYLES["two lines"], rng).ink
    readings = layout.read_digits(ink, classify, "number")
    together = np.zeros_like(ink)
    for reading in readings:
        left, top, right, bottom = reading.region.box
        assert reading.region.ink.shape == (bottom - top, right - left)
        np.testing.assert_array_equal(reading.image, to_mnist(reading.region.ink))
        together[top:bottom, left:right] += reading.region.ink
    np.testing.assert_allclose(together, ink, atol=0.4)  # none twice, none left out
    places = [(r.region.line, r.region.box[0]) for r in readings]
    assert places == sorted(places)


@pytest.mark.parametrize("slope", [-0.12, 0.12])
def test_reading_order_of_sloping_lines(digits, classify, slope):
    images, labels = digits
    zero, one = (images[np.flatnonzero(labels == k)[0]] for k in (0, 1))
    page = np.zeros((500, 600), np.float32)
    for line, image in enumerate((zero, one)):
        for k in range(2 + 4 * line):  # lines of unequal length
            place = int(150 + 110 * line + slope * 90 * k), 20 + 90 * k
            put(page, enlarge(image, 60), *place)
    assert as_lines(layout.read_digits(page, classify)) == ("00", "111111")


def test_one_digit_is_not_taken_for_several(digits, classify):
    images, _ = digits
    for image in images[:100]:
        ink = np.pad(enlarge(image, 80), 20)
        (reading,) = layout.read_digits(ink, classify, "auto")
        (alone,) = layout.read_digits(ink, classify, "digit")
        assert reading == alone
        np.testing.assert_array_equal(reading.image, alone.image)


@pytest.mark.parametrize(("digit", "rows"), [(5, slice(35, 39)), (8, slice(38, 42))])
def test_parts_of_a_broken_digit_stay_together(digits, classify, digit, rows):
    images, labels = digits
    for image in images[labels == digit][:10]:
        ink = enlarge(image, 80)
        ink[rows] = 0
        assert ndimage.label(ink > 0.4)[1] > 1
        (reading,) = layout.read_digits(ink, classify, "auto")
        assert reading.region.box == (0, 0, *ink.shape[::-1])


def test_strokes_belong_to_their_digit_and_dots_to_none(digits):
    images, labels = digits
    page = np.zeros((200, 400), np.float32)
    for k in range(3):
        ink = enlarge(images[np.flatnonzero(labels == 5)[k]], 80)
        ink[8:11] = 0  # its bar comes off
        put(page, ink, 60, 30 + 120 * k)
    put(page, np.ones((12, 9), np.float32), 140, 120)  # a point
    put(page, np.ones((2, 2), np.float32), 90, 60)  # dust
    readings = layout.read_digits(
        page, lambda images: np.full((len(images), 1), 0.9), "number"
    )
    assert len(readings) == 3
    boxes = [reading.region.box for reading in readings]
    assert all(60 <= top < 64 and 135 < bottom <= 140 for _, top, _, bottom in boxes)


def test_the_recogniser_decides_where_digits_that_touch_are_cut(digits):
    """Two rings that touch: an 8 that lies, or two zeros."""
    y, x = np.mgrid[-40:41, -80:81]
    distance = np.minimum(np.hypot(y, x - 33), np.hypot(y, x + 33))
    ink = np.clip(5.5 - np.abs(distance - 30), 0, 1)

    def read(shapes):
        def classify(images):
            sides = [images.any(axis).sum(1) for axis in (1, 2)]
            ratio = sides[0] / sides[1]
            likely = (ratio >= shapes[0]) & (ratio <= shapes[1])
            return np.where(likely, 0.99, 0.2)[:, None]

        return [r.region.box for r in layout.read_digits(ink, classify, "auto")]

    left, right = read((0.95, 1.05))
    assert abs(left[2] - 80) <= 6
    assert abs(right[0] - 80) <= 6
    assert len(read((1.8, 2.2))) == 1


def test_the_recogniser_is_called_once(digits, classify):
    number = draw_number(*digits, STYLES["touching"], np.random.default_rng(4))
    counts = []

    def count(images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (28, 28)
        counts.append(len(images))
        return classify(images)

    first = layout.read_digits(number.ink, count, "number")
    assert len(counts) == 1
    assert layout.read_digits(number.ink, count, "number") == first


def _scribble():
    t = np.linspace(0, 200, 60_000)
    page = np.zeros((512, 512))
    y, x = 256 + 250 * np.sin(1.1 * t), 256 + 250 * np.cos(1.7 * t)
    page[y.astype(int), x.astype(int)] = 1
    return ndimage.binary_dilation(page, iterations=2)


def _texture(grain, share):
    noise = ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(512, 512)), grain
    )
    return noise > np.quantile(noise, 1 - share)


ODD = {
    "noise": lambda: _texture(0, 0.5),
    "dust": lambda: _texture(0, 0.02),
    "marbling": lambda: _texture(5, 0.3),
    "scribble": _scribble,
    "all ink": lambda: np.ones((512, 512)),
    "bars": lambda: np.indices((512, 512))[0] % 40 < 25,
    "hatching": lambda: np.indices((512, 512))[1] % 8 < 1,
    "chequers": lambda: np.indices((512, 512)).sum(0) % 2,
    "one pixel": lambda: np.ones((1, 1)),
    "a row": lambda: np.ones((1, 1000)),
    "a column": lambda: np.ones((1000, 1)),
    "faint": lambda: np.full((30, 30), 1e-3),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_ink_of_any_kind_is_read_in_bounded_time(make):
    ink = make().astype(np.float32)
    sizes = []

    def classify(images):
        sizes.append(len(images))
        return np.full((len(images), 10), 0.1)

    start = time.process_time()
    readings = layout.read_digits(ink, classify, "number")
    assert time.process_time() - start < 10  # seconds, of a machine that may be slow
    assert 1 <= len(readings) <= 300
    assert sizes[0] <= 2500
    # Nothing that is read with so little confidence is a number.
    assert len(layout.read_digits(ink, classify, "auto")) == 1
