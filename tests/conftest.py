import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # for subprocesses too; before jax is imported

import jax
import pytest
from faults.client import Server
from mnist_fixture import (  # noqa: F401  fixtures for all tests
    cache_dir,
    made_archives,
    made_splits,
    mnist_data_dir,
)

from mnist_jax.config import CONFIGS, load_config


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """One cache folder for all tests, and none of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MNIST_JAX_CACHE_DIR"] = str(folder)
    from mnist_jax import devices

    devices.set_up("cpu")


@pytest.fixture(scope="session")
def fork_server(_cache, tmp_path_factory):
    """Runs scripts as processes, quickly."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def quickly_compiled():
    """Compiles with few optimizations, in half the time.

    For what is compiled to run once and has a jit of its own: others would go on with
    what was compiled here.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def default_config():
    """configs/default.py, free to be changed."""
    return load_config(CONFIGS / "default.py").unlock()


@pytest.fixture
def seed_config():
    """configs/seed.py, free to be changed."""
    return load_config(CONFIGS / "seed.py").unlock()


def make_tiny_config():
    config = load_config(CONFIGS / "smoke.py").unlock()
    config.train_split = "train[:600]"
    config.batch_size = 64
    config.model.kwargs.features = (4, 8)
    config.model.kwargs.dense = (16,)
    config.optimizer.learning_rate = 1e-2
    config.ema_decay = 0.99
    for name in config.augment:  # a warp takes longer to compile than all the rest
        config.augment[name] = 0.0
    return config


def run_python(code, timeout, **env):
    """Runs code in a fresh process, which can import the modules of these tests."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def tiny_config():
    """A net that trains two epochs of 10 steps on the embedded digits in no time."""
    return make_tiny_config()


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    from mnist_jax.train import train_and_evaluate

    workdir = tmp_path_factory.mktemp("trained") / "run"
    train_and_evaluate(make_tiny_config(), workdir)
    return workdir


@pytest.fixture
def trained_workdir(_trained, tmp_path) -> Path:
    """A copy of the folder of a run of `tiny_config` that is finished."""
    return Path(shutil.copytree(_trained, tmp_path / "trained"))
