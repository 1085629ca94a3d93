import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from PIL import Image

from mnist_jax.errors import UserError
from mnist_jax.parallel import devices


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is another device")
@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_device_that_is_not_there_is_one_line(device):
    with pytest.raises(UserError, match=f"--device={device}: JAX found only cpu"):
        devices.set_up(device)


def test_the_description_names_version_and_device():
    assert jax.__version__ in devices.describe_devices()
    assert "cpu" in devices.describe_devices()


def start(tmp_path, plugin="", platforms="", path=""):
    """What `set_up` says in a fresh process, with a broken plugin of JAX or without."""
    if plugin:
        (tmp_path / "jax_plugins" / "broken").mkdir(parents=True)
        (tmp_path / "jax_plugins" / "broken" / "__init__.py").write_text(plugin)
    program = """
from mnist_jax.parallel import devices
from mnist_jax.errors import UserError
try:
    devices.set_up()
except UserError as error:
    print("error:", error)
"""
    root = str(Path(__file__).resolve().parents[2])
    env = {
        **os.environ,
        "JAX_PLATFORMS": platforms,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), root]),
        "PATH": os.pathsep.join(filter(None, [path, os.environ["PATH"]])),
    }
    return subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True
    )


BROKEN = {
    "initialize": "def initialize():\n  raise RuntimeError('no driver\\nat all')",
    "import": "raise ImportError('libcuda.so.1: cannot open shared object file')",
}


@pytest.mark.skipif(devices.has_nvidia_card(), reason="there is another device")
@pytest.mark.parametrize("how", ["initialize", "import"])
def test_a_broken_plugin_is_one_warning(tmp_path, how):
    done = start(tmp_path, BROKEN[how])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("warning: JAX cannot use its accelerator (")
    assert (
        "no driver at all" if how == "initialize" else "libcuda.so.1"
    ) in done.stderr
    assert "it runs on the CPU; pip install -e '.[cuda]'" in done.stderr


def test_a_plugin_that_does_not_start_is_one_error(tmp_path):
    plugin = (
        "from jax._src import xla_bridge\n"
        "def fail():\n  raise RuntimeError('no device\\nof this kind')\n"
        "def initialize():\n"
        "  add = xla_bridge.register_backend_factory\n"
        "  add('odd', fail, fail_quietly=False)\n"
    )
    done = start(tmp_path, plugin)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "Unable to initialize backend 'odd': no device of this kind" in done.stdout
    assert "mend the install, as in pip install -e '.[cuda]'" in done.stdout


@pytest.mark.skipif(devices.has_nvidia_card(), reason="there is another device")
def test_a_platform_that_is_not_there_is_one_error(tmp_path):
    done = start(tmp_path, platforms="cuda")
    assert done.stderr == ""
    assert done.stdout.startswith("error: JAX found no device to run on: ")
    assert done.stdout.count("\n") == 1
    assert "set JAX_PLATFORMS=cpu" in done.stdout


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is another device")
@pytest.mark.skipif(os.name != "posix", reason="needs a program that is a script")
def test_a_card_that_is_not_used_is_one_warning(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    done = start(tmp_path, path=str(tmp_path / "bin"))
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("warning: there is an NVIDIA card, but this JAX is ")
    assert "it runs on the CPU; pip install -e '.[cuda]'" in done.stderr
    chosen = start(tmp_path, path=str(tmp_path / "bin"), platforms="cpu")
    assert chosen.stderr == ""


COMMANDS = {
    "predict": ["seven.png"],
    "draw": ["--no_browser", "--port=0"],
    "train": ["--config=smoke"],
}
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@pytest.mark.parametrize(
    ("command", "own", "expected"),
    [
        ("predict", {}, SHARED),
        ("draw", {}, SHARED),
        ("train", {}, {}),
        ("predict", {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, None),
        ("predict", {"XLA_CLIENT_MEM_FRACTION": ".5"}, None),
        ("draw", {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".5"}, None),
        ("draw", {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}, None),
    ],
)
def test_who_reads_pictures_leaves_a_gpus_memory_to_others(
    tmp_path, command, own, expected
):
    """A plugin tells what it finds in the environment, and ends the process."""
    Image.new("L", (28, 28)).save(tmp_path / "seven.png")
    (tmp_path / "jax_plugins" / "telling").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "telling" / "__init__.py").write_text(
        "import json, os\n"
        "def initialize():\n"
        "  found = {k: v for k, v in os.environ.items() if '_CLIENT_' in k}\n"
        "  print(json.dumps(found), flush=True)\n"
        "  os._exit(3)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    clean = {k: v for k, v in os.environ.items() if "_CLIENT_" not in k}
    paths = os.pathsep.join([str(tmp_path), root])
    done = subprocess.run(
        [sys.executable, "-m", "mnist_jax", command, *COMMANDS[command]],
        cwd=tmp_path,
        env={**clean, "JAX_PLATFORMS": "", "PYTHONPATH": paths, **own},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(done.stdout) == (own if expected is None else expected)


def test_variables_are_left_as_they_were(monkeypatch):
    for name in ("NPROC", *devices._OF_MEMORY):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with devices._variables(4, share_memory=True):
        added = {k: v for k, v in os.environ.items() if k not in before}
    assert added == {"NPROC": "4", **SHARED}
    assert dict(os.environ) == before


def cache_dir_of(**environment):
    """Where a fresh process keeps its compiled programs."""
    program = (
        "import jax\nfrom mnist_jax.parallel import devices\ndevices.set_up('cpu')\n"
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
