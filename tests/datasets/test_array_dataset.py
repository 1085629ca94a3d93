"""Data sets of users' own packages, from loading to a checkpoint and its evaluation."""

import json
import sys

import numpy as np
import pytest

from mnist_jax.checkpoint.load import load_model
from mnist_jax.data import load_splits
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import ConfigError, DataError

DATA = """
import numpy as np

from mnist_jax.datasets.array_dataset import ArrayDataset

CALLS = []


def load(split):
    CALLS.append(split)
    count = {"train": 200, "test": 50}[split]
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 60, (count, 28, 28, 1), np.uint8)
    images[np.arange(count), 8 * labels + 4] = 255
    return images, labels


def wrong(images=None, labels=None):
    def load(split):
        return np.zeros((5, 28, 28, 1), np.uint8) if images is None else images, (
            np.zeros(5, int) if labels is None else labels
        )

    return ArrayDataset(("a", "b"), load)


DATASET = ArrayDataset(("top", "middle", "bottom"), load)
FLOATS = wrong(images=np.zeros((5, 28, 28, 1)))
LARGE = wrong(images=np.zeros((5, 32, 32, 1), np.uint8))
FEW_LABELS = wrong(labels=np.zeros(4, int))
NO_INTEGERS = wrong(labels=np.zeros(5))
OTHER_CLASS = wrong(labels=np.full(5, 2))
ONE_CLASS = ArrayDataset(("a",), load)
MORE_SPLITS = ArrayDataset(("a", "b"), load, splits=("train", "extra"))
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "shapes_of_a_user"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "data.py").write_text(DATA)
    monkeypatch.syspath_prepend(tmp_path)
    yield "shapes_of_a_user.data"
    for name in ("shapes_of_a_user", "shapes_of_a_user.data"):
        sys.modules.pop(name, None)


def test_splits_slices_and_validation(package, default_config, cache_dir):
    default_config.dataset = f"{package}:DATASET"
    default_config.train_split = "train[:100]+train[150:]"
    default_config.validation = 30
    default_config.test_split = "test[10%:]"
    splits = load_splits(default_config, None, None)
    counts = [len(part.labels) for part in splits[1:4]]
    assert counts == [120, 30, 45]
    assert splits.train.images.shape == (120, 28, 28, 1)
    assert splits.train.labels.dtype == np.int32
    assert splits.source.class_names == ("top", "middle", "bottom")
    assert splits.digest() == load_splits(default_config, None, None).digest()
    assert json.loads(json.dumps(splits.source.to_dict())) == {
        "name": f"{package}:DATASET",
        "description": f"arrays of {package}:DATASET",
        "fallback_for": "",
        "fallback_reason": "",
        "num_classes": 3,
        "class_names": ["top", "middle", "bottom"],
        "splits": {"train": 200, "test": 50},
    }
    assert not cache_dir.exists()  # arrays are not cached again


def test_a_split_that_is_not_there(package):
    source = resolve_dataset(f"{package}:DATASET")
    with pytest.raises(ConfigError, match=r"train \(200\), test \(50\)"):
        load_dataset(source, "validation")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("load", ConfigError, "is a function, not an ArrayDataset"),
        ("CALLS", ConfigError, "is a list, not an ArrayDataset"),
        ("OTHER", ConfigError, "cannot be imported"),
        ("FLOATS", DataError, r"split 'train': images are float64 \[5, 28, 28, 1\]"),
        ("LARGE", DataError, r"images are uint8 \[5, 32, 32, 1\]"),
        ("FEW_LABELS", DataError, r"labels are int64 \[4\], not integers \[5\]"),
        ("NO_INTEGERS", DataError, "labels are float64"),
        ("OTHER_CLASS", DataError, r"labels are outside 0\.\.1"),
        ("ONE_CLASS", DataError, "has 1 classes, not 2 to 1000"),
        ("MORE_SPLITS", DataError, "labels are outside"),
    ],
)
def test_what_is_no_data_set_is_said_in_one_line(package, name, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve_dataset(f"{package}:{name}")
    assert "\n" not in str(caught.value)
    assert f"{package}:{name}" in str(caught.value)


def test_what_a_stranger_names_is_not_called(package):
    with pytest.raises(ConfigError):
        resolve_dataset(f"{package}:load")
    import shapes_of_a_user.data

    assert shapes_of_a_user.data.CALLS == []


def test_train_and_evaluate(package, tiny_config, tmp_path):
    from mnist_jax.analysis.splits import load_split
    from mnist_jax.train import train_and_evaluate

    tiny_config.dataset = f"{package}:DATASET"
    tiny_config.train_split = "train"
    tiny_config.validation = 40
    tiny_config.num_epochs = 1
    tiny_config.optimizer.warmup_epochs = 0.0
    workdir = tmp_path / "run"
    train_and_evaluate(tiny_config, workdir)
    loaded = load_model(workdir)
    assert loaded.metadata["dataset"]["class_names"] == ["top", "middle", "bottom"]
    test = load_split(loaded)
    assert test.name == f"{package}:DATASET/test"
    assert len(test.dataset.labels) == 50
    assert len(load_split(loaded, split="validation").dataset.labels) == 40
    assert len(load_split(loaded, split="train[:10]").dataset.labels) == 10
