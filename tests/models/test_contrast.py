import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mnist_fixture import make_dataset

from mnist_jax.analysis.corruptions import corrupt
from mnist_jax.config import ConfigDict
from mnist_jax.data import normalize
from mnist_jax.models.contrast import even_contrast
from mnist_jax.models.create import create_model
from mnist_jax.run.config_files import load_config


@pytest.fixture(scope="module")
def digits():
    """A ring and a bar with soft edges, float32 [2, 28, 28, 1]."""
    y, x = np.mgrid[:28, :28]
    ring = np.abs(np.hypot(y - 14, x - 14) - 7)
    bar = np.where(np.abs(y - 14) < 9, np.abs(x - 14), 9)
    ink = np.clip(2.2 - np.stack([ring, bar]), 0, 1)[..., None]
    return np.rint(255 * ink).astype(np.uint8)


def seen(images):
    return np.asarray(jax.jit(even_contrast)(normalize(images)))


def test_a_digit_stays_nearly_as_it_is(digits):
    assert np.abs(seen(digits) - normalize(digits)).max() < 0.12


@pytest.mark.parametrize("name", ["brightness", "stripe"])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_light_and_stripes_make_no_difference(digits, name, severity):
    hard = np.where(digits > 127, np.uint8(255), np.uint8(0))
    made = seen(corrupt(hard, name, severity))
    # But for jagged pixels at a stripe, which have other neighbours there.
    assert (np.abs(made - seen(hard)) > 0.05).mean() < 0.04


def test_dark_ink_on_light_paper_is_ink(digits):
    np.testing.assert_allclose(seen(255 - digits), seen(digits), atol=1e-5)


def test_a_digit_that_touches_an_edge_is_ink(digits):
    moved = np.roll(digits, 4, axis=1)
    assert moved[:, -1].max() > 0
    moved[1, -1] = moved[1, -2]
    assert moved[:, -1].max() == 255
    np.testing.assert_allclose(
        seen(moved)[:, :24], np.roll(seen(digits), 4, axis=1)[:, :24], atol=0.15
    )


def test_lone_pixels_go(digits):
    dusty = digits.copy()
    dusty[:, 3, ::4] = 255
    np.testing.assert_allclose(seen(dusty), seen(digits), atol=1e-5)


def test_each_image_is_by_itself_and_blank_paper_stays_blank(digits):
    images = np.concatenate([digits, np.full_like(digits[:1], 77)])
    np.testing.assert_array_equal(seen(images)[:2], seen(digits))
    assert seen(images)[2].max() == 0
    faint = (77 + np.random.default_rng(0).integers(0, 2, (1, 28, 28, 1))).astype("u1")
    assert seen(faint).max() < 0.25


def test_range_shape_dtype():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    made = seen(images)
    assert (made.shape, made.dtype) == (images.shape, np.float32)
    assert made.min() >= 0
    assert made.max() <= 1


def test_models_see_through_it_and_older_configs_lack_it():
    images = normalize(make_dataset(8, seed=0).images)
    lifted = jnp.minimum(images + 0.3, 1)
    kwargs = load_config("cnn").model.kwargs.to_dict()
    kwargs.pop("even_contrast", None)
    config = ConfigDict({"name": "cnn", "kwargs": kwargs})
    plain = create_model(config, 10)
    config.kwargs.even_contrast = True
    even = create_model(config, 10)
    variables = plain.init(jax.random.key(0), images)
    assert jax.tree.structure(variables) == jax.tree.structure(
        even.init(jax.random.key(0), images)
    )
    seen_evenly = even_contrast(images)
    expected = plain.apply(variables, seen_evenly)
    np.testing.assert_allclose(even.apply(variables, images), expected, rtol=1e-5)
    assert not np.allclose(
        even.apply(variables, lifted), plain.apply(variables, lifted)
    )
