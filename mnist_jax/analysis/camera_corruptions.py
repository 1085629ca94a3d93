"""Corruptions by the camera and the light; see `corruptions`."""

import numpy as np
from scipy import ndimage

_SIDE = 28  # pixels


def shot_noise(images: np.ndarray, draws: np.ndarray, photons: float) -> np.ndarray:
    """Adds Poisson noise; a white pixel counts `photons` photons on average."""
    expected = photons * images
    draws = draws.reshape(images.shape).astype(np.float32)
    # The inverse of the distribution function: a pixel counts k photons if its random
    # number lies between the probabilities of at most k - 1 and of at most k.
    term = np.exp(-expected)
    total, count = term.copy(), np.zeros_like(images)
    for k in range(1, 100):
        above = draws > total
        if not above.any():
            break
        count += above
        term *= expected / k
        total += term
    return count / np.float32(photons)


def impulse_noise(images: np.ndarray, draws: np.ndarray, share: float) -> np.ndarray:
    """Adds salt and pepper: a `share` of the pixels becomes black or white."""
    draws = draws.reshape(images.shape)
    return np.where(draws < share / 2, 0, np.where(draws > 1 - share / 2, 1, images))


def glass_blur(
    images: np.ndarray, draws: np.ndarray, sigma: float, passes: float
) -> np.ndarray:
    """Blurs as frosted glass does: neighbours change places between two slight blurs.

    In each of the `passes`, about half of the pixels change places with the one above,
    the one to the left, or the one above and to the left.

    Args:
      images: float32 [N, 28, 28].
      draws: float64 [N, 3 * 28 * 28].
      sigma: of the Gaussian blur, in pixels.
      passes: number of passes over the pixels, at most 3.
    """
    images = gaussian_blur(images, sigma)
    moves = (8 * draws).astype(np.uint8).reshape(len(images), -1, _SIDE, _SIDE)
    every = np.arange(len(images))
    for i in range(int(passes)):
        for y in range(_SIDE - 1, 0, -1):
            for x in range(_SIDE - 1, 0, -1):
                move = moves[:, i, y, x]
                swap = move >= 4
                to_y, to_x = y - (swap & (move & 1)), x - (swap & (move >> 1 & 1))
                here = images[:, y, x].copy()
                images[:, y, x] = images[every, to_y, to_x]
                images[every, to_y, to_x] = here
    return gaussian_blur(images, sigma)


def motion_blur(images: np.ndarray, draws: np.ndarray, sigma: float) -> np.ndarray:
    """Leaves a trail at up to 45 degrees: half a Gaussian of `sigma` pixels.

    The trail is on one side only, as in ImageMagick, which MNIST-C was made with.
    """
    angle = np.pi / 4 * (2 * draws - 1)  # [N, 1]
    reach = int(np.ceil(3 * sigma))
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach)])
    rows = np.arange(_SIDE)[None, :, None]
    columns = np.arange(_SIDE)[None, None, :]
    every = np.arange(len(images))[:, None, None]
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    result = np.zeros_like(images)
    for distance, weight in enumerate(weights):
        down = np.rint(distance * np.sin(angle)).astype(int)[..., None] + reach
        across = np.rint(distance * np.cos(angle)).astype(int)[..., None] + reach
        result += weight * padded[every, rows + down, columns + across]
    return result


def brightness(images: np.ndarray, draws: np.ndarray, lift: float) -> np.ndarray:
    """Adds `lift` to every pixel, up to white."""
    return np.minimum(images + np.float32(lift), 1)


def fog(
    images: np.ndarray, draws: np.ndarray, thickness: float, smoothness: float
) -> np.ndarray:
    """Adds fog of uneven density, which lowers the contrast.

    Its density is a fractal field: a level plus noise in octaves. Their nodes are 64,
    32, ... 2 pixels apart, and each octave is `smoothness`^2 times weaker than the one
    before. (MNIST-C crops a field of 256 pixels, made by midpoint displacement: A.
    Fournier, D. Fussell and L. Carpenter, "Computer rendering of stochastic models",
    1982.)

    Args:
      images: float32 [N, 28, 28].
      draws: float64 [N, 1 + the nodes of all octaves].
      thickness: brightness of the densest fog; white ink is 1.
      smoothness: above 1.
    """
    signed = 2 * draws - 1
    field = 0.5 + 0.2 * signed[:, 0, None, None]
    used = 1
    for octave, nodes in enumerate(FOG_NODES):
        part = signed[:, used : used + nodes**2].reshape(-1, nodes, nodes)
        used += nodes**2
        read = _FOG_READ[octave]
        field = field + 0.25 * smoothness ** (-2 * octave) * (read @ part @ read.T)
    field = np.clip(field, 0, 1).astype(np.float32)
    return (images + np.float32(thickness) * field) / np.float32(1 + thickness)


def _between_nodes(spacing: int) -> np.ndarray:
    """Weights [28, nodes] that interpolate linearly between nodes `spacing` apart."""
    nodes = (_SIDE - 1) // spacing + 2
    places = np.arange(_SIDE)[:, None] / spacing
    return np.maximum(0, 1 - np.abs(places - np.arange(nodes)))


_FOG_READ = [_between_nodes(spacing) for spacing in (64, 32, 16, 8, 4, 2)]
FOG_NODES = [read.shape[1] for read in _FOG_READ]


def gaussian_blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs each of the images [N, 28, 28] by a Gaussian of `sigma` pixels."""
    blurred: np.ndarray = ndimage.gaussian_filter(images, (0, sigma, sigma))
    return blurred
