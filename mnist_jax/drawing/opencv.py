"""OpenCV, which pages are drawn with. It is loaded when the first page is made."""

import functools
from typing import Any

from mnist_jax.errors import UserError


@functools.cache
def load_opencv() -> Any:
    """Returns the module `cv2`.

    Raises:
      UserError: if it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "pages of digits are drawn with OpenCV, which is not installed here: "
            "pip install 'mnist_jax[pages]' (or opencv-python-headless)"
        ) from error
    return cv2
