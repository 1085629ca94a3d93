"""Convolution, bias, relu and max pooling in one operation.

The convolution's result is the largest array of a network. It is not kept for the
gradient, which needs only the places of its maxima.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mnist_jax.ops.backend import by_platform
from mnist_jax.ops.fusion import compute_in_branch
from mnist_jax.ops.grey import grey_gradients, grey_phases
from mnist_jax.ops.packed import pack, route_packed, unpack, where_positive
from mnist_jax.ops.pooling import from_phases, max_and_index, max_pool, phases_of, route
from mnist_jax.ops.unpadded import cpu_gradients, lax_conv, native_gradients
from mnist_jax.ops.winograd import (
    outputs_of,
    pooled_winograd_gradients,
    products,
    suits_winograd,
    transformed_kernel,
)

Arrays = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def valid_conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> jax.Array:
    """`max_pool(relu(conv(x, kernel, bias, "VALID")), window)`.

    Args:
      x: [B, H, W, Cin].
      kernel: [kh, kw, Cin, Cout].
      bias: [Cout].
      window: of the pooling.

    Returns:
      [B, (H - kh + 1) // window, (W - kw + 1) // window, Cout].
    """
    return jax.nn.relu(max_pool(lax_conv(x, kernel), window) + bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _pool_and_index(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> Arrays:
    """The result, and what its gradient needs of each window, as int32.

    That is the `pack`ed result on the CPU, and elsewhere the phase of the maximum. This
    is the forward pass of `valid_conv_relu_pool`'s rule. It has the same rule itself,
    because second derivatives differentiate it.
    """

    def native(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> Arrays:
        best, index = max_and_index(phases_of(lax_conv(x, kernel), window))
        return jax.nn.relu(best + bias), index.astype(jnp.int32)

    def cpu(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> Arrays:
        if window == 2 and suits_winograd(kernel):
            m = products(x, transformed_kernel(kernel))
            shape = (len(x), x.shape[1] // 2 - 1, x.shape[2] // 2 - 1, kernel.shape[3])
            packed = _pack_apart(lambda: outputs_of(m), bias).reshape(shape)
        elif kernel.shape[2] == 1:
            packed = _pack_apart(lambda: grey_phases(x, kernel, window), bias)
        else:
            y = lax_conv(x, kernel)
            packed = _pack_apart(lambda: phases_of(y, window), bias)
        return unpack(packed, window), packed

    on_cpu = cpu if kernel.dtype == "f4" else native
    y, index = by_platform(on_cpu, native, _crop(x, kernel, window), kernel, bias)
    return y, index


def _pack_apart(phases: Callable[[], list[jax.Array]], bias: jax.Array) -> jax.Array:
    """`pack(phases(), bias)`, which XLA does not compute again for each reader."""

    def packed() -> jax.Array:
        return pack(phases(), bias)

    shape = jax.eval_shape(packed).shape
    nan = functools.partial(jnp.full, shape, 0x7FC00000, jnp.int32)
    # XLA cannot know that the bias is a number. If it is NaN, so is the result.
    return compute_in_branch(packed, always=bias[0] == bias[0], otherwise=nan)


def _pool_and_index_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> tuple[Arrays, Arrays]:
    y, index = _pool_and_index(x, kernel, bias, window)
    return (y, index), (x, kernel, y, index)


def _fused_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> tuple[jax.Array, Arrays]:
    (y, _), saved = _pool_and_index_fwd(x, kernel, bias, window)
    return y, saved


def _fused_bwd(window: int, saved: Arrays, g: jax.Array) -> Arrays:
    x, kernel, y, index = saved
    b, h, w, c = g.shape
    unpooled = (b, h * window, w * window, c)

    def native(
        x: jax.Array, kernel: jax.Array, y: jax.Array, index: jax.Array, g: jax.Array
    ) -> Arrays:
        g = jnp.where(y > 0, g, 0)
        dy = from_phases(route(g, index, window), unpooled)
        return *native_gradients(x, kernel, dy), jnp.sum(g, (0, 1, 2))

    def cpu(
        x: jax.Array, kernel: jax.Array, y: jax.Array, packed: jax.Array, g: jax.Array
    ) -> Arrays:
        g = where_positive(g, packed, window)
        dbias = jnp.sum(g, (0, 1, 2))
        if window == 2 and suits_winograd(kernel):
            return *pooled_winograd_gradients(x, kernel, packed, g), dbias
        dy = route_packed(g, packed, window)
        if kernel.shape[2] == 1:
            return *grey_gradients(x, kernel, dy, window), dbias
        return *cpu_gradients(x, kernel, from_phases(dy, unpooled)), dbias

    cropped = _crop(x, kernel, window)
    on_cpu = cpu if kernel.dtype == "f4" else native
    dx, dkernel, dbias = by_platform(on_cpu, native, cropped, kernel, y, index, g)
    unseen = [(0, n - m) for n, m in zip(x.shape, cropped.shape, strict=True)]
    return jnp.pad(dx, unseen), dkernel, dbias


def _pool_and_index_bwd(window: int, saved: Arrays, g: Arrays) -> Arrays:
    return _fused_bwd(window, saved, g[0])


valid_conv_relu_pool.defvjp(_fused_fwd, _fused_bwd)
_pool_and_index.defvjp(_pool_and_index_fwd, _pool_and_index_bwd)


def _crop(x: jax.Array, kernel: jax.Array, window: int) -> jax.Array:
    """Drops the last rows and columns of x that only dropped results use."""
    height, width = (
        n - (n - k + 1) % window
        for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    )
    return x[:, :height, :width]
