"""Data sets as arrays: any split of tfds, decoded once and cached, held on the host."""

import hashlib
import importlib.metadata
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from mnist_jax.config import ConfigDict
from mnist_jax.datasets import archives, offline_digits, shard_files, tfds_builders
from mnist_jax.datasets.sources import DIGITS, DatasetSource, cache_dir, resolve_dataset
from mnist_jax.datasets.stream import Stream
from mnist_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    import jax

    ArrayT = TypeVar("ArrayT", jax.Array, np.ndarray)

__all__ = [
    "Dataset",
    "DatasetSource",
    "Splits",
    "hold_out",
    "load_dataset",
    "load_splits",
    "normalize",
    "resolve_dataset",
]

_CACHE_VERSION = 2  # raise it when the same files would give other arrays


class Dataset(NamedTuple):
    """Images and their labels, on the host."""

    images: np.ndarray  # uint8 [N, 28, 28, 1]
    labels: np.ndarray  # int32 [N]; -1 for a made image of what is no digit

    @property
    def num_examples(self) -> int:
        """N, the examples of an epoch."""
        return len(self.labels)

    def first(self, count: int) -> "Dataset":
        """The first `count` examples."""
        return Dataset(self.images[:count], self.labels[:count])


def load_dataset(source: DatasetSource, split: str) -> Dataset:
    """Loads a split as arrays; from the cache if its files have not changed.

    Args:
      source: from `resolve_dataset`.
      split: any split expression of tfds, as "train", "train[:50000]" or
        "train[:10%]+test" (https://www.tensorflow.org/datasets/splits).

    Returns:
      images uint8 [N, 28, 28, 1], labels int32 [N].

    Raises:
      ConfigError: a split that is not there.
      DataError: a split with no images, or data that is damaged.
    """
    slices = _parse_split(source, split)
    whole = {name: _load_cached(source, name) for name, _, _ in slices}
    images = [whole[name].images[start:stop] for name, start, stop in slices]
    labels = [whole[name].labels[start:stop] for name, start, stop in slices]
    if not sum(map(len, labels)):
        raise DataError(f"split {split!r} of {source.name} has no images")
    if len(slices) == 1:
        return Dataset(images[0], labels[0])
    return Dataset(np.concatenate(images), np.concatenate(labels))


def _parse_split(
    source: DatasetSource, split: str
) -> list[tuple[str, int | None, int | None]]:
    """A split expression as (split, start, stop) of each of its terms."""
    plain = [_parse_plain(source, term.strip()) for term in split.split("+")]
    if None not in plain:
        return [term for term in plain if term]  # spares the import of tfds
    import tensorflow_datasets as tfds

    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=list(n), num_bytes=0)
        for name, n in source.shard_lengths.items()
    }
    try:
        terms = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except Exception as error:  # ValueError, and others through tfds's re-raising
        sizes = ", ".join(f"{name} ({n:,})" for name, n in source.splits.items())
        instead = f" ({source.fallback_reason})" if source.fallback_for else ""
        raise ConfigError(
            f"cannot read split {split!r} of {source.name}{instead}, which has {sizes};"
            " slices are as in train[:50000], train[:80%] or train[80%:]+test"
        ) from error
    return [(term.splitname, term.from_, term.to) for term in terms]


def _parse_plain(
    source: DatasetSource, term: str
) -> tuple[str, int | None, int | None] | None:
    """Parses "train", "train[:50000]" and the like; None for all else, right or not."""
    match = re.fullmatch(r"(\w+)(?:\[([0-9]*):([0-9]*)\])?", term)
    if match is None or match[1] not in source.shard_lengths:
        return None
    if match[2] is None:
        return match[1], None, None
    start, stop = (int(text) if text else None for text in match.group(2, 3))
    count = source.splits[match[1]]
    if not (start or 0) < (count if stop is None else stop) <= count:
        return None
    return match[1], start, stop


def _load_cached(source: DatasetSource, split: str) -> Dataset:
    """A whole split from the cache, which is made or made anew where it must be."""
    identity = _identity(source, split)
    where = hashlib.sha256("\n".join(source.files[split]).encode()).hexdigest()[:12]
    filename = f"{source.name.replace('/', '-')}-{split}-{where}.npz"
    path = cache_dir() / filename
    try:
        # A zip file, so that its CRC is checked as well.
        with open(path, "rb") as npz, np.load(npz) as cached:
            if str(cached["identity"]) == identity:
                return Dataset(cached["images"], cached["labels"])
    except Exception:  # missing or damaged in one of many ways: made anew
        pass
    dataset = _decode(source, split)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with archives.atomic_file(path) as file:
            np.savez(file, identity=identity, **dataset._asdict())
    except OSError:
        pass  # no room or no permission: then without a cache
    return dataset


def _identity(source: DatasetSource, split: str) -> str:
    """What the arrays of a split are made from: changes when they would."""
    if source.file_format == DIGITS:
        made_by = [importlib.metadata.version(p) for p in ("scikit-learn", "pillow")]
        return json.dumps([_CACHE_VERSION, offline_digits.GEOMETRY, made_by])
    files = []
    for file in source.files[split]:
        try:
            found = os.stat(file)
        except OSError as error:
            why = f"{file}: {archives.reason(error)}; {shard_files.MEND}"
            raise DataError(why) from error
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{file} is not a file; {shard_files.MEND}")
        if not os.access(file, os.R_OK):
            raise DataError(f"{file}: no permission to read it")
        files.append([file, found.st_size, found.st_mtime_ns])
    return json.dumps([_CACHE_VERSION, files, source.shard_lengths[split]])


