"""Result and place of each maximum, packed in one integer for the CPU.

XLA's CPU backend has no fusions with several results: the maxima and their places would
be two loops, and each would compute the convolution. Nor does it vectorise comparisons
that select. So all that the gradient needs is packed into one int32 by integer
arithmetic. It holds the float32 result, whose last bits (two, for a window of 2x2) are
replaced by the phase of the maximum. That changes the result by at most 4e-7 of itself.
Where the result is 0, relu lets no gradient through.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def _bits(x: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(x, jnp.int32)


def _floats(x: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(x, jnp.float32)


def _ordered(bits: jax.Array) -> jax.Array:
    """Maps the bits of floats to integers of the same order, and back again."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _tag_bits(phases: int) -> int:
    """A mask of the low bits that hold the number of a phase."""
    return 2 ** (phases - 1).bit_length() - 1


def pack(phases: list[jax.Array], bias: jax.Array) -> jax.Array:
    """Packs the bits of `relu(max(phases) + bias)` and the first phase of the max.

    Args:
      phases: float32 [..., C] each, from `phases_of`.
      bias: float32 [C].

    Returns:
      int32 [..., C].
    """
    last = len(phases) - 1
    tag = _tag_bits(len(phases))
    # Of equal values the one with the largest tag wins, which is the first phase.
    tagged = [(_ordered(_bits(p)) & ~tag) | (last - i) for i, p in enumerate(phases)]
    best = functools.reduce(jnp.maximum, tagged)
    y = _floats(_ordered(best & ~tag)) + bias
    relu = jnp.maximum(_bits(y), 0)  # negative floats are negative integers too
    return (relu & ~tag) | (last - (best & tag))


def unpack(packed: jax.Array, window: int) -> jax.Array:
    """Returns the float32 result."""
    return _floats(packed & ~_tag_bits(window**2))


def place_of_max(packed: jax.Array, window: int) -> jax.Array:
    """Returns the number of the phase that has the max, int32."""
    return packed & _tag_bits(window**2)


def where_positive(g: jax.Array, packed: jax.Array, window: int) -> jax.Array:
    """Returns the cotangent that relu lets through: g where the result is above 0."""
    return _masked(g, -(packed & ~_tag_bits(window**2)) >> 31)


def route_packed(g: jax.Array, packed: jax.Array, window: int) -> jax.Array:
    """Does what `pooling.route` does, for packed results."""
    phase = jnp.arange(window**2, dtype=jnp.int32).reshape(-1, *[1] * g.ndim)
    mask = ((place_of_max(packed, window) ^ phase) - 1) >> 31
    return _masked(jnp.broadcast_to(g, mask.shape), mask)


@jax.custom_vjp
def _masked(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns x where the mask's bits are all 1, else 0. It is linear in x."""
    return _floats(_bits(x) & mask)


def _masked_fwd(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _masked(x, mask), mask


def _masked_bwd(mask: jax.Array, g: jax.Array) -> tuple[jax.Array, None]:
    return _masked(g, mask), None


_masked.defvjp(_masked_fwd, _masked_bwd)
