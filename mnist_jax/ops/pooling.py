"""Max pooling by phases, whose gradient is fast on a CPU too.

The phase (i, j) of an image is its every window-th row from i and column from j: the
value at one place of every window. The max over windows is the max over phases. XLA
fuses it into whatever made the phases, and its gradient is elementwise again. The
gradient of `lax.reduce_window` visits every window by itself.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

Arrays = tuple[jax.Array, ...]


def max_pool(x: jax.Array, window: int = 2) -> jax.Array:
    """Max over windows of `window` x `window` that do not overlap.

    A last row or column that fills no window is dropped, as with "VALID" padding. Of
    equal maxima the first gets the gradient, as with `lax.reduce_window`.

    Args:
      x: [B, H, W, C].
      window: height, width and stride of a window.

    Returns:
      [B, H // window, W // window, C].
    """
    return _max_pool(x, window)


def phases_of(x: jax.Array, window: int) -> list[jax.Array]:
    """Returns the window² phases [B, H // window, W // window, C] of x [B, H, W, C]."""
    height, width = (n // window * window for n in x.shape[1:3])
    return [
        x[:, i:height:window, j:width:window]
        for i in range(window)
        for j in range(window)
    ]


def from_phases(phases: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Puts phases [window², ...] back into an image of `shape`.

    Rows and columns that fill no window are 0.
    """
    n, b, h, w, c = phases.shape
    window = round(n**0.5)
    x = phases.reshape(window, window, b, h, w, c).transpose(2, 3, 0, 4, 1, 5)
    x = x.reshape(b, h * window, w * window, c)
    return jnp.pad(
        x, ((0, 0), (0, shape[1] - h * window), (0, shape[2] - w * window), (0, 0))
    )


def max_and_index(phases: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns the max over phases, and the number (uint8) of the first that has it."""
    best = functools.reduce(jnp.maximum, phases)
    index = jnp.full(best.shape, len(phases) - 1, jnp.uint8)
    for i in range(len(phases) - 2, -1, -1):
        index = jnp.where(phases[i] == best, jnp.uint8(i), index)
    return best, index


def route(g: jax.Array, index: jax.Array, window: int) -> jax.Array:
    """Returns the cotangents [window², ...] of the phases, for the cotangent g.

    The phase that has the max gets g, and the others get 0.
    """
    phase = jnp.arange(window**2, dtype=g.dtype).reshape(-1, *[1] * g.ndim)
    # This is arithmetic, because XLA's CPU backend does not vectorise a select.
    chosen = jnp.maximum(1 - jnp.abs(index.astype(g.dtype) - phase), 0)
    return chosen * g


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, window: int) -> jax.Array:
    shape = (1, window, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")


def _max_pool_fwd(x: jax.Array, window: int) -> tuple[jax.Array, Arrays]:
    y, index = max_and_index(phases_of(x, window))
    return y, (x, index)


def _max_pool_bwd(window: int, saved: Arrays, g: jax.Array) -> Arrays:
    x, index = saved
    return (from_phases(route(g, index, window), x.shape),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)
