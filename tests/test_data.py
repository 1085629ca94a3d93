import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from mnist_fixture import encode_example, make_dataset, write_prepared, write_tfrecord

from mnist_jax import data
from mnist_jax.data import Dataset, hold_out, load_dataset, normalize, resolve_dataset
from mnist_jax.datasets import shard_files, sources
from mnist_jax.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _isolated(cache_dir):
    pass


@pytest.fixture
def source(mnist_data_dir):
    return resolve_dataset("mnist", data_dir=mnist_data_dir)


def assert_equal(a: Dataset, b: Dataset):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)


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
            assert_equal(dataset, made_splits[split])
            assert (dataset.images.dtype, dataset.labels.dtype) == (np.uint8, np.int32)
        assert len(os.listdir(sources.cache_dir())) == 2


def test_the_fixture_is_what_tfds_reads(mnist_data_dir, made_splits):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(mnist_data_dir / "mnist" / "3.0.1")
    examples = list(builder.as_data_source("test"))
    images = np.stack([example["image"] for example in examples])
    np.testing.assert_array_equal(images, made_splits["test"].images)


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
    assert_equal(load_dataset(source, split), expected)


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


def test_the_cache_spares_the_files_and_tfds(tmp_path, made_splits, monkeypatch):
    write_prepared(tmp_path, made_splits)
    source = resolve_dataset("mnist", data_dir=tmp_path)
    assert_equal(load_dataset(source, "train"), made_splits["train"])
    program = f"""
import sys
from mnist_jax import data
source = data.resolve_dataset("mnist", data_dir={str(tmp_path)!r})
assert len(data.load_dataset(source, "train+train").labels) == 600
assert len(data.load_dataset(source, "train[10:50] + train[:2]").labels) == 42
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
    assert_equal(load_dataset(source, "test"), other)
    assert len(os.listdir(sources.cache_dir())) == 1  # replaced, not piled up


def test_a_damaged_cache_is_made_anew(source, made_splits):
    load_dataset(source, "test")
    (path,) = sources.cache_dir().iterdir()
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"junk", good[:1000]]
    for position in rng.integers(200, len(good), size=20):
        flipped = bytearray(good)
        flipped[position] ^= 0x10
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        assert_equal(load_dataset(source, "test"), made_splits["test"])


def test_no_cache_is_no_error(source, made_splits, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNIST_JAX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert_equal(load_dataset(source, "test"), made_splits["test"])


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("MNIST_JAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert sources.cache_dir() == Path("/somewhere/mnist_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_dir() == Path.home() / ".cache" / "mnist_jax"


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
    assert_equal(hold_out(dataset, 500, seed=0)[1], validation)
    other = hold_out(dataset, 500, seed=1)[1]
    assert np.any(other.images != validation.images)


def test_hold_out_none_and_too_many(made_splits):
    train, validation = hold_out(made_splits["test"], 0, seed=0)
    assert_equal(train, made_splits["test"])
    assert validation.images.shape == (0, 28, 28, 1)
    for wrong in (-1, 100, 5000):
        with pytest.raises(ConfigError, match=f"validation={wrong} .*the 100 images"):
            hold_out(made_splits["test"], wrong, seed=0)


def test_normalize(made_splits):
    images = made_splits["test"].images
    expected = images / 255.0
    for normalized in (
        normalize(images),
        normalize(images.astype(np.float32)),
        jax.jit(normalize)(images),
    ):
        assert normalized.dtype == np.float32
        np.testing.assert_allclose(normalized, expected, rtol=1e-6)


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


def test_public_names():
    assert all(hasattr(data, name) for name in data.__all__)


def test_splits_of_a_config(default_config, mnist_data_dir, made_splits):
    default_config.validation = 20
    splits = data.load_splits(default_config, str(mnist_data_dir), None)
    train, validation = hold_out(made_splits["train"], 20, seed=0)
    assert_equal(splits.train, train)
    assert_equal(splits.validation, validation)
    assert_equal(splits.test, made_splits["test"])
    assert [len(part.labels) for part in splits.first(5)[1:]] == [5, 5, 5]
    default_config.validation = 0
    splits = data.load_splits(default_config, str(mnist_data_dir), None)
    assert splits.validation is None
    assert splits.first(5).validation is None
    assert_equal(splits.train, made_splits["train"])


def test_the_held_out_images_do_not_depend_on_the_seed(default_config, mnist_data_dir):
    default_config.validation = 20
    one = data.load_splits(default_config, str(mnist_data_dir), None)
    default_config.seed = 1
    other = data.load_splits(default_config, str(mnist_data_dir), None)
    assert_equal(one.validation, other.validation)


def test_the_digits_bring_their_own_validation_split(default_config):
    default_config.dataset = "digits"
    splits = data.load_splits(default_config, None, None)
    assert_equal(splits.validation, load_dataset(splits.source, "validation"))
    assert len(splits.train.labels) == splits.source.splits["train"]
