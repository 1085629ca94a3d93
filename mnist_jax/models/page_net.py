"""A network that marks the centre of every digit of a page, and says which it is.

"Objects as points" (Zhou et al. 2019, arXiv:1904.07850): a fully convolutional network
gives, at each place of a map, how likely a digit's centre is there, the class it would
have, and its box. The features are those of a small residual network at strides 4, 8
and 16, summed back up to stride 4.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnist_jax import ops
from mnist_jax.models.batch_norm import linen_batch_norm
from mnist_jax.models.kernel_init import kernel_init

STRIDES = (4, 2)  # pixels down and across from one place of the map to the next
NOISE = 8.0  # levels of 255, added to the deviation by which pictures are divided
SIDE = 16  # height and width of a picture must be multiples of it


class ConvNorm(nn.Module):
    """A 3x3 convolution with batch norm.

    Attributes:
      features: channels of the result.
      dtype: of the products.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, features]."""
        kernel = self.param("kernel", kernel_init, (3, 3, x.shape[-1], self.features))
        x = ops.conv(x.astype(self.dtype), kernel.astype(self.dtype), None, "SAME")
        return linen_batch_norm(x, train, None).astype(self.dtype)


class Residual(nn.Module):
    """Two convolutions whose result is added to what they see (arXiv:1512.03385).

    Attributes:
      dtype: of the products.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to the same shape."""
        y = nn.relu(ConvNorm(x.shape[-1], self.dtype)(x, train))
        return nn.relu(x + ConvNorm(x.shape[-1], self.dtype)(y, train))


class PageNet(nn.Module):
    """Maps a standardised grey picture to a map of digits.

    Attributes:
      num_classes: number of classes of digits.
      features: channels at strides 4, 8 and 16.
      blocks: residual blocks at strides 4, 8 and 16.
      head: channels of the last convolution.
      dtype: of the products, "float32" or "bfloat16"; weights and sums are float32.
    """

    num_classes: int
    features: Sequence[int]
    blocks: Sequence[int]
    head: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, pictures: jax.Array, train: bool = False) -> jax.Array:
        """Returns a map of digits.

        Args:
          pictures: float [B, H, W, 1]; H and W are multiples of `SIDE`.
          train: whether batch norm uses the batch's statistics.

        Returns:
          float32 [B, H / 4, W / 2, 5 + num_classes]. In its last axis are the logit of
          a centre; the logarithms of the box's width and height, in units of 16 pixels;
          the centre's offset from the middle of the place, across and down, in units of
          16 pixels; and the logits of the classes.
        """
        dtype = jnp.dtype(self.dtype)
        fine, middle, _ = self.features
        # Pixels are stacked rather than strided over: on a CPU, a gradient of a strided
        # convolution is far slower than one of products.
        x = space_to_depth(pictures.astype(dtype), 4)
        skips: list[jax.Array] = []
        for width, blocks in zip(self.features, self.blocks, strict=True):
            if skips:
                x = nn.Dense(width, dtype=dtype)(space_to_depth(x, 2))
            else:
                x = nn.relu(ConvNorm(width, dtype)(x, train))
            for _ in range(blocks):
                x = Residual(dtype)(x, train)
            skips.append(x)
        x = nn.relu(skips[1] + _enlarge(nn.Dense(middle, dtype=dtype)(skips[2])))
        x = Residual(dtype)(x, train)
        x = nn.relu(skips[0] + _enlarge(nn.Dense(fine, dtype=dtype)(x)))
        x = nn.relu(ConvNorm(self.head, dtype)(x, train))
        x = nn.Dense(2 * (5 + self.num_classes), bias_init=_rare_centres)(x)
        # Two places side by side keep digits apart that stand close together.
        b, h, w, _ = x.shape
        return x.astype(jnp.float32).reshape(b, h, 2 * w, 5 + self.num_classes)


def space_to_depth(x: jax.Array, size: int) -> jax.Array:
    """Stacks squares of `size` places: [B, H / size, W / size, size² * C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
    return x.reshape(b, h // size, w // size, size * size * c)


def _enlarge(x: jax.Array) -> jax.Array:
    """Repeats every place twice down and across."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


def _rare_centres(rng: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Begins with the belief that centres are rare (Lin et al. 2017, arXiv:1708.02002).

    Otherwise the many places without one would decide the first steps.
    """
    bias = jnp.zeros((2, shape[0] // 2), dtype)
    return bias.at[:, 0].set(-4.0).reshape(shape)
