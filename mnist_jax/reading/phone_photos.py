"""Opens what phones and browsers make besides JPEG: HEIC and AVIF."""

import re
from typing import IO

from PIL import Image, UnidentifiedImageError, features

from mnist_jax.errors import PictureError

_HEIC = re.compile(rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)
_AVIF = re.compile(rb".{4}ftyp(avi[fs]|mif1.{4,60}avif)", re.DOTALL)


def open_photo(file: IO[bytes]) -> Image.Image | None:
    """Opens an AVIF, or the main picture of a HEIC; phones put its depth beside it.

    Args:
      file: at its start, where it is left if it is something else.

    Returns:
      The picture, of which only the header is read; None if the file is neither.

    Raises:
      PictureError: its header is damaged, or what reads it is not installed.
    """
    start = file.read(80)
    file.seek(0)
    if _AVIF.match(start):
        if not features.check("avif"):
            raise PictureError(
                "is an AVIF, which this Pillow cannot read: save as JPEG"
            )
        try:
            return Image.open(file, formats=("AVIF",))
        except UnidentifiedImageError as error:
            raise PictureError("damaged (its header cannot be read)") from error
    if not _HEIC.match(start):
        return None
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PictureError(
            "is a HEIC photo: pip install pillow-heif, or save it as JPEG"
        ) from error
    picture: Image.Image = HeifImageFile(file)
    return picture
