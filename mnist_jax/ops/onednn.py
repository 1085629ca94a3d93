"""Convolution in bfloat16, in the form in which XLA leaves it to oneDNN on a CPU.

oneDNN uses the processor's own instructions for bfloat16 products, if it has them (AMX,
AVX-512 BF16). XLA calls it only with the options below. Not every convolution is fast
there: where its axes are not in the order NHWC, HWIO, NHWC, oneDNN may have a reference
implementation alone, which is a thousand times slower.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.ops.backend import by_platform

Arrays = tuple[jax.Array, ...]


def bfloat16_options() -> dict[str, Any] | None:
    """Returns options to compile a program of such convolutions with, or None."""
    if jax.default_backend() != "cpu":
        return None
    return {"xla_cpu_experimental_onednn_custom_call": True}


def suits_onednn(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `onednn_conv` can convolve x with a kernel."""
    return x.dtype == kernel.dtype == jnp.bfloat16 and kernel.shape[:2] == (3, 3)


def _native_conv(x: jax.Array, kernel: jax.Array, pad: int) -> jax.Array:
    pads, dimensions = [(pad, pad)] * 2, ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=dimensions
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def onednn_conv(x: jax.Array, kernel: jax.Array, pad: int = 1) -> jax.Array:
    """Convolves x [B, H, W, Cin] with kernel [3, 3, Cin, Cout].

    Its gradients are in that form on a CPU only; elsewhere they are XLA's own.

    Args:
      x: images.
      kernel: filters.
      pad: rows and columns of zeros on each side: 1, or 0 for none.

    Returns:
      [B, H', W', Cout]; H' = H - 2 + 2 * pad, and so W'.
    """
    return _native_conv(x, kernel, pad)


def _forward(x: jax.Array, kernel: jax.Array, pad: int) -> tuple[jax.Array, Arrays]:
    return onednn_conv(x, kernel, pad), (x, kernel)


def _backward(pad: int, saved: Arrays, g: jax.Array) -> Arrays:
    def native(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
        conv = functools.partial(_native_conv, pad=pad)
        return jax.vjp(conv, x, kernel)[1](g)

    cpu = functools.partial(_cpu_gradients, pad=pad)
    return by_platform(cpu, native, *saved, g)


def _cpu_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, pad: int) -> Arrays:
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    dx = _native_conv(g, turned, 2 - pad)
    # Channels take the place of images, and images that of channels. Of 4 or 8 images
    # oneDNN gives a wrong result (jax 0.12), of multiples of 16 the right one. The
    # barrier keeps XLA from merging the transposes into the convolution: see above.
    x, g = (jnp.pad(a, ((0, -len(a) % 16), *[(0, 0)] * 3)) for a in (x, g))
    x, g = lax.optimization_barrier(
        (jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(g, (1, 2, 0, 3)))
    )
    return dx, jnp.transpose(_native_conv(x, g, pad), (1, 2, 0, 3))


onednn_conv.defvjp(_forward, _backward)
