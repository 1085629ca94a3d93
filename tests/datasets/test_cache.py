import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mnist_fixture import (
    assert_datasets_equal,
    encode_example,
    make_dataset,
    write_prepared,
    write_tfrecord,
)

from mnist_jax.datasets import cache_folder, shard_files
from mnist_jax.datasets.arrays import Dataset
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import DataError


@pytest.fixture(autouse=True)
def _isolated(cache_dir):
    pass


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_load(tmp_path, made_splits, file_format, num_shards):
    write_prepared(
        tmp_path, made_splits, file_format=file_format, num_shards=num_shards
    )
    source = resolve_dataset("mnist", data_dir=tmp_path)
    assert source.file_format == file_format
    for _ in range(2):  # from the files, from the cache
        for split in source.splits:
            dataset = load_dataset(source, split)
            assert_datasets_equal(dataset, made_splits[split])
            assert (dataset.images.dtype, dataset.labels.dtype) == (np.uint8, np.int32)
        assert len(os.listdir(cache_folder.cache_dir())) == 2


def test_the_fixture_is_what_tfds_reads(mnist_data_dir, made_splits):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(mnist_data_dir / "mnist" / "3.0.1")
    examples = list(builder.as_data_source("test"))
    images = np.stack([example["image"] for example in examples])
    np.testing.assert_array_equal(images, made_splits["test"].images)


def test_the_cache_spares_the_files_and_tfds(tmp_path, made_splits, monkeypatch):
    write_prepared(tmp_path, made_splits)
    source = resolve_dataset("mnist", data_dir=tmp_path)
    assert_datasets_equal(load_dataset(source, "train"), made_splits["train"])
    program = f"""
import sys
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
source = resolve_dataset("mnist", data_dir={str(tmp_path)!r})
assert len(load_dataset(source, "train+train").labels) == 600
assert len(load_dataset(source, "train[10:50] + train[:2]").labels) == 42
heavy = "jax", "sklearn", "scipy", "PIL", "array_record", "tensorflow_datasets"
assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_changed_file_is_read_again(tmp_path, made_splits):
    folder = write_prepared(tmp_path, made_splits, file_format="tfrecord")
    source = resolve_dataset("mnist", data_dir=tmp_path)
    load_dataset(source, "test")
    other = make_dataset(100, seed=7)
    examples = [encode_example(*pair) for pair in zip(*other, strict=True)]
    write_tfrecord(folder / "mnist-test.tfrecord-00000-of-00001", examples)
    assert_datasets_equal(load_dataset(source, "test"), other)
    assert len(os.listdir(cache_folder.cache_dir())) == 1  # replaced, not piled up


def test_a_damaged_cache_is_made_anew(source, made_splits):
    load_dataset(source, "test")
    (path,) = cache_folder.cache_dir().iterdir()
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"junk", good[:1000]]
    for position in rng.integers(200, len(good), size=20):
        flipped = bytearray(good)
        flipped[position] ^= 0x10
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        assert_datasets_equal(load_dataset(source, "test"), made_splits["test"])


def test_no_cache_is_no_error(source, made_splits, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNIST_JAX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert_datasets_equal(load_dataset(source, "test"), made_splits["test"])


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("MNIST_JAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder.cache_dir() == Path("/somewhere/mnist_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder.cache_dir() == Path.home() / ".cache" / "mnist_jax"


def test_a_wrong_count(tmp_path, made_splits):
    folder = write_prepared(tmp_path, made_splits, file_format="tfrecord")
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"300"', '"301"'))
    source = resolve_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"has 300 examples instead of 301; remove"):
        load_dataset(source, "train")


def test_a_wrong_label(tmp_path, made_splits):
    images, labels = made_splits["test"]
    write_prepared(tmp_path, {"test": Dataset(images, labels + 1)})
    source = resolve_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"mnist test has labels outside 0\.\.9; rem"):
        load_dataset(source, "test")


def test_a_missing_or_closed_shard(tmp_path, made_splits, monkeypatch):
    folder = write_prepared(tmp_path, made_splits)
    source = resolve_dataset("mnist", data_dir=tmp_path)
    shard = folder / "mnist-test.array_record-00000-of-00001"
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(DataError, match=f"{shard}: no permission"):
            load_dataset(source, "test")
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard}: No such file.*{shard_files.MEND}"):
        load_dataset(source, "test")


REAL = Path(os.environ.get("TFDS_DATA_DIR", "")) / "mnist" / "3.0.1"


@pytest.mark.skipif(not (REAL / "dataset_info.json").is_file(), reason="no real MNIST")
def test_real_mnist(tmp_path, monkeypatch):
    """All of it, and the pixels in the archive's order have the archive's MD5."""
    import hashlib

    from mnist_jax.datasets.tfds_builders import tfds_order

    source = resolve_dataset("mnist", data_dir=REAL.parents[1])
    assert source.splits == {"train": 60000, "test": 10000}
    for split, md5 in (
        ("train", "6bbc9ace898e44ae57da46a324031adb"),
        ("test", "2646ac647ad5339dbf082846283269ea"),
    ):
        images = load_dataset(source, split).images
        archive = np.empty_like(images)
        archive[tfds_order(len(images), split)] = images
        header = np.array([0x803, len(images), 28, 28], ">u4").tobytes()
        assert hashlib.md5(header + archive.tobytes()).hexdigest() == md5


def test_a_source_after_the_files_are_gone_is_an_error(source):
    moved = dataclasses.replace(source, files={"train": ("/nowhere/x",), "test": ()})
    with pytest.raises(DataError, match="/nowhere/x: No such file"):
        load_dataset(moved, "train")
