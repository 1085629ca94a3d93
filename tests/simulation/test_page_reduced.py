import numpy as np
import pytest

from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.simulation import page_reduced
from mnist_jax.simulation.page_reduced import make_reduced_page
from mnist_jax.simulation.pages import Page

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def pages():
    images, labels = load_digits()
    return [make_reduced_page(3, i, images[..., 0], labels) for i in range(60)]


def test_pages_are_pure_functions_of_seed_and_index(pages):
    images, labels = load_digits()
    again = make_reduced_page(3, 7, images[..., 0], labels)
    np.testing.assert_array_equal(again.picture, pages[7].picture)
    np.testing.assert_array_equal(again.digits, pages[7].digits)
    other = make_reduced_page(4, 7, images[..., 0], labels)
    assert not np.array_equal(other.picture, pages[7].picture)


def test_digits_are_of_all_sizes_and_of_one_class(pages):
    assert {page.picture.shape for page in pages} == {(128, 256)}
    assert {page.picture.dtype.name for page in pages} == {"uint8"}
    digits = np.concatenate([page.digits for page in pages])
    assert set(digits[:, 4]) == {0, -1}
    counted = digits[digits[:, 4] == 0]
    assert counted[:, 3].min() >= 2.5
    assert counted[:, 3].min() < 5
    assert counted[:, 3].max() > 40
    assert (digits[digits[:, 3] < 2.5, 4] == -1).all()


def test_boxes_are_where_the_ink_is(monkeypatch):
    def make_page(seed, index, images, labels, shape):
        picture = np.full(shape, 230, np.uint8)
        picture[40:80, 60:90] = 10
        digits = np.array([[75, 60, 30, 40, 7, 0], [75, 60, 30, 40, -1, 1]], np.float32)
        return Page(picture, digits, "plain")

    monkeypatch.setattr(page_reduced, "make_page", make_page)
    for index in range(20):
        page = make_reduced_page(0, index, None, None)
        dark = np.argwhere(page.picture < 120)
        low, high = dark.min(0), dark.max(0) + 1
        for x, y, width, height, *_ in page.digits:
            found = [(low[1] + high[1]) / 2, (low[0] + high[0]) / 2]
            found += [high[1] - low[1], high[0] - low[0]]
            np.testing.assert_allclose(found, [x, y, width, height], atol=1.2)
        assert page.digits[:, 4].tolist() == [0, -1]
