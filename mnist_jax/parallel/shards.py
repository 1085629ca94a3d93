"""Data parallelism whose result does not depend on the devices.

A batch is cut into `config.num_shards` logical shards. Each has randomness of its own,
a device takes one or more of them in turn, and their gradients are added in the order
of one tree, whose lower branches a device may add by itself. So the number of devices
and of processes decides only where arrays live: the weights are the same, bit for bit.
(A plain mean over devices adds in another order on another number of them, and after
some hundred steps nothing agrees any more.)
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
    """The devices that take part, in one axis `data`.

    All of them, over all processes; of one process so many as divide `num_shards`.

    Raises:
      ConfigError: several processes have devices that the shards do not spread over.
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
    """How many of the devices take part where each gets equally many parts."""
    return max(n for n in _divisors(num_parts) if n <= num_devices)


def _divisors(number: int, above: int = 0) -> list[int]:
    return [n for n in range(above + 1, number + 1) if number % n == 0]


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device has a copy of: state, data set, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def jit_over_shards(
    fn: Callable[..., PyTree], mesh: Mesh, donate_argnums: tuple[int, ...] = ()
) -> Any:
    """Jits a function that calls `sum_over_shards`.

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
    """Sums a function of shards over all of a batch; within `jit_over_shards`.

    Args:
      fn: maps (shard, index), a batch of ceil(B / num_shards) and an int32 [], to a
        tree of sums.
      num_shards: V, a multiple of the devices.
      batch: leaves [B, ...]. Zeros are added where V does not divide B: a `mask` in it
        must make them count for nothing.

    Returns:
      As `fn`: the sum over the V shards, bit-equal on any number of devices.
    """
    own = num_shards // jax.lax.axis_size(_AXIS)
    # As often as all shards can be added in pairs. Two or more rows are left for the
    # end, which is then the same program on any number of devices.
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
    """How often 2 divides it."""
    return (number & -number).bit_length() - 1


def _add_pairs(rows: jax.Array, times: int) -> jax.Array:
    """Adds neighbours of [n, size] so many times: [n / 2^times, size].

    In a loop, each time around for one half of the columns: XLA compiles loops apart
    from what comes before and after. Together it would round otherwise, where a device
    has other numbers of rows to add.
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
    """Applies a function to the shards of a batch; within `jit_over_shards`.

    Args:
      fn: maps a shard [ceil(B / num_shards), ...] to as many rows.
      num_shards: V, a multiple of the devices.
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
    """`fn(shard, index)` for each shard that is this device's, stacked [V / D, ...]."""

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
    # The bounds are not constants: XLA would take a loop of one shard apart, compile
    # its body together with what surrounds it, and round otherwise than in a loop.
    return jax.lax.fori_loop(first, first + own, add, parts)


def _join(
    parts: PyTree,
) -> tuple[list[jax.Array], Callable[[list[jax.Array]], PyTree]]:
    """Leaves [n, ...] as one array [n, size] of each dtype, and back from [size].

    As devices wait for each other once for each array.
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
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def agreed(signum: int) -> int:
    """The largest of a number over all processes, which must all ask at that point.

    A signal reaches processes at different steps: they must stop at one.
    """
    if jax.process_count() == 1:
        return signum
    return int(np.max(multihost_utils.process_allgather(np.int32(signum))))


def check_same(what: str, digest: Callable[[], str], then: str) -> None:
    """Checks that all processes hold the same; of one, it does nothing.

    Args:
      what: is checked, "weights" say.
      digest: of it.
      then: what to do about a difference.

    Raises:
      UserError: the first process that differs from process 0.
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
    """Returns when all processes have come to the point of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
