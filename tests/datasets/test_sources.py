import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from mnist_fixture import as_emnist, write_archives, write_emnist, write_prepared

from mnist_jax.checkpoint.load import load_model
from mnist_jax.data import Dataset
from mnist_jax.datasets import archives, cache_folder, sources, tfds_builders
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.train import train_and_evaluate


@pytest.fixture(autouse=True)
def _isolated(cache_dir):
    pass


def test_prepared(mnist_data_dir, monkeypatch):
    source = resolve_dataset("mnist", data_dir=mnist_data_dir)
    assert source.description == f"mnist 3.0.1 from {mnist_data_dir} (array_record)"
    assert source.splits == {"train": 300, "test": 100}
    assert (source.num_classes, source.class_names[3]) == (10, "3")
    assert (source.fallback_for, source.fallback_reason) == ("", "")
    assert json.loads(json.dumps(source.to_dict())) == source.to_dict()
    monkeypatch.setenv("TFDS_DATA_DIR", str(mnist_data_dir))
    assert resolve_dataset("mnist", offline_dataset="digits") == source
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(mnist_data_dir.parent))
    monkeypatch.setattr(sources, "DEFAULT_DATA_DIR", f"~/{mnist_data_dir.name}")
    home = resolve_dataset("mnist").description
    assert home == f"mnist 3.0.1 from ~/{mnist_data_dir.name} (array_record)"


def test_the_newest_version_and_no_unfinished_one(tmp_path, made_splits):
    folder = write_prepared(tmp_path, made_splits)
    for name in ("3.0.0", "10.0.0", "incomplete.AB_11.0.0", "11.0.0"):
        (folder.parent / name).mkdir()
        if name != "11.0.0":
            for file in folder.iterdir():
                (folder.parent / name / file.name).symlink_to(file)
    assert (
        "mnist 10.0.0 from" in resolve_dataset("mnist", data_dir=tmp_path).description
    )


def test_any_prepared_tfds_name(tmp_path, made_splits):
    folder = write_prepared(tmp_path, made_splits, name="letters")
    (folder / "label.labels.txt").write_text("".join(f"{c}\n" for c in "abcdefghij"))
    assert resolve_dataset("letters", data_dir=tmp_path).class_names == tuple(
        "abcdefghij"
    )
    (folder / "label.labels.txt").unlink()
    assert resolve_dataset("letters", data_dir=tmp_path).class_names == tuple(
        "0123456789"
    )


def test_an_unknown_name(tmp_path):
    with pytest.raises(
        ConfigError, match=r"'mnits' in .*did you mean 'mnist'\?.*kmnist"
    ):
        resolve_dataset("mnits", data_dir=tmp_path, offline_dataset="digits")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda info: "{", "not a tfds data set"),
        (lambda info: "[]", "not a tfds data set"),
        (lambda info: info.replace('"splits"', '"slits"'), "not a tfds data set"),
        (lambda info: info.replace('"array_record"', '"parquet"'), "parquet, but only"),
    ],
)
def test_a_bad_dataset_info(tmp_path, made_splits, break_it, message):
    info = write_prepared(tmp_path, made_splits) / "dataset_info.json"
    info.write_text(break_it(info.read_text()))
    with pytest.raises(DataError, match=f"mnist/3.0.1: .*{message}"):
        resolve_dataset("mnist", data_dir=tmp_path, offline_dataset="digits")


