"""Puts the arrays of a run onto devices, and jits its functions for that."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mnist_jax.checkpoint.format import tree_digest
from mnist_jax.errors import ConfigError
from mnist_jax.parallel import shards
from mnist_jax.parallel.seeds import jit_for_each_seed

if TYPE_CHECKING:  # prediction does not need optax, which takes long to import
    from mnist_jax.train_state import TrainState

PyTree = Any


class Placement:
    """Where the arrays of a run live, and how its functions are jitted for that.

    There are three cases:

    - one model on one device;
    - S models of different seeds, split over the devices;
    - one model with a copy on each device, and batches split into shards over them.

    With S > 1 seeds, states, indices, rngs and metrics have a leading axis [S].

    Attributes:
      num_seeds: S.
      num_shards: number of shards of a batch.
      is_alone: True for one model on one device of one process.
      sharding: the sharding of arrays that every device has a copy of. Without shards
        it is None, because arrays that are committed to a device compile once more.

    Raises:
      ConfigError: the shards cannot be split evenly over the devices of all processes.
    """

    def __init__(self, num_seeds: int = 1, num_shards: int = 1) -> None:
        self.num_seeds, self.num_shards = num_seeds, num_shards
        self.is_alone = num_seeds == num_shards == jax.process_count() == 1
        self._mesh = shards.make_mesh(num_shards)
        self.sharding = shards.replicated(self._mesh) if num_shards > 1 else None

    def put(self, tree: PyTree) -> PyTree:
        """Puts arrays onto the devices; with shards, a copy onto each."""
        return jax.device_put(tree, self.sharding)

    def check_replicas(self, state: "TrainState") -> None:
        """Checks that all processes hold the same state.

        Raises:
          UserError: the states differ.
        """
        shards.check_same(
            "weights",
            functools.partial(tree_digest, state),
            f"at step {int(state.step.max())}, which is not saved: all need the same "
            "folder and the same kind of processor",
        )

    def rngs(self, seed: int, **jit_options: Any) -> jax.Array:
        """Returns keys [3, (S)]: of initial weights, data order and steps, by seed."""

        def make() -> jax.Array:
            seeds = range(seed, seed + self.num_seeds)
            keys = [jax.random.split(jax.random.key(own), 3) for own in seeds]
            return keys[0] if self.num_seeds == 1 else jnp.stack(keys, axis=1)

        return jax.jit(make, out_shardings=self.sharding, **jit_options)()

    def jit_create(self, create: Callable[[jax.Array, PyTree], PyTree]) -> Any:
        """Jits `(rng, initial) -> state`."""
        if self.num_shards > 1:
            return jax.jit(create, out_shardings=self.sharding)
        return jit_for_each_seed(create, (0, 0), self.num_seeds)

    def jit_order(self, order: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        """Maps `(rng, epoch) -> indices` over the seeds."""
        return jax.vmap(order, in_axes=(0, None)) if self.num_seeds > 1 else order

    def jit_steps(self, steps: Callable[..., PyTree]) -> Any:
        """Jits `(state, data, indices, rng) -> (state, metrics)`; donates the state."""
        if self.num_shards > 1:
            return shards.jit_over_shards(steps, self._mesh, donate_argnums=(0,))
        in_axes = (0, None, 0, 0)
        return jit_for_each_seed(steps, in_axes, self.num_seeds, donate_argnums=(0,))

    def spread_sums(self, fn: Callable[[PyTree, PyTree], PyTree]) -> Any:
        """Jits `(variables, batch) -> sums` so that devices share a batch's shards.

        Without shards it returns `fn` unchanged, so the caller should pass it jitted.
        """
        if self.num_shards == 1:
            return fn

        def spread(variables: PyTree, batch: PyTree) -> PyTree:
            def of_shard(shard: PyTree, _: jax.Array) -> PyTree:
                return fn(variables, shard)

            return shards.sum_over_shards(of_shard, self.num_shards, batch)

        return shards.jit_over_shards(spread, self._mesh)

    def spread_rows(self, fn: Callable[[PyTree, jax.Array], jax.Array]) -> Any:
        """Likewise jits `(variables, images) -> outputs [B, ...]`, for shards only."""

        def spread(variables: PyTree, images: jax.Array) -> jax.Array:
            def of_shard(shard: jax.Array) -> jax.Array:
                return fn(variables, shard)

            return shards.map_over_shards(of_shard, self.num_shards, images)

        return shards.jit_over_shards(spread, self._mesh)


def check_parallel(config: ConfigDict) -> None:
    """Checks that the config's seeds, shards and batch norm can be combined.

    Raises:
      ConfigError: they cannot, or several processes have no shards.
    """
    if config.num_shards > 1 and config.num_seeds > 1:
        raise ConfigError(
            "config.num_seeds and config.num_shards cannot both be above 1: seeds are "
            "spread over devices with nothing to add up"
        )
    if config.num_shards > 1 and config.model.kwargs.get("batch_norm"):
        raise ConfigError(
            "config.model.kwargs.batch_norm needs the statistics of whole batches: "
            "set config.num_shards=1"
        )
    if jax.process_count() > 1 and config.num_shards == 1:
        raise ConfigError(
            f"{jax.process_count()} processes need config.num_shards, a multiple of "
            f"their {jax.device_count()} devices"
        )
