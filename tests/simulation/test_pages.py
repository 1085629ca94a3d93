"""Simulated pages: what stands on them, and that they can be made again."""

import builtins
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from mnist_jax.drawing import opencv
from mnist_jax.drawing.masks import INK
from mnist_jax.errors import UserError
from mnist_jax.simulation.page_digits import Pool, draw_hand
from mnist_jax.simulation.page_layouts import write_display, write_plain
from mnist_jax.simulation.page_rows import write_items
from mnist_jax.simulation.page_sheet import UNREADABLE, Sheet
from mnist_jax.simulation.pages import CONDITIONS, make_page

WITHOUT_DIGITS = ("letters", "shapes", "empty form", "photo", "blank")


def make_pool() -> Pool:
    """Thick rings and bars in the place of digits: which they are does not matter."""
    y, x = np.mgrid[:28, :28] - 13.5
    ring = np.abs(np.hypot(x, y * 0.8) - 6.5) < 1.6
    bar = (np.abs(x) < 1.8) & (np.abs(y) < 10)
    labels = np.arange(200) % 10
    shapes = np.where((labels % 2 == 0)[:, None, None], ring, bar)
    return Pool((shapes * 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def pages():
    return [make_page(0, index, *make_pool()) for index in range(450)]


def digest(indices) -> str:
    sha = hashlib.sha256()
    for index in indices:
        page = make_page(5, index, *make_pool())
        sha.update(page.picture.tobytes() + page.digits.tobytes())
        sha.update(page.condition.encode())
    return sha.hexdigest()


def test_a_page_is_what_is_promised(pages):
    for page in pages:
        assert page.picture.shape == (128, 256)
        assert page.picture.dtype == np.uint8
        assert page.digits.dtype == np.float32
        assert page.digits.shape[1:] == (6,)
        x, y, width, height, label, line = page.digits.T
        assert ((x > 0) & (x < 256) & (y > 0) & (y < 128)).all()
        assert ((width >= 1) & (height >= 1)).all()
        assert np.isin(label, [UNREADABLE, *range(10)]).all()
        assert sorted(set(line)) == list(range(len(set(line))))


def test_every_condition_occurs(pages):
    assert {page.condition for page in pages} == set(CONDITIONS)


def test_shares_of_digits(pages):
    labels = np.concatenate([page.digits[:, 4] for page in pages])
    counts = np.bincount(labels[labels >= 0].astype(int), minlength=10)
    assert (counts / counts.sum() > 0.06).all()
    assert 3 < len(labels) / len(pages) < 8
    empty = np.mean([len(page.digits) == 0 for page in pages])
    assert 0.1 < empty < 0.3
    alone = np.mean([page.condition == "single digit" for page in pages])
    assert 0.07 < alone < 0.17


def test_pages_without_digits_have_none(pages):
    for page in pages:
        if page.condition in WITHOUT_DIGITS:
            assert len(page.digits) == 0
        if page.condition == "single digit":
            assert len(page.digits) == 1


def test_about_a_third_are_small_pictures_on_plain_grey(pages):
    padded = [bool((page.picture[:12] == page.picture[0, 0]).all()) for page in pages]
    assert 0.3 < np.mean(padded) < 0.5


def test_pages_can_be_made_again_in_another_process():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from simulation.test_pages import digest; print(digest(range(12, 20)))"
    )
    command = [sys.executable, "-c", code, "tests", "."]
    other = subprocess.run(command, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(range(12, 20))


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = digest(range(8))
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert digest(range(8)) == first


def test_seeds_and_indices_give_other_pages():
    pictures = {
        make_page(s, i, *make_pool()).picture.tobytes() for s in (1, 2) for i in (1, 2)
    }
    assert len(pictures) == 4


@pytest.mark.parametrize("shape", [(64, 64), (64, 300), (400, 800), (333, 97)])
def test_any_shape(shape):
    for index in range(30):
        page = make_page(3, index, *make_pool(), shape)
        assert page.picture.shape == shape
        x, y = page.digits[:, 0], page.digits[:, 1]
        assert ((x < shape[1]) & (y < shape[0])).all()


def make_sheet(seed: int, view: np.ndarray) -> Sheet:
    rng = np.random.default_rng(seed)
    hand = draw_hand(rng)
    return Sheet(rng, (200, 300), view, 30.0, hand, make_pool())


@pytest.mark.parametrize("seed", range(4))
def test_boxes_fit_the_ink(seed):
    view = np.eye(3)
    if seed % 2:
        view[:2, :2] = [[0.95, -0.2], [0.2, 1.05]]
        view[2, 0] = 3e-4
    sheet = make_sheet(seed, view)
    write_plain(sheet)
    digits = sheet.boxes((0, 0, 300, 200))
    assert len(digits) > 0
    outside = sheet.ink > INK
    for x, y, width, height, _, _ in digits:
        x0, y0 = round(x - width / 2), round(y - height / 2)
        box = sheet.ink[y0 : y0 + round(height), x0 : x0 + round(width)] > INK
        assert box.shape == (height, width)
        assert box[0].any()
        assert box[-1].any()
        assert box[:, 0].any()
        assert box[:, -1].any()
        outside[y0 : y0 + round(height), x0 : x0 + round(width)] = False
    # What is left of digits that are almost wholly beyond the edge.
    assert outside.sum() < 0.01 * (sheet.ink > INK).sum()


@pytest.mark.parametrize("gap", [0.1, 0.2])
@pytest.mark.parametrize("joined", [0.0, 1.0])
def test_a_stroke_joins_round_digits_from_one_to_the_next(gap, joined):
    parts = []
    for seed in range(30):
        sheet = make_sheet(seed, np.eye(3))
        sheet.hand = sheet.hand._replace(sources=(1.0, 0.0), width=0.08)
        write_items(sheet, [0, 0], 60, 100, 0, gap, joined=joined)
        if len(sheet.digits) == 1:  # there was no room for the second
            continue
        parts.append(ndimage.label(sheet.ink > INK, np.ones((3, 3)))[1])
    assert len(parts) > 20
    assert parts.count(1 if joined else 2) > 0.85 * len(parts)


def test_nothing_is_joined_to_a_digit_that_was_left_out():
    for seed in range(10):
        sheet = make_sheet(seed, np.eye(3))
        sheet.ink[:, 55:100] = 255  # there is no room for the first
        ink = sheet.ink.copy()
        write_items(sheet, [0, 0], 60, 100, 0, 0.1, joined=1.0)
        for digit in sheet.digits:
            down, across = digit.mask.shape
            place = ink[digit.top :, digit.left :][:down, :across]
            np.maximum(place, digit.mask, out=place)
        np.testing.assert_array_equal(sheet.ink, ink)


def test_a_page_is_not_stretched_without_end_far_beside_the_picture():
    view = np.eye(3)
    view[2, 0] = -1 / 500  # at x = 500 it ends in the horizon
    sheet = make_sheet(0, view)
    near = sheet.turn_at(100, 100)
    np.testing.assert_allclose(near, [[1.57, 0], [0.31, 1.25]], atol=0.01)
    for x in (480.0, 499.99, 500.01, 501.0):
        assert np.abs(sheet.turn_at(x, 100)).max() <= 4
    for _ in range(20):  # rows that go on beyond the picture are written all the same
        write_display(sheet)


def test_a_cut_digit_is_unreadable_and_its_box_is_what_is_seen():
    sheet = make_sheet(0, np.eye(3))
    sheet.put_digit(np.full((40, 20), 255, np.uint8), 100, 100, 1, line=7)
    ((x, y, width, height, label, line),) = sheet.boxes((0, 0, 300, 200))
    assert (x, y, width, height, label, line) == (100, 100, 20, 40, 1, 0)
    ((x, y, width, height, label, line),) = sheet.boxes((95, 0, 300, 200))
    assert (x, y, width, height, label) == (7.5, 100, 15, 40, UNREADABLE)
    assert len(sheet.boxes((200, 0, 300, 200))) == 0


def test_without_opencv_one_line_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def fail(name, *arguments, **options):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *arguments, **options)

    opencv.load_opencv.cache_clear()
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UserError, match="pip install") as caught:
        make_page(0, 0, *make_pool())
    assert "\n" not in str(caught.value)
