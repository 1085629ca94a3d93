"""Convolution and pooling that are fast on every backend, with their gradients.

Start with `convolution.py`, which has the public operations. Behind them are `fused.py`
(convolution, relu and pooling in one), `unpadded.py` (convolution alone) and
`pooling.py`. `winograd.py`, `grey.py`, `packed.py` and, for bfloat16, `onednn.py` are
the ways of the CPU. Others use the names below.
"""

from mnist_jax.ops.convolution import (
    compiler_options,
    conv,
    conv_relu_pool,
    crop_unseen,
    micro_batch_size,
)
from mnist_jax.ops.fusion import compute_in_branch, compute_once
from mnist_jax.ops.onednn import bfloat16_options
from mnist_jax.ops.pooling import max_pool

__all__ = [
    "bfloat16_options",
    "compiler_options",
    "compute_in_branch",
    "compute_once",
    "conv",
    "conv_relu_pool",
    "crop_unseen",
    "max_pool",
    "micro_batch_size",
]
