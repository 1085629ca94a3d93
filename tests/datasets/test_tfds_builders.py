import os
import subprocess
import sys

import numpy as np
import pytest
from mnist_fixture import write_archives

from mnist_jax.data import Dataset
from mnist_jax.datasets import archives, sources, tfds_builders
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import DataError


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_prepare_gives_what_tfds_reads(made_archives, made_splits, tmp_path, capfd):
    data_dir = tmp_path / "data_dir"
    tfds_builders.prepare_tfds("mnist", made_archives, data_dir)
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"preparing mnist in {data_dir} (once, under a minute)\n")
    assert tree(data_dir) == [
        "mnist",
        "mnist/3.0.1",
        "mnist/3.0.1/dataset_info.json",
        "mnist/3.0.1/features.json",
        "mnist/3.0.1/mnist-test.array_record-00000-of-00001",
        "mnist/3.0.1/mnist-train.array_record-00000-of-00001",
    ]
    assert os.stat(data_dir / "mnist/3.0.1").st_mode & 0o555 == 0o555

    import tensorflow_datasets as tfds

    stock = tfds.data_source("mnist", data_dir=data_dir)
    assert {split: len(stock[split]) for split in stock} == {"train": 300, "test": 100}
    assert type(tfds.builder("mnist", data_dir=data_dir)).__module__ == (
        "tensorflow_datasets.image_classification.mnist"
    )
    order = tfds_builders.tfds_order(100, "test")
    for i in (0, 1, 57, 99):
        image, label = (made_splits["test"][k][order[i]] for k in (0, 1))
        np.testing.assert_array_equal(stock["test"][i]["image"], image)
        assert stock["test"][i]["label"] == label


def test_archives_read_directly_equal_prepared_data(made_archives, cache_dir, tmp_path):
    prepared = resolve_dataset("mnist", data_dir=tmp_path, manual_dir=made_archives)
    direct = sources._archives_source("mnist", made_archives, "a test")
    assert (prepared.file_format, direct.file_format) == ("array_record", "idx")
    assert prepared.splits == direct.splits == {"train": 300, "test": 100}
    for split in prepared.splits:
        for a, b in zip(
            load_dataset(prepared, split), load_dataset(direct, split), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_siblings(name, made_splits, tmp_path, monkeypatch, cache_dir):
    published = write_archives(tmp_path / "archives", made_splits)
    made = archives.DATASETS[name]._replace(mirrors=(), files=published)
    monkeypatch.setitem(archives.DATASETS, name, made)
    source = resolve_dataset(
        name, data_dir=tmp_path / "data_dir", manual_dir=tmp_path / "archives"
    )
    assert source.description.startswith(f"{name} 3.0.1 from ")
    assert load_dataset(source, "test").images.shape == (100, 28, 28, 1)

    import tensorflow_datasets as tfds

    features = tfds.builder(name, data_dir=tmp_path / "data_dir").info.features
    assert tuple(features["label"].names) == source.class_names


def test_two_at_once(made_archives, tmp_path, monkeypatch):
    """The one that comes second finds the folder there, and is content with it."""
    rename = os.rename

    def rename_second(source, target):
        if not getattr(rename_second, "again", False):
            rename_second.again = True
            tfds_builders.prepare_tfds("mnist", made_archives, tmp_path / "data_dir")
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_second)
    tfds_builders.prepare_tfds("mnist", made_archives, tmp_path / "data_dir")
    assert len(tree(tmp_path / "data_dir")) == 6


def test_a_failure_leaves_nothing(made_archives, made_splits, tmp_path, monkeypatch):
    data_dir = tmp_path / "data_dir"
    with monkeypatch.context() as patch:  # what a full disk may do unseen
        patch.setattr(tfds_builders, "count_records", lambda path: 299)
        with pytest.raises(DataError, match=r"not written in full.*--data_dir"):
            tfds_builders.prepare_tfds("mnist", made_archives, data_dir)
    assert tree(data_dir) == []

    wrong = Dataset(made_splits["test"].images, made_splits["test"].labels[:50])
    write_archives(made_archives, {**made_splits, "test": wrong})
    with pytest.raises(DataError, match=r"do not fit labels \(50,\)"):
        tfds_builders.prepare_tfds("mnist", made_archives, data_dir)
    assert tree(data_dir) == []


def test_a_folder_that_is_in_the_way(made_archives, tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "something").touch()
    with pytest.raises(DataError, match="Directory not empty"):
        tfds_builders.prepare_tfds("mnist", made_archives, tmp_path)
    assert tree(tmp_path / "mnist") == ["3.0.1", "3.0.1/something"]


def test_leftovers_of_a_killed_process_are_swept(made_archives, tmp_path):
    for name, age in ((".mnist_jax-old", 7200), (".mnist_jax-new", 60)):
        (tmp_path / "data_dir" / name / "mnist").mkdir(parents=True)
        modified = (tmp_path / "data_dir" / name).stat().st_mtime - age
        os.utime(tmp_path / "data_dir" / name, (modified, modified))
    tfds_builders.prepare_tfds("mnist", made_archives, tmp_path / "data_dir")
    assert sorted(os.listdir(tmp_path / "data_dir")) == [".mnist_jax-new", "mnist"]


def test_no_tensorflow(made_archives, tmp_path, cache_dir):
    """Preparing, reading and slicing, each in full, import no TensorFlow."""
    files = archives.DATASETS["mnist"].files
    program = f"""
import sys
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.datasets import archives
archives.DATASETS["mnist"] = archives.DATASETS["mnist"]._replace(files={files!r})
source = resolve_dataset(
    "mnist", data_dir={str(tmp_path / "data_dir")!r}, manual_dir={str(made_archives)!r}
)
assert load_dataset(source, "train[:10%]+test").images.shape == (130, 28, 28, 1)
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
