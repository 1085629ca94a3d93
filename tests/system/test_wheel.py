"""An installed package, with no checkout in reach, does what a checkout does."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
from PIL import Image, ImageDraw

from mnist_jax.commands.run_module import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("mnist_jax", "configs", "checkpoints/pretrained")
NEED_AN_EXTRA = ("keras_peer", "torch_peer", "torch_pages")

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("setuptools", "pip"))),
    reason="setuptools, of the extra `test`, or pip is not installed",
)


class Installed(NamedTuple):
    """A fresh environment that has the wheel, and borrows what the wheel requires."""

    programs: Path
    packages: Path  # mnist_jax is in it


def run_quietly(*arguments, cwd):
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Builds a wheel, and installs it as a user would.

    It is built from a copy, as setuptools writes beside the sources, and would pack
    what an earlier build left. What it requires is taken from the environment of these
    tests: installing it again would take minutes, and the network. An editable install
    of the checkout is not seen there, because Python reads no .pth file of a folder
    that another .pth file names.
    """
    copy, target = (tmp_path_factory.mktemp(name) for name in ("copy", "target"))
    unwanted = shutil.ignore_patterns("__pycache__", "figures")
    for folder in BUILT_FROM:
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(copy)!r})"
    run_quietly(sys.executable, "-c", build, cwd=copy)
    (wheel,) = copy.glob("*.whl")
    venv.create(target)
    paths = sysconfig.get_paths(vars={"base": str(target), "platbase": str(target)})
    packages = Path(paths["purelib"])
    own = sysconfig.get_paths()
    borrowed = "\n".join(dict.fromkeys([own["purelib"], own["platlib"]]))
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    programs = Path(paths["scripts"])
    pip = (sys.executable, "-m", "pip", "--python", str(programs / "python"), "install")
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile")
    run_quietly(*pip, *options, str(wheel), cwd=target)
    return Installed(programs, packages)


@pytest.fixture
def run(installed, tmp_path):
    """Runs a program of the installed package, away from the checkout."""

    def run_program(name, *arguments):
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [installed.programs / name, *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return run_program


def test_every_room_is_a_package_of_the_wheel():
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    rooms = {path.parent for path in (ROOT / "mnist_jax").rglob("*.py")}
    found = {".".join(room.relative_to(ROOT).parts) for room in rooms}
    assert set(named) == found | {"mnist_jax.configs", "mnist_jax.pretrained"}


def test_every_module_can_be_imported(installed, run):
    names = [
        ".".join(path.relative_to(installed.packages).with_suffix("").parts)
        for path in sorted(installed.packages.glob("mnist_jax/**/*.py"))
        if path.stem not in (*NEED_AN_EXTRA, "__init__", "__main__")
    ]
    assert "mnist_jax.configs.default" in names
    program = f"""
import importlib, sys
from pathlib import Path
import mnist_jax
for name in {names}:
    importlib.import_module(name)
from mnist_jax.run.config_files import load_config
assert load_config("seed").batch_size == load_config("configs/seed.py").batch_size
assert mnist_jax.load_reader().class_names == list("0123456789")
files = [m.__file__ for n, m in sys.modules.items() if n.startswith("mnist_jax.")]
folder = {str(installed.packages)!r}
assert all(Path(f).is_relative_to(folder) for f in files if f), files
assert not any(Path(p or ".").resolve() == Path({str(ROOT)!r}) for p in sys.path)
"""
    run("python", "-c", program)


def test_its_program_knows_all_commands(run):
    told = run("mnist-jax", "--help")
    assert all(f"\n  {name} " in told for name in COMMANDS)
    for name in ("sweep", "benchmark"):  # the others are run below
        assert f"\n  mnist-jax {name}" in run("mnist-jax", name, "--help")


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
    told = run("mnist-jax", "train", "--config=mine.py", "--device=cpu")
    assert "saved    checkpoints/mine\n" in told
    assert "next     mnist-jax predict --workdir=checkpoints/mine\n" in told
    told = run(
        *("mnist-jax", "evaluate", "--workdir=checkpoints/mine"),
        *("--json", "--nofigures"),
    )
    assert json.loads(told)["evaluated_on"] == "digits/test"
    run("mnist-jax", "export", "--workdir=checkpoints/mine", "--output=small")
    assert (tmp_path / "small" / "config.json").is_file()
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line((110, 40, 95, 160), fill=20, width=12)
    picture.save(tmp_path / "one.png")
    told = run("python", "-m", "mnist_jax", "predict", "--format=json", "one.png")
    schema = installed.packages / "mnist_jax" / "reading" / "answers.schema.json"
    jsonschema.validate(json.loads(told), json.loads(schema.read_text()))
    pretrained = installed.packages / "mnist_jax" / "pretrained"
    assert (pretrained / "page_reader" / "config.json").is_file()
    assert not (pretrained / "stages.png").exists()


def test_the_page_to_draw_on_comes_along(installed):
    for name in ("page.html", "page.css", "page.js"):
        path = installed.packages / "mnist_jax" / "web" / name
        assert path.stat().st_size > 1000
