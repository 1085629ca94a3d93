import numpy as np

from mnist_jax.benchmark.workloads import Spread, synthetic_dataset, synthetic_pages


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


def test_synthetic_pages_have_bars_where_their_labels_are():
    pages = synthetic_pages(128, (128, 256))
    assert pages.images.shape == (128, 128, 256, 1)
    counts = (pages.labels[..., 2] > 0).sum(1)
    assert counts.min() >= 1
    assert 4 < counts.mean() < 7
    assert counts.max() > 15
    assert pages.images.dtype == np.uint8
    for picture, rows in zip(pages.images[..., 0], pages.labels, strict=True):
        digits = rows[rows[:, 2] > 0]
        for x, y, width, height, digit, _ in digits.astype(int):
            bar = picture[y - height // 2 : y + height // 2]
            bar = bar[:, x - width // 2 : x + width // 2]
            assert (bar == 80 + 17 * digit).all()
