"""A network of a few hundred parameters: one small block, applied again and again.

Inside, arrays are [C, H, W, B]. With so few channels only the batch, as the last axis,
keeps a processor's vectors full. Every layer is then a sum of shifted slices or a
product of small matrices, on every backend.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.models.inputs import check_input
from mnist_jax.ops import compute_once

_SLOPE = 0.2  # of the leaky relu below zero
_EPSILON = 1e-3


class TinyCNN(nn.Module):
    """A 3x3 convolution, then one separable block whose weights are used each time.

    Convolution, 2x2 max pooling, and the copies that make `features` channels of
    `stem`; then `steps` times the same block: a 3x3 filter for each channel, a product
    that mixes the channels, a leaky relu, added to what went in, and `layer_norm`; then
    the mean over the places, and a dense layer, or none. Nothing is padded. Separable
    convolutions are those of Chollet 2017, arXiv:1610.02357; weights that all layers
    share, of Liang and Hu, "Recurrent Convolutional Neural Network for Object
    Recognition" (CVPR 2015).

    Attributes:
      num_classes: number of logits.
      stem: channels of the first convolution.
      features: channels of the block.
      steps: how often the block is applied.
      dense: whether a dense layer gives the logits. If not, they are the first
        channels, times one number that is learned.
    """

    num_classes: int
    stem: int
    features: int
    steps: int
    dense: bool = True  # checkpoints from before this field need it

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`.

        Raises:
          ValueError: more steps than the image has room for, or no channel for a logit.
        """
        check_input(images)
        if not 0 <= self.steps <= 6:  # 13 pixels a side, and two fewer each time
            raise ValueError(f"steps must be from 0 to 6, not {self.steps}")
        if not self.dense and self.features < self.num_classes:
            raise ValueError(f"features must be {self.num_classes} or more: the logits")
        stem, features = self.stem, self.features
        zeros, normal = nn.initializers.zeros, nn.initializers.normal
        x = jnp.moveaxis(images[..., 0], 0, -1)  # [H, W, B]
        kernel = self.param("stem_kernel", normal(0.5), (stem, 9))
        bias = self.param("stem_bias", zeros, (stem,))
        phases = [jnp.tensordot(kernel, views, 1) for views in _windows(x)]
        x = functools.reduce(jnp.maximum, phases) + _of_channels(bias)
        x = layer_norm(_leaky_relu(x))
        x = jnp.concatenate([x] * -(-features // stem))[:features]

        kernel = self.param("kernel", normal(1 / 3), (features, 9))
        mix = self.param("mix", normal((2 / features) ** 0.5), (features, features))
        bias = self.param("bias", zeros, (features,))
        for _ in range(self.steps):
            y = jnp.tensordot(mix, filter_channels(x, kernel), 1) + _of_channels(bias)
            x = layer_norm(x[:, 1:-1, 1:-1] + _leaky_relu(y))

        x = jnp.mean(x, (1, 2), jnp.float32).T  # [B, features]
        if not self.dense:
            scale = self.param("scale", nn.initializers.constant(3.0), (1,))
            return scale * x[:, : self.num_classes]
        return nn.Dense(self.num_classes, kernel_init=normal(0.3))(x)


def shifted(x: jax.Array) -> list[jax.Array]:
    """Returns the nine views of x [C, H, W, B] that a 3x3 kernel has.

    Each is [C, H - 2, W - 2, B].
    """
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]


@jax.custom_vjp
def filter_channels(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Applies to each channel a 3x3 filter of its own, without padding.

    Args:
      x: [C, H, W, B].
      kernel: [C, 9], row by row.

    Returns:
      [C, H - 2, W - 2, B].
    """
    weights = kernel.T[:, :, None, None, None]  # [9, C, 1, 1, 1]
    return sum(
        (w * view for w, view in zip(weights, shifted(x), strict=True)),
        start=jnp.zeros((), x.dtype),
    )


def _filter_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    # Without this, x is computed anew for each of its nine views, and the result twice:
    # for the product that it goes into, and for the gradient of that product.
    x = compute_once(x)
    return compute_once(filter_channels(x, kernel)), (x, kernel)


def _filter_bwd(saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    g = compute_once(g)
    dkernel = [_sums_of_products(view, g) for view in shifted(x)]
    padded = jnp.pad(g, ((0, 0), (2, 2), (2, 2), (0, 0)))
    padded = compute_once(padded)
    dx = filter_channels(padded, kernel[:, ::-1])
    return dx, jnp.stack(dkernel, axis=1).astype(kernel.dtype)


filter_channels.defvjp(_filter_fwd, _filter_bwd)


def _sums_of_products(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sums x * y, for x and y [C, H, W, B], over all but the channels: float32 [C].

    Rows are added up first, then columns, and the batch last. In a sum over the last
    axis XLA's CPU backend adds one number at a time, so as little as possible is left
    for it.
    """
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    rows = functools.reduce(jnp.add, [x[:, i] * y[:, i] for i in range(x.shape[1])])
    rows = compute_once(rows)  # [C, W, B]
    columns = functools.reduce(jnp.add, [rows[:, j] for j in range(x.shape[2])])
    return jnp.sum(compute_once(columns), axis=1)


@jax.custom_vjp
def layer_norm(x: jax.Array) -> jax.Array:
    """Brings each image of x [C, H, W, B] to mean 0 and variance 1: no parameters.

    Layer normalisation (Ba, Kiros and Hinton 2016, arXiv:1607.06450) over channels and
    places, without its scales and shifts. Statistics are float32, whatever x is.
    """
    return _norm_fwd(x)[0]


def _norm_fwd(x: jax.Array) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    mean = _image_mean(wide)
    variance = _image_mean(jnp.square(wide)) - jnp.square(mean)
    scale = lax.rsqrt(variance + _EPSILON)
    normed = ((wide - mean) * scale).astype(x.dtype)
    return normed, (normed, scale)


def _norm_bwd(saved: Any, g: jax.Array) -> tuple[jax.Array]:
    normed, scale = saved
    wide, dtype = g.astype(jnp.float32), g.dtype
    inner = wide - _image_mean(wide) - normed * _image_mean(wide * normed)
    return ((inner * scale).astype(dtype),)


layer_norm.defvjp(_norm_fwd, _norm_bwd)


def _image_mean(x: jax.Array) -> jax.Array:
    """Returns the mean [B] of each image of x [C, H, W, B].

    A product with a vector is several times faster on XLA's CPU backend than a mean.
    """
    size = x.size // x.shape[-1]
    weights = jnp.full(size, 1 / size, x.dtype)
    return jnp.dot(weights, x.reshape(size, -1), precision=lax.Precision.HIGHEST)


def _windows(image: jax.Array) -> list[jax.Array]:
    """Returns what a 3x3 kernel sees of an image, for each place of a 2x2 pooling.

    Args:
      image: [H, W, B]; H and W are even.

    Returns:
      Four arrays [9, H / 2 - 1, W / 2 - 1, B]. The max over the four of their products
      with a kernel is the max pooling of a convolution.
    """
    height, width = image.shape[0] - 3, image.shape[1] - 3  # from first to last

    def view(down: int, across: int) -> jax.Array:
        return image[down : down + height : 2, across : across + width : 2]

    return [
        jnp.stack([view(p + i, q + j) for i in range(3) for j in range(3)])
        for p in range(2)
        for q in range(2)
    ]


def _leaky_relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, _SLOPE * x)


def _of_channels(values: jax.Array) -> jax.Array:
    return values[:, None, None, None]
