"""A network of dense layers only."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from mnist_jax.models.inputs import check_input
from mnist_jax.models.kernel_init import kernel_init


class MLP(nn.Module):
    """Dense layers with relu on the flattened image.

    Attributes:
      num_classes: number of logits.
      dense: widths of the hidden layers.
      dropout: rate of dropout after each hidden layer.
    """

    num_classes: int
    dense: Sequence[int]
    dropout: float

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`."""
        check_input(images)
        x = images.reshape(images.shape[0], -1)
        for features in self.dense:
            x = nn.relu(nn.Dense(features, kernel_init=kernel_init)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype="float32")(x)
