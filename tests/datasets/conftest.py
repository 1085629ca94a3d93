import pytest

from mnist_jax.datasets.sources import resolve_dataset


@pytest.fixture
def source(mnist_data_dir):
    """300 images of train, and 100 of test."""
    return resolve_dataset("mnist", data_dir=mnist_data_dir)
