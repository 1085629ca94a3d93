import hashlib

import numpy as np
import pytest

from mnist_jax.datasets import offline_digits
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset


@pytest.fixture(scope="module")
def digits():
    return offline_digits.load_digits()


def test_the_digits_have_the_geometry_of_mnist(digits):
    images, labels = digits
    assert images.shape == (1797, 28, 28, 1)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    for image in images[..., 0].astype(float):
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        assert image.max() >= 254
        centre = np.array(np.nonzero(image)) @ image[np.nonzero(image)] / image.sum()
        assert np.abs(centre - 14).max() <= 0.5 + 1e-9
    assert 0.1 < images.mean() / 255 < 0.2  # MNIST has 0.13


def test_the_digits_are_recognisable(digits):
    """Nearest neighbour, leave one out: 98 % on the 8x8 scans themselves."""
    images, labels = digits
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    similarity = flat @ flat.T - 2 * np.eye(len(flat), dtype=np.float32)
    accuracy = np.mean(labels[similarity.argmax(axis=1)] == labels)
    assert accuracy > 0.97


def test_the_splits_are_fixed_stratified_and_disjoint(digits, cache_dir):
    source = resolve_dataset("digits")
    assert source.splits == {"train": 1197, "validation": 200, "test": 400}
    splits = {split: load_dataset(source, split) for split in source.splits}
    everything = np.concatenate([images for images, _ in splits.values()])
    assert len(np.unique(everything, axis=0)) == len(np.unique(digits[0], axis=0))
    for split, (images, labels) in splits.items():
        assert len(images) == len(labels) == source.splits[split]
        counts = np.bincount(labels, minlength=10)
        expected = np.bincount(digits[1]) * len(labels) / 1797
        assert np.abs(counts - expected).max() < 1.5
    # Another digest means another test set: results no longer compare with old ones.
    digest = hashlib.sha256(splits["test"].labels.tobytes()).hexdigest()
    assert digest[:16] == "80af64cffb4732e9"
