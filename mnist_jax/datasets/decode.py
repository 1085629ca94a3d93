"""Decodes a whole split of a data set from its files."""

from pathlib import Path

import numpy as np

from mnist_jax.datasets import archives, offline_digits, shard_files, tfds_builders
from mnist_jax.datasets.arrays import Dataset, hold_out
from mnist_jax.datasets.sources import DIGITS, DatasetSource
from mnist_jax.errors import DataError


def decode(source: DatasetSource, split: str) -> Dataset:
    """Reads a whole split from its files, and checks it.

    Raises:
      DataError: a file is damaged, or does not hold what the source says.
    """
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
    """Returns a split of the embedded digits. The splits are stratified and fixed."""
    sizes = offline_digits.SPLITS
    every = Dataset(*offline_digits.load_digits())
    rest, test = hold_out(every, sizes["test"], seed=0)
    train, validation = hold_out(rest, sizes["validation"], seed=0)
    return {"train": train, "validation": validation, "test": test}[split]
