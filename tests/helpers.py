"""Helpers that the tests of several rooms share."""

import contextlib
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from mnist_jax.config import ConfigDict, flatten_config
from mnist_jax.data import Dataset
from mnist_jax.run.config_files import CONFIGS, load_config
from mnist_jax.run.stored_config import config_from_dict

TESTS = Path(__file__).resolve().parent
STORED = TESTS / "checkpoints"


def make_tiny_config():
    config = load_config(CONFIGS / "smoke.py").unlock()
    config.train_split = "train[:600]"
    config.batch_size = 64
    config.model.kwargs.features = (4, 8)
    config.model.kwargs.dense = (16,)
    config.optimizer.learning_rate = 1e-2
    config.ema_decay = 0.99
    for name in config.augment:  # off: a warp takes longer to compile than all else
        config.augment[name] = 0.0
    return config


def make_page_config():
    """A config of a small page net, for pages of the embedded digits."""
    config = load_config(CONFIGS / "page_reader.py").unlock()
    config.dataset, config.validation = make_tiny_config().dataset, 100
    config.train_split, config.test_split = "train[:600]", "test"
    config.batch_size = config.eval_batch_size = 4
    config.num_epochs, config.compute_dtype = 1, "float32"
    config.optimizer.warmup_epochs = 0.0
    config.model.kwargs.features = (4, 4, 4)
    config.model.kwargs.blocks = (0, 0, 0)
    config.model.kwargs.head = 4
    config.model.kwargs.dtype = "float32"
    return config


def run_python(code, timeout, **env):
    """Runs code in a fresh process, which can import the modules of these tests."""
    paths = [str(TESTS), str(TESTS.parent)]
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def make_terminal(monkeypatch):
    """Puts a terminal in the place of stderr, which keeps what it is sent.

    Call it in the test, as pytest sets stderr anew after the fixtures.
    """

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@contextlib.contextmanager
def full_disk(num_bytes=4096):
    """Lets no file of this process grow beyond a number of bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def made_dataset(count, seed=0):
    """Makes images of noise, in which the place of a white row tells the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.int32)
    images = rng.integers(0, 60, (count, 28, 28, 1), np.uint8)
    images[np.arange(count), 2 * labels + 4] = 255
    return Dataset(images, labels)


def current_config(saved: dict) -> ConfigDict:
    """Returns a config with all of today's fields: the saved values, where there are
    any, and newer augmentations off.
    """
    config = load_config("smoke").unlock()
    old = flatten_config(config_from_dict(saved))
    config.model.kwargs = config.optimizer.kwargs = {}
    for name in config.augment:
        config.augment[name] = 0.0
    for name, value in old.items():
        group, _, field = name.rpartition(".")
        owner = config
        for part in filter(None, group.split(".")):
            owner = owner[part]
        owner[field] = value
    return config
