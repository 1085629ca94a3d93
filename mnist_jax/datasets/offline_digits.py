"""Real handwritten digits that need no network: scikit-learn's, made like MNIST.

1,797 scans of 8x8 grey levels (E. Alpaydin, C. Kaynak, "Optical recognition of
handwritten digits", UCI, 1998; CC BY 4.0), embedded with scikit-learn. They are far
fewer and coarser than MNIST: good for trying things out, not for a claim.
"""

import functools

import numpy as np

from mnist_jax.datasets.geometry import crop_to_ink

SPLITS = {"train": 1197, "validation": 200, "test": 400}  # fixed and stratified
CLASS_NAMES = tuple("0123456789")
GEOMETRY = 1  # raise it with any change of the pixels, so that caches are made anew

_UPSAMPLE = 20  # pixels of the rebuilt bitmap for each of the 8x8


@functools.cache  # the three splits are made one after another, each of all digits
def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Loads all digits, in scikit-learn's order.

    Returns:
      images uint8 [1797, 28, 28, 1], white ink on black, and labels int32 [1797].
    """
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    images = np.stack([_scan_to_mnist(coverage) for coverage in digits.images])
    return images[..., None], digits.target.astype(np.int32)


def _scan_to_mnist(coverage: np.ndarray) -> np.ndarray:
    """Brings one scan to MNIST's geometry.

    The grey levels count the ink of a 4x4 block of the scanner's bitmap, so the
    bitmap is rebuilt as the region where the interpolated level is half or more.
    The rest is how MNIST was made (LeCun et al., 1998; yann.lecun.com/exdb/mnist):
    the longest side of the ink becomes 20 pixels, antialiased, the brightest pixel
    255, and a whole-pixel shift brings the centre of mass to pixel (14, 14).

    `geometry.to_mnist` does the same with another filter and other rounding, and it
    alters the width of strokes. This data set is fixed, so it keeps its own pixels.

    Args:
      coverage: float [8, 8] in 0..16.

    Returns:
      uint8 [28, 28].
    """
    from PIL import Image

    padded = np.pad(coverage, 2).astype(np.float32)  # room for ink beyond the edge
    size = _UPSAMPLE * len(padded)
    levels = Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC)
    ink = np.asarray(levels) >= coverage.max() / 2
    ink = crop_to_ink(ink)

    scale = 20 / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    crop = Image.fromarray(ink.astype(np.float32))
    digit = np.asarray(crop.resize((width, height), Image.Resampling.BOX))
    # Rounded up, so that the faintest edge keeps the longest side at 20.
    digit = np.ceil(digit * (255 / digit.max()) - 1e-3)

    mass = digit.sum()
    top = 14 - int(np.floor(digit.sum(1) @ np.arange(height) / mass + 0.5))
    left = 14 - int(np.floor(digit.sum(0) @ np.arange(width) / mass + 0.5))
    image = np.zeros((28, 28), np.uint8)
    image[top : top + height, left : left + width] = digit
    return image
