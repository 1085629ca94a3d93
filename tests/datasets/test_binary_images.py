import numpy as np
import pytest
from scipy import ndimage

from mnist_jax.datasets.binary_images import distance_to_zero, label_pieces


def random_mask(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 40, 2)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 3))
    return smooth > np.quantile(smooth, rng.uniform(0, 1))


@pytest.mark.parametrize("seed", range(60))
def test_pieces_are_those_of_scipy(seed):
    mask = random_mask(seed)
    pieces, count = label_pieces(mask)
    expected, number = ndimage.label(mask, np.ones((3, 3)))
    assert count == number
    np.testing.assert_array_equal(pieces, expected)


def test_a_snake_is_one_piece_and_a_chessboard_too():
    snake = np.ones((41, 30), bool)
    snake[1::4, :-1] = snake[3::4, 1:] = False
    assert label_pieces(snake)[1] == 1
    assert label_pieces(np.indices((30, 30)).sum(0) % 2 == 0)[1] == 1
    assert label_pieces(np.zeros((5, 5), bool))[1] == 0
    pieces, count = label_pieces(np.ones((5, 5), bool))
    assert (count, pieces.min()) == (1, 1)


@pytest.mark.parametrize("seed", range(60))
def test_distances_are_those_of_scipy(seed):
    mask = random_mask(seed)
    mask.flat[seed % mask.size] = False
    expected = ndimage.distance_transform_edt(mask)
    np.testing.assert_allclose(distance_to_zero(mask), expected, rtol=1e-15)
    for most in (0.5, 1, 2.3, 7):
        capped = np.minimum(expected, most)
        np.testing.assert_allclose(distance_to_zero(mask, most), capped, rtol=1e-15)


def test_distances_of_a_full_mask_are_the_most():
    np.testing.assert_array_equal(distance_to_zero(np.ones((4, 6), bool), 3), 3)
    assert (distance_to_zero(np.ones((4, 6), bool)) >= 6).all()
