"""Convolution and pooling that are fast on every backend.

GPU and TPU run XLA's native convolution and window reduction. XLA's CPU backend
differentiates those into programs that are tens of times slower than they need be
(https://github.com/jax-ml/jax/issues/12868), so on the CPU the same functions, and
their gradients, are written as forward convolutions, matrix products and slices.

`_by_platform` is the one place where the backend is chosen. It chooses when a program
is lowered, not when it is traced, so exporting for a GPU from a CPU machine is right.

Reverse mode may be taken any number of times. Forward mode (`jax.jvp`, `jax.jacfwd`)
raises JAX's TypeError about `custom_vjp`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]  # (before, after) for H, for W

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _by_platform(
    cpu: Callable[..., Any], native: Callable[..., Any], *args: Any
) -> Any:
    """Runs `cpu(*args)` where the program is lowered for a CPU, else `native`."""
    return lax.platform_dependent(*args, cpu=cpu, default=native)


def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, padding: str
) -> jax.Array:
    """Convolution with stride 1: `lax.conv` plus `bias`.

    Args:
      x: [B, H, W, Cin].
      kernel: [kh, kw, Cin, Cout], of the same dtype.
      bias: [Cout], or None.
      padding: "VALID" or "SAME".

    Returns:
      [B, H', W', Cout]; H' = H - kh + 1 for "VALID" and H for "SAME".

    Raises:
      ValueError: unknown padding, or shapes that do not fit.
    """
    y = _conv(x, kernel, _pads(x.shape, kernel.shape, padding))
    return y if bias is None else y + bias


def max_pool(x: jax.Array, window: int = 2) -> jax.Array:
    """Max over windows of `window` x `window` that do not overlap.

    A last row or column that fills no window is dropped, as with "VALID" padding. Of
    equal maxima the first gets the gradient, as in `lax.reduce_window`.

    Args:
      x: [B, H, W, C].
      window: height, width and stride of a window.

    Returns:
      [B, H // window, W // window, C].
    """
    return _max_pool(x, window)


def conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str, window: int = 2
) -> jax.Array:
    """`max_pool(relu(conv(x, kernel, bias, padding)), window)`, with less work.

    Bias and relu are monotone, so they may follow the pooling, on a fraction
    1 / window² of the values; and what the pooling would drop is not computed.

    Args and raises as for `conv` and `max_pool`.

    Returns:
      [B, H' // window, W' // window, Cout].
    """
    pads = _pads(x.shape, kernel.shape, padding)
    return _conv_relu_pool(x, kernel, bias, pads, window)


def _pads(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], padding: str) -> Pads:
    if padding not in ("VALID", "SAME"):
        raise ValueError(f"padding must be 'VALID' or 'SAME', not {padding!r}")
    if len(x_shape) != 4 or len(kernel_shape) != 4 or x_shape[3] != kernel_shape[2]:
        raise ValueError(
            "conv takes x [B, H, W, Cin] and kernel [kh, kw, Cin, Cout], not "
            f"{x_shape} and {kernel_shape}"
        )
    top, left = ((k - 1) // 2 if padding == "SAME" else 0 for k in kernel_shape[:2])
    bottom, right = (k // 2 if padding == "SAME" else 0 for k in kernel_shape[:2])
    pads = (top, bottom), (left, right)
    if any(x_shape[1 + i] + sum(pads[i]) < kernel_shape[i] for i in range(2)):
        raise ValueError(f"kernel {kernel_shape} is larger than x {x_shape}")
    return pads


def _lax_conv(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS
    )


def _pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Pads, or where negative crops, H and W of x [B, H, W, C]."""
    no = (0, 0, 0)
    (top, bottom), (left, right) = pads
    return lax.pad(
        x, jnp.zeros((), x.dtype), (no, (top, bottom, 0), (left, right, 0), no)
    )


def _patches(x: jax.Array, kh: int, kw: int) -> jax.Array:
    """All windows of x [B, H, W, C], as [B, H - kh + 1, W - kw + 1, kh * kw * C]."""
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return jnp.concatenate(
        [x[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)],
        axis=-1,
    )


# Convolution. For y = x * w and the cotangent g of y, both gradients are convolutions
# too: of g with the kernel turned by 180 degrees, and of x with g. XLA's CPU backend
# is slow for the second, whose "kernel" is as large as the image: it is a product of
# matrices instead.

# Up to this many values in a window (9 for 3x3 on a grey image) the windows are
# copied into one matrix; beyond, that matrix would cost more than it saves.
_MAX_PATCH = 32


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    native = functools.partial(_lax_conv, pads=pads)
    return _by_platform(functools.partial(_conv_cpu, pads=pads), native, x, kernel)


def _conv_fwd(
    x: jax.Array, kernel: jax.Array, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv(x, kernel, pads), (x, kernel)


def _conv_bwd(
    pads: Pads, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    kh, kw = kernel.shape[:2]
    (top, bottom), (left, right) = pads
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    dx_pads = (kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right)
    dx = _conv(g, turned, dx_pads)
    return dx, _kernel_gradient(x, g, (kh, kw), pads)


_conv.defvjp(_conv_fwd, _conv_bwd)


def _conv_cpu(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    kh, kw, cin, cout = kernel.shape
    if kh * kw * cin > _MAX_PATCH:
        return _lax_conv(x, kernel, pads)
    return _patches(_pad(x, pads), kh, kw) @ kernel.reshape(-1, cout)


def _kernel_gradient(
    x: jax.Array, g: jax.Array, kernel_size: tuple[int, int], pads: Pads
) -> jax.Array:
    """Gradient [kh, kw, Cin, Cout] of the kernel, for the cotangent g of y."""
    cpu = functools.partial(_kernel_gradient_cpu, kernel_size=kernel_size, pads=pads)
    native = functools.partial(_kernel_gradient_native, pads=pads)
    return _by_platform(cpu, native, x, g)


def _kernel_gradient_native(x: jax.Array, g: jax.Array, pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(
        x, g, (1, 1), pads, dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


def _kernel_gradient_cpu(
    x: jax.Array, g: jax.Array, kernel_size: tuple[int, int], pads: Pads
) -> jax.Array:
    kh, kw = kernel_size
    height, width, cout = g.shape[1:]
    x = _pad(x, pads)
    cin = x.shape[3]
    g = g.reshape(-1, cout)
    if kh * kw * cin <= _MAX_PATCH:
        dw = _patches(x, kh, kw).reshape(-1, kh * kw * cin).T @ g
    else:
        shifted = (
            x[:, i : i + height, j : j + width].reshape(-1, cin)
            for i in range(kh)
            for j in range(kw)
        )
        dw = jnp.concatenate([s.T @ g for s in shifted])
    return dw.reshape(kh, kw, cin, cout)


# Pooling. Windows that do not overlap are a reshape, which XLA's CPU backend fuses;
# its gradient of `reduce_window` visits every window by itself.


def _phases(x: jax.Array, window: int) -> list[jax.Array]:
    """The value at each place of a window: window² of [B, H // window, ...]."""
    height, width = (n // window * window for n in x.shape[1:3])
    return [
        x[:, i:height:window, j:width:window]
        for i in range(window)
        for j in range(window)
    ]


def _unphase(phases: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """Inverse of `_phases`, with zeros where the pooling dropped values."""
    window = round(len(phases) ** 0.5)
    b, h, w, c = phases[0].shape
    x = jnp.stack(phases, axis=3).reshape(b, h, w, window, window, c)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * window, w * window, c)
    return _pad(x, ((0, shape[1] - h * window), (0, shape[2] - w * window)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, window: int) -> jax.Array:
    def cpu(x: jax.Array) -> jax.Array:
        return functools.reduce(jnp.maximum, _phases(x, window))

    def native(x: jax.Array) -> jax.Array:
        shape = (1, window, window, 1)
        return lax.reduce_window(
            x, jnp.array(-jnp.inf, x.dtype), lax.max, shape, shape, "VALID"
        )

    return _by_platform(cpu, native, x)


def _max_pool_fwd(
    x: jax.Array, window: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _max_pool(x, window)
    return y, (x, y)


def _max_pool_bwd(
    window: int, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array]:
    x, y = residuals
    free = jnp.ones(y.shape, bool)
    routed = []
    for phase in _phases(x, window):
        chosen = free & (phase == y)
        free &= ~chosen
        routed.append(jnp.where(chosen, g, 0))
    return (_unphase(routed, x.shape),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def _conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, pads: Pads, window: int
) -> jax.Array:
    """Crops what the pooling would drop, and swaps the pooling with bias and relu."""
    kh, kw = kernel.shape[:2]
    (top, bottom), (left, right) = pads
    drop_h = (x.shape[1] + top + bottom - kh + 1) % window
    drop_w = (x.shape[2] + left + right - kw + 1) % window
    y = _conv(x, kernel, ((top, bottom - drop_h), (left, right - drop_w)))
    return jax.nn.relu(_max_pool(y, window) + bias)
