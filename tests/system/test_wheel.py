"""An installed package, with no checkout in reach, does what a checkout does."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jsonschema
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("mnist_jax", "configs", "checkpoints/pretrained")
NEED_AN_EXTRA = ("keras_peer", "torch_peer")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None,
    reason="setuptools, of the extra `test`, is not installed",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what `pip install --target` would put there.

    A wheel of pure Python is installed by unpacking it. It is built from a copy, as
    setuptools writes beside the sources, and would pack what an earlier build left.
    """
    copy, target = (tmp_path_factory.mktemp(name) for name in ("copy", "target"))
    unwanted = shutil.ignore_patterns("__pycache__", "figures")
    for folder in BUILT_FROM:
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(copy)!r})"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = copy.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


@pytest.fixture
def run(installed, tmp_path):
    """Runs the installed package's Python, away from the checkout."""

    def run_python(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(installed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return run_python


def test_every_room_is_a_package_of_the_wheel():
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    rooms = {path.parent for path in (ROOT / "mnist_jax").rglob("*.py")}
    found = {".".join(room.relative_to(ROOT).parts) for room in rooms}
    assert set(named) == found | {"mnist_jax.configs", "mnist_jax.pretrained"}


def test_every_module_can_be_imported(installed, run):
    names = [
        ".".join(path.relative_to(installed).with_suffix("").parts)
        for path in sorted(installed.glob("mnist_jax/**/*.py"))
        if path.stem not in (*NEED_AN_EXTRA, "__init__", "__main__")
    ]
    assert "mnist_jax.configs.default" in names
    program = f"""
import importlib, sys
from pathlib import Path
for name in {names}:
    importlib.import_module(name)
from mnist_jax.run.config_files import load_config
assert load_config("seed").batch_size == load_config("configs/seed.py").batch_size
files = [m.__file__ for n, m in sys.modules.items() if n.startswith("mnist_jax.")]
assert all(Path(f).is_relative_to({str(installed)!r}) for f in files if f), files
assert not any(Path(p or ".").resolve() == Path({str(ROOT)!r}) for p in sys.path)
"""
    run("-c", program)


def test_it_trains_evaluates_and_reads_pictures(installed, run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from configs import smoke\n\n\n"
        "def get_config():\n"
        "    config = smoke.get_config()\n"
        '    config.train_split = "train[:600]"\n'
        "    config.model.kwargs.features = (4, 8)\n"
        "    for name in config.augment:\n"
        "        config.augment[name] = 0.0\n"
        "    return config\n"
    )
    told = run("-m", "mnist_jax.commands.train", "--config=mine.py", "--device=cpu")
    assert "checkpoints/mine" in told
    told = run(
        *("-m", "mnist_jax.commands.evaluate", "--workdir=checkpoints/mine"),
        *("--json", "--nofigures"),
    )
    assert json.loads(told)["evaluated_on"] == "digits/test"
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line((110, 40, 95, 160), fill=20, width=12)
    picture.save(tmp_path / "one.png")
    told = run("-m", "mnist_jax.commands.predict", "--format=json", "one.png")
    schema = installed / "mnist_jax" / "reading" / "answers.schema.json"
    jsonschema.validate(json.loads(told), json.loads(schema.read_text()))
    assert not (installed / "mnist_jax" / "pretrained" / "stages.png").exists()


def test_the_page_to_draw_on_comes_along(installed):
    for name in ("page.html", "page.css", "page.js"):
        assert (installed / "mnist_jax" / "web" / name).stat().st_size > 1000
