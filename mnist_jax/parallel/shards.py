"""Data parallelism whose result does not depend on the devices.

A batch is split into `config.num_shards` logical shards, each with its own random key.
A device computes one or more shards in turn. The gradients of all shards are then added
in the order of one fixed tree; a device adds the branches of its own shards. So the
numbers of devices and processes decide only where arrays live, and the weights are
the same, bit for bit. (A plain mean over devices would add in an order that depends on
their number, and after some hundred steps the weights would differ visibly.)
"""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnist_jax import ops
from mnist_jax.errors import ConfigError, UserError

PyTree = Any

_AXIS = "data"


def make_mesh(num_shards: int) -> Mesh:
    """Returns the mesh of the devices that are used, with one axis `data`.

    One process uses the largest number of its devices that divides `num_shards`.
    Several processes use all their devices.

    Raises:
      ConfigError: there are several processes, whose devices do not divide
        `num_shards`.
    """
    devices = jax.devices()
    count = len(devices)
    used = spread(num_shards, count)
    if jax.process_count() > 1 and used < count:
        shards = [n for n in (num_shards // count * count,) if n] + [
            (num_shards // count + 1) * count
        ]
        fewer_or_more = [used, *_divisors(num_shards, above=count)[:1]]
        raise ConfigError(
            f"config.num_shards = {num_shards} does not spread over the {count} "
            f"devices of {jax.process_count()} processes: set it to "
            f"{' or '.join(map(str, shards))}, or start processes with "
            f"{' or '.join(map(str, fewer_or_more))} devices in all"
        )
    return Mesh(np.array(devices[:used]), (_AXIS,))


def spread(num_parts: int, num_devices: int) -> int:
    """Returns how many devices can be used if each must get equally many parts."""
    return max(n for n in _divisors(num_parts) if n <= num_devices)


def _divisors(number: int, above: int = 0) -> list[int]:
    return [n for n in range(above + 1, number + 1) if number % n == 0]


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device has a copy of, such as the state."""
    return NamedSharding(mesh, PartitionSpec())


def jit_over_shards(
    fn: Callable[..., PyTree], mesh: Mesh, donate_argnums: tuple[int, ...] = ()
) -> Any:
    """Jits a function that calls `sum_over_shards` or `map_over_shards`.

    Args:
      fn: pure; its arguments and results are replicated.
      mesh: from `make_mesh`.
      donate_argnums: as for `jax.jit`.
    """
    everywhere = PartitionSpec()
    sharded = jax.shard_map(
        fn, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
    )
    options = ops.compiler_options(one_core=len(mesh.local_devices) > 1)
    return jax.jit(sharded, donate_argnums=donate_argnums, compiler_options=options)


def sum_over_shards(
    fn: Callable[[PyTree, jax.Array], PyTree], num_shards: int, batch: PyTree
) -> PyTree:
    """Applies a function to each shard of a batch and adds up the results.

    It must be called within `jit_over_shards`.

    Args:
      fn: maps (shard, index), a batch of ceil(B / num_shards) and an int32 [], to a
        tree of sums.
      num_shards: V, a multiple of the number of devices.
      batch: leaves [B, ...]. If V does not divide B, zeros are appended; `fn` must
        ignore them, by a `mask` in the batch.

    Returns:
      The sum of the results of `fn` over the V shards, bit-equal on any number of
      devices.
    """
    own = num_shards // jax.lax.axis_size(_AXIS)
    # Neighbours are added in pairs as often as V can be halved. At least two rows are
    # left for the final sum, which is then the same on any number of devices.
    times = _times_even(num_shards)
    if times and num_shards == 1 << times:
        times -= 1
    here = min(times, _times_even(own))
    rows, split = _join(_of_own_shards(fn, num_shards, batch))
    rows = [_add_pairs(each, here) for each in rows]
    rows = [jax.lax.all_gather(each, _AXIS, tiled=True) for each in rows]
    rows = [_add_pairs(each, times - here) for each in rows]
    return split([functools.reduce(jnp.add, list(each)) for each in rows])


def _times_even(number: int) -> int:
    """Returns how often a number can be halved without a remainder."""
    return (number & -number).bit_length() - 1


def _add_pairs(rows: jax.Array, times: int) -> jax.Array:
    """Adds neighbouring rows of [n, size] `times` times: [n / 2^times, size].

    A loop does this, over the two halves of the columns, only because XLA compiles a
    loop apart from the code around it. Compiled together, the code would round
    differently for different numbers of rows, that is, of devices.
    """
    if not times:
        return rows
    size = rows.shape[1]
    half = -(-size // 2)

    def add(index: jax.Array, sums: jax.Array) -> jax.Array:
        at = (0, index * (size - half))
        part = jax.lax.dynamic_slice(rows, at, (len(rows), half))
        for _ in range(times):
            part = part[0::2] + part[1::2]
        return jax.lax.dynamic_update_slice(sums, part, at)

    sums = jnp.zeros((len(rows) >> times, size), rows.dtype)
    return jax.lax.fori_loop(0, 2, add, sums)


def map_over_shards(
    fn: Callable[[PyTree], jax.Array], num_shards: int, batch: jax.Array
) -> jax.Array:
    """Applies a function to each shard of a batch and concatenates the results.

    It must be called within `jit_over_shards`.

    Args:
      fn: maps a shard [ceil(B / num_shards), ...] to the same number of rows.
      num_shards: V, a multiple of the number of devices.
      batch: [B, ...].

    Returns:
      The rows of all shards [B, ...], bit-equal on any number of devices.
    """
    parts = _of_own_shards(lambda shard, _: fn(shard), num_shards, batch)
    parts = jax.lax.all_gather(parts, _AXIS, tiled=True)
    return parts.reshape(-1, *parts.shape[2:])[: len(batch)]


def _of_own_shards(
    fn: Callable[[PyTree, jax.Array], PyTree], num_shards: int, batch: PyTree
) -> PyTree:
    """Returns `fn(shard, index)` for this device's shards, stacked [V / D, ...]."""

    def cut(leaf: jax.Array) -> jax.Array:  # [V, ceil(B / V), ...]
        padding = -len(leaf) % num_shards
        leaf = jnp.pad(leaf, [(0, padding)] + [(0, 0)] * (leaf.ndim - 1))
        return leaf.reshape(num_shards, -1, *leaf.shape[1:])

    def one(index: jax.Array) -> PyTree:
        return fn(jax.tree.map(lambda leaf: leaf[index], shards), index)

    def add(index: jax.Array, parts: PyTree) -> PyTree:
        return jax.tree.map(
            lambda all, part: all.at[index - first].set(part), parts, one(index)
        )

    shards = jax.tree.map(cut, batch)
    own = num_shards // jax.lax.axis_size(_AXIS)
    first = jax.lax.axis_index(_AXIS).astype(jnp.int32) * own
    shapes = jax.eval_shape(one, first)
    parts = jax.tree.map(lambda x: jnp.zeros((own, *x.shape), x.dtype), shapes)
    # The bounds must not be constants: XLA would unroll a loop over one shard, and its
    # body, compiled together with the code around it, would round differently.
    return jax.lax.fori_loop(first, first + own, add, parts)


def _join(
    parts: PyTree,
) -> tuple[list[jax.Array], Callable[[list[jax.Array]], PyTree]]:
    """Joins leaves [n, ...] into one array [n, size] for each dtype.

    Fewer arrays are faster, because devices wait for each other once for each array.
    Returns the arrays, and a function that splits arrays [size] into leaves again.
    """
    leaves, treedef = jax.tree.flatten(parts)
    dtypes = sorted({leaf.dtype.name for leaf in leaves})
    chosen = [[i for i, x in enumerate(leaves) if x.dtype == d] for d in dtypes]
    rows = [
        jnp.concatenate([leaves[i].reshape(len(leaves[i]), -1) for i in own], axis=1)
        for own in chosen
    ]

    def split(sums: list[jax.Array]) -> PyTree:
        out = list(leaves)
        for own, total in zip(chosen, sums, strict=True):
            shapes = [leaves[i].shape[1:] for i in own]
            ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
            for i, piece, shape in zip(
                own, jnp.split(total, ends), shapes, strict=True
            ):
                out[i] = piece.reshape(shape)
        return jax.tree.unflatten(treedef, out)

    return rows, split


def is_primary() -> bool:
    """Tells whether this process is the first, which alone prints and writes."""
    return jax.process_index() == 0


def agreed(signum: int) -> int:
    """Returns the largest `signum` of all processes, which must all call this.

    A signal reaches processes at different steps, but they must stop at the same one.
    """
    if jax.process_count() == 1:
        return signum
    return int(np.max(multihost_utils.process_allgather(np.int32(signum))))


def check_same(what: str, digest: Callable[[], str], then: str) -> None:
    """Checks that all processes hold the same; does nothing if there is only one.

    Args:
      what: name of what is checked, such as "weights".
      digest: returns a text that is the same for equal contents.
      then: end of the error line, which says what to do about a difference.

    Raises:
      UserError: a process differs from process 0; the error names the first such one.
    """
    if jax.process_count() == 1:
        return
    own = np.frombuffer(hashlib.sha256(digest().encode()).digest(), np.uint32)
    each = multihost_utils.process_allgather(own)  # [processes, 8]
    differs = (each != each[0]).any(axis=1)
    if differs.any():
        raise UserError(
            f"process {differs.argmax()} has other {what} than process 0: {then}"
        )


def wait_for_all(name: str) -> None:
    """Waits until all processes have reached the point of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
