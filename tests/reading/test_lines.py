import numpy as np
import pytest

from mnist_jax.reading.lines import order_by_line


def as_text(boxes, names):
    order, lines = order_by_line(np.array(boxes, float))
    rows = [""] * (lines.max() + 1)
    for i, line in zip(order, lines, strict=True):
        rows[line] += names[i]
    return rows


def line_of(count, left, y, slope=0.0, height=30.0, step=28.0):
    return [(left + step * k, y + slope * step * k, 20.0, height) for k in range(count)]


def shuffled(boxes, names):
    order = np.random.default_rng(0).permutation(len(boxes))
    return [boxes[i] for i in order], "".join(names[i] for i in order)


def test_digits_are_read_from_the_left_and_lines_from_the_top():
    boxes = line_of(3, 10, 100) + line_of(4, 10, 20) + line_of(2, 50, 60)
    assert as_text(*shuffled(boxes, "abcdefghi")) == ["defg", "hi", "abc"]


@pytest.mark.parametrize("slope", [-0.25, -0.1, 0.1, 0.25])
def test_lines_may_slope(slope):
    boxes = line_of(8, 10, 100, slope) + line_of(8, 10, 145, slope)
    assert as_text(*shuffled(boxes, "abcdefghABCDEFGH")) == ["abcdefgh", "ABCDEFGH"]


def test_columns_of_a_table_are_read_row_by_row():
    boxes = []
    for y in (20, 70, 120):
        boxes += line_of(2, 10, y) + line_of(2, 400, y + 3)
    assert as_text(boxes, "abcdefghijkl") == ["abcd", "efgh", "ijkl"]


def test_a_column_of_single_digits_is_one_line_each():
    boxes = [(50.0, 30.0 + 45 * k, 20.0, 30.0) for k in range(4)]
    assert as_text(*shuffled(boxes, "abcd")) == ["a", "b", "c", "d"]


def test_digits_of_a_line_may_differ_in_height_and_jump_a_little():
    boxes = [(10, 50, 20, 40), (40, 55, 15, 20), (70, 44, 20, 36), (100, 52, 20, 40)]
    assert as_text(boxes, "abcd") == ["abcd"]


def test_no_digits_are_no_lines():
    order, lines = order_by_line(np.zeros((0, 4)))
    assert len(order) == len(lines) == 0
