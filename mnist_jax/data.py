"""The data of a run: its training, validation and test examples."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mnist_jax.datasets.arrays import Dataset, check_bytes, hold_out
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import DatasetSource, resolve_dataset
from mnist_jax.datasets.split_overlap import check_held_out, explain_no_test
from mnist_jax.datasets.stream import Stream
from mnist_jax.drawing.made_images import add_made_images

__all__ = ["Dataset", "Splits", "load_splits", "normalize"]


class Splits(NamedTuple):
    """The data of a run. `validation` is None if the config holds nothing out."""

    source: DatasetSource
    train: Dataset | Stream
    validation: Dataset | None
    test: Dataset
    no_test_figure: str = ""  # why results on `test` would be no test; or ""

    def first(self, count: int) -> "Splits":
        """Returns the first `count` examples of each split, for a trial run."""
        validation = self.validation and self.validation.first(count)
        train, test = self.train.first(count), self.test.first(count)
        return self._replace(train=train, validation=validation, test=test)

    def digest(self) -> str:
        """Returns a SHA-256 (hex) over all arrays; a stream enters with its length."""
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
    """Loads the data set that the config names, or its offline data set.

    If `config.validation` is not 0, the data set's own validation split is used. If it
    has none, that many images are held out of train.

    Args:
      config: of the run.
      data_dir: folder of tfds data sets; None for tfds's own default.
      manual_dir: folder with the original archives, if there is one.

    Raises:
      DataError: the data cannot be found or fetched, or is damaged.
      ConfigError: a split does not exist, more images would be held out than there are,
        or some would be both trained on and held out.
    """
    source = resolve_dataset(
        config.dataset,
        data_dir=data_dir,
        manual_dir=manual_dir,
        offline_dataset=config.offline_dataset,
        data_folder=config.get("data_folder", ""),  # older configs lack it
        validation=config.validation,
    )
    split = config.train_split
    train, test = (load_dataset(source, s) for s in (split, config.test_split))
    check_held_out(source, config)
    validation = None
    if config.validation and "validation" in source.splits:
        validation = load_dataset(source, "validation")
    elif config.validation:
        train, validation = hold_out(train, config.validation, seed=0)
    train = add_made_images(train, config.styled_digits, config.negatives)
    return Splits(source, train, validation, test, explain_no_test(source, config))


def normalize(images: Any) -> Any:
    """Scales pixels from 0..255 to [0, 1].

    Args:
      images: NumPy or JAX array of uint8, any shape; of others, the scale is unknown.

    Returns:
      float32 of the same shape.
    """
    check_bytes(images)
    return images.astype(np.float32) / 255
