import os
import subprocess
import sys

import jax
import pytest

from mnist_jax import devices
from mnist_jax.errors import UserError


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is another device")
@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_device_that_is_not_there_is_one_line(device):
    with pytest.raises(UserError, match=f"--device={device}: JAX found only cpu"):
        devices.set_up(device)


def test_the_description_names_version_and_device():
    assert jax.__version__ in devices.describe()
    assert "cpu" in devices.describe()


def cache_dir_of(**environment):
    """Where a fresh process keeps its compiled programs."""
    program = (
        "import jax\nfrom mnist_jax import devices\ndevices.set_up('cpu')\n"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    clean = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_compiled_programs_are_kept(tmp_path):
    cache = tmp_path / "cache"
    assert cache_dir_of(MNIST_JAX_CACHE_DIR=str(cache)) == str(cache / "jax")
    own = cache_dir_of(JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    assert own == str(tmp_path)
    off = cache_dir_of(JAX_COMPILATION_CACHE_DIR="")
    assert off in ("", "None")


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    where = cache_dir_of(MNIST_JAX_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert where == "None"
