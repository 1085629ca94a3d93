"""Models that predict with several views of an image, or with several networks."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


class MovedViews(NamedTuple):
    """A network that looks at several views of an image: test-time augmentation.

    It sees the image as it is, and moved up, down, left and right by whole pixels. The
    answer is the mean of the views' log-probabilities, as in `Ensemble` (Krizhevsky et
    al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section
    4.1, takes that of probabilities).

    Attributes:
      net: the network.
      pixels: how far the image is moved, 1 or more.
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
    """Models of one kind as one model: the mean of their log-probabilities.

    Attributes:
      member: what each of them is. Variables have a leading axis of members.
      has_logits: whether members return logits of classes.
    """

    member: nn.Module | MovedViews
    has_logits: bool = True

    def apply(self, variables: Any, images: jax.Array, train: bool = False) -> Any:
        """Returns log-probabilities [B, num_classes], not normalised anew; or the mean
        of other outputs.
        """

        def outputs(own: Any) -> Any:
            found: Any = self.member.apply(own, images, train=train)
            return jax.nn.log_softmax(found) if self.has_logits else found

        # One after the other, because `vmap` would make slow, grouped convolutions.
        each = jax.lax.map(outputs, variables)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)


def for_prediction(net: nn.Module, config: ConfigDict) -> nn.Module | MovedViews:
    """Returns the model that predicts with a trained network.

    Args:
      net: the network.
      config: of its run; only `test_time_shift` is read, which older runs lack.
    """
    pixels = config.get("test_time_shift", 0)
    return MovedViews(net, pixels) if pixels else net
