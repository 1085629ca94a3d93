"""Random changes to training images, as pure functions inside the jitted step.

There are two kinds, both `(rng, value, strength) -> value`. A warp moves the points
at which pixels are read; a filter changes the pixels. All warps in use are composed
first, and the images are then read only once, by bilinear interpolation: so four warps
blur no more than one, and cost hardly more. Outside of an image pixels are 0.

To add one, write such a function and a line in `WARPS` or `FILTERS`, and set its
strength in a config; or name a filter of your own with
`config.augment_with = (("my_package.augment:invert", 0.5),)`. The random numbers of an
image depend on `rng` and its place in the batch, not on the batch's size.
"""

import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates

from mnist_jax import ops
from mnist_jax.errors import ConfigError, lookup, suggest

Points = tuple[jax.Array, jax.Array]  # y, x: [B, H, W] each, pixels from the centre
Warp = Callable[[jax.Array, Points, float], Points]
Filter = Callable[[jax.Array, jax.Array, float], jax.Array]

# Smooth random fields are noise on a grid of NODES x NODES, blurred by a Gaussian of
# SIGMA pixels. Elastic has Simard's sigma; that of gaps makes them as wide as a pen.
_ELASTIC_SIGMA, _ELASTIC_NODES = 4.0, 7
_GAP_SIGMA, _GAP_NODES = 1.3, 14


def augment(
    rng: jax.Array,
    images: jax.Array,
    strengths: Mapping[str, float],
    own_filters: Sequence[tuple[str, float]] = (),
) -> jax.Array:
    """Changes each image at random.

    Args:
      rng: key. Each augmentation derives its own key from it, so that turning one off
        does not change the random numbers of the others.
      images: float32 [B, H, W, 1] in [0, 1].
      strengths: `config.augment`: how far each augmentation may go, in the unit that
        its docstring gives. Static: augmentations of strength 0 cost nothing.
      own_filters: `config.augment_with`: pairs of "my_package.module:name" and
        strength. These filters are applied after all others.

    Returns:
      float32 [B, H, W, 1] in [0, 1].

    Raises:
      ConfigError: see `check_augmentations`.
    """
    check_augmentations(strengths, own_filters)
    used = {name: strength for name, strength in strengths.items() if strength}

    def warp(images: jax.Array) -> jax.Array:
        points = pixel_grid(images.shape)
        for name in WARPS:
            if name in used:
                points = WARPS[name](_key_of(rng, name), points, used[name])
        return resample(images, points)

    if used.keys() & WARPS.keys():
        images = _stored(warp, images)
    filters = [(name, used[name]) for name in FILTERS if name in used]
    filters += [(name, strength) for name, strength in own_filters if strength]
    for name, strength in filters:
        change = lookup(name, FILTERS, "config.augment_with")
        images = _stored(_bind(change, _key_of(rng, name), strength), images)
    return images


def _bind(change: Filter, rng: jax.Array, strength: float) -> Callable[..., jax.Array]:
    return lambda images: change(rng, images, strength)


def check_augmentations(
    strengths: Mapping[str, float], own_filters: Sequence[tuple[str, float]] = ()
) -> None:
    """Checks the names of augmentations, before anything slow starts.

    Raises:
      ConfigError: a name is not an augmentation; the error shows the nearest valid one.
    """
    for name in strengths:
        if name not in AUGMENTATIONS:
            raise ConfigError(
                f"config.augment.{name}: no such augmentation; "
                f"{suggest(name, AUGMENTATIONS)}"
            )
    own_names = [name for name, _ in own_filters]
    for name, strength in own_filters:
        if name in AUGMENTATIONS:  # it would have the random numbers of that one
            raise ConfigError(f"config.augment_with: set config.augment.{name} instead")
        lookup(name, FILTERS, "config.augment_with")
        if not 0 <= strength < math.inf:
            raise ConfigError(
                f"config.augment_with: the strength of {name!r} must be a number of 0 "
                f"or more, got {strength!r}"
            )
        if own_names.count(name) > 1:  # both would have the same random numbers
            raise ConfigError(f"config.augment_with names {name!r} twice")


def _key_of(rng: jax.Array, name: str) -> jax.Array:
    """Returns the key of an augmentation, which does not depend on the others."""
    if name in _FIRST:
        return jax.random.fold_in(rng, _FIRST.index(name))
    return jax.random.fold_in(rng, zlib.crc32(name.encode()))


def pixel_grid(shape: tuple[int, ...]) -> Points:
    """Returns where the pixels of images of shape [B, H, W, ...] lie."""
    y = lax.broadcasted_iota(jnp.float32, shape[:3], 1) - (shape[1] - 1) / 2
    x = lax.broadcasted_iota(jnp.float32, shape[:3], 2) - (shape[2] - 1) / 2
    return y, x


