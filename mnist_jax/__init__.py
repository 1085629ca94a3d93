"""mnist_jax: train, evaluate and use a handwritten-digit recogniser in JAX.

The files beside this one are the core: start with `train.py`. Each folder is a room for
one duty, and its `__init__.py` says what it is for and which file to open first.
"""

import sys

__version__ = "0.1.0"

# Python calls a program "-m" as long as it looks for the module that `-m` names. Most
# modules here only define things, so that they would end without a word.
if getattr(sys, "argv", [])[:1] == ["-m"]:
    from mnist_jax.commands.run_module import refuse_other_modules

    refuse_other_modules(sys.orig_argv)
