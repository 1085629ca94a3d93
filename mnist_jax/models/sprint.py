"""A network for the shortest training times."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnist_jax import ops
from mnist_jax.models.batch_norm import BatchNorm
from mnist_jax.models.contrast import even_contrast
from mnist_jax.models.cosine_filters import cosine_filters
from mnist_jax.models.inputs import check_input, pair_stages
from mnist_jax.models.kernel_init import kernel_init


class Sprint(nn.Module):
    """A CNN that learns much from few images, and costs little: see configs/default.py.

    The first convolution is not learned, so nothing is differentiated in front of the
    second. Its filters are the lowest frequencies of the cosine transform, each with
    its negative. They are close to the principal components of small patches, by which
    K. Jordan's airbench whitens images (2024, arXiv:2404.00498, section 3.1). Their
    scale does not matter, because batch norm follows. As in airbench, batch norm comes
    after the pooling, where a quarter of the values are left.

    Attributes:
      num_classes: number of logits.
      border: rows and columns of pixels that are left out on every side.
      filters: number of fixed filters, half as many as the first stage's channels.
      filter_size: their height and width.
      features: channels of each stage that is learned, of 3x3 kernels.
      dense: widths of the hidden dense layers.
      even_contrast: see the images through `contrast.even_contrast`.
      depths: convolutions of each stage, all but the first one padded; () for one each.
    """

    num_classes: int
    border: int
    filters: int
    filter_size: int
    features: Sequence[int]
    dense: Sequence[int]
    even_contrast: bool = False  # checkpoints from before this field and
    depths: Sequence[int] = ()  # that one need the defaults

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`."""
        check_input(images)
        images = even_contrast(images) if self.even_contrast else images
        b, h, w, _ = images.shape
        x = images[:, self.border : h - self.border, self.border : w - self.border]
        kernel = jnp.asarray(cosine_filters(self.filters, self.filter_size), x.dtype)
        x = ops.max_pool(ops.conv(x, kernel, None, "VALID"))
        x = nn.relu(BatchNorm(use_bias=False)(x, train, mask))
        stages = pair_stages(self.features, self.depths)
        for stage, (features, depth) in enumerate(stages):
            # A product with patches compiles in half the time of `ops.conv`. It is as
            # fast, because the first stage needs no gradient for x.
            x = _patches(x, 3)
            x = nn.Dense(features, use_bias=False, kernel_init=kernel_init)(x)
            for i in range(1, depth):
                x = nn.relu(BatchNorm()(x, train, mask))
                name, shape = f"kernel_{stage}_{i}", (3, 3, features, features)
                x = ops.conv(x, self.param(name, kernel_init, shape), None, "SAME")
            x = nn.relu(BatchNorm()(ops.max_pool(x), train, mask))
        x = x.reshape(b, -1)
        for features in self.dense:
            x = nn.Dense(features, use_bias=False, kernel_init=kernel_init)(x)
            x = nn.relu(BatchNorm()(x, train, mask))
        return nn.Dense(self.num_classes, dtype="float32")(x)


def _patches(x: jax.Array, size: int) -> jax.Array:
    """Returns what each place of a convolution sees.

    Its shape is [B, H - size + 1, W - size + 1, size² * C].
    """
    h, w = (n - size + 1 for n in x.shape[1:3])
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate([x[:, i : i + h, j : j + w] for i, j in offsets], axis=-1)
