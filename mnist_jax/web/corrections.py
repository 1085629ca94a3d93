"""Keeps digits whose right answers people say, as pictures in folders by class."""

import hashlib
import io
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.errors import ArgumentError, PictureError
from mnist_jax.local_files import make_folder, writing
from mnist_jax.reading.file_pages import is_no_page, read_pages_or_images
from mnist_jax.reading.files import open_picture, opened, reasons

_MARGIN = 0.2  # of the longer side of a digit's box, on each side
# Modes that PNG holds as they are. What the others hold becomes RGB.
_PNG_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")


class Corrections:
    """A folder with a folder for each class: `0/` to `9/`, for a model of digits.

    A file is named by its content. So a digit that is corrected twice is kept once, in
    the folder that was said last.

    Args:
      folder: is made, if it is not there.
      class_names: of the reader whose answers are corrected.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], class_names: Sequence[str]
    ) -> None:
        self._folder = Path(folder)
        self._names = {name: re.sub(r"[^\w -]", "_", name) for name in class_names}
        self._lock = threading.Lock()  # a large picture is in memory only once
        make_folder(self._folder, f"--corrections={folder}")

    def keep(
        self, content: bytes, label: str, box: Sequence[int] | None, page: int = 0
    ) -> Path:
        """Keeps a digit of a picture, with a margin, in the picture's own pixels.

        Args:
          content: of the picture's file.
          label: the right answer, a name of a class.
          box: of the digit, as in an answer; None for the whole picture.
          page: number of the page in the file.

        Returns:
          The path of the PNG file that was written.

        Raises:
          ArgumentError: there is no such class or page, or the box is no part of it.
          PictureError: the picture cannot be read.
          UserError: the file cannot be written.
        """
        if label not in self._names:
            names = ", ".join(self._names)
            raise ArgumentError(f"label={label[:40]!r} is none of {names[:200]}")
        with self._lock:
            picture = cut_out(content, box, page)
            png = io.BytesIO()
            picture.save(png, "PNG")
            name = f"{hashlib.sha256(png.getvalue()).hexdigest()[:16]}.png"
            path = self._folder / self._names[label] / name
            with writing(repr(str(path))):
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(path) as file:
                    file.write(png.getvalue())
                for other in self._names.values():
                    if other != self._names[label]:
                        (self._folder / other / name).unlink(missing_ok=True)
        return path


def cut_out(content: bytes, box: Sequence[int] | None, page: int = 0) -> Image.Image:
    """Cuts a box and a margin out of a page, in the pixels that the file has.

    The result has none of the file's notes, such as where a photo was taken.

    Args:
      content: of the file.
      box: left, top, right, bottom in pixels of the upright page; None for all of it.
      page: number of the page in the file; or of the image in an array of images of
        digits, which is kept white on black, as it was read.

    Raises:
      ArgumentError: there is no such page, or the box is no part of it.
      PictureError: the page cannot be read.
    """
    # The reader's own way comes first: it bounds what is decoded.
    pages = enumerate(read_pages_or_images(content))
    upright = next((picture for number, picture in pages if number == page), None)
    if upright is None:
        raise ArgumentError(f"page={page}: there is no such page")
    if isinstance(upright, PictureError):
        raise upright
    full_size: tuple[int, int] = upright.info["full_size"]
    part = _with_margin(box, full_size)
    picture = upright
    if upright.size != full_size:
        whole = _decode_whole(content, page)
        if whole is not None and whole.size == full_size:
            picture = whole
        else:
            scale = upright.width / full_size[0]
            part = _with_margin([round(n * scale) for n in part], upright.size, 0)
    cut = picture.crop(part)
    if cut.mode == "P":
        cut = cut.convert("RGBA" if cut.has_transparency_data else "RGB")
    if cut.mode not in _PNG_MODES:
        cut = cut.convert("RGB")
    cut.info = {}
    return cut


def _decode_whole(content: bytes, page: int) -> Image.Image | None:
    """Decodes a page in its full size, upright; None if that is not possible.

    Of a TIFF with thumbnails or masks between its pages, only the first page is sure to
    be the one that is meant.
    """
    try:
        with reasons(), opened(content) as (file, size):
            image = open_picture(file, size)
            for place in range(1, page + 1):
                image.seek(place)
                if is_no_page(image):
                    return None
            image.load()
            return ImageOps.exif_transpose(image)
    except PictureError:
        return None


def _with_margin(
    box: Sequence[int] | None, size: tuple[int, int], margin: float = _MARGIN
) -> tuple[int, int, int, int]:
    """Returns a box and its margin, as far as they are in a picture."""
    if box is None:
        return 0, 0, *size
    left, top, right, bottom = box
    more = round(margin * max(right - left, bottom - top))
    left, top = max(0, left - more), max(0, top - more)
    right, bottom = min(size[0], right + more), min(size[1], bottom + more)
    if left >= right or top >= bottom:
        raise ArgumentError(f"box={list(box)} is no part of {size[0]}x{size[1]} pixels")
    return left, top, right, bottom
