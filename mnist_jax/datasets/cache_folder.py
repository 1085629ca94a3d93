"""Where this project caches what it can make again. It imports nothing heavy."""

import os
from pathlib import Path

from mnist_jax.local_files import local_path


def cache_dir() -> Path:
    """Returns $MNIST_JAX_CACHE_DIR, else mnist_jax in $XDG_CACHE_HOME or ~/.cache.

    Raises:
      ConfigError: see `local_path`.
    """
    if folder := os.environ.get(name := "MNIST_JAX_CACHE_DIR"):
        return Path(local_path(folder, name))
    folder = os.environ.get(name := "XDG_CACHE_HOME") or "~/.cache"
    return Path(local_path(folder, name)) / "mnist_jax"
