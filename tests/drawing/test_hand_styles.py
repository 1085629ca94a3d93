import numpy as np
import pytest

from mnist_jax.drawing.hand_styles import HAND_STYLES, make_styled_digits


@pytest.fixture(scope="module")
def made():
    return make_styled_digits(120, seed=3)


def test_shapes_and_types(made):
    images, labels = made
    assert images.shape == (120, 28, 28, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert set(labels) == set(range(10))


def test_the_geometry_is_mnists(made):
    images, _ = made
    assert (images.max((1, 2, 3)) == 255).all()
    ink = images[..., 0] > 0
    tall, wide = ink.any(2).sum(1), ink.any(1).sum(1)
    assert (np.maximum(tall, wide) <= 20).all()
    assert (np.maximum(tall, wide) >= 19).mean() > 0.9


def test_the_first_of_more_are_the_same(made):
    images, labels = make_styled_digits(10, seed=3)
    np.testing.assert_array_equal(images, made[0][:10])
    np.testing.assert_array_equal(labels, made[1][:10])
    assert (make_styled_digits(10, seed=4)[0] != images).any()


def test_a_style_is_never_drawn_twice_alike():
    rng = np.random.default_rng(0)
    for digit, style in HAND_STYLES:
        assert 0 <= digit <= 9
        a, b = style(rng), style(rng)
        assert a.shape[1] == b.shape[1] == 2
        assert a.shape != b.shape or (a != b).any()
