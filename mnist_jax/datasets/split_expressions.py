"""Split expressions of tfds, as "train[:50000]" or "train[:10%]+test".

They are described at https://www.tensorflow.org/datasets/splits.
"""

import re

from mnist_jax.datasets.sources import DatasetSource
from mnist_jax.errors import ConfigError


def parse_split(
    source: DatasetSource, split: str
) -> list[tuple[str, int | None, int | None]]:
    """Parses a split expression.

    Args:
      source: what the splits are of.
      split: such as "train", "train[:50000]" or "train[:10%]+test".

    Returns:
      (split, start, stop) of each of its terms; None for the beginning or the end.

    Raises:
      ConfigError: a split that is not there, or no split expression.
    """
    plain = [_parse_plain(source, term.strip()) for term in split.split("+")]
    if None not in plain:
        return [term for term in plain if term]  # without importing tfds, which is slow
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
    """Parses "train", "train[:50000]" and the like. Returns None for all else."""
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
