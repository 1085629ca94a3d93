"""Counts the pages of a file: those of a TIFF, or the frames of an animation.

Only the first one is read, so that whoever sent the others must be told. Counting
decodes no pixels, and stops at `MAX_COUNTED`: a small file may claim millions.
"""

import contextlib
import io
from typing import IO

from PIL import Image

from mnist_jax.errors import PictureError
from mnist_jax.reading.files import is_array, opened
from mnist_jax.reading.paths import Source

MAX_COUNTED = 1000
_REDUCED_IMAGE = 1  # a bit of TIFF's tag NewSubfileType: a thumbnail, and no page
_NEW_SUBFILE_TYPE = 254


def count_pages(source: Source) -> int:
    """Returns the number of pages or frames, from 1 to `MAX_COUNTED`.

    It is 1 for all that is no TIFF, GIF, WebP or animated PNG, and where it cannot be
    told. Thumbnails, and the previews that some cameras put into a JPEG, do not count.
    """
    pages = 1
    # Decoders raise anything on damaged bytes. The first page is read nevertheless.
    with contextlib.suppress(Exception), opened(source.place) as (file, _):
        pages = _count(file)
    return min(max(pages, 1), MAX_COUNTED)


def may_have_rows(source: Source) -> bool:
    """Whether a file may give several answers: several pages, or an array of images."""
    with contextlib.suppress(OSError, PictureError), opened(source.place) as (file, _):
        if is_array(file):
            return True
    return count_pages(source) > 1


def _count(file: IO[bytes]) -> int:
    start = file.read(12)
    file.seek(0)
    if start.startswith(b"GIF8"):
        return _count_gif_frames(file)
    if start.startswith((b"II", b"MM")):
        return _count_tiff_pages(file)
    if start.startswith(b"\x89PNG") or start[8:] == b"WEBP":
        # Their headers say how many frames there are.
        return getattr(Image.open(file, formats=("PNG", "WEBP")), "n_frames", 1)
    return 1


def _count_gif_frames(file: IO[bytes]) -> int:
    """Walks over the blocks of a GIF (its specification of 1989, version 89a)."""

    def skip_colours(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 << ((flags & 7) + 1), io.SEEK_CUR)

    frames = 0
    skip_colours(file.read(13)[10])
    while frames < MAX_COUNTED:
        kind = file.read(1)
        if kind == b",":  # a frame: its place and size, its colours, a byte, its pixels
            frames += 1
            skip_colours(file.read(9)[8])
        elif kind != b"!":  # neither a frame nor an extension
            break
        file.seek(1, io.SEEK_CUR)
        while (length := file.read(1)) > b"\0":
            file.seek(length[0], io.SEEK_CUR)
    return frames


def _count_tiff_pages(file: IO[bytes]) -> int:
    """Follows the chain of a TIFF's directories; Pillow notices if it is a circle."""
    image = Image.open(file, formats=("TIFF",))
    pages = 0
    with contextlib.suppress(EOFError):
        for place in range(MAX_COUNTED):
            image.seek(place)
            tags = image.tag_v2  # type: ignore[attr-defined]  # a TiffImageFile
            pages += not tags.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED_IMAGE
    return pages
