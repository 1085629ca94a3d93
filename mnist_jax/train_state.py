"""The state of training. It holds arrays only, so that it can be jitted, scanned,
vmapped, donated, sharded and saved as it is.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """All that changes while training.

    Attributes:
      step: int32 [], the number of optimizer steps done.
      params: the model's parameters.
      batch_stats: running statistics of batch norm; empty without it.
      opt_state: the optax state.
      ema_params: exponential moving average of `params`, or None.
    """

    step: jax.Array
    params: PyTree
    batch_stats: PyTree
    opt_state: optax.OptState
    ema_params: PyTree | None

    @property
    def variables(self) -> PyTree:
        """What evaluation and prediction give to `model.apply`.

        `batch_stats` has no second average, because it is a moving average itself.
        """
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}

    def apply_gradients(
        self,
        grads: PyTree,
        batch_stats: PyTree,
        tx: optax.GradientTransformation,
        ema_decay: float,
    ) -> "TrainState":
        """Returns the state after one optimizer step.

        Args:
          grads: gradients, in the structure of `params`.
          batch_stats: the new running statistics.
          tx: the optimizer that made `opt_state`.
          ema_decay: share of the old average that is kept; early on it is only
            (1 + step) / (10 + step), so that the first weights are soon forgotten.
        """
        updates, opt_state = tx.update(grads, self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        ema_params = None
        if self.ema_params is not None:
            decay = jnp.minimum(ema_decay, (1.0 + self.step) / (10.0 + self.step))
            ema_params = optax.incremental_update(params, self.ema_params, 1.0 - decay)
        return TrainState(
            step=self.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=ema_params,
        )


def create_train_state(
    rng: jax.Array,
    initial: Mapping[str, jax.Array] = MappingProxyType({}),
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    ema_decay: float,
) -> TrainState:
    """Initialises the weights from the key `rng`, and the optimizer's state.

    The model's input is float32 [B, *image_shape]; `ema_decay` 0 keeps no average.
    `initial` has weights to start from, by paths such as "params/Dense_0/kernel".
    """
    new = flatten_dict(model.init(rng, jnp.zeros((1, *image_shape))), sep="/")
    variables = unflatten_dict({**new, **initial}, sep="/")
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        # Copies, because the state is donated and no buffer may be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema_decay else None,
    )
