"""The convolutional network that the configs train."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from mnist_jax import ops
from mnist_jax.models.batch_norm import linen_batch_norm
from mnist_jax.models.contrast import even_contrast
from mnist_jax.models.kernel_init import kernel_init


class ConvStage(nn.Module):
    """Convolution, batch norm if wanted, relu, and 2x2 max pooling, through `ops`.

    Attributes:
      features: channels of the result.
      kernel_size: height and width of the kernel.
      padding: "VALID" or "SAME".
      batch_norm: whether to normalise after the convolution.
    """

    features: int
    kernel_size: int
    padding: str
    batch_norm: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to [B, H' // 2, W' // 2, features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init, shape)
        if self.batch_norm:  # it has a bias of its own
            x = ops.conv(x, kernel, None, self.padding)
            return ops.max_pool(nn.relu(linen_batch_norm(x, train, mask)))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return ops.conv_relu_pool(x, kernel, bias, self.padding)


class CNN(nn.Module):
    """Stages of convolution, relu and 2x2 max pooling; then dense layers.

    Attributes:
      num_classes: number of logits.
      features: channels of each stage's convolution.
      kernel_size: height and width of every kernel.
      padding: "VALID" or "SAME".
      dense: widths of the hidden dense layers.
      dropout: rate of dropout before the last layer.
      batch_norm: normalise after every convolution and hidden dense layer.
      even_contrast: see the images through `contrast.even_contrast`.
    """

    num_classes: int
    features: Sequence[int]
    kernel_size: int
    padding: str
    dense: Sequence[int]
    dropout: float
    batch_norm: bool
    even_contrast: bool = False  # checkpoints from before this field need the default

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits [B, num_classes].

        Args:
          images: float32 [B, H, W, C] in [0, 1].
          train: whether dropout drops and batch norm uses the batch's statistics.
          mask: [B], 1 where an example counts in the batch's statistics.
        """
        x = even_contrast(images) if self.even_contrast else images
        if not self.batch_norm:  # whose statistics must be of all pixels
            stages = len(self.features)
            x = ops.crop_unseen(x, self.kernel_size, self.padding, stages)
        for features in self.features:
            stage = ConvStage(features, self.kernel_size, self.padding, self.batch_norm)
            x = stage(x, train, mask)
        x = x.reshape(x.shape[0], -1)
        for features in self.dense:
            x = nn.Dense(features, kernel_init=kernel_init)(x)
            x = nn.relu(linen_batch_norm(x, train, mask) if self.batch_norm else x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype="float32")(x)
