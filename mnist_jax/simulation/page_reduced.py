"""Pages as they look when they are reduced: much of a page on few pixels."""

import numpy as np

from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.reading.page_tiles import edge_level
from mnist_jax.simulation.pages import Page, make_page

_LITTLE, _MOST = 1.5, 6.0  # factors; a third of pages is hardly reduced
_SHARE_OF_LITTLE = 0.35
_LARGEST = 3.0  # times the shape; a page that is reduced more does not fill it
_LOWEST = 2.5  # pixels; whether a lower digit is found does not count


def make_reduced_page(
    seed: int,
    index: int,
    images: np.ndarray,
    labels: np.ndarray,
    shape: tuple[int, int] = (128, 256),
) -> Page:
    """Makes a page as `make_page` does, larger than its shape, and reduces it to that.

    Digits are 3 to 100 pixels high. Their class is 0, whichever they are: many are too
    small to tell.
    """
    rng = np.random.default_rng((seed, index, 1))
    low, high = (1.0, _LITTLE) if rng.random() < _SHARE_OF_LITTLE else (_LITTLE, _MOST)
    factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    full = [round(side * min(factor, _LARGEST)) for side in shape]
    page = make_page(seed, index, images, labels, (full[0], full[1]))
    size = [max(1, round(side / factor)) for side in full]
    cv2 = load_opencv()
    small = cv2.resize(page.picture, size[::-1], interpolation=cv2.INTER_AREA)
    picture = np.full(shape, edge_level(small), np.uint8)
    top, left = (
        int(rng.integers(max(0, room - side) + 1))
        for room, side in zip(shape, size, strict=True)
    )
    small = small[: shape[0], : shape[1]]
    picture[top : top + small.shape[0], left : left + small.shape[1]] = small
    digits = page.digits.copy()
    digits[:, :4] /= factor
    digits[:, :2] += left, top
    digits[:, 4] = np.where((digits[:, 4] < 0) | (digits[:, 3] < _LOWEST), -1, 0)
    return page._replace(picture=picture, digits=digits)
