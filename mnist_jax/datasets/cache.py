"""Loads splits as arrays: decoded once, and cached.

A split is cached as one .npz file, with the identity of the files that it was made of.
"""

import hashlib
import importlib.metadata
import json
import os
import stat

import numpy as np

from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.datasets import offline_digits, shard_files
from mnist_jax.datasets.archives import explain_failure
from mnist_jax.datasets.arrays import Dataset
from mnist_jax.datasets.cache_folder import cache_dir
from mnist_jax.datasets.decode import decode
from mnist_jax.datasets.sources import DIGITS, DatasetSource, resolve_dataset
from mnist_jax.datasets.split_expressions import parse_split
from mnist_jax.errors import DataError

_CACHE_VERSION = 2  # raise it when the same files would give other arrays


def load_dataset(
    source: DatasetSource | str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads a split as arrays, from the cache if its files have not changed.

    >>> digits = load_dataset("digits", "test")  # needs no network
    >>> digits
    Dataset(images=uint8[400, 28, 28, 1], labels=int32[400])

    Args:
      source: a name, such as "mnist", as for `resolve_dataset`; or what that returns.
      split: any split expression of tfds, as "train", "train[:50000]" or
        "train[:10%]+test" (https://www.tensorflow.org/datasets/splits).
      data_dir: where to look for a name; as for `resolve_dataset`.

    Returns:
      images uint8 [N, 28, 28, 1], labels int32 [N].

    Raises:
      ConfigError: a split or a data set that is not there.
      DataError: a split with no images, or data that is damaged or cannot be had.
    """
    if isinstance(source, str):
        source = resolve_dataset(source, data_dir=data_dir)
    slices = parse_split(source, split)
    whole = {name: _load_whole(source, name) for name, _, _ in slices}
    images = [whole[name].images[start:stop] for name, start, stop in slices]
    labels = [whole[name].labels[start:stop] for name, start, stop in slices]
    if not sum(map(len, labels)):
        raise DataError(f"split {split!r} of {source.name} has no images")
    if len(slices) == 1:
        return Dataset(images[0], labels[0])
    return Dataset(np.concatenate(images), np.concatenate(labels))


def _load_whole(source: DatasetSource, split: str) -> Dataset:
    """Loads a whole split from the cache, which is made anew if it must be."""
    if split in source.arrays:
        return source.arrays[split]
    identity = _identity(source, split)
    where = hashlib.sha256("\n".join(source.files[split]).encode()).hexdigest()[:12]
    filename = f"{source.name.replace('/', '-')}-{split}-{where}.npz"
    path = cache_dir() / filename
    try:
        # A zip file, so that its CRC is checked as well.
        with open(path, "rb") as npz, np.load(npz) as cached:
            if str(cached["identity"]) == identity:
                return Dataset(cached["images"], cached["labels"])
    except Exception:  # missing, or damaged in one of many ways: it is made anew
        pass
    dataset = decode(source, split)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            np.savez(file, identity=identity, **dataset._asdict())
    except OSError:
        pass  # no room or no permission: go on without a cache
    return dataset


def _identity(source: DatasetSource, split: str) -> str:
    """Describes what a split is made from. It changes when the arrays would."""
    if source.file_format == DIGITS:
        made_by = [importlib.metadata.version(p) for p in ("scikit-learn", "pillow")]
        return json.dumps([_CACHE_VERSION, offline_digits.GEOMETRY, made_by])
    files = []
    for file in source.files[split]:
        try:
            found = os.stat(file)
        except OSError as error:
            why = f"{file}: {explain_failure(error)}; {shard_files.MEND}"
            raise DataError(why) from error
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{file} is not a file; {shard_files.MEND}")
        if not os.access(file, os.R_OK):
            raise DataError(f"{file}: no permission to read it")
        files.append([file, found.st_size, found.st_mtime_ns])
    return json.dumps([_CACHE_VERSION, files, source.shard_lengths[split]])
