"""mnist_jax: train, evaluate and use a handwritten-digit recogniser in JAX.

From Python and notebooks:

>>> import mnist_jax
>>> reader = mnist_jax.load_reader()  # with the weights that come along
>>> reader.read("docs/sample.png").text
'274'

`load_reader`, `load_model`, `load_dataset`, `load_config` and `train_and_evaluate` are
imported when they are first used, so that `import mnist_jax` costs nothing.
docs/tour.ipynb uses all of them. Errors that a user can mend are
`mnist_jax.errors.UserError`, and say in one line what to do.

The files beside this one are the core: start with `train.py`. Each folder is a room for
one duty, and its `__init__.py` says what it is for and which file to open first.
"""

import sys

TYPE_CHECKING = False  # type checkers take it for true; `typing` takes time to import
if TYPE_CHECKING:
    from typing import Any

    from mnist_jax.checkpoint.load import load_model
    from mnist_jax.datasets.cache import load_dataset
    from mnist_jax.reading.readings import load_reader
    from mnist_jax.run.config_files import load_config
    from mnist_jax.train import train_and_evaluate

__version__ = "0.2.0"

__all__ = [
    "load_config",
    "load_dataset",
    "load_model",
    "load_reader",
    "train_and_evaluate",
]

_MODULES = {
    "load_config": "mnist_jax.run.config_files",
    "load_dataset": "mnist_jax.datasets.cache",
    "load_model": "mnist_jax.checkpoint.load",
    "load_reader": "mnist_jax.reading.readings",
    "train_and_evaluate": "mnist_jax.train",
}


def __getattr__(name: str) -> "Any":
    """Imports what the package offers, when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})


# Python calls a program "-m" as long as it looks for the module that `-m` names. Most
# modules here only define things, so that they would end without a word.
if getattr(sys, "argv", [])[:1] == ["-m"]:
    from mnist_jax.commands.run_module import refuse_other_modules

    refuse_other_modules(sys.orig_argv)
