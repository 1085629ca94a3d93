import os
import shutil
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # for subprocesses too; set before jax is imported

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


def pytest_make_parametrize_id(val, argname):
    """Leaves bytes that parametrize a test out of its name."""
    # An archive holds the second in which it was made. Two processes would name such
    # a test differently, and pytest-xdist stops where names differ.
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Gives all tests one cache folder, so that they do not use that of the user."""
    # Workers of pytest-xdist share it, so that each program is compiled only once.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["MNIST_JAX_CACHE_DIR"] = str(shared / "cache")
    from mnist_jax.parallel import devices

    devices.set_up("cpu")


@pytest.fixture(scope="session")
def fork_server(_cache, tmp_path_factory):
    """A server that runs scripts as processes quickly: see `faults.client`."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def quickly_compiled():
    """Compiles with few optimizations, in half the time.

    Use it only where a test jits functions of its own and runs them once. Other tests
    would otherwise reuse the slow programs that were compiled here.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def default_config():
    """An unlocked copy of configs/default.py."""
    return load_config(CONFIGS / "default.py").unlock()


@pytest.fixture
def seed_config():
    """An unlocked copy of configs/seed.py."""
    return load_config(CONFIGS / "seed.py").unlock()


@pytest.fixture
def tiny_config():
    """A config that trains a small net on embedded digits: two epochs of 10 steps."""
    return make_tiny_config()


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    from mnist_jax.train import train_and_evaluate

    workdir = tmp_path_factory.mktemp("trained") / "run"
    train_and_evaluate(make_tiny_config(), workdir)
    return workdir


@pytest.fixture
def trained_workdir(_trained, tmp_path) -> Path:
    """A copy of the folder of a finished run of `tiny_config`."""
    return Path(shutil.copytree(_trained, tmp_path / "trained"))
