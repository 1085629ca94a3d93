"""Reads picture files, hostile ones too, as RGB pictures.

What cannot be read raises `PictureError`. Its message is the reason without the name of
the file, which the caller knows.
"""

import contextlib
import ctypes
import errno
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_jax.errors import ArgumentError, PictureError, UserError, kind_of
from mnist_jax.reading import number_arrays
from mnist_jax.reading.pdf_pages import draw_pages, is_pdf
from mnist_jax.reading.phone_photos import open_photo
from mnist_jax.reading.reduction import MAX_SIDE, levels_to_8_bits, reduce_picture
from mnist_jax.reading.unwrap import content_of, unwrap

# None of these formats runs scripts or programs, or refers to other files.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_KINDS = ", ".join((*FORMATS, "AVIF", "HEIC", "PDF", ".npy or .npz"))
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif"}
    | {".jpe", ".jpeg", ".jpg", ".npy", ".npz", ".pbm", ".pdf", ".pfm", ".pgm"}
    | {".pjpeg", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
MAX_BYTES = 2**28  # of a file: room for 64 million pixels of four bytes
MAX_PIXELS = 64_000_000  # room for a photo of 48 megapixels

_TOO_LARGE = f"has more than {MAX_PIXELS // 10**6} million pixels"
# These decoders hold some copies of a picture, so that as many pixels take as much
# memory. A phone's HEIC may have 48 million.
_MOST_OF_A_FORMAT = {"AVIF": 24_000_000, "HEIF": 49_000_000, "WEBP": 24_000_000}
# Pillow's decoders of these are in Python: a second or more for each million bytes.
_SLOW_DECODERS, _MAX_SLOW_BYTES = ("ppm_plain", "bmp_rle"), 3_000_000
_MAX_SCANS = 100  # usually a progressive JPEG has ten; each decodes all pixels
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_ORIENTATION = 0x0112  # a tag of EXIF

# What is wrong with a file, by what Pillow says of it.
_MEANINGS = {
    r"truncated|too early|unexpected end|not enough|no more data": "it ends too early",
    r"decod(er|ing) error|broken data stream|buffer overrun|unknown error|"
    r"unrecognized data stream|decoder object|next frame|cannot load|"
    r"invalid literal": "its pixels cannot be decoded",
    r"tile cannot extend|bad configuration": "its header does not fit its pixels",
}

# Small pictures are decoded in parallel; large ones one at a time, to save memory.
_one_at_a_time = threading.Lock()
_SMALL = 8_000_000  # pixels


def read_picture(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Opens, checks and decodes a picture.

    Args:
      source: the path of a regular file, or the content of a file. It is in one of
        `FORMATS`, AVIF, HEIC or PDF, of which the first page or frame is read
        (`file_pages.read_pages` reads them all); or it is a NumPy array (.npy, or .npz
        with one) [H, W] or [H, W, C] with 1, 3 or 4 channels, or of 784 numbers.
        Numbers are scaled so that the largest becomes 255. Each of these may be a data
        URL or base64 text, in a file, as bytes or as a string.

    Returns:
      An upright RGB picture without transparency, of `reduction.reduced_size`. Its
      `info["full_size"]` is its width and height before it was reduced.

    Raises:
      PictureError: it is missing, unreadable, not a picture, too large or damaged.
      ArgumentError: the source is neither a path nor bytes.
    """
    with reasons(), opened(source) as (file, size):
        if 0 < size <= MAX_BYTES and is_pdf(file):
            with contextlib.closing(draw_pages(file)) as pages:
                page = next(pages)
            if isinstance(page, PictureError):
                raise page
            return page
        return decode_page(open_picture(file, size), file, size)


def from_pillow(image: Image.Image) -> Image.Image:
    """Takes a picture that Pillow has opened or made; leaves it as it is.

    Args:
      image: of any mode; of several frames, that where it stands is taken.

    Returns:
      As `read_picture`.

    Raises:
      PictureError: it is too large, or cannot be decoded.
    """
    with reasons():
        if image.width * image.height > MAX_PIXELS:
            raise PictureError(_TOO_LARGE)
        if not image.width * image.height:
            raise PictureError("has no pixels")
        return _decode(image.copy())


def read_stack(source: str | os.PathLike[str] | bytes) -> np.ndarray | None:
    """Reads the images of a NumPy array (.npy) that holds several.

    Args:
      source: as for `read_picture`.

    Returns:
      uint8 [N, 28, 28, 1], white ink on black, of an array of N > 1 images: [N, 784],
      [N, 28, 28], [N, 28, 28, 1] or [N, 1, 28, 28]. The largest number becomes 255.
      None if the file holds something else.

    Raises:
      PictureError: it holds several images, and is too large or damaged.
    """
    with reasons(), opened(source) as (file, size):
        if not 0 < size <= MAX_BYTES or not number_arrays.is_array(file):
            return None
        shape = number_arrays.read_shape(file)
        if not number_arrays.may_be_stack(shape):
            return None
        numbers = number_arrays.read_numbers(file, size)
        if not number_arrays.is_stack(numbers):
            return None
        images = levels_to_8_bits(numbers).reshape(-1, 28, 28, 1)
        return number_arrays.white_on_black(images)


@contextlib.contextmanager
def opened(
    source: str | os.PathLike[str] | bytes,
) -> Iterator[tuple[IO[bytes], int]]:
    """Opens a source of `read_picture`, and yields it with its number of bytes."""
    if not isinstance(source, str | bytes | os.PathLike):
        kind = kind_of(source)
        raise ArgumentError(f"a picture's source is a path or bytes: got {kind}")
    if isinstance(source, str):
        content = content_of(source)
        source = source if content is None else content
    if isinstance(source, bytes):
        yield unwrap(io.BytesIO(source), len(source), MAX_BYTES)
    else:
        with open_regular_file(source) as file:
            yield unwrap(file, os.fstat(file.fileno()).st_size, MAX_BYTES)


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Turns all that decoders raise into a `PictureError` that says why.

    Their warnings are ignored meanwhile.
    """
    with _warnings_ignored:  # Pillow's; this module checks sizes itself
        try:
            yield
        except UserError:
            raise
        except Image.DecompressionBombError as error:
            raise PictureError(_TOO_LARGE) from error
        except UnidentifiedImageError as error:
            raise PictureError(f"not a {_KINDS} picture") from error
        except MemoryError as error:
            raise PictureError("too large for this machine's memory") from error
        except Exception as error:  # decoders raise anything on damaged bytes
            reason = getattr(error, "strerror", None) or f"damaged ({_explain(error)})"
            raise PictureError(reason.lower()) from error


def open_regular_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a regular file for reading; refuses what may block or never end.

    Raises:
      PictureError: it is a directory, pipe, socket or device.
      OSError: it cannot be opened.
    """
    if "\0" in os.fspath(path):
        raise PictureError("no such file: no name holds a null character")
    # The kind is checked on the open file, as the path could change after a check.
    # Non-blocking, as opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise PictureError("is a socket or a device, not a file") from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise PictureError("is a directory, not a file")
    raise PictureError("is a pipe or a device, not a file")


class _WarningsIgnored:
    """Ignores warnings; unlike `warnings.catch_warnings`, threads may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._depth:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._depth += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._caught.__exit__(None, None, None)


_warnings_ignored = _WarningsIgnored()


def _silence_libtiff() -> None:
    """Stops libtiff from printing to stderr, lines that name no picture.

    Pillow says by an exception what is damaged. It has no way to silence its libtiff,
    which is sought among the libraries of Pillow's own; where it is not among them, its
    lines are printed.
    """
    with contextlib.suppress(Exception):
        library = ctypes.CDLL(Image.core.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


_silence_libtiff()


def open_picture(file: IO[bytes], size: int) -> Image.Image:
    """Opens a picture for `decode_page`, at its first page; call it in `reasons`.

    Args:
      file: what it is read from, until its last page is decoded.
      size: bytes of the file.

    Raises:
      PictureError: it is empty, too large or in no format that is read.
    """
    if not size:
        raise PictureError("is empty")
    if size > MAX_BYTES:
        raise PictureError(f"is larger than {MAX_BYTES // 2**20} MiB")
    if photo := open_photo(file):
        return photo
    if number_arrays.is_array(file):
        with _one_at_a_time if size > _SMALL else contextlib.nullcontext():
            return _read_array(file, size)
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        if file.read(4) in (b"II*\0", b"MM\0*"):  # what describes a TIFF is at its end
            raise PictureError("damaged (it ends too early)") from error
        raise


def decode_page(image: Image.Image, file: IO[bytes], size: int) -> Image.Image:
    """Checks and decodes the page at which a picture stands; call it in `reasons`.

    Args:
      image: from `open_picture`. It is not changed, and can go on to its next page.
      file: what it was opened from.
      size: bytes of the file.

    Returns:
      As `read_picture`.

    Raises:
      PictureError: it has too many pixels, or takes too long to decode.
    """
    if not image.format:  # the picture of an array, which is decoded already
        return image
    pixels = image.width * image.height  # from the header; nothing is decoded yet
    if pixels > MAX_PIXELS:
        raise PictureError(_TOO_LARGE)
    most = _MOST_OF_A_FORMAT.get(image.format, MAX_PIXELS)
    if pixels > most:
        kind = {"AVIF": "an AVIF", "HEIF": "a HEIC", "WEBP": "a WebP"}[image.format]
        over = f"over {most // 10**6} million pixels"
        raise PictureError(f"is {kind} of {over}: save it as JPEG")
    _check_effort(image, file, size)
    with _one_at_a_time if pixels > _SMALL else contextlib.nullcontext():
        return _decode(image)


def _read_array(file: IO[bytes], size: int) -> Image.Image:
    shape = number_arrays.read_shape(file)
    picture = number_arrays.picture_shape(shape)
    if picture[0] * picture[1] > MAX_PIXELS:
        raise PictureError(_TOO_LARGE)
    numbers = number_arrays.read_numbers(file, size)
    if number_arrays.is_stack(numbers):
        raise PictureError(f"has the shape {shape}: images of digits, and no picture")
    image = Image.fromarray(levels_to_8_bits(numbers.reshape(picture)))
    return _finish(reduce_picture(image), image.size)


def _check_effort(image: Image.Image, file: IO[bytes], size: int) -> None:
    """Refuses small files that take minutes to decode; keeps the file's position."""
    decoders = [tile[0] for tile in getattr(image, "tile", [])]
    if size > _MAX_SLOW_BYTES and decoders and decoders[0] in _SLOW_DECODERS:
        megabytes = _MAX_SLOW_BYTES // 10**6
        raise PictureError(f"is plain or RLE, and over {megabytes} MB: save it as PNG")
    if image.info.get("progressive"):
        place = file.tell()
        file.seek(0)
        if _count_scans(file.read()) > _MAX_SCANS:
            raise PictureError(f"damaged (it has more than {_MAX_SCANS} scans)")
        file.seek(place)


def _count_scans(jpeg: bytes) -> int:
    """Counts the scans of a JPEG's main image, without thumbnails."""
    scans, place = 0, 2
    while found := _MARKER.search(jpeg, place):
        marker, place = found[1][0], found.end()
        if marker == 0xD9:  # the end of the image
            break
        scans += marker == 0xDA
        place += int.from_bytes(jpeg[place : place + 2], "big")  # the segment's length
    return scans


def _decode(image: Image.Image) -> Image.Image:
    width, height = image.size
    image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))  # lets JPEG skip most of the work
    image.load()
    reduced = reduce_picture(image)  # before it is turned, as that needs a copy
    if reduced is image:  # which the next frame of an animation may be painted on
        reduced = image.copy()
    # Where the camera's metadata are damaged, the picture is not turned.
    with contextlib.suppress(Exception):
        reduced.getexif()[_ORIENTATION] = image.getexif()[_ORIENTATION]
        ImageOps.exif_transpose(reduced, in_place=True)
    turned = (width < height) != (reduced.width < reduced.height)
    return _finish(reduced, (height, width) if turned else (width, height))


def _finish(image: Image.Image, full_size: tuple[int, int]) -> Image.Image:
    image = _fill_transparency(image)
    image.info = {"full_size": full_size}
    return image


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split())
    for said, meaning in _MEANINGS.items():
        if re.search(said, text, re.IGNORECASE):
            return meaning
    return text[:100] or type(error).__name__


def _fill_transparency(image: Image.Image) -> Image.Image:
    """Fills transparency with one colour, so that the ink can be seen.

    If the opaque part fills most of its own frame and has several tones, it is ink on
    paper: the colour is that of the paper. Otherwise it is ink only: the colour is
    white or black, whichever differs more from the ink.
    """
    if image.mode == "RGB":
        return image
    alpha = np.asarray(image.getchannel("A"))
    opaque = alpha > alpha.max() / 2  # even ink may be partly transparent
    if opaque.all():
        return image.convert("RGB")
    ground: tuple[int, ...] = (255, 255, 255)
    if opaque.any():
        rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
        frame = opaque[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        colours = np.asarray(image.convert("RGB"))[opaque]  # [M, 3]
        tones = colours.mean(-1)
        low, high = np.percentile(tones, (0.2, 99.8))
        if frame.mean() > 0.5 and high - low > 64:
            ground = tuple(int(c) for c in np.median(colours, axis=0))
        elif tones.mean() > 127:
            ground = (0, 0, 0)
    filled = Image.new("RGBA", image.size, (*ground, 255))
    filled.alpha_composite(image)
    return filled.convert("RGB")
