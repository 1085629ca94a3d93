"""Filters of a first layer that is not learned."""

import numpy as np


def cosine_filters(count: int, size: int) -> np.ndarray:
    """Returns the lowest frequencies of the cosine transform, and their negatives.

    Returns:
      float32 [size, size, 1, 2 * count], each filter of norm 1.

    Raises:
      ValueError: there are not so many frequencies.
    """
    if not 0 < count <= size**2:
        raise ValueError(f"filters must be from 1 to filter_size**2 = {size**2}")
    waves = np.cos(np.pi * np.outer(np.arange(size), np.arange(size) + 0.5) / size)
    pairs = [(u, v) for u in range(size) for v in range(size)]
    pairs.sort(key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    filters = np.stack([np.outer(waves[u], waves[v]) for u, v in pairs[:count]], -1)
    filters /= np.linalg.norm(filters, axis=(0, 1))
    return np.concatenate([filters, -filters], -1)[:, :, None].astype(np.float32)