def _decode(source: DatasetSource, split: str) -> Dataset:
    """Reads a whole split from its files, and checks it."""
    if source.file_format == DIGITS:
        return _digits_split(split)
    if source.file_format == "idx":
        folder = Path(source.files[split][0]).parent
        images, labels = archives.read_archives(folder, split)
        order = tfds_builders.tfds_order(len(labels), split)
        images, labels = images[order], labels[order]
    else:
        shards = []
        lengths = source.shard_lengths[split]
        for file, length in zip(source.files[split], lengths, strict=True):
            shards.append(shard_files.read_shard(Path(file), source.file_format))
            if (found := len(shards[-1][1])) != length:
                count = f"{found:,} examples instead of {length:,}"
                raise DataError(f"{file} has {count}; {shard_files.MEND}")
        images, labels = map(np.concatenate, zip(*shards, strict=True))
    if ((labels < 0) | (labels >= source.num_classes)).any():
        wrong = f"labels outside 0..{source.num_classes - 1}"
        raise DataError(f"{source.name} {split} has {wrong}; {shard_files.MEND}")
    return Dataset(images, labels)


def _digits_split(split: str) -> Dataset:
    """Train, validation or test of the embedded digits: stratified and fixed."""
    sizes = offline_digits.SPLITS
    every = Dataset(*offline_digits.load_digits())
    rest, test = hold_out(every, sizes["test"], seed=0)
    train, validation = hold_out(rest, sizes["validation"], seed=0)
    return {"train": train, "validation": validation, "test": test}[split]


def hold_out(
    dataset: Dataset, num_validation: int, seed: int
) -> tuple[Dataset, Dataset]:
    """Splits off a validation set with the classes in proportion.

    Args:
      dataset: N images.
      num_validation: how many to hold out; 0 for none.
      seed: which ones. The same on every machine and version of NumPy.

    Returns:
      (train, validation) of N - num_validation and num_validation images, both in
      the order of `dataset`.

    Raises:
      ConfigError: nothing would be left to train on.
    """
    count = len(dataset.labels)
    if not 0 <= num_validation < count:
        raise ConfigError(
            f"validation={num_validation} must be at least 0 and less than the"
            f" {count:,} images of train_split"
        )
    # Each image gets the place of its random number among its class, from 0 to 1;
    # those with the lowest are a sample of every class in proportion.
    draws = np.random.default_rng(seed).random(count)
    place = np.empty(count)
    for label in np.unique(dataset.labels):
        members = np.flatnonzero(dataset.labels == label)
        ranks = np.argsort(np.argsort(draws[members], kind="stable"), kind="stable")
        place[members] = (ranks + 0.5) / len(members)
    held = np.zeros(count, bool)
    held[np.argsort(place, kind="stable")[:num_validation]] = True
    return (
        Dataset(dataset.images[~held], dataset.labels[~held]),
        Dataset(dataset.images[held], dataset.labels[held]),
    )


class Splits(NamedTuple):
    """The data of a run; `validation` is None where the config holds nothing out."""

    source: DatasetSource
    train: Dataset | Stream
    validation: Dataset | None
    test: Dataset

    def first(self, count: int) -> "Splits":
        """Returns the first `count` examples of each, for a trial."""
        validation = self.validation and self.validation.first(count)
        train, test = self.train.first(count), self.test.first(count)
        return Splits(self.source, train, validation, test)

    def digest(self) -> str:
        """The SHA-256 (hex) of all images and labels; of a stream, of its length."""
        sha = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            if isinstance(part, Stream):
                sha.update(str(part.num_examples).encode())
                continue
            for array in part or ():
                sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def load_splits(
    config: ConfigDict, data_dir: str | None, manual_dir: str | None
) -> Splits:
    """Loads what the config names, or its offline data set.

    A source with a validation split of its own gives that one; else
    `config.validation` images are held out of train.

    Raises:
      DataError: the data cannot be had, or is damaged.
      ConfigError: no such split, more images are to be held out than there are, or
        some would be both trained on and held out.
    """
    source = resolve_dataset(
        config.dataset,
        data_dir=data_dir,
        manual_dir=manual_dir,
        offline_dataset=config.offline_dataset,
    )
    split = config.train_split
    train = load_dataset(source, split)
    validation = None
    if config.validation and "validation" in source.splits:
        if any(name == "validation" for name, _, _ in _parse_split(source, split)):
            raise ConfigError(
                f"config.train_split = {split!r} trains on the validation split of "
                f"{source.name}: leave that out, or set config.validation=0"
            )
        validation = load_dataset(source, "validation")
    elif config.validation:
        train, validation = hold_out(train, config.validation, seed=0)
    test = load_dataset(source, config.test_split)
    train = _with_made_images(train, config.styled_digits, config.negatives)
    return Splits(source, train, validation, test)


def _with_made_images(train: Dataset, styled_digits: int, negatives: int) -> Dataset:
    """Adds made digits, and made images of what is no digit, with label -1."""
    parts = [train]
    if styled_digits:
        from mnist_jax.drawing.hand_styles import make_styled_digits

        parts.append(Dataset(*make_styled_digits(styled_digits, seed=0)))
    if negatives:
        from mnist_jax.drawing.negatives import make_negatives

        images = make_negatives(negatives, seed=0, digits=train.images)
        parts.append(Dataset(images, np.full(negatives, -1, np.int32)))
    return Dataset(*map(np.concatenate, zip(*parts, strict=True)))


def normalize(images: "ArrayT") -> "ArrayT":
    """Brings pixels from 0..255 to [0, 1]; for NumPy, JAX and inside a jit.

    Args:
      images: uint8 or float, any shape.

    Returns:
      float32 of that shape.
    """
    return images.astype(np.float32) / 255
