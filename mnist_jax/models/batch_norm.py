"""The two batch norms of this project (Ioffe and Szegedy 2015, arXiv:1502.03167).

                         linen_batch_norm      BatchNorm
    used by              CNN                   Sprint
    scale                learned               none
    bias                 learned               learned, or none
    epsilon              1e-5                  1e-4
    variance             mean of squares,      mean of squared
                         less squared mean     distances from the mean
    batch of padding     NaN in the running    leaves the running
    alone                statistics            statistics as they are

Both stay as they are, because checkpoints and the bits of results depend on them. Both
take the statistics of what they are given, which is a shard where a batch is cut into
shards. Both keep running statistics with momentum 0.9 for evaluation.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def linen_batch_norm(x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    """Applies linen's own batch norm, as a layer of the module that calls this.

    Args:
      x: [B, ..., C].
      train: whether to normalise by the batch's statistics, and not the running ones.
      mask: [B], 1 where an example counts in the statistics; None for all.
    """
    if mask is not None:
        mask = mask.reshape(-1, *[1] * (x.ndim - 1)).astype(bool)
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
    return norm(x, mask=mask if train else None)


class BatchNorm(nn.Module):
    """Batch norm without a scale.

    Attributes:
      use_bias: whether a bias is learned for each channel.
      momentum: share of the running statistics that each step keeps.
      epsilon: added to the variance.
    """

    use_bias: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Normalises [B, ..., C] in each channel; statistics are float32 for any x."""
        dtype, x = x.dtype, x.astype(jnp.float32)
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        bias: Any = 0
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape)
        if not train:
            y = (x - mean.value) * jax.lax.rsqrt(var.value + self.epsilon) + bias
            return y.astype(dtype)
        if mask is None:
            mask = jnp.ones(len(x))
        weight = mask.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        places = math.prod(x.shape[1:-1])
        count = jnp.maximum(jnp.sum(weight), 1) * places
        axes = tuple(range(x.ndim - 1))
        own_mean = jnp.sum(weight * x, axes) / count
        centred = x - own_mean
        own_var = jnp.sum(weight * jnp.square(centred), axes) / count
        if not self.is_initializing():
            share = jnp.where(jnp.sum(weight) > 0, 1 - self.momentum, 0)
            mean.value += share * (own_mean - mean.value)
            var.value += share * (own_var - var.value)
        y = centred * jax.lax.rsqrt(own_var + self.epsilon) + bias
        return y.astype(dtype)
