"""A data set as two arrays, and how a part of it is held out."""

from typing import Any, NamedTuple

import numpy as np

from mnist_jax.errors import ArgumentError, ConfigError


class Dataset(NamedTuple):
    """Images and their labels, on the host."""

    images: np.ndarray  # uint8 [N, 28, 28, 1]
    labels: np.ndarray  # int32 [N]; -1 for a made image that shows no digit

    def __repr__(self) -> str:
        """Returns dtypes and shapes; the numbers would fill screens."""
        shown = (
            f"{name}={a.dtype}{list(a.shape)}" for name, a in self._asdict().items()
        )
        return f"Dataset({', '.join(shown)})"

    @property
    def num_examples(self) -> int:
        """N, the examples of an epoch."""
        return len(self.labels)

    def first(self, count: int) -> "Dataset":
        """The first `count` examples."""
        return Dataset(self.images[:count], self.labels[:count])


def hold_out(
    dataset: Dataset, num_validation: int, seed: int
) -> tuple[Dataset, Dataset]:
    """Splits off a validation set with the classes in proportion.

    Args:
      dataset: N images.
      num_validation: how many to hold out; 0 for none.
      seed: of the choice, which is the same on every machine and version of NumPy.

    Returns:
      (train, validation) of N - num_validation and num_validation images, both in
      the order of `dataset`.

    Raises:
      ConfigError: nothing would be left to train on, or the number is below 0.
    """
    count = len(dataset.labels)
    if not 0 <= num_validation < count:
        raise ConfigError(
            f"validation={num_validation} must be at least 0 and less than the"
            f" {count:,} images of train_split"
        )
    # Each image draws a random number. Its place among those of its class, from 0 to 1,
    # decides: the images with the lowest places sample every class in proportion.
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


def check_bytes(images: Any) -> None:
    """Checks that images are stored as uint8. It reads no pixel, so that jit allows it.

    Args:
      images: NumPy or JAX array.

    Raises:
      ArgumentError: they have another dtype.
    """
    if images.dtype != np.uint8:
        raise ArgumentError(
            f"images must be uint8, from 0 to 255: got {images.dtype} "
            f"{list(images.shape)}; for x from 0 to 1, give np.uint8(np.rint(255 * x))"
        )


def check_shape(images: Any, shape: tuple[int, ...]) -> None:
    """Checks that images are [N, *shape].

    Raises:
      ArgumentError: they have another shape.
    """
    if images.shape[1:] != shape:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise ArgumentError(f"images must be [{wanted}]: got {list(images.shape)}")


def check_images(images: Any) -> None:
    """Checks that images are uint8 [N, 28, 28, 1].

    Raises:
      ArgumentError: they have another shape or dtype.
    """
    check_shape(images, (28, 28, 1))
    check_bytes(images)