def resample(images: jax.Array, points: Points) -> jax.Array:
    """Reads images [B, H, W, 1] at `points`, bilinearly; 0 outside of an image."""
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
    """Moves each pixel by a smooth random field, of rms `strength` pixels per axis.

    The field is that of Simard, Steinkraus and Platt, "Best Practices for
    Convolutional Neural Networks Applied to Visual Document Analysis" (ICDAR 2003):
    noise, blurred by a Gaussian. It is so smooth that noise on a coarse grid does as
    well as noise on every pixel, and the blur is then one small matrix product.
    """
    y, x = points
    batch, height, width = y.shape
    sides = (_bumps(n, _ELASTIC_SIGMA, _ELASTIC_NODES) for n in (height, width))
    basis = np.kron(*sides)  # [H W, nodes]
    noise = jnp.sqrt(3.0) * _draw(rng, batch, 2 * basis.shape[1])  # of variance 1
    noise = noise[:, :, 0, 0].T.reshape(2 * batch, -1)  # [2 B, nodes]
    field = strength * (noise @ basis.T).reshape(batch, 2, height, width)
    return y + field[:, 0], x + field[:, 1]


def perspective(rng: jax.Array, points: Points, strength: float) -> Points:
    """Tilts the paper: an edge becomes shorter or longer by up to a share `strength`.

    The share is approximate, for small strengths. Beyond 0.4 a corner could turn over.
    """
    y, x = points
    down, across = strength * _draw(rng, y.shape[0], 2)
    reach = (y.shape[1] - 1) / 2  # pixels from the centre to an edge
    depth = 1 + (down * y + across * x) / reach
    return y / depth, x / depth


def _bumps(size: int, sigma: float, nodes: int) -> np.ndarray:
    """Returns Gaussians centred on `nodes` places, as float32 [size, nodes].

    Each row's sum of squares is 1, so that noise at the nodes keeps its variance.
    """
    places = np.arange(size)[:, None]
    centres = np.linspace(-sigma, size - 1 + sigma, nodes)
    bumps = np.exp(-((places - centres) ** 2) / (2 * sigma**2))
    return (bumps / np.linalg.norm(bumps, axis=1, keepdims=True)).astype(np.float32)


