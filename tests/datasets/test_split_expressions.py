import numpy as np
import pytest
from mnist_fixture import assert_datasets_equal, write_prepared

from mnist_jax.datasets.arrays import Dataset
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _isolated(cache_dir):
    pass


SPLITS = [
    ("train[:50]", [("train", 0, 50)]),
    ("train[-50:]", [("train", 250, 300)]),
    ("train[10%:20%]", [("train", 30, 60)]),
    ("train[:10%]+test[5:]", [("train", 0, 30), ("test", 5, 100)]),
    ("train + test", [("train", 0, 300), ("test", 0, 100)]),
    ("train+train[:1]", [("train", 0, 300), ("train", 0, 1)]),
    ("all", [("train", 0, 300), ("test", 0, 100)]),
    ("train[1shard:]", [("train", 150, 300)]),
    ("train[33.5%:]", [("train", 100, 300)]),
    ("train[1_0:2_0]", [("train", 10, 20)]),
]


@pytest.mark.parametrize(("split", "slices"), SPLITS)
def test_split_expressions(tmp_path, made_splits, split, slices):
    write_prepared(tmp_path, made_splits, num_shards=2)
    source = resolve_dataset("mnist", data_dir=tmp_path)
    parts = [(made_splits[name], slice(start, stop)) for name, start, stop in slices]
    expected = Dataset(
        np.concatenate([part.images[where] for part, where in parts]),
        np.concatenate([part.labels[where] for part, where in parts]),
    )
    assert_datasets_equal(load_dataset(source, split), expected)


@pytest.mark.parametrize(
    "split",
    ["validation", "", "train[", "train[5]", "train[:101%]", "train[:301]", "Train",
     "train[::2]", "train+", "train[a:b]", "all[:5]", "train[:5k]", "train,test"],
)  # fmt: skip
def test_a_bad_split_expression(source, split):
    with pytest.raises(ConfigError, match=r"train \(300\), test \(100\)") as caught:
        load_dataset(source, split)
    assert "\n" not in str(caught.value)
    assert repr(split) in str(caught.value)


@pytest.mark.parametrize("split", ["train[5:5]", "train[20:10]", "test[100:]"])
def test_an_empty_split(source, split):
    with pytest.raises(DataError, match="has no images"):
        load_dataset(source, split)
