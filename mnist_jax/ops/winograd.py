"""Winograd's convolution F(2x2, 3x3), for the CPU.

The 2x2 results of a tile of 4x4 inputs d are

    Y = A^T [ (G kernel G^T) * (B^T d B) ] A       with an elementwise product *,

which takes 16 multiplications instead of 36. Over all tiles and channels, each of the
16 is a matrix product [tiles, Cin] [Cin, Cout]. (S. Winograd, Arithmetic Complexity of
Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
Networks, 2016, section 4.1.) The matrices hold 0, 1 and 1/2, so in float32 the error
is that of the direct sum, about 3e-7. The results of a tile are one window of a 2x2
pooling, so the max is taken before the results are put in order.

Every step but the product is linear, and its gradient is its transpose. With
V = B^T d B, U = G kernel G^T and M = V U, the cotangent dM = A dY A^T gives
dU = V^T dM and dV = dM U^T, again 16 products each.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.ops.packed import place_of_max
from mnist_jax.ops.pooling import from_phases, phases_of

Arrays = tuple[jax.Array, ...]


def suits_winograd(kernel: jax.Array) -> bool:
    """Whether Winograd's way is the faster one for a kernel.

    With few channels the transforms cost more than the products that they save.
    """
    return kernel.shape[:2] == (3, 3) and kernel.shape[2] >= 8 and kernel.dtype == "f4"


def transformed_kernel(kernel: jax.Array) -> jax.Array:
    """Returns U = G kernel G^T, [16, Cin, Cout]."""

    def transform(k: jax.Array) -> jax.Array:
        even, odd = (k[0] + k[2]) / 2, k[1] / 2
        return jnp.stack([k[0], even + odd, even - odd, k[2]])

    u = transform(jnp.swapaxes(transform(kernel), 0, 1))  # [4, 4, Cin, Cout], u^T
    return jnp.swapaxes(u, 0, 1).reshape(16, *kernel.shape[2:])


def _transformed_inputs(x: jax.Array) -> jax.Array:
    """Returns V = B^T d B of every tile d, for x [B, 2h + 2, 2w + 2, C].

    Its shape is [16, B * h * w, C].
    """
    b, height, width, c = x.shape
    h, w = height // 2 - 1, width // 2 - 1

    def transform(even: jax.Array, odd: jax.Array, n: int, axis: int) -> Arrays:
        # Tile t is made of the even and odd rows (or columns) t and t + 1.
        d0, d2 = (lax.slice_in_dim(even, i, i + n, axis=axis) for i in (0, 1))
        d1, d3 = (lax.slice_in_dim(odd, i, i + n, axis=axis) for i in (0, 1))
        return d0 - d2, d1 + d2, d2 - d1, d1 - d3

    x = x.reshape(b, h + 1, 2, w + 1, 2, c)
    rows = transform(x[:, :, 0], x[:, :, 1], h, 1)
    v = [u for r in rows for u in transform(r[:, :, :, 0], r[:, :, :, 1], w, 2)]
    return jnp.stack([u.reshape(b * h * w, c) for u in v])


def outputs_of(m: jax.Array) -> list[jax.Array]:
    """Returns Y = A^T M A of every tile for M [16, tiles, C]: 4 phases [tiles, C]."""

    def transform(m: list[Any]) -> list[Any]:
        return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]

    columns = [transform([m[4 * p + q] for p in range(4)]) for q in range(4)]
    return [y for i in range(2) for y in transform([c[i] for c in columns])]


def products(x: jax.Array, u: jax.Array) -> jax.Array:
    """Returns M = V U, [16, tiles, Cout], for x [B, 2h + 2, 2w + 2, Cin]."""
    return jnp.einsum("ptc,pcd->ptd", _transformed_inputs(x), u)


def _gradients(x: jax.Array, kernel: jax.Array, dm: jax.Array) -> Arrays:
    """Returns the gradients of x and kernel, for the cotangent dM [16, tiles, Cout]."""
    v, inputs_transpose = jax.vjp(_transformed_inputs, x)
    u, kernel_transpose = jax.vjp(transformed_kernel, kernel)
    (dx,) = inputs_transpose(jnp.einsum("ptd,pcd->ptc", dm, u))
    (dkernel,) = kernel_transpose(jnp.einsum("ptc,ptd->pcd", v, dm))
    return dx, dkernel


def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x [B, H, W, Cin] without padding: [B, H - 2, W - 2, Cout]."""
    b, h, w, cout = x.shape[0], x.shape[1] - 2, x.shape[2] - 2, kernel.shape[3]
    x = _pad_to_even(x)
    phases = jnp.stack(outputs_of(products(x, transformed_kernel(kernel))))
    half = (x.shape[1] - 2) // 2, (x.shape[2] - 2) // 2
    shape = (b, 2 * half[0], 2 * half[1], cout)
    return from_phases(phases.reshape(4, b, *half, cout), shape)[:, :h, :w]


def winograd_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    """Returns the gradients of x and kernel, for the cotangent g of `winograd_conv`."""
    cout = kernel.shape[3]
    phases = [p.reshape(-1, cout) for p in phases_of(_pad_to_even(g), 2)]

    def transform(y0: Any, y1: Any) -> list[Any]:
        return [y0, y0 + y1, y0 - y1, -y1]

    left = transform(phases[0], phases[2])
    right = transform(phases[1], phases[3])
    dm = jnp.stack([m for y in zip(left, right, strict=True) for m in transform(*y)])
    dx, dkernel = _gradients(_pad_to_even(x), kernel, dm)
    return dx[:, : x.shape[1], : x.shape[2]], dkernel


def _pad_to_even(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def pooled_winograd_gradients(
    x: jax.Array, kernel: jax.Array, packed: jax.Array, g: jax.Array
) -> Arrays:
    """Returns the gradients of x and kernel, where 2x2 pooling follows.

    Only one of a tile's 2x2 cotangents is not 0, so dM = g * A_i A_j^T at its (i, j).

    Args:
      x: [B, 2h + 2, 2w + 2, Cin].
      kernel: [3, 3, Cin, Cout].
      packed: int32 [B, h, w, Cout], from `pack`.
      g: cotangent of the pooled result, [B, h, w, Cout].
    """
    cout = kernel.shape[3]
    index, g = place_of_max(packed, 2).reshape(-1, cout), g.reshape(-1, cout)
    a = jnp.array([[1, 1, 1, 0], [0, 1, -1, -1]], g.dtype)[:, :, None, None]
    row = jnp.where((index < 2)[None], a[0], a[1])  # [4, tiles, Cout]
    column = jnp.where((index % 2 == 0)[None], a[0], a[1])
    dm = row[:, None] * (column * g)[None]
    return _gradients(x, kernel, dm.reshape(16, -1, cout))
