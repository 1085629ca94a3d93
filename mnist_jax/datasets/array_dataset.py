"""Data sets of users' own packages: `config.dataset = "my_package.data:DATASET"`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mnist_jax.datasets.arrays import Dataset
from mnist_jax.errors import ConfigError, DataError, kind_of, lookup

Arrays = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ArrayDataset:
    """A data set that a package makes or reads by itself.

    For example, in `my_package/data.py`:

        def load(split):
            images = np.load(f"{split}_images.npy")  # uint8 [N, 28, 28, 1]
            labels = np.load(f"{split}_labels.npy")  # integers [N]
            return images, labels

        DATASET = ArrayDataset(class_names=("circle", "cross"), load=load)

    Attributes:
      class_names: the name of each label; label 0 is the first.
      load: takes a split's name, and returns its images, uint8 [N, 28, 28, 1], and
        labels, integers [N]. It must return the same each time, so that runs resume.
      splits: the names of the splits. If there is no "validation", images are held out
        of "train".
    """

    class_names: Sequence[str]
    load: Callable[[str], Arrays]
    splits: Sequence[str] = ("train", "test")


def load_arrays(name: str) -> tuple[tuple[str, ...], Mapping[str, Dataset]]:
    """Loads every split of an `ArrayDataset`.

    Args:
      name: "my_package.data:DATASET".

    Returns:
      The class names, and {split: its images and labels}.

    Raises:
      ConfigError: the name stands for no `ArrayDataset`. A stranger's checkpoint may
        have brought the name, so nothing is called before that is known.
      DataError: a split cannot be loaded, or is not what it should be.
    """
    dataset = lookup(name, {}, "config.dataset")
    if not isinstance(dataset, ArrayDataset):
        kind = kind_of(dataset)
        raise ConfigError(f"config.dataset = {name!r} is {kind}, not an ArrayDataset")
    class_names = tuple(map(str, dataset.class_names))
    if not 2 <= len(class_names) <= 1000:
        raise DataError(f"{name} has {len(class_names)} classes, not 2 to 1000")
    arrays = {
        split: _load_split(dataset, split, f"{name}, split {split!r}")
        for split in dataset.splits
    }
    return class_names, arrays


def _load_split(dataset: ArrayDataset, split: str, where: str) -> Dataset:
    try:
        images, labels = map(np.asarray, dataset.load(split))
    except Exception as error:  # it is the user's own code: anything goes
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where} cannot be loaded: {why[:200]}") from error
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28, 1):
        found = f"{images.dtype} {list(images.shape)}"
        raise DataError(f"{where}: images are {found}, not uint8 [N, 28, 28, 1]")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        found = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{where}: labels are {found}, not integers [{len(images)}]")
    classes = len(dataset.class_names)
    if ((labels < 0) | (labels >= classes)).any():
        raise DataError(f"{where}: labels are outside 0..{classes - 1}")
    return Dataset(images, labels.astype(np.int32))