def thickness(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Moves the edges of strokes out or in by up to `strength` pixels.

    The image is blended with its grey dilation or erosion over the four neighbours. The
    result looks like an antialiased stroke that is that much wider or thinner. Beyond
    one pixel this is repeated. (Edges at 45 degrees move 0.7 times as far.) The middle
    of a stroke stays, however thin the stroke: these are the pixels that an opening
    would remove, as in C. Lantuejoul's skeleton (J. Serra, "Image Analysis and
    Mathematical Morphology", 1982).
    """
    (amount,) = strength * _draw(rng, images.shape[0], 1)[..., None]  # [B, 1, 1, 1]

    def move(images: jax.Array, done: int) -> jax.Array:
        eroded = _over_neighbours(jnp.minimum, images)
        opened = _over_neighbours(jnp.maximum, eroded)
        thinner = jnp.where(images - opened > eroded, images, eroded)
        wider = _over_neighbours(jnp.maximum, images)
        share = jnp.clip(jnp.abs(amount) - done, 0.0, 1.0)
        return images + share * (jnp.where(amount > 0, wider, thinner) - images)

    last = math.ceil(strength) - 1
    for done in range(last):
        images = _stored(functools.partial(move, done=done), images)
    return move(images, last)


def _over_neighbours(
    choose: Callable[[jax.Array, jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
    """Applies `choose` to each pixel and those above, below, left and right of it."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    upright = choose(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1])
    level = choose(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    return choose(images, choose(upright, level))


def gaps(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Removes up to a share `strength` of the ink, in places as wide as a stroke.

    This looks like a pen that runs dry, or a threshold that was too high.
    """
    batch, height, width, _ = images.shape
    drawn = _draw(rng, batch, 1 + _GAP_NODES**2)
    depth = strength * jnp.maximum(drawn[0], 0.0)[..., None]  # 0 for half of the images
    nodes = jnp.sqrt(3.0) * drawn[1:, :, 0, 0].T.reshape(batch, _GAP_NODES, _GAP_NODES)
    down, across = (_bumps(n, _GAP_SIGMA, _GAP_NODES) for n in (height, width))
    field = (down @ nodes @ across.T)[..., None]  # of variance 1
    return images * (1 - depth * jnp.clip(2 * (field - 1), 0.0, 1.0))


def marks(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Adds lines, like remains of ruled paper or a frame, and specks, like dust.

    Half of the images get a line, down or across, and half get a speck. Their
    brightness is up to `strength`, where full ink is 1.
    """
    y, x = pixel_grid(images.shape)
    way, slope, place, line, down, across, speck = _draw(rng, images.shape[0], 7)
    reach = images.shape[1] / 2
    slope = slope / 8
    off = jnp.where(way > 0, y - slope * x, x - slope * y) - reach * place
    away = jnp.hypot(y - reach * down, x - reach * across)
    mark = jnp.maximum(
        jnp.maximum(line, 0.0) * jnp.clip(1.2 - jnp.abs(off), 0.0, 1.0),
        jnp.maximum(speck, 0.0) * jnp.clip(1.8 - away, 0.0, 1.0),
    )
    return jnp.maximum(images, strength * mark[..., None])


def blur(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Blurs by a Gaussian whose sigma is up to `strength` pixels.

    The brightest pixel keeps its brightness, because readers stretch the contrast.
    """
    (sigma,) = strength * jnp.abs(_draw(rng, images.shape[0], 1)[..., 0])  # [B, 1]
    reach = math.ceil(3 * strength)  # pixels
    places = jnp.arange(-reach, reach + 1)
    weights = jnp.exp(-((places / jnp.maximum(sigma, 0.05)) ** 2) / 2)  # [B, K]
    weights /= weights.sum(-1, keepdims=True)

    def along(images: jax.Array, axis: int) -> jax.Array:
        """Blurs one axis. A convolution with one kernel per image costs far more."""
        size = images.shape[axis]
        margin = [(reach, reach) if axis == other else (0, 0) for other in range(4)]
        padded = jnp.pad(images, margin)
        result = jnp.zeros_like(images)
        for k in range(2 * reach + 1):
            moved = lax.slice_in_dim(padded, k, k + size, axis=axis)
            result += weights[:, k, None, None, None] * moved
        return result

    blurred = _stored(functools.partial(along, axis=1), images)
    blurred = along(blurred, axis=2)
    before, after = (i.max((1, 2, 3), keepdims=True) for i in (images, blurred))
    return jnp.minimum(blurred * (before / jnp.maximum(after, 1e-6)), 1.0)


def noise(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Adds uniform noise of up to plus or minus `strength`, where full ink is 1."""
    batch, height, width, _ = images.shape
    amount_rng, grain_rng = jax.random.split(rng)
    (amount,) = strength * _draw(amount_rng, batch, 1)[..., None]
    # Eight bits are enough for noise, and one random word of 32 bits has four of them.
    words = jax.random.bits(grain_rng, (batch, -(-height * width // 4)))
    grain = lax.bitcast_convert_type(words, jnp.uint8).reshape(batch, -1)
    grain = grain[:, : height * width].reshape(images.shape).astype(jnp.float32)
    return jnp.clip(images + amount * (grain / 127.5 - 1), 0.0, 1.0)


def levels(rng: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    """Makes edges harder, as a threshold does.

    Pixels below a low level become 0, and those above a high level 1. The low level is
    up to `strength / 2`, the high one down to `1 - strength / 2`: at a strength of 1
    they can meet, which leaves only 0 and 1.
    """
    low, high = strength / 2 * jnp.abs(_draw(rng, images.shape[0], 2)[..., None])
    return jnp.clip((images - low) / jnp.maximum(1 - low - high, 1e-3), 0.0, 1.0)


def _draw(rng: jax.Array, batch: int, count: int) -> jax.Array:
    """Returns `count` numbers in [-1, 1) for each image, [count, B, 1, 1]."""
    # JAX's partitionable threefry makes row i from rng and i alone.
    numbers = jax.random.uniform(rng, (batch, count), minval=-1.0, maxval=1.0)
    return numbers.T[:, :, None, None]


def _stored(stage: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Returns `stage(images)`, and makes XLA compute it only once.

    XLA's CPU backend would otherwise fuse the stage into everything that reads it: a
    filter that looks at neighbours, or the gradient of a convolution, would repeat a
    whole warp for each neighbour, at ten times the cost. An optimization barrier stops
    that, but XLA of jax 0.10 drops the barrier too early. There a conditional helps,
    though not under `vmap`. It is used on the CPU only, because a conditional makes a
    GPU wait for the host.
    """

    def cpu(images: jax.Array) -> jax.Array:
        always = jnp.isfinite(images[0, 0, 0, 0])  # True, but XLA cannot know it
        return ops.compute_in_branch(
            stage, images, always=always, otherwise=lambda images: images
        )

    return ops.compute_once(lax.platform_dependent(images, cpu=cpu, default=stage))


# Warps are applied in this order. They map points of the output back to the input, so
# the digit itself goes through the last warp first.
WARPS: dict[str, Warp] = {
    "shift": shift,
    "rotation": rotation,
    "shear": shear,
    "scale": scale,
    "elastic": elastic,
    "perspective": perspective,
}
# Filters are applied in this order: the pen, the paper, the camera, the preparation.
FILTERS: dict[str, Filter] = {
    "thickness": thickness,
    "gaps": gaps,
    "marks": marks,
    "blur": blur,
    "noise": noise,
    "levels": levels,
}
# The place in this list decides each augmentation's key. The list must not change, so
# that older configs give the same images; a new augmentation need not be added here.
_FIRST = (
    *("shift", "rotation", "shear", "scale", "elastic", "thickness"),
    *("perspective", "gaps", "marks", "blur", "noise", "levels"),
)
AUGMENTATIONS: dict[str, Warp | Filter] = {
    **{name: WARPS.get(name) or FILTERS[name] for name in _FIRST},
    **WARPS,
    **FILTERS,
}
