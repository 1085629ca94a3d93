"""Convolution and pooling that are fast on every backend, with their gradients.

Start with `convolution.py`. Others use the names below.
"""

from mnist_jax.ops.convolution import (
    compiler_options,
    conv,
    conv_relu_pool,
    crop_unseen,
    max_pool,
    micro_batch_size,
)

__all__ = [
    "compiler_options",
    "conv",
    "conv_relu_pool",
    "crop_unseen",
    "max_pool",
    "micro_batch_size",
]
