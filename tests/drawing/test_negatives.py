import numpy as np
import pytest
from scipy import ndimage

from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.drawing import negatives
from mnist_jax.drawing.negatives import make_negatives


@pytest.fixture(scope="module")
def images():
    return make_negatives(600, seed=0)


def test_same_seed_same_images_and_another_seed_others(images):
    assert images.shape == (600, 28, 28, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[:50], make_negatives(50, seed=0))
    assert len(np.unique(images.reshape(600, -1), axis=0)) > 595  # blanks may repeat
    other = make_negatives(50, seed=1)
    assert (images[:50] != other).any((1, 2, 3)).mean() > 0.9


def test_none_are_made_when_none_are_asked_for():
    assert make_negatives(0, seed=0).shape == (0, 28, 28, 1)


@pytest.mark.parametrize("name", negatives.SHARES)
def test_every_kind_has_mnists_geometry(name, monkeypatch):
    monkeypatch.setattr(
        negatives, "SHARES", {other: other == name for other in negatives.SHARES}
    )
    made = make_negatives(20, seed=0)[..., 0]
    assert len(np.unique(made.reshape(20, -1), axis=0)) >= 15
    if name == "faint":
        assert made.mean() < 30
        return
    for image in made.astype(float):
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 18
        assert image.max() == 255
        centre = np.array(ndimage.center_of_mass(image))
        # Unless it would be pushed off the image, as a lone dot far out does.
        assert np.abs(centre - 14).max() <= 0.6


def test_strokes_are_as_wide_as_mnists(monkeypatch):
    monkeypatch.setattr(
        negatives, "SHARES", {name: name == "letter" for name in negatives.SHARES}
    )
    widths = []
    for image in make_negatives(200, seed=0)[..., 0]:
        inked = ndimage.zoom(image.astype(float), 4, order=1) > 127
        depth = ndimage.distance_transform_edt(inked)
        ridge = inked & (depth == ndimage.maximum_filter(depth, 5))
        widths.append(2 * np.median(depth[ridge]) / 4)
    # MNIST, measured so: 1.4, 2.5 and 5.0 pixels at 1, 50 and 99 %.
    assert 2.0 < np.median(widths) < 3.0
    assert 0.7 < np.min(widths) < 2.0
    assert 3.5 < np.max(widths) < 6.0


def test_every_letter_is_in_its_font():
    """A font draws the same box for all that it lacks."""
    import matplotlib.ft2font as ft2font
    from matplotlib import get_data_path

    for fonts, characters in negatives._GLYPHS:
        assert len(set(characters)) == len(characters)
        for name in fonts:
            font = ft2font.FT2Font(f"{get_data_path()}/fonts/ttf/{name}.ttf")
            missing = [c for c in characters if ord(c) not in font.get_charmap()]
            assert not missing, name
            assert not name.startswith("STIX")  # kept for validation


def test_letters_are_lines_of_one_pixel():
    assert len(negatives._glyphs()) > 400
    for points in negatives._glyphs():
        assert len(points) >= 3
        picture = np.zeros(points.max(0).astype(int) + 1, bool)
        picture[tuple(points.astype(int).T)] = True
        inside = ndimage.uniform_filter(picture.astype(float), 3, mode="constant")
        assert inside.max() < 0.99  # no 3x3 block is full


def test_numbers_are_made_of_the_digits_given(monkeypatch):
    monkeypatch.setattr(
        negatives, "SHARES", {name: name == "number" for name in negatives.SHARES}
    )
    block = np.zeros((3, 28, 28, 1), np.uint8)
    block[:, 4:24, 8:20] = 200
    block[0, :, :, :] = 0
    block[0, 4:24, 13:15] = 200  # as narrow as a 1: is not used
    for image in make_negatives(30, seed=0, digits=block)[..., 0]:
        _, pieces = ndimage.label(image > 100)
        assert pieces in (2, 3)
        assert np.ptp(np.flatnonzero(image.any(0))) >= 17


def test_a_nearest_neighbour_tells_them_from_digits(images):
    """They must be learnable: most are nearer to each other than to any digit."""
    digits = load_digits()[0][:600]
    everything = np.concatenate([images, digits]).reshape(1200, -1).astype(np.float32)
    everything /= np.linalg.norm(everything, axis=1, keepdims=True) + 1e-6
    similarity = everything @ everything.T - 2 * np.eye(1200, dtype=np.float32)
    nearest = similarity.argmax(1)
    assert (nearest[600:] >= 600).mean() > 0.95  # digits are near digits
    assert (nearest[:600] < 600).mean() > 0.5
