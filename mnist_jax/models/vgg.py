"""A deeper network, with several convolutions in each stage."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from mnist_jax import ops
from mnist_jax.models.cnn import ConvStage
from mnist_jax.models.contrast import even_contrast
from mnist_jax.models.inputs import pair_stages
from mnist_jax.models.kernel_init import kernel_init


class VGG(nn.Module):
    """Stages of several 3x3 convolutions with relu, each stage ending in a 2x2 max
    pooling; then dense layers (Simonyan and Zisserman 2014, arXiv:1409.1556).

    Attributes:
      num_classes: number of logits.
      features: channels of each stage.
      depths: convolutions of each stage, 1 or more.
      dense: widths of the hidden dense layers.
      dropout: rate of dropout before every dense layer.
      even_contrast: see the images through `contrast.even_contrast`.
    """

    num_classes: int
    features: Sequence[int]
    depths: Sequence[int]
    dense: Sequence[int]
    dropout: float
    even_contrast: bool = False  # checkpoints from before this field need the default

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`."""
        x = even_contrast(images) if self.even_contrast else images
        for features, depth in pair_stages(self.features, self.depths):
            for _ in range(depth - 1):
                x = Conv3x3(features)(x)
            x = ConvStage(features, 3, "SAME")(x)
        x = x.reshape(x.shape[0], -1)
        for features in self.dense:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = nn.relu(nn.Dense(features, kernel_init=kernel_init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype="float32")(x)


class Conv3x3(nn.Module):
    """Convolution with "SAME" padding and relu, through `ops`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, features]."""
        kernel = self.param("kernel", kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return nn.relu(ops.conv(x, kernel, bias, "SAME"))
