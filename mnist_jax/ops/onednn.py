"""Convolution in bfloat16, in the form in which XLA leaves it to oneDNN on a CPU.

oneDNN uses the processor's own instructions for bfloat16 products, if it has them (AMX,
AVX-512 BF16). XLA calls it only with the options below. Not every convolution is fast
there: where its axes are not in the order NHWC, HWIO, NHWC, oneDNN may have a reference
implementation alone, which is a thousand times slower.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.ops.backend import by_platform

Arrays = tuple[jax.Array, ...]

_PADDING = [(1, 1), (1, 1)]


def bfloat16_options() -> dict[str, Any] | None:
    """Returns options to compile a program of such convolutions with, or None."""
    if jax.default_backend() != "cpu":
        return None
    return {"xla_cpu_experimental_onednn_custom_call": True}


def suits_onednn(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `onednn_conv` can convolve x with a kernel."""
    return x.dtype == kernel.dtype == jnp.bfloat16 and kernel.shape[:2] == (3, 3)


def _same_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), _PADDING, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def onednn_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x [B, H, W, Cin] with kernel [3, 3, Cin, Cout]: [B, H, W, Cout].

    Its gradients are in that form on a CPU only; elsewhere they are XLA's own.
    """
    return _same_conv(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Arrays]:
    return onednn_conv(x, kernel), (x, kernel)


def _backward(saved: Arrays, g: jax.Array) -> Arrays:
    return by_platform(_cpu_gradients, _native_gradients, *saved, g)


def _native_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    return jax.vjp(_same_conv, x, kernel)[1](g)


def _cpu_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    dx = onednn_conv(g, jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3))
    # Channels take the place of images, and images that of channels. Of 4 or 8 images
    # oneDNN gives a wrong result (jax 0.12), of multiples of 16 the right one. The
    # barrier keeps XLA from merging the transposes into the convolution: see above.
    x, g = (jnp.pad(a, ((0, -len(a) % 16), *[(0, 0)] * 3)) for a in (x, g))
    x, g = lax.optimization_barrier(
        (jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(g, (1, 2, 0, 3)))
    )
    return dx, jnp.transpose(_same_conv(x, g), (1, 2, 0, 3))


onednn_conv.defvjp(_forward, _backward)
