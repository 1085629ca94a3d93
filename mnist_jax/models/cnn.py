"""Models: linen modules, and `MODELS`, where a config looks them up by name.

This and `tiny_model.py` are the only files that know linen's module classes. A model
maps images float32 [B, 28, 28, 1] in [0, 1] to logits float32 [B, num_classes].
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import ops
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError, suggest
from mnist_jax.models.contrast import even_contrast, soften
from mnist_jax.models.tiny import TinyCNN

_MAX_PARAMETERS = 10**11  # 400 GB

_kernel_init = nn.initializers.he_normal()


class ConvStage(nn.Module):
    """Convolution, batch norm if wanted, relu, and 2x2 max pooling, through `ops`."""

    features: int
    kernel_size: int
    padding: str
    batch_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Maps [B, H, W, C] to [B, H' // 2, W' // 2, features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", _kernel_init, shape)
        if self.batch_norm:  # has a bias of its own
            x = ops.conv(x, kernel, None, self.padding)
            return ops.max_pool(nn.relu(_batch_norm(x, train, mask)))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return ops.conv_relu_pool(x, kernel, bias, self.padding)


def _batch_norm(x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    if mask is not None:
        mask = mask.reshape(-1, *[1] * (x.ndim - 1)).astype(bool)
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
    return norm(x, mask=mask if train else None)


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
      soften: then through `contrast.soften`, with this sigma in pixels; 0 for none.
    """

    num_classes: int
    features: Sequence[int]
    kernel_size: int
    padding: str
    dense: Sequence[int]
    dropout: float
    batch_norm: bool
    even_contrast: bool = False  # so in checkpoints from before it came
    soften: float = 0.0

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits [B, num_classes].

        Args:
          images: float32 [B, 28, 28, 1] in [0, 1].
          train: whether dropout drops and batch norm uses the batch's statistics.
          mask: [B], 1 where an example counts in the batch's statistics.
        """
        x = even_contrast(images) if self.even_contrast else images
        x = soften(x, self.soften) if self.soften else x
        if not self.batch_norm:  # whose statistics are of all pixels
            stages = len(self.features)
            x = ops.crop_unseen(x, self.kernel_size, self.padding, stages)
        for features in self.features:
            stage = ConvStage(features, self.kernel_size, self.padding, self.batch_norm)
            x = stage(x, train, mask)
        x = x.reshape(x.shape[0], -1)
        for features in self.dense:
            x = nn.Dense(features, kernel_init=_kernel_init)(x)
            x = nn.relu(_batch_norm(x, train, mask) if self.batch_norm else x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


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
      soften: then through `contrast.soften`, with this sigma in pixels; 0 for none.
    """

    num_classes: int
    features: Sequence[int]
    depths: Sequence[int]
    dense: Sequence[int]
    dropout: float
    even_contrast: bool = False  # so in checkpoints from before it came
    soften: float = 0.0

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`."""
        x = even_contrast(images) if self.even_contrast else images
        x = soften(x, self.soften) if self.soften else x
        for features, depth in zip(self.features, self.depths, strict=True):
            for _ in range(depth - 1):
                x = Conv3x3(features)(x)
            x = ConvStage(features, 3, "SAME", batch_norm=False)(x, train, mask)
        x = x.reshape(x.shape[0], -1)
        for features in self.dense:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = nn.relu(nn.Dense(features, kernel_init=_kernel_init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


class Conv3x3(nn.Module):
    """Convolution with "SAME" padding and relu, through `ops`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, features]."""
        kernel = self.param("kernel", _kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return nn.relu(ops.conv(x, kernel, bias, "SAME"))


class Sprint(nn.Module):
    """A CNN that learns much from few images, and costs little: see configs/fast.py.

    The first convolution is not learned: its filters are the lowest frequencies of the
    cosine transform, each with its negative. They are near the principal components of
    small patches, by which K. Jordan's airbench whitens images (2024, arXiv:2404.00498,
    section 3.1); as batch norm follows, their scale does not matter. So nothing is
    differentiated in front of the second convolution. Batch norm comes after the
    pooling, as in airbench too: a quarter of the values are left to be normalised.

    Attributes:
      num_classes: number of logits.
      border: rows and columns of pixels that are left out on every side.
      filters: number of fixed filters, half as many as the first stage's channels.
      filter_size: their height and width.
      features: channels of each stage that is learned, of 3x3 kernels.
      dense: widths of the hidden dense layers.
    """

    num_classes: int
    border: int
    filters: int
    filter_size: int
    features: Sequence[int]
    dense: Sequence[int]

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`."""
        b, h, w, _ = images.shape
        x = images[:, self.border : h - self.border, self.border : w - self.border]
        kernel = jnp.asarray(_cosine_filters(self.filters, self.filter_size))
        x = ops.max_pool(ops.conv(x, kernel, None, "VALID"))
        x = nn.relu(BatchNorm(use_bias=False)(x, train, mask))
        for features in self.features:
            # A product with patches: it compiles in half the time of `ops.conv`, and
            # without a gradient for x it is as fast.
            x = _patches(x, 3)
            x = nn.Dense(features, use_bias=False, kernel_init=_kernel_init)(x)
            x = nn.relu(BatchNorm()(ops.max_pool(x), train, mask))
        x = x.reshape(b, -1)
        for features in self.dense:
            x = nn.Dense(features, use_bias=False, kernel_init=_kernel_init)(x)
            x = nn.relu(BatchNorm()(x, train, mask))
        return nn.Dense(self.num_classes)(x)


def _patches(x: jax.Array, size: int) -> jax.Array:
    """What each place of a convolution sees: [B, H - size + 1, W - size + 1, n * C],
    with n = size² offsets.
    """
    h, w = (n - size + 1 for n in x.shape[1:3])
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate([x[:, i : i + h, j : j + w] for i, j in offsets], axis=-1)


def _cosine_filters(count: int, size: int) -> np.ndarray:
    """The lowest frequencies of the two-dimensional cosine transform, and the negative
    of each: float32 [size, size, 1, 2 * count], of norm 1.
    """
    if not 0 < count <= size**2:
        raise ValueError(f"filters must be from 1 to filter_size**2 = {size**2}")
    waves = np.cos(np.pi * np.outer(np.arange(size), np.arange(size) + 0.5) / size)
    pairs = [(u, v) for u in range(size) for v in range(size)]
    pairs.sort(key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    filters = np.stack([np.outer(waves[u], waves[v]) for u, v in pairs[:count]], -1)
    filters /= np.linalg.norm(filters, axis=(0, 1))
    return np.concatenate([filters, -filters], -1)[:, :, None].astype(np.float32)


class BatchNorm(nn.Module):
    """Batch norm without a scale (Ioffe and Szegedy 2015, arXiv:1502.03167).

    The statistics are of what it is given: of the shard, where a batch is cut. One that
    is nothing but padding leaves the running ones as they are.
    """

    use_bias: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Normalises [B, ..., C] in each channel."""
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        bias: Any = 0
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape)
        if not train:
            return (x - mean.value) * jax.lax.rsqrt(var.value + self.epsilon) + bias
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
        return centred * jax.lax.rsqrt(own_var + self.epsilon) + bias


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
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits [B, num_classes]; arguments as in `CNN`."""
        x = images.reshape(images.shape[0], -1)
        for features in self.dense:
            x = nn.relu(nn.Dense(features, kernel_init=_kernel_init)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


class MovedViews(NamedTuple):
    """A network that looks at an image in several places: test-time augmentation
    (Krizhevsky et al. 2012, section 4.1; of log-probabilities, as in `Ensemble`).

    It sees the image itself and moved up, down, left and right by whole pixels.

    Attributes:
      net: the network.
      pixels: how far, 1 or more.
    """

    net: nn.Module
    pixels: int

    def apply(self, variables: Any, images: jax.Array, train: bool = False) -> Any:
        """Returns log-probabilities [B, num_classes], not normalised anew."""
        n, (height, width) = self.pixels, images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (n, n), (n, n), (0, 0)))
        corners = jnp.array([(n, n), (0, n), (2 * n, n), (n, 0), (n, 2 * n)])

        def log_probabilities(corner: jax.Array) -> jax.Array:
            start = (0, corner[0], corner[1], 0)
            size = (images.shape[0], height, width, images.shape[3])
            view = jax.lax.dynamic_slice(padded, start, size)
            logits: Any = self.net.apply(variables, view, train=train)
            return jax.nn.log_softmax(logits)

        return jnp.mean(jax.lax.map(log_probabilities, corners), axis=0)


class Ensemble(NamedTuple):
    """Models of one kind as one: the mean of their log-probabilities.

    Attributes:
      member: what each is. Variables have a leading axis of members.
    """

    member: nn.Module | MovedViews

    def apply(self, variables: Any, images: jax.Array, train: bool = False) -> Any:
        """Returns log-probabilities [B, num_classes], not normalised anew."""

        def log_probabilities(own: Any) -> jax.Array:
            logits: Any = self.member.apply(own, images, train=train)
            return jax.nn.log_softmax(logits)

        # One after the other: `vmap` would make slow, grouped convolutions.
        return jnp.mean(jax.lax.map(log_probabilities, variables), axis=0)


Model = nn.Module | MovedViews | Ensemble


def for_prediction(net: nn.Module, config: ConfigDict) -> nn.Module | MovedViews:
    """What a trained network predicts with: `config.test_time_shift`, where it is."""
    pixels = config.get("test_time_shift", 0)  # which older checkpoints lack
    return MovedViews(net, pixels) if pixels else net


MODELS: dict[str, type[nn.Module]] = {
    "cnn": CNN,
    "vgg": VGG,
    "sprint": Sprint,
    "mlp": MLP,
    "tiny": TinyCNN,
}


def create_model(model_config: ConfigDict, num_classes: int) -> nn.Module:
    """Builds `config.model`.

    Raises:
      ConfigError: unknown name, or keyword arguments that the model does not take,
        or that make no model (a kernel larger than the image, say).
    """
    name, kwargs = model_config.name, model_config.kwargs.to_dict()
    if name not in MODELS:
        raise ConfigError(f"config.model.name = {name!r}: {suggest(name, MODELS)}")
    fields = MODELS[name].__dataclass_fields__
    wanted = set(fields) - {"parent", "name", "num_classes"}
    optional = {k for k in wanted if fields[k].default is not dataclasses.MISSING}
    for key in sorted((kwargs.keys() - wanted) | (wanted - optional - kwargs.keys())):
        problem = "missing" if key in wanted else "unknown"
        raise ConfigError(
            f"config.model.kwargs.{key} is {problem} for {name!r}; "
            f"it takes: {', '.join(sorted(wanted))} (set in a config file, as in "
            "configs/mlp.py)"
        )
    if not 0 <= kwargs.get("dropout", 0.0) < 1:
        raise ConfigError("config.model.kwargs.dropout must be from 0 to below 1")
    model: Any = MODELS[name](num_classes=num_classes, **kwargs)
    try:
        variables = jax.eval_shape(functools.partial(_try_out, model))
        leaves = jax.tree_util.tree_leaves_with_path(variables)
        if empty := [path for path, leaf in leaves if not leaf.size]:
            raise ValueError(f"{jax.tree_util.keystr(empty[0])} would be empty")
        if (count := sum(leaf.size for _, leaf in leaves)) > _MAX_PARAMETERS:
            raise ValueError(f"{count:.0e} parameters are more than a memory holds")
    except Exception as error:  # whatever a wrong argument makes linen or lax raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"config.model.kwargs make no working {name!r}: {reason[:200]}"
        ) from error
    return model


def _try_out(model: nn.Module) -> Any:
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return model.init(rngs, jnp.zeros((1, 28, 28, 1)), train=True)
