"""Finds examples that two splits share, which a figure on one of them would hide."""

import collections

import numpy as np
from ml_collections import ConfigDict

from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.datasets.split_expressions import parse_split
from mnist_jax.errors import ConfigError

# Where images are simple, some of two splits are the same by chance: about as many as
# are the same within one. More by this share, and by three standard errors, are no
# chance.
_BY_CHANCE = 0.01


def count_shared(source: DatasetSource, split: str, other: str) -> int:
    """Counts the examples of a split that are in another split too.

    They are compared by their places. The arrays of a user's own package are also
    compared by their content, as two of its splits may hold the same images; images
    that are alike by chance do not count.

    Args:
      source: what the splits are of.
      split: any split expression, such as "test" or "train[:50%]+test".
      other: another one.

    Raises:
      ConfigError: a split that is not there, or no split expression.
    """
    ours, theirs = _places(source, split), _places(source, other)
    shared = _count({name: ours[name] & theirs[name] for name in source.splits})
    if shared or not source.arrays:
        return shared
    images, others = _images(source, ours), _images(source, theirs)
    if not len(images) or np.array_equal(images, others):
        return len(images)
    counts = collections.Counter(image.tobytes() for image in others)
    found = sum(image.tobytes() in counts for image in images)
    alike = sum(n for n in counts.values() if n > 1) / max(1, len(others))
    spread = (alike * (1 - alike) / min(len(images), max(1, len(others)))) ** 0.5
    return found if found / len(images) > alike + _BY_CHANCE + 3 * spread else 0


def check_held_out(source: DatasetSource, config: ConfigDict) -> None:
    """Checks that a run trains on none of its validation images.

    Args:
      source: the data set of the run.
      config: of the run, for `train_split` and `validation`.

    Raises:
      ConfigError: some would be both trained on and held out.
    """
    split, mend = config.train_split, "or set config.validation=0"
    if not config.validation:
        return
    if "validation" in source.splits:
        if count_shared(source, "validation", split):
            raise ConfigError(
                f"config.train_split = {split!r} trains on the validation split of "
                f"{source.name}: leave that out, {mend}"
            )
        return
    count = sum(stop - start for _, start, stop in _terms(source, split))
    if twice := count - _count(_places(source, split)):
        raise ConfigError(
            f"config.train_split = {split!r} names {twice:,} images twice, so that "
            f"held-out images would be trained on: name each once, {mend}"
        )


def explain_no_test(source: DatasetSource, config: ConfigDict) -> str:
    """Says why a run's results on its test split would be no test; "" if they are one.

    Args:
      source: the data set of the run.
      config: of the run, for `train_split`, `test_split` and `validation`. Images that
        are held out of `train_split` count as part of it.
    """
    test = config.test_split
    used = {f"in config.train_split = {config.train_split!r}": config.train_split}
    if config.validation and "validation" in source.splits:
        used["in its split 'validation', which checkpoints are chosen by"] = (
            "validation"
        )
    for where, split in used.items():
        if shared := count_shared(source, test, split):
            return (
                f"{shared:,} of the {_count(_places(source, test)):,} images of "
                f"config.test_split = {test!r} are also {where}"
            )
    return ""


def _terms(source: DatasetSource, split: str) -> list[tuple[str, int, int]]:
    terms = []
    for name, start, stop in parse_split(source, split):
        first, last, _ = slice(start, stop).indices(source.splits[name])
        terms.append((name, first, max(first, last)))
    return terms


def _places(source: DatasetSource, split: str) -> dict[str, np.ndarray]:
    """Returns which examples of each split of a source are named: bool [N]."""
    places = {name: np.zeros(count, bool) for name, count in source.splits.items()}
    for name, start, stop in _terms(source, split):
        places[name][start:stop] = True
    return places


def _count(places: dict[str, np.ndarray]) -> int:
    return sum(int(which.sum()) for which in places.values())


def _images(source: DatasetSource, places: dict[str, np.ndarray]) -> np.ndarray:
    parts = [source.arrays[name].images[which] for name, which in places.items()]
    return np.concatenate(parts)
