"""Convolution and pooling that are fast on every backend.

GPU and TPU run XLA's native convolution. XLA's CPU backend differentiates it into a
program tens of times slower than it need be (https://github.com/jax-ml/jax/issues/12868).
On the CPU the same functions and their gradients are therefore made of forward
convolutions, matrix products, slices and sums. `backend.by_platform` chooses.

What is evaluated and not differentiated is native on every backend. That is fastest on
the CPU too, and equal up to rounding.

Speed-ups of training `configs/seed.py` in float32, in November 2026, on two cores of an
AMD EPYC (Zen 5), old and new code in turn (standard deviation, n = 5 or 6):

    max, phase and relu packed in one integer, and the first layer's
    product in another order, on one core                             1.20 (0.04)
    also micro-batches of 32 images, on one core                      1.26 (0.04)
    the same on two cores, which share the memory's bandwidth         1.36 (0.05)

Tried without gain: the second convolution in parts of its own, products with V
transposed, and threads bound to cores.

Gradients may be taken of gradients, any number of times, in reverse mode. Forward mode
(`jax.jvp`) raises JAX's TypeError about `custom_vjp`. To notice NaN, look at the
parameters and not only at the loss: on the CPU `lax.reduce_window` may drop NaN, and
the gradient of relu at NaN is 0.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.ops.fused import valid_conv_relu_pool
from mnist_jax.ops.onednn import onednn_conv, suits_onednn
from mnist_jax.ops.pooling import max_pool
from mnist_jax.ops.unpadded import valid_conv

MICRO_BATCH = 64  # the most images in a part of a batch


def micro_batch_size(batch_size: int, one_core: bool = False) -> int:
    """Returns how many images of a batch should be differentiated at a time.

    On the CPU it is the largest divisor of the batch size up to `MICRO_BATCH`, so that
    what is kept between the layers stays in the cache. Elsewhere it is the whole batch.

    Args:
      batch_size: size of the batch, or of the shard of it that a device has.
      one_core: whether each device is one core, which has less cache: the limit is
        then half.
    """
    if jax.default_backend() != "cpu":
        return batch_size
    most = MICRO_BATCH // 2 if one_core else MICRO_BATCH
    divisors = (n for n in range(most, 0, -1) if batch_size % n == 0)
    return next((n for n in divisors if n >= most // 4), batch_size)


def compiler_options(one_core: bool = False) -> dict[str, Any] | None:
    """Returns options for `jax.jit` of a program of these operations, or None.

    Args:
      one_core: whether each device is one core. XLA must then not split an operation
        over all the cores, because the devices would wait for each other.
    """
    if jax.default_backend() != "cpu":
        return None
    # By itself XLA uses vectors of 256 bits, even where the processor has wider ones.
    options: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}
    return {**options, "xla_cpu_multi_thread_eigen": False} if one_core else options


def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, padding: str
) -> jax.Array:
    """Convolution with stride 1.

    Args:
      x: [B, H, W, Cin].
      kernel: [kh, kw, Cin, Cout], of the same floating dtype.
      bias: [Cout], or None.
      padding: "VALID" or "SAME".

    Returns:
      [B, H', W', Cout]; H' = H - kh + 1 for "VALID" and H for "SAME".

    Raises:
      ValueError: unknown padding, or shapes that do not fit.
    """
    padded = _pad_for(x, kernel, padding)
    if suits_onednn(x, kernel):
        y = onednn_conv(x, kernel, int(padding == "SAME"))
    else:
        y = valid_conv(padded, kernel)
    return y if bias is None else y + bias


def conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str, window: int = 2
) -> jax.Array:
    """`max_pool(relu(conv(x, kernel, bias, padding)), window)`, with less work.

    A bias and relu keep the order of values, so they may follow the pooling, where
    there are 1 / window² as many values. What the pooling drops is not computed.

    Args and raises as for `conv` and `max_pool`.

    Returns:
      [B, H' // window, W' // window, Cout].
    """
    if suits_onednn(x, kernel):
        return max_pool(jax.nn.relu(conv(x, kernel, bias, padding)), window)
    return valid_conv_relu_pool(_pad_for(x, kernel, padding), kernel, bias, window)


def crop_unseen(
    x: jax.Array, kernel_size: int, padding: str, stages: int, window: int = 2
) -> jax.Array:
    """Drops the last rows and columns that no stage of `conv_relu_pool` would use.

    With "VALID" padding the stages give the same result with less work: two stages of
    3x3 see 26x26 pixels of an image of 28x28. With "SAME" padding x is returned.

    Args:
      x: [B, H, W, C].
      kernel_size: height and width of every stage's kernel.
      padding: "VALID" or "SAME".
      stages: how many stages of convolution and pooling follow.
      window: of the pooling.
    """
    if padding == "SAME":
        return x

    def seen(size: int) -> int:
        for _ in range(stages):
            size = (size - kernel_size + 1) // window
        for _ in range(stages):
            size = size * window + kernel_size - 1
        return size

    return x[:, : seen(x.shape[1]), : seen(x.shape[2])]


def _pad_for(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    """Checks the arguments of a convolution, and makes its padding explicit."""
    if padding not in ("VALID", "SAME"):
        raise ValueError(f"padding must be 'VALID' or 'SAME', not {padding!r}")
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            "conv takes x [B, H, W, Cin] and kernel [kh, kw, Cin, Cout], not "
            f"{x.shape} and {kernel.shape}"
        )
    if padding == "SAME":
        pads = [((k - 1) // 2, k // 2) for k in kernel.shape[:2]]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        raise ValueError(f"kernel {kernel.shape} is larger than x {x.shape}")
    return x
