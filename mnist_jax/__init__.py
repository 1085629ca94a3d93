"""mnist_jax: train, evaluate and use a handwritten-digit recogniser in JAX."""

__version__ = "0.1.0"
