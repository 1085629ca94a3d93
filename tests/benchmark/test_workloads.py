import numpy as np

from mnist_jax.benchmark.workloads import Spread, synthetic_dataset


def test_spread():
    assert Spread.of([4, 1, 3, 2, 5]) == Spread(3, 1, 2, 4, 5, 5)


def test_synthetic_dataset():
    dataset = synthetic_dataset(30)
    assert dataset.images.shape == (30, 28, 28, 1)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32
    assert set(dataset.labels) <= set(range(10))


def test_synthetic_dataset_can_be_learned_but_not_wholly():
    images, labels = synthetic_dataset(2000)
    lines = images[:, 4:24:2, :, 0].astype(int).sum(axis=2).argmax(axis=1)
    assert 0.75 < np.mean(lines == labels) < 0.85
