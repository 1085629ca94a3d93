import numpy as np
import pytest
from PIL import Image

from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.reading.digit_cuts import cut_digit, side_by_side


@pytest.fixture(scope="module")
def digits():
    """Some whose ink is in one piece, uint8 [N, 28, 28]."""
    return load_digits()[0][:8, :, :, 0]


def page_of(digit, height=70, dark=True):
    """A page of 200 x 200 with one digit in its middle; the page and its box."""
    ink = np.asarray(Image.fromarray(digit).resize((height, height)), float) / 255
    page = np.full((200, 200), 230.0)
    start = (200 - height) // 2
    page[start : start + height, start : start + height] -= 190 * ink
    rows, columns = np.nonzero(page < 140)
    sides = np.ptp(columns) + 1.0, np.ptp(rows) + 1.0
    centre = (columns.min() + sides[0] / 2, rows.min() + sides[1] / 2)
    page = page if dark else 255 - page
    return page.astype(np.uint8), np.array([*centre, *sides])


def distance(cut, digit):
    """Share of ink that is elsewhere: 0 for the same image, about 1 for another."""
    assert cut is not None
    return np.abs(cut.astype(float) - digit).sum() / (2 * digit.sum())


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("height", [24, 70, 180])
def test_a_digit_is_cut_as_mnist_would_have_it(digits, height, dark):
    distances = [distance(cut_digit(*page_of(d, height, dark)), d) for d in digits]
    assert np.mean(distances) < 0.2


def test_neighbours_and_lines_beside_a_digit_are_left_out(digits):
    for digit in digits:
        page, box = page_of(digit)
        alone = cut_digit(page, box)
        x, y, width, height = box
        right, bottom = int(x + width / 2), int(y + height / 2)
        page[:, right + 6 : right + 9] = 40  # the side of a box
        page[bottom + 6 : bottom + 9] = 40  # and its floor
        assert distance(cut_digit(page, box), alone) < 0.1


def test_where_there_is_no_ink_nothing_is_cut():
    page = np.full((60, 60), 200, np.uint8)
    assert cut_digit(page, np.array([30.0, 30.0, 20.0, 28.0])) is None


def test_a_box_may_reach_beyond_the_page(digits):
    page, box = page_of(digits[0])
    for x, y in ((0, 0), (199, 199), (-50, 100), (100, 260)):
        cut = cut_digit(page, np.array([x, y, *box[2:]], float))
        assert cut is None or cut.shape == (28, 28)


def test_images_are_put_side_by_side(digits):
    sheet = side_by_side(list(digits[:5]))
    assert sheet.shape == (56, 84)
    np.testing.assert_array_equal(sheet[:28, 28:56], digits[1])
    np.testing.assert_array_equal(sheet[28:, 28:56], digits[4])
    assert not sheet[28:, 56:].any()
    assert side_by_side([]).shape == (28, 28)
