import jax
import numpy as np
import pytest
from mnist_fixture import assert_datasets_equal

from mnist_jax import data
from mnist_jax.data import normalize
from mnist_jax.datasets.arrays import hold_out
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.errors import ArgumentError


@pytest.fixture(autouse=True)
def _isolated(cache_dir):
    pass


def test_normalize(made_splits):
    images = made_splits["test"].images
    expected = images / 255.0
    for normalized in (normalize(images), jax.jit(normalize)(images)):
        assert normalized.dtype == np.float32
        np.testing.assert_allclose(normalized, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int32])
def test_numbers_of_another_scale_are_not_normalized(made_splits, dtype):
    images = (made_splits["test"].images / 255).astype(dtype)
    for normalized in (normalize, jax.jit(normalize)):
        with pytest.raises(ArgumentError, match=r"must be uint8, from 0 to 255: got"):
            normalized(images)


def test_public_names():
    assert all(hasattr(data, name) for name in data.__all__)


def test_splits_of_a_config(default_config, mnist_data_dir, made_splits):
    default_config.validation = 20
    splits = data.load_splits(default_config, str(mnist_data_dir), None)
    train, validation = hold_out(made_splits["train"], 20, seed=0)
    assert_datasets_equal(splits.train, train)
    assert_datasets_equal(splits.validation, validation)
    assert_datasets_equal(splits.test, made_splits["test"])
    assert [len(part.labels) for part in splits.first(5)[1:4]] == [5, 5, 5]
    default_config.validation = 0
    splits = data.load_splits(default_config, str(mnist_data_dir), None)
    assert splits.validation is None
    assert splits.first(5).validation is None
    assert_datasets_equal(splits.train, made_splits["train"])


def test_the_held_out_images_do_not_depend_on_the_seed(default_config, mnist_data_dir):
    default_config.validation = 20
    one = data.load_splits(default_config, str(mnist_data_dir), None)
    default_config.seed = 1
    other = data.load_splits(default_config, str(mnist_data_dir), None)
    assert_datasets_equal(one.validation, other.validation)


def test_the_digits_bring_their_own_validation_split(default_config):
    default_config.dataset = "digits"
    splits = data.load_splits(default_config, None, None)
    assert_datasets_equal(splits.validation, load_dataset(splits.source, "validation"))
    assert len(splits.train.labels) == splits.source.splits["train"]
