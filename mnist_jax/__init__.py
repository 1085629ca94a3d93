"""mnist_jax: train, evaluate and use a handwritten-digit recogniser in JAX.

The files beside this one are the core: start with `train.py`. Each folder is a room for
one duty, and its `__init__.py` says what it is for and which file to open first.
"""

__version__ = "0.1.0"
