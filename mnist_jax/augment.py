"""Random changes to training images, as pure functions inside the jitted step.

There are two kinds, both `(rng, value, strength) -> value`. A warp moves the points
that the pixels are read at; a filter changes the pixels. All warps in use are joined
before the images are read, once, by bilinear interpolation: four warps blur no more
than one, and cost hardly more. Outside an image there is background, 0.

To add one, write such a function and a line in `WARPS` or `FILTERS`. An image's own
random numbers depend on `rng` and its place in the batch, not on the batch's size.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates

from mnist_jax.errors import ConfigError, suggest

Points = tuple[jax.Array, jax.Array]  # y, x: [B, H, W] each, pixels from the centre

# Simard's sigma, and the nodes a side that are enough for so smooth a field.
_ELASTIC_SIGMA = 4.0  # pixels
_ELASTIC_NODES = 7


def augment(
    rng: jax.Array, images: jax.Array, strengths: Mapping[str, float]
) -> jax.Array:
    """Changes each image at random.

    Args:
      rng: key. Each augmentation has a key of its own, so that turning one off leaves
        the random numbers of the others as they are.
      images: float32 [B, H, W, 1] in [0, 1].
      strengths: `config.augment`: how far each of `AUGMENTATIONS` may go, in the unit
        that its docstring gives. Static: what is 0 or absent costs nothing.

    Returns:
      float32 [B, H, W, 1] in [0, 1].

    Raises:
      ConfigError: a name that is not in `AUGMENTATIONS`.
    """
    for name in strengths:
        if name not in AUGMENTATIONS:
            raise ConfigError(
                f"config.augment.{name}: no such augmentation; "
                f"{suggest(name, AUGMENTATIONS)}"
            )
    rngs = {name: jax.random.fold_in(rng, i) for i, name in enumerate(AUGMENTATIONS)}
    used = {name: strengths.get(name, 0.0) for name in AUGMENTATIONS}
    used = {name: strength for name, strength in used.items() if strength}

    def warp(images: jax.Array) -> jax.Array:
        points = pixel_grid(images.shape)
        for name in used:
            if name in WARPS:
                points = WARPS[name](rngs[name], points, used[name])
        return resample(images, points)

    if used.keys() & WARPS.keys():
        images = _stored(warp, images)
    for name in used:
        if name in FILTERS:
            # Bound as defaults: a closure would see the loop's last values.
            def apply(images: jax.Array, name: str = name) -> jax.Array:
                return FILTERS[name](rngs[name], images, used[name])

            images = _stored(apply, images)
    return images


def pixel_grid(shape: tuple[int, ...]) -> Points:
    """Returns the places of the pixels of images of this shape, [B, H, W, ...]."""
    y = lax.broadcasted_iota(jnp.float32, shape[:3], 1) - (shape[1] - 1) / 2
    x = lax.broadcasted_iota(jnp.float32, shape[:3], 2) - (shape[2] - 1) / 2
    return y, x


def resample(images: jax.Array, points: Points) -> jax.Array:
    """Reads images [B, H, W, 1] at `points`, bilinearly, with 0 outside."""
    height, width = images.shape[1:3]
    y, x = points[0] + (height - 1) / 2, points[1] + (width - 1) / 2

    def read(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
        return map_coordinates(image, [y, x], order=1, mode="constant", cval=0.0)

    return jax.vmap(read)(images[..., 0], y, x)[..., None]


def shift(rng: jax.Array, points: Points, strength: float) -> Points:
    """Moves down and across by up to `strength` pixels each."""
    y, x = points
    down, across = strength * _draw(rng, y.shape[0], 2)
    return y - down, x - across


def rotation(rng: jax.Array, points: Points, strength: float) -> Points:
    """Turns about the centre by up to `strength` degrees."""
    y, x = points
    (angle,) = jnp.deg2rad(strength) * _draw(rng, y.shape[0], 1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * y - sin * x, sin * y + cos * x


def shear(rng: jax.Array, points: Points, strength: float) -> Points:
    """Slants by up to `strength` pixels across per pixel down."""
    y, x = points
    (slope,) = strength * _draw(rng, y.shape[0], 1)
    return y, x - slope * y


def scale(rng: jax.Array, points: Points, strength: float) -> Points:
    """Stretches height and width, each by 1 / (1 + strength) to 1 + strength."""
    y, x = points
    tall, wide = jnp.exp(jnp.log1p(strength) * _draw(rng, y.shape[0], 2))
    return y / tall, x / wide


def elastic(rng: jax.Array, points: Points, strength: float) -> Points:
    """Moves each pixel by a smooth random field; `strength` pixels is its rms an axis.

    The field is that of Simard, Steinkraus and Platt, "Best Practices for
    Convolutional Neural Networks Applied to Visual Document Analysis" (ICDAR 2003):
    noise, blurred by a Gaussian. It is so smooth that noise on a coarse grid does as
    well as noise on every pixel, and the blur is then one small matrix product.
    """
    y, x = points
    batch, height, width = y.shape
    basis = np.kron(_bumps(height), _bumps(width)).astype(np.float32)  # [H W, nodes]
    noise = jnp.sqrt(3.0) * _draw(rng, batch, 2 * basis.shape[1])  # of variance 1
    noise = noise[:, :, 0, 0].T.reshape(2 * batch, -1)  # [2 B, nodes]
    field = strength * (noise @ basis.T).reshape(batch, 2, height, width)
    return y + field[:, 0], x + field[:, 1]


def _bumps(size: int) -> np.ndarray:
    """Gaussians at the nodes, [size, nodes]; each row has a sum of squares of 1."""
    places = np.arange(size)[:, None]
    nodes = np.linspace(-_ELASTIC_SIGMA, size - 1 + _ELASTIC_SIGMA, _ELASTIC_NODES)
    bumps = np.exp(-((places - nodes) ** 2) / (2 * _ELASTIC_SIGMA**2))
    return bumps / np.linalg.norm(bumps, axis=1, keepdims=True)


def thickness(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Moves the edges of strokes out or in by up to `strength` pixels, 0 to 1.

    A blend of the image with its grey dilation or erosion over the four neighbours,
    which is what a stroke that much wider would look like, antialiased. (Edges at 45
    degrees move 0.7 times as far.)
    """
    (amount,) = strength * _draw(rng, images.shape[0], 1)[..., None]  # [B, 1, 1, 1]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    up, down = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    widest, thinnest = images, images
    for neighbour in (up, down, left, right):
        widest = jnp.maximum(widest, neighbour)
        thinnest = jnp.minimum(thinnest, neighbour)
    target = jnp.where(amount > 0, widest, thinnest)
    return images + jnp.abs(amount) * (target - images)


