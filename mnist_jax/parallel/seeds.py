"""Many seeds in one program: the training of S independent models side by side.

Everything of theirs has a leading axis of seeds [S, ...]. It is cut over the devices,
which need not talk to each other. On each, `vmap` would join the models' convolutions
into grouped ones: right for a GPU, which one small model leaves idle, and slow on the
CPU, where the models take turns instead and the devices are its cores.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mnist_jax import ops
from mnist_jax.parallel.shards import spread

PyTree = Any


def jit_for_each_seed(
    fn: Callable[..., PyTree],
    in_axes: tuple[int | None, ...],
    num_seeds: int,
    donate_argnums: tuple[int, ...] = (),
) -> Any:
    """Jits a function of one seed for S seeds, spread over the devices.

    Args:
      fn: pure; of one seed.
      in_axes: for each argument 0, where its leaves have a leading axis [S], or None,
        where the seeds share it.
      num_seeds: S. The largest number of devices that divides it takes part.
      donate_argnums: as for `jax.jit`.

    Returns:
      The jitted function, whose results' leaves have the leading axis. With one seed
      there is no such axis anywhere: it is `jax.jit(fn)`.
    """
    if num_seeds == 1:
        options = ops.compiler_options() if donate_argnums else None
        return jax.jit(fn, donate_argnums=donate_argnums, compiler_options=options)
    on_cpu = jax.default_backend() == "cpu"

    def one_device(*args: PyTree) -> PyTree:
        if not on_cpu:
            return jax.vmap(fn, in_axes)(*args)
        bind = functools.partial(_bind, fn, in_axes, args)
        mapped = [a for a, axis in zip(args, in_axes, strict=True) if axis == 0]
        return jax.lax.map(bind, mapped)

    devices = jax.devices()[: spread(num_seeds, jax.device_count())]
    specs = [PartitionSpec(*["seeds"] * (axis == 0)) for axis in in_axes]
    sharded = jax.shard_map(
        one_device,
        mesh=Mesh(np.array(devices), ("seeds",)),
        in_specs=tuple(specs),
        out_specs=PartitionSpec("seeds"),
        check_vma=False,
    )
    # Not of what only makes a state: `jax.eval_shape` would refuse the options.
    one_core = len(devices) > 1
    options = ops.compiler_options(one_core) if donate_argnums else None
    return jax.jit(sharded, donate_argnums=donate_argnums, compiler_options=options)


def _bind(
    fn: Callable[..., PyTree],
    in_axes: tuple[int | None, ...],
    args: Sequence[PyTree],
    mapped: Sequence[PyTree],
) -> PyTree:
    """Calls `fn` with one seed's share of the mapped arguments."""
    own = iter(mapped)
    pairs = zip(args, in_axes, strict=True)
    return fn(*(next(own) if axis == 0 else arg for arg, axis in pairs))


def unstack(tree: PyTree, num_seeds: int) -> list[PyTree]:
    """Each seed's own tree, on the host; of one seed, the tree as it is."""
    if num_seeds == 1:
        return [tree]
    host = jax.device_get(tree)
    return [jax.tree.map(lambda leaf: leaf[i], host) for i in range(num_seeds)]  # noqa: B023


def over_seeds(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean and sample standard deviation of each metric.

    Args:
      metrics: of each seed.

    Returns:
      For several seeds `name` and `name_sd`, and `num_seeds`; for one, its own; for
      none, nothing.
    """
    if len(metrics) < 2:
        return dict(metrics[0]) if metrics else {}
    result: dict[str, float] = {}
    for name in metrics[0]:
        values = np.array([each[name] for each in metrics])
        result[name] = float(values.mean())
        result[f"{name}_sd"] = float(values.std(ddof=1))
    return {**result, "num_seeds": len(metrics)}
