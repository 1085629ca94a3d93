import os
import shutil
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # for subprocesses too; before jax is imported

import jax
import pytest
from faults.client import Server
from helpers import make_tiny_config
from mnist_fixture import (  # noqa: F401  fixtures for all tests
    cache_dir,
    made_archives,
    made_splits,
    mnist_data_dir,
)

from mnist_jax.run.config_files import CONFIGS, load_config


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """One cache folder for all tests, and none of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MNIST_JAX_CACHE_DIR"] = str(folder)
    from mnist_jax.parallel import devices

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