def test_a_data_dir_that_cannot_be_read(tmp_path, monkeypatch):
    def closed(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(DataError, match=f"{tmp_path}/mnist: Permission denied"):
        resolve_dataset("mnist", data_dir=tmp_path, offline_dataset="digits")


@pytest.mark.parametrize("given", [True, False])
def test_archives_are_prepared(tmp_path, made_archives, given):
    if not given:  # tfds's own place for them
        (tmp_path / "downloads/manual").mkdir(parents=True)
        made_archives.rename(tmp_path / "downloads/manual/mnist")
    manual_dir = made_archives if given else None
    source = resolve_dataset("mnist", data_dir=tmp_path, manual_dir=manual_dir)
    assert source.description == f"mnist 3.0.1 from {tmp_path} (array_record)"


def test_a_bad_manual_dir_is_an_error_and_not_a_download(tmp_path, made_archives):
    (made_archives / "t10k-labels-idx1-ubyte.gz").write_bytes(b"altered")
    asked = {"manual_dir": made_archives, "offline_dataset": "digits"}
    message = (
        r"t10k-labels-idx1-ubyte.gz has 7 bytes instead of \d+: mnist needs train-"
    )
    with pytest.raises(DataError, match=message):
        resolve_dataset("mnist", data_dir=tmp_path / "data_dir", **asked)
    asked["manual_dir"] = tmp_path / "nowhere"
    with pytest.raises(DataError, match=r"nowhere/train-.* is missing"):
        resolve_dataset("mnist", data_dir=tmp_path / "data_dir", **asked)
    assert not (tmp_path / "data_dir").exists()


def test_a_download_is_kept_and_prepared(tmp_path, made_archives, monkeypatch):
    def download(name, folder):
        folder.parent.mkdir(parents=True)
        made_archives.rename(folder)

    monkeypatch.setattr(archives, "download_archives", download)
    source = resolve_dataset("mnist", data_dir=tmp_path, offline_dataset="digits")
    assert source.description == f"mnist 3.0.1 from {tmp_path} (array_record)"
    assert (tmp_path / "downloads/manual/mnist/t10k-labels-idx1-ubyte.gz").is_file()


def test_fallback_and_its_absence(tmp_path, made_archives):
    """`made_archives` leaves no mirrors, so that nothing is asked of the network."""
    missing = tmp_path / "nothing"
    source = resolve_dataset("mnist", data_dir=missing, offline_dataset="digits")
    assert (source.name, source.fallback_for) == ("digits", "mnist")
    why = f"mnist is not in {missing} and cannot be downloaded"
    assert source.fallback_reason.startswith(why)
    assert "not MNIST" in source.description
    assert source.to_dict()["fallback_for"] == "mnist"
    assert not missing.exists()

    mirrors = ("https://one.invalid/", "https://two.invalid/")
    archives.DATASETS["mnist"] = archives.DATASETS["mnist"]._replace(mirrors=mirrors)
    with pytest.raises(DataError) as caught:
        resolve_dataset("mnist", data_dir=missing)
    for part in (why, *mirrors, *archives.DATASETS["mnist"].files, "https://one.invalid: "):  # noqa: E501 # fmt: skip
        assert part in str(caught.value)
    assert str(caught.value).endswith(f"into {missing}/downloads/manual/mnist")
    assert "\n" not in str(caught.value)


def test_a_data_dir_that_cannot_be_written(tmp_path, made_archives, monkeypatch):
    """Downloads then go to the cache, and the archives are read as they are."""
    access = os.access

    def no_write(path, mode):
        in_cache = re.search("cache", str(path))
        return access(path, mode) and not (mode == os.W_OK and not in_cache)

    def download(name, folder):
        assert folder == cache_folder.cache_dir() / "archives" / "mnist"
        folder.parent.mkdir(parents=True)
        made_archives.rename(folder)

    (tmp_path / "data_dir").mkdir()
    monkeypatch.setattr(os, "access", no_write)
    monkeypatch.setattr(archives, "download_archives", download)
    for _ in range(2):
        source = resolve_dataset("mnist", data_dir=tmp_path / "data_dir")
        assert source.description == (
            f"mnist from its archives in {tmp_path}/cache/archives/mnist"
            f" ({tmp_path}/data_dir cannot be written)"
        )
        assert load_dataset(source, "test").images.shape == (100, 28, 28, 1)
    assert list((tmp_path / "data_dir").iterdir()) == []


def test_without_array_record(tmp_path, made_archives, monkeypatch):
    monkeypatch.setattr(tfds_builders, "can_prepare", lambda: False)
    source = resolve_dataset("mnist", data_dir=tmp_path, manual_dir=made_archives)
    assert source.description.endswith("(array_record is not installed)")
    assert source.splits == {"train": 300, "test": 100}


def test_a_source_cannot_be_changed(mnist_data_dir):
    source = resolve_dataset("mnist", data_dir=mnist_data_dir)
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.name = "other"


@pytest.mark.parametrize("name", ["emnist/letters", "emnist/digits"])
def test_emnist_is_upright_from_its_zip_file_and_from_tfds(
    name, tmp_path, made_splits, monkeypatch
):
    files = write_emnist(tmp_path / "zip", name, made_splits, {})
    made = archives.DATASETS[name]._replace(mirrors=(), files=files)
    monkeypatch.setitem(archives.DATASETS, name, made)
    direct = resolve_dataset(name, data_dir=tmp_path / "a", manual_dir=tmp_path / "zip")
    assert direct.description.startswith(f"{name} from its archives in ")
    assert not (tmp_path / "a").exists()

    as_tfds = {}  # in tfds's order, and as published
    for split, dataset in as_emnist(name, made_splits).items():
        order = tfds_builders.tfds_order(len(dataset.labels), split)
        as_tfds[split] = Dataset(dataset.images[order], dataset.labels[order])
    write_prepared(tmp_path / "b", as_tfds, name=name)
    prepared = resolve_dataset(name, data_dir=tmp_path / "b")
    assert prepared.file_format == "array_record"
    assert direct.num_classes == prepared.num_classes == len(made.class_names)
    for split, stored in made_splits.items():
        order = tfds_builders.tfds_order(len(stored.labels), split)
        for source in (direct, prepared):
            images, labels = load_dataset(source, split)
            np.testing.assert_array_equal(images, stored.images[order])
            np.testing.assert_array_equal(labels, stored.labels[order])


def test_mnist_in_a_folder_that_is_called_emnist(tmp_path, made_splits):
    write_prepared(tmp_path / "emnist", made_splits)
    source = resolve_dataset("mnist", data_dir=tmp_path / "emnist")
    images, _ = load_dataset(source, "test")
    np.testing.assert_array_equal(images, made_splits["test"].images)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "emnist/letters"])
def test_other_datasets_train_by_a_flag(
    name, tmp_path, made_splits, monkeypatch, tiny_config
):
    if name == "emnist/letters":
        files = write_emnist(tmp_path / "archives", name, made_splits, {})
    else:
        files = write_archives(tmp_path / "archives", made_splits)
    made = archives.DATASETS[name]._replace(mirrors=(), files=files)
    monkeypatch.setitem(archives.DATASETS, name, made)
    tiny_config.dataset, tiny_config.train_split = name, "train"
    tiny_config.validation, tiny_config.num_epochs = 50, 2
    train_and_evaluate(
        tiny_config,
        tmp_path / "run",
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "archives",
    )
    loaded = load_model(tmp_path / "run")
    assert loaded.metadata["dataset"]["name"] == name
    images = made_splits["test"].images.astype(np.float32) / 255
    logits = loaded.model.apply(loaded.variables, images)
    assert logits.shape == (100, len(made.class_names))
