"""Reads a file page by page: those of a PDF or TIFF, or the frames of an animation.

One page is in memory at a time. A small file may claim millions of pages, or pages of
millions of pixels, so that only so much of a file is read, and an error says so.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import IO

from PIL import Image

from mnist_jax.errors import PictureError
from mnist_jax.reading.files import (
    MAX_BYTES,
    decode_page,
    open_picture,
    opened,
    read_stack,
    reasons,
)
from mnist_jax.reading.pdf_pages import draw_pages, is_pdf

MAX_PAGES = 1000
# A blank page of a fax has up to 14,000 pixels a byte, and a written one 300.
_MAX_PIXELS, _MAX_PIXELS_A_BYTE = 1_000_000_000, 2000  # of all pages; the sum of both
# Thumbnails and masks lie between the pages of a TIFF, so that it may have more
# directories than pages. A usual directory has some twenty entries.
_MAX_DIRECTORIES, _MAX_ENTRIES = 10 * MAX_PAGES, 1000
_NEW_SUBFILE_TYPE = 254  # a tag of TIFF, and two of its bits
_THUMBNAIL, _MASK = 1, 4


def read_pages(
    source: str | os.PathLike[str] | bytes,
) -> Iterator[Image.Image | PictureError]:
    """Reads the pages of a picture file, one after another.

    Args:
      source: as for `files.read_picture`.

    Yields:
      For each page of a PDF or a TIFF, and each frame of an animation (AVIF, GIF, PNG,
      WebP), in order, what `files.read_picture` returns, or the error that it would
      raise. All other files have one page. Thumbnails, the previews that some cameras
      put into a JPEG, and what phones put beside a HEIC photo, are no pages. Behind a
      damaged page of a TIFF or a PDF the others are read. Frames behind a damaged one
      are errors, because they are painted on it. Where a file has more than `MAX_PAGES`
      pages, or far more pixels than bytes, the last one is an error that says so, and
      what follows is not read.

    Raises:
      ArgumentError: the source is neither a path nor bytes.
    """
    with contextlib.ExitStack() as stack:
        try:
            with reasons():
                file, size = stack.enter_context(opened(source))
                image = None
                if not (0 < size <= MAX_BYTES and is_pdf(file)):
                    image = open_picture(file, size)
        except PictureError as error:
            yield error
            return
        if image is None:
            yield from _walk_pdf(file, size)
        else:
            yield from _walk(image, file, size)


def read_pages_or_images(
    source: str | os.PathLike[str] | bytes,
) -> Iterator[Image.Image | PictureError]:
    """Reads the pages of a file as `read_pages` does, or the images of an array.

    Args:
      source: as for `files.read_picture`.

    Yields:
      For each image of an array of images of digits (see `files.read_stack`) a picture
      of 28x28 grey pixels, white ink on black; else what `read_pages` yields.

    Raises:
      ArgumentError: the source is neither a path nor bytes.
    """
    try:
        stack = read_stack(source)
    except PictureError as error:
        yield error
        return
    if stack is None:
        yield from read_pages(source)
        return
    for image in stack[..., 0]:
        picture = Image.fromarray(image)
        picture.info["full_size"] = picture.size
        yield picture


def _walk_pdf(file: IO[bytes], size: int) -> Iterator[Image.Image | PictureError]:
    count = pixels = 0
    with contextlib.closing(draw_pages(file)) as pages:
        while True:
            try:
                with reasons():
                    page = next(pages, None)
            except PictureError as error:
                yield error
                return
            if page is None:
                return
            if not isinstance(page, PictureError):
                pixels += page.width * page.height
            if count == MAX_PAGES or (count and pixels > _most_pixels(size)):
                yield _too_many(pixels, size)
                return
            yield page
            count += 1


def _most_pixels(size: int) -> int:
    """Pixels that all pages of a file of `size` bytes may have."""
    return _MAX_PIXELS + _MAX_PIXELS_A_BYTE * size


def _too_many(pixels: int, size: int) -> PictureError:
    """What stands in place of a page behind the last that is read."""
    reason = (
        "its pages have too many pixels for so small a file"
        if pixels > _most_pixels(size)
        else f"a file may have {MAX_PAGES:,} pages"
    )
    return PictureError(f"not read, and nor is what follows: {reason}")


def _walk(
    image: Image.Image, file: IO[bytes], size: int
) -> Iterator[Image.Image | PictureError]:
    count = pixels = 0
    painted_on = False  # whether a frame before this one could not be read
    page: Image.Image | PictureError
    for place in range(_MAX_DIRECTORIES):
        try:
            with reasons():
                if place and not _go_to(image, file, place, painted_on):
                    return
                if place and is_no_page(image):
                    continue
                pixels += image.width * image.height
                if count == MAX_PAGES or (count and pixels > _most_pixels(size)):
                    break
                if painted_on:
                    raise PictureError("is painted on a frame that cannot be read")
                page = decode_page(image, file, size)
        except PictureError as error:
            page = error
        yield page
        count += 1
        if isinstance(page, PictureError):
            if image.format != "TIFF":
                painted_on = True
                image.tile = []  # type: ignore[attr-defined]  # not decoded again
            elif image.tell() != place:  # what leads to the next page is damaged
                return
    yield _too_many(pixels, size)


def _go_to(image: Image.Image, file: IO[bytes], place: int, after_damage: bool) -> bool:
    """Goes on to the next page or frame; returns whether there is one."""
    if image.format not in ("AVIF", "GIF", "PNG", "TIFF", "WEBP"):
        return False
    if image.format == "TIFF":
        _check_directory(image, file)
    try:
        image.seek(place)
    except EOFError as error:
        # The headers of PNG and WebP say how many frames there are; Pillow would walk
        # over a whole GIF to count them.
        promised = image.format in ("PNG", "WEBP") and place < image.n_frames  # type: ignore[attr-defined]
        if promised and not after_damage:
            raise PictureError("damaged (it ends too early)") from error
        return False
    return True


def is_no_page(image: Image.Image) -> bool:
    """Whether a directory of a TIFF is a thumbnail or a mask."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & (_THUMBNAIL | _MASK))


def _check_directory(image: Image.Image, file: IO[bytes]) -> None:
    """Refuses a next directory of a TIFF with so many entries that it takes long."""
    file.seek(0)
    start = file.read(4)
    file.seek(image.tag_v2.next or 0)  # type: ignore[attr-defined]  # a TiffImageFile
    field = file.read(8 if start[2] == 43 else 2)  # 43 is a BigTIFF
    entries = int.from_bytes(field, "little" if start[:2] == b"II" else "big")
    if image.tag_v2.next and entries > _MAX_ENTRIES:  # type: ignore[attr-defined]
        raise PictureError(f"damaged (its directory has {entries:,} entries)")
