"""The first layer on a CPU: convolution and pooling of images with one channel.

Such a layer has next to no arithmetic; memory is what it costs. Written as sums of
shifted images times kernel entries, convolution and pooling are one loop that XLA
fuses, and only the maxima are written.
"""

import functools

import jax
import jax.numpy as jnp

from mnist_jax.ops.pooling import from_phases
from mnist_jax.ops.unpadded import input_gradient

Arrays = tuple[jax.Array, ...]


def grey_phases(x: jax.Array, kernel: jax.Array, window: int) -> list[jax.Array]:
    """Returns the phases of the convolution of x [B, H, W, 1] without padding."""
    places = _grey_windows(x, kernel, window)
    values = kernel.reshape(-1, kernel.shape[3])
    return [functools.reduce(jnp.add, map(jnp.multiply, xs, values)) for xs in places]


def grey_gradients(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, window: int
) -> Arrays:
    """Returns the gradients of x and kernel, for the cotangents dy of the phases."""
    cout = kernel.shape[3]
    size = kernel.shape[0] * kernel.shape[1]
    places = _grey_windows(x, kernel, window)
    rows = [places[p][k].reshape(1, -1) for k in range(size) for p in range(window**2)]
    dkernel = jnp.concatenate(rows).reshape(size, -1) @ dy.reshape(-1, cout)
    shape = (x.shape[0], *(x.shape[i] - kernel.shape[i - 1] + 1 for i in (1, 2)), cout)
    # A first layer does not use dx, and XLA then leaves it out.
    dx = input_gradient(kernel, from_phases(dy, shape))
    return dx, dkernel.reshape(kernel.shape)


def _grey_windows(
    x: jax.Array, kernel: jax.Array, window: int
) -> list[list[jax.Array]]:
    """Returns, for every phase of the result, the kh * kw pixels that it is made of.

    The pixels are arrays [B, h, w, 1], one for each place in the kernel.
    """
    kh, kw = kernel.shape[:2]
    h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return [
        [
            x[
                :,
                p + i : p + i + h - window + 1 : window,
                q + j : q + j + w - window + 1 : window,
            ]
            for i in range(kh)
            for j in range(kw)
        ]
        for p in range(window)
        for q in range(window)
    ]
