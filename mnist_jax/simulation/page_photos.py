"""Pictures that are no pages: photographs of installed packages, and textures."""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.simulation.page_digits import Rng

_OF_MATPLOTLIB = ("grace_hopper.jpg", "Minduka_Present_Blue_Pack.png", "logo2.png")
_OF_SCIKIT_LEARN = ("china.jpg", "flower.jpg")


@functools.cache
def _photos() -> tuple[np.ndarray, ...]:
    """Reads the photographs that the project's own requirements bring along.

    Other packages may bring more, but a page must not depend on what else is installed.
    """
    import matplotlib

    cv2 = load_opencv()
    spec = importlib.util.find_spec("sklearn")
    folder = (
        Path(spec.origin).parent / "datasets" / "images"
        if spec and spec.origin
        else None
    )
    paths = [Path(matplotlib.get_data_path(), "sample_data", n) for n in _OF_MATPLOTLIB]
    paths += [folder / name for name in _OF_SCIKIT_LEARN] if folder else []
    read = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    return tuple(photo for photo in read if photo is not None)


def crop_photo(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Returns a part of a photograph or of a made texture, uint8 [H, W]."""
    cv2 = load_opencv()
    if rng.random() < 0.35 or not _photos():
        return _texture(rng, shape)
    photo = _photos()[rng.integers(len(_photos()))]
    height, width = shape
    most = min(photo.shape[0] / height, photo.shape[1] / width)
    scale = most * float(np.exp(rng.uniform(np.log(0.15), 0)))
    rows, columns = max(4, int(height * scale)), max(4, int(width * scale))
    top = int(rng.integers(photo.shape[0] - rows + 1))
    left = int(rng.integers(photo.shape[1] - columns + 1))
    part = photo[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    if rng.random() < 0.2:
        part = 255 - part
    return cv2.resize(
        np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_AREA
    )


def _texture(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Makes a texture: clouds of several sizes, at times in two tones or stretched."""
    cv2 = load_opencv()
    height, width = shape
    total: np.ndarray = np.zeros(shape, np.float32)
    stretch = float(rng.choice([1, 1, 4]))
    for size in rng.choice([2, 4, 8, 16, 32, 64], 3, replace=False):
        rows, columns = int(height / size) + 2, int(width / (size * stretch)) + 2
        noise = rng.standard_normal((rows, columns), dtype=np.float32)
        noise *= np.float32(rng.uniform(0.3, 1.5))
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.3:  # blobs
        total = np.where(total > rng.uniform(-1, 1), np.float32(1.5), np.float32(-1.5))
    elif rng.random() < 0.3:  # veins
        total = np.abs(total) * 2 - 2
    return np.clip(128 + total * np.float32(rng.uniform(10, 60)), 0, 255).astype(
        np.uint8
    )