def _draw(rng: jax.Array, batch: int, count: int) -> jax.Array:
    """Returns `count` numbers in [-1, 1) for each image, [count, B, 1, 1]."""
    # JAX's (partitionable) threefry makes row i from rng and i alone.
    numbers = jax.random.uniform(rng, (batch, count), minval=-1.0, maxval=1.0)
    return numbers.T[:, :, None, None]


def _stored(stage: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Returns `stage(images)`, written to memory once, whatever reads it.

    XLA's CPU backend would otherwise fuse the stage into each of its readers: a filter
    that looks at neighbours, or the gradient of a convolution, would repeat a whole
    warp for each neighbour, at ten times its cost. An optimization barrier stops that,
    but XLA of jax 0.10 drops it too early; there a conditional does, though not under
    `vmap`. Only on the CPU, as a conditional makes a GPU wait for the host.
    """

    def cpu(images: jax.Array) -> jax.Array:
        always = jnp.isfinite(images[0, 0, 0, 0])  # which XLA can't know
        return lax.cond(always, stage, lambda images: images, images)

    images = lax.platform_dependent(images, cpu=cpu, default=stage)
    return lax.optimization_barrier(images)


# Applied in this order. Points are taken back from the output to the input, so the
# first warp here is the last that the digit goes through.
WARPS: dict[str, Callable[[jax.Array, Points, float], Points]] = {
    "shift": shift,
    "rotation": rotation,
    "shear": shear,
    "scale": scale,
    "elastic": elastic,
}
FILTERS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "thickness": thickness,
}
AUGMENTATIONS: dict[str, Callable[..., Any]] = {**WARPS, **FILTERS}
