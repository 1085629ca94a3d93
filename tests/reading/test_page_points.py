"""What is marked is found, counted and learned, on maps made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mnist_jax.reading.page_loss import page_loss, page_targets
from mnist_jax.reading.page_points import count_right, find_points

MAP = (32, 128)  # of a page of 128x256
#        x    y   width height digit line
SEVEN = (41.3, 62.7, 20, 30, 7, 0)
ONE = (70.2, 60.1, 6, 28, 1, 0)
OTHER_ONE = (78.0, 60.4, 6, 28, 1, 0)  # 8 pixels beside it
FOUR = (100.0, 100.0, 18, 24, 4, 1)
HIDDEN = (200.0, 60.0, 20, 30, -1, 0)


def label(*digits):
    rows = np.zeros((1, 8, 6), np.float32)
    rows[0, : len(digits)] = np.reshape(digits, (-1, 6))
    return jnp.asarray(rows)


def perfect_outputs(digits):
    """The outputs of a net that knows the targets of these digits."""
    t = page_targets(digits, MAP)
    centre = jnp.where(t.heat > 0.999, 9.0, -9.0)
    classes = 12.0 * jax.nn.one_hot(t.digit, 10)
    return jnp.concatenate([centre[..., None], t.box, classes], -1)


def count(outputs, digits):
    counts = count_right(outputs, {"label": digits})
    return {name: int(value[0]) for name, value in counts._asdict().items()}


def test_targets_are_one_at_the_centre_and_fall_off():
    targets = page_targets(label(SEVEN), MAP)
    heat = np.asarray(targets.heat[0])
    row, column = np.unravel_index(heat.argmax(), MAP)
    assert (row, column) == (62 // 4, 41 // 2)
    assert heat[row, column] == 1
    assert (heat > 0.999).sum() == 1
    assert 0.2 < heat[row, column + 1] < 1
    assert heat[row, column + 12] < 1e-3
    width, height, across, down = np.asarray(targets.box[0, row, column])
    assert np.exp(width) * 16 == pytest.approx(20)
    assert np.exp(height) * 16 == pytest.approx(30)
    assert 41 + across * 16 == pytest.approx(41.3, abs=1e-4)
    assert 62 + down * 16 == pytest.approx(62.7, abs=1e-4)
    assert np.asarray(targets.weight).sum() == pytest.approx(1, abs=0.3)


def test_each_place_is_of_the_digit_that_is_highest_there():
    rng = np.random.default_rng(3)
    for count in (1, 6, 9):  # of nine that there is room for
        digits = np.zeros((2, 9, 6), np.float32)
        for page, own in enumerate((count, 1)):
            places = rng.uniform((0, 0, 4, 8), (256, 128, 40, 60), (own, 4))
            digits[page, :own, :4] = places
            digits[page, :own, 4] = rng.integers(-1, 10, own)
        targets = page_targets(digits, (32, 128))
        each = [page_targets(digits[:, [i]], (32, 128)) for i in range(9)]
        heats = np.stack([of_one.heat for of_one in each])
        np.testing.assert_array_equal(targets.heat, heats.max(0))
        seen = targets.heat > 0
        for name in ("digit", "box"):
            values = np.stack([getattr(of_one, name) for of_one in each])
            highest = heats.argmax(0)
            if name == "box":
                highest = highest[..., None]
            chosen = np.take_along_axis(values, highest[None], 0)[0]
            np.testing.assert_array_equal(getattr(targets, name)[seen], chosen[seen])


def test_an_empty_page_has_no_targets():
    targets = page_targets(label(), MAP)
    assert not targets.heat.any()
    assert not targets.weight.any()
    assert targets.counts.all()


def test_what_is_to_be_ignored_counts_nowhere():
    targets = page_targets(label(SEVEN, HIDDEN), MAP)
    assert not targets.counts[0, 60 // 4, 200 // 2]
    assert targets.counts[0, 60 // 4, 150 // 2]
    there = perfect_outputs(label(SEVEN)).at[0, 15, 100, :5].set([9, 0, 0, 0, 0])
    batch = {"label": label(SEVEN, HIDDEN)}
    unmarked = page_loss(perfect_outputs(label(SEVEN)), batch, ConfigDict())
    np.testing.assert_allclose(page_loss(there, batch, ConfigDict()), unmarked)
    assert count(there, batch["label"])["found"] == 1


def test_points_are_where_the_digits_are():
    digits = label(SEVEN, ONE, OTHER_ONE)
    points = find_points(perfect_outputs(digits), 5)
    assert points.score.shape == (1, 5)
    assert (points.score[0] > 0.5).tolist() == [True] * 3 + [False] * 2
    found = sorted(np.asarray(points.box[0, :3]).tolist())
    np.testing.assert_allclose(
        found, np.array([SEVEN, ONE, OTHER_ONE])[:, :4], atol=0.01
    )
    order = np.argsort(points.box[0, :3, 0])
    assert points.classes[0, :3].argmax(-1)[order].tolist() == [7, 1, 1]


def test_the_loss_is_least_for_the_right_map():
    digits = label(SEVEN, ONE, OTHER_ONE, FOUR)
    right = perfect_outputs(digits)
    least = page_loss(right, {"label": digits}, ConfigDict())[0]
    assert least < 0.01
    missed = right.at[0, 15, 20, 0].set(-9.0)
    wrong_class = right.at[..., 5:].set(-right[..., 5:])
    wrong_box = right.at[..., 1].add(1.0)
    added = right.at[0, 5, 100, 0].set(9.0)
    for outputs in (missed, wrong_class, wrong_box, added):
        assert page_loss(outputs, {"label": digits}, ConfigDict())[0] > least + 0.3


def test_a_right_page_is_counted_as_right():
    digits = label(SEVEN, ONE, OTHER_ONE, FOUR)
    assert count(perfect_outputs(digits), digits) == {
        "found": 4,
        "wanted": 4,
        "right": 4,
        "lines": 2,
        "lines_right": 2,
        "page_right": 1,
        "empty": 0,
        "empty_sure": 0,
    }


@pytest.mark.parametrize("fault", ["missed", "class", "added", "far"])
def test_a_fault_spoils_its_line_and_the_page(fault):
    digits = label(SEVEN, FOUR)
    outputs = perfect_outputs(digits)
    row, column = 15, 20  # of the seven
    if fault == "missed":
        outputs = outputs.at[0, row, column, 0].set(-9.0)
    elif fault == "class":
        outputs = outputs.at[0, row, column, 5:].set(0.0).at[0, row, column, 6].set(9.0)
    elif fault == "added":
        outputs = outputs.at[0, row, column + 15, 0].set(5.0)
    else:
        outputs = outputs.at[0, row, column, 3].add(-2.0)  # 32 pixels beside it
    found = count(outputs, digits)
    right = 2 if fault == "added" else 1
    expected = {"missed": 1, "added": 3}.get(fault, 2)
    assert (found["found"], found["wanted"], found["right"]) == (expected, 2, right)
    assert (found["lines"], found["lines_right"], found["page_right"]) == (2, 1, 0)


def test_a_sure_digit_on_an_empty_page_is_counted():
    outputs = perfect_outputs(label())
    assert count(outputs, label())["empty"] == 1
    assert count(outputs, label())["empty_sure"] == 0
    marked = outputs.at[0, 10, 50, 0].set(9.0).at[0, 10, 50, 8].set(9.0)
    found = count(marked, label())
    assert (found["empty_sure"], found["found"], found["page_right"]) == (1, 1, 0)
