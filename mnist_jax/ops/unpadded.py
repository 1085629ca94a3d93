"""Convolution without padding, with gradients that are fast on a CPU too.

For y = x * kernel and the cotangent g of y, the gradient of x is the convolution of g
with the kernel turned by 180 degrees. The gradient of the kernel is a convolution of x
with g, which is a kernel as large as the image. XLA's CPU backend is slow at that, so
there it is one product of matrices for each offset.
"""

import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.ops.backend import by_platform
from mnist_jax.ops.winograd import suits_winograd, winograd_conv, winograd_gradients

Arrays = tuple[jax.Array, ...]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def valid_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x [B, H, W, Cin] with kernel [kh, kw, Cin, Cout], without padding."""
    return lax_conv(x, kernel)


def _valid_conv_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Arrays]:
    cpu = winograd_conv if suits_winograd(kernel) else lax_conv
    return by_platform(cpu, lax_conv, x, kernel), (x, kernel)


def _valid_conv_bwd(saved: Arrays, g: jax.Array) -> Arrays:
    x, kernel = saved
    cpu = winograd_gradients if suits_winograd(kernel) else cpu_gradients
    return by_platform(cpu, native_gradients, x, kernel, g)


valid_conv.defvjp(_valid_conv_fwd, _valid_conv_bwd)


def lax_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Does what `valid_conv` does by XLA's own convolution, with XLA's gradients."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=_DIMENSIONS
    )


def native_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    """Returns XLA's gradients of x and kernel, for the cotangent g."""
    return jax.vjp(lax_conv, x, kernel)[1](g)


def cpu_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    """Returns the gradients of x and kernel as matrix products, for the cotangent g."""
    dx = input_gradient(kernel, g)
    kh, kw, cin, cout = kernel.shape
    b, h, w, _ = g.shape
    shifted = [x[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
    g = g.reshape(-1, cout)
    if cin < 8:  # one product with all the offsets side by side
        dkernel = jnp.concatenate(shifted, axis=3).reshape(b * h * w, -1).T @ g
    else:
        dkernel = jnp.concatenate([s.reshape(-1, cin).T @ g for s in shifted])
    return dx, dkernel.reshape(kernel.shape)


def input_gradient(kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Returns the gradient of x, for the cotangent g."""
    kh, kw = kernel.shape[:2]
    g = jnp.pad(g, ((0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1), (0, 0)))
    return valid_conv(g, jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3))
