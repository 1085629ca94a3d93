"""Trains S independent models, of different seeds, side by side in one program.

All arrays of the models have a leading axis of seeds [S, ...], which is split over the
devices. Devices need not communicate. Within a device, `vmap` joins the models'
convolutions into grouped ones. That is right for a GPU, which one small model leaves
idle. It is slow on the CPU, so there the models take turns, and each core is a device.
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
      fn: a pure function of one seed's arguments.
      in_axes: for each argument, 0 if its leaves have a leading axis [S], or None if
        the seeds share it.
      num_seeds: S. The largest number of devices that divides S is used.
      donate_argnums: as for `jax.jit`.

    Returns:
      The jitted function. The leaves of its results have a leading axis [S]. With one
      seed there is no such axis, and it is `jax.jit(fn)`.
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
    # Only training donates and gets the options. A function that creates a state gets
    # none, because `jax.eval_shape` would refuse them.
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
    """Returns each seed's own tree, on the host; for one seed the tree as it is."""
    if num_seeds == 1:
        return [tree]
    host = jax.device_get(tree)
    return [jax.tree.map(lambda leaf: leaf[i], host) for i in range(num_seeds)]  # noqa: B023


def over_seeds(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Computes mean and sample standard deviation of each metric over seeds.

    Args:
      metrics: the mean metrics of each seed.

    Returns:
      For several seeds, each metric's mean as `name` and standard deviation as
      `name_sd`, and `num_seeds`. For one seed, its metrics; for no seeds, {}.
    """
    if len(metrics) < 2:
        return dict(metrics[0]) if metrics else {}
    result: dict[str, float] = {}
    for name in metrics[0]:
        values = np.array([each[name] for each in metrics])
        result[name] = float(values.mean())
        result[f"{name}_sd"] = float(values.std(ddof=1))
    return {**result, "num_seeds": len(metrics)}
