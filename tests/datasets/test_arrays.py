import numpy as np
import pytest
from mnist_fixture import assert_datasets_equal

from mnist_jax.datasets.arrays import Dataset, hold_out
from mnist_jax.errors import ConfigError


def test_hold_out_is_stratified_fixed_and_complete():
    rng = np.random.default_rng(0)
    labels = rng.choice(10, 6000, p=np.arange(1, 11) / 55).astype(np.int32)
    images = np.arange(6000, dtype=np.uint16).view(np.uint8).reshape(6000, 1, 2, 1)
    dataset = Dataset(images, labels)
    train, validation = hold_out(dataset, 500, seed=0)
    assert (len(train.labels), len(validation.labels)) == (5500, 500)
    expected = np.bincount(labels) / 12
    assert np.abs(np.bincount(validation.labels) - expected).max() <= 1
    index = [d.images.reshape(-1, 2).copy().view(np.uint16)[:, 0] for d in (train, validation)]  # noqa: E501 # fmt: skip
    assert all(np.all(np.diff(i) > 0) for i in index)  # the order is kept
    assert sorted(np.concatenate(index)) == list(range(6000))
    np.testing.assert_array_equal(labels[index[1]], validation.labels)
    assert index[1][:5].tolist() == [25, 31, 88, 99, 115]
    assert_datasets_equal(hold_out(dataset, 500, seed=0)[1], validation)
    other = hold_out(dataset, 500, seed=1)[1]
    assert np.any(other.images != validation.images)


def test_hold_out_none_and_too_many(made_splits):
    train, validation = hold_out(made_splits["test"], 0, seed=0)
    assert_datasets_equal(train, made_splits["test"])
    assert validation.images.shape == (0, 28, 28, 1)
    for wrong in (-1, 100, 5000):
        with pytest.raises(ConfigError, match=f"validation={wrong} .*the 100 images"):
            hold_out(made_splits["test"], wrong, seed=0)
