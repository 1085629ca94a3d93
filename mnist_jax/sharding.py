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
    # Of a single device too, or sums that are split over cores would end otherwise.
    options = ops.compiler_options(one_core=True)
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
    parts = _of_own_shards(fn, num_shards, batch)
    # Pairs, pairs of pairs and so on, as far as a device has whole ones; the others,
    # and what is left of an odd number, when all devices have all.
    parts = _gather(jax.tree.map(_add_pairs, parts))
    sums = jax.tree.map(lambda p: functools.reduce(jnp.add, _add_pairs(p)), parts)
    # Else, where devices differ in what they add, XLA might round otherwise after it.
    return jax.lax.optimization_barrier(sums)


def _add_pairs(parts: jax.Array) -> jax.Array:
    """Adds neighbours [n, ...] until their number is odd."""
    while len(parts) % 2 == 0:
        parts = parts[0::2] + parts[1::2]
    return parts


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
    parts = _gather(_of_own_shards(lambda shard, _: fn(shard), num_shards, batch))
    rows = parts.reshape(-1, *parts.shape[2:])[: len(batch)]
    return jax.lax.optimization_barrier(rows)


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
    parts = jax.lax.fori_loop(first, first + own, add, parts)
    # Else XLA may add up, in the loop above, what is to be added after it.
    return jax.lax.optimization_barrier(parts)


def _gather(parts: PyTree) -> PyTree:
    """What each device has [n, ...], on all of them [D n, ...].

    As one array of each dtype: devices wait for each other once for each array.
    """
    leaves, treedef = jax.tree.flatten(parts)
    for dtype in sorted({leaf.dtype.name for leaf in leaves}):
        chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        rows = [leaves[i].reshape(len(leaves[i]), -1) for i in chosen]
        ends = np.cumsum([row.shape[1] for row in rows])[:-1]
        flat = jax.lax.all_gather(jnp.concatenate(rows, axis=1), _AXIS, tiled=True)
        for i, piece in zip(chosen, jnp.split(flat, ends, axis=1), strict=True):
            leaves[i] = piece.reshape(-1, *leaves[i].shape[1:])
    return jax.tree.unflatten(treedef, leaves)


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
