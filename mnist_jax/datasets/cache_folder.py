"""Where this project caches what it can make again. It imports nothing heavy."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Returns $MNIST_JAX_CACHE_DIR, else mnist_jax in $XDG_CACHE_HOME or ~/.cache."""
    if folder := os.environ.get("MNIST_JAX_CACHE_DIR"):
        return Path(folder).expanduser()
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mnist_jax"
    )
