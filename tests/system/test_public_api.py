"""What `import mnist_jax` offers: it is cheap, complete, and its examples are true."""

import doctest
import importlib
import inspect
import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers import run_python

import mnist_jax
from mnist_jax.reading.readings import PictureReader, Reading

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "mnist_jax": mnist_jax,
    **{name: getattr(mnist_jax, name) for name in mnist_jax.__all__},
    "Reading": Reading,
    "PictureReader.read": PictureReader.read,
    "PictureReader.read_pages": PictureReader.read_pages,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where examples run: it has the picture that they read."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "sample.png", folder / "docs")
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_example_is_true(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    found = EXAMPLES[name]
    module = sys.modules[getattr(found, "__module__", "mnist_jax")]
    known = {**vars(module), "mnist_jax": mnist_jax}
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(found, name, module=module, globs=known)
    assert test.examples, "it has no example"
    done = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert not done.failed, capsys.readouterr().out


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules); import mnist_jax; "
        "print(*(set(sys.modules) - before))"
    )
    done = run_python(code, 60)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) <= {"mnist_jax"}


def test_what_it_offers_is_there_and_listed():
    assert mnist_jax.__all__ == sorted(mnist_jax.__all__)
    assert set(mnist_jax.__all__) <= set(dir(mnist_jax))
    for name in mnist_jax.__all__:
        found = getattr(mnist_jax, name)
        assert inspect.isfunction(found)
        assert getattr(importlib.import_module(found.__module__), name) is found
    with pytest.raises(AttributeError, match="has no attribute 'load_picture'"):
        mnist_jax.load_picture  # noqa: B018


def test_a_program_of_its_own_uses_it_twice_and_hears_nothing(folder):
    """Nothing is printed, no file is made beside the workdir, and no signal is kept."""
    code = (
        "import os, signal, sys, mnist_jax\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "config = mnist_jax.load_config('smoke')\n"
        "config.num_epochs, config.optimizer.warmup_epochs = 1, 0.0\n"
        "config.train_split = 'train[:300]'\n"
        "config.model.kwargs.features = (4,)\n"
        "for name in config.augment:\n"  # a warp takes longer to compile than all else
        "    config.augment[name] = 0.0\n"
        "for run in ('one', 'two'):\n"
        "    found = mnist_jax.train_and_evaluate(config, run)\n"
        "    assert mnist_jax.load_model(run).step == 5\n"
        "    assert found['count'] == 400\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
        "assert sorted(os.listdir()) == ['one', 'two'], os.listdir()\n"
    )
    place = folder / "program"
    place.mkdir()
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = run_python(f"import os; os.chdir({str(place)!r})\n{code}", 600, **quick)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr
    assert sorted(os.listdir(place / "one")) == sorted(os.listdir(place / "two"))
