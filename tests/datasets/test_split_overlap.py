import dataclasses

import numpy as np
import pytest
from mnist_fixture import make_dataset

from mnist_jax.datasets import sources
from mnist_jax.datasets.array_dataset import ArrayDataset
from mnist_jax.datasets.arrays import Dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.datasets.split_overlap import (
    check_held_out,
    count_shared,
    explain_no_test,
)
from mnist_jax.errors import ConfigError


@pytest.fixture(autouse=True)
def _isolated(cache_dir):
    pass


def source_of_arrays(monkeypatch, **splits):
    """A source of a user's own arrays, {split: its images}."""

    def load(split):
        return splits[split], np.arange(len(splits[split])) % 10

    own = ArrayDataset(tuple("0123456789"), load, tuple(splits))
    monkeypatch.setattr(
        sources,
        "load_arrays",
        lambda name: (
            own.class_names,
            {split: Dataset(*load(split)) for split in splits},
        ),
    )
    return resolve_dataset("of_a_user:DATASET")


@pytest.mark.parametrize(
    ("split", "other", "count"),
    [
        ("test", "train", 0),
        ("test", "train+test", 100),
        ("test", "test+train", 100),
        ("test", "all", 100),
        ("test", "test", 100),
        ("test", "test[:50%]", 50),
        ("test", "train+test[90:]", 10),
        ("test[:30]", "train+test[20:25]", 5),
        ("test[50%:]", "test[:50%]", 0),
        ("train[200:]", "train[:200]", 0),
        ("train[200:]", "train[:201]", 1),
        ("train[-50:]", "train[:90%]", 20),
        ("train[:10]+train[5:15]", "train", 15),
        ("test", "train+train", 0),
    ],
)
def test_images_are_counted_by_their_places(source, split, other, count):
    assert count_shared(source, split, other) == count
    assert count_shared(source, other, split) == count


def test_the_embedded_digits_have_splits_too():
    source = resolve_dataset("digits")
    assert count_shared(source, "test", "train+validation") == 0
    assert count_shared(source, "test", "train+test[:25%]") == 100


def test_splits_of_an_own_package_that_hold_the_same_images(monkeypatch):
    images = make_dataset(300, seed=0).images
    for test, count in [
        (images[200:], 100),
        (images[200:].copy(), 100),
        (images[::-3], 100),
        (images[np.random.default_rng(0).permutation(300)[:50]], 50),
        (np.concatenate([images[:3], make_dataset(97, seed=1).images]), 3),
        (np.concatenate([images[:1], make_dataset(99, seed=1).images]), 0),
        (make_dataset(100, seed=1).images, 0),
    ]:
        source = source_of_arrays(monkeypatch, train=images, test=test)
        assert count_shared(source, "test", "train") == count
    source = source_of_arrays(monkeypatch, train=images, test=images)
    assert count_shared(source, "test[:50%]", "train[50%:]") == 0
    assert count_shared(source, "test[:50%]", "train[:50%]") == 150


def test_images_that_are_alike_by_chance_are_no_overlap(monkeypatch):
    """There are only 200 images at all, so that each may be in both splits."""
    every = make_dataset(200, seed=0).images
    for seed, size in enumerate((50, 100, 200, 400, 1000, 5000)):
        rng = np.random.default_rng(seed)
        train, test = (every[rng.integers(200, size=n)] for n in (size, 200))
        source = source_of_arrays(monkeypatch, train=train, test=test)
        assert count_shared(source, "test", "train") == 0
    # But if it is the same array, it is no chance.
    source = source_of_arrays(monkeypatch, train=test, test=test)
    assert count_shared(source, "test", "train") == 200


@pytest.mark.parametrize(
    ("train", "test", "validation", "words"),
    [
        ("train", "test", 20, ""),
        ("train[:200]", "train[200:]", 0, ""),
        (
            "train+test",
            "test",
            20,
            "100 of the 100 images of config.test_split = 'test'",
        ),
        ("train+test[:50%]", "test", 0, "50 of the 100"),
        ("train", "train[:10]", 20, "10 of the 10 images of config.test_split"),
        ("test", "test", 20, "also in config.train_split = 'test'"),
    ],
)
def test_why_there_is_no_test(source, default_config, train, test, validation, words):
    default_config.update(train_split=train, test_split=test, validation=validation)
    found = explain_no_test(source, default_config)
    assert words in found
    assert bool(words) == bool(found)


def test_a_test_on_what_chooses_checkpoints_is_none(default_config):
    source = resolve_dataset("digits")
    default_config.test_split = "validation[:20]+test"
    found = explain_no_test(source, default_config)
    assert found.startswith("20 of the 420 images of config.test_split")
    assert "'validation', which checkpoints are chosen by" in found
    default_config.validation = 0
    assert explain_no_test(source, default_config) == ""


def test_held_out_images_are_not_trained_on(source, default_config):
    default_config.validation = 20
    for split in ("train", "train+test", "train[:50%]+train[50%:]"):
        default_config.train_split = split
        check_held_out(source, default_config)
    for split, twice in [("train+train", 300), ("train+train[:10%]", 30)]:
        default_config.train_split = split
        with pytest.raises(ConfigError, match=f"names {twice} images twice"):
            check_held_out(source, default_config)
        without = default_config.copy_and_resolve_references()
        without.validation = 0
        check_held_out(source, without)


def test_the_own_validation_split_is_not_trained_on(default_config, monkeypatch):
    digits = resolve_dataset("digits")
    for split in ("train+validation", "validation", "train+validation[190:]", "all"):
        default_config.train_split = split
        with pytest.raises(ConfigError, match="trains on the validation split"):
            check_held_out(digits, default_config)
    images = make_dataset(60, seed=0).images
    same = source_of_arrays(
        monkeypatch, train=images, validation=images[:20].copy(), test=images[:0]
    )
    default_config.train_split = "train"
    with pytest.raises(ConfigError, match="trains on the validation split"):
        check_held_out(same, default_config)
    check_held_out(dataclasses.replace(digits), default_config)
