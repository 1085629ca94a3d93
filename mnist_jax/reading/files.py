"""Reads picture files, hostile ones too, as RGB pictures.

What cannot be read raises `PictureError`. Its message is the reason without the name of
the file, which the caller knows.
"""

import contextlib
import errno
import io
import math
import os
import re
import stat
import threading
import warnings
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_jax.errors import PictureError

# None of these formats runs scripts or programs, or refers to other files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".npy", ".pbm"}
    | {".pfm", ".pgm", ".pjpeg", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
MAX_BYTES = 2**28  # of a file: room for 64 million pixels of four bytes
MAX_PIXELS = 64_000_000  # room for a photo of 48 megapixels
MAX_SIDE = 1024  # pixels; larger pictures are reduced to this size

_TOO_LARGE = f"has more than {MAX_PIXELS // 10**6} million pixels"
# Pillow's decoders of these are in Python: a second or more for each million bytes.
_SLOW_DECODERS, _MAX_SLOW_BYTES = ("ppm_plain", "bmp_rle"), 3_000_000
_MAX_SCANS = 100  # usually a progressive JPEG has ten; each decodes all pixels
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_HEIC = re.compile(rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)

_REDUCIBLE = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "F")  # modes

# Small pictures are decoded in parallel; large ones one at a time, to save memory.
_one_at_a_time = threading.Lock()
_SMALL = 8_000_000  # pixels


def read_picture(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Opens, checks and decodes a picture.

    Args:
      source: the path of a regular file, or the content of a file. It is in one of
        `FORMATS`, whose first frame is read; or it is a NumPy array (.npy) [H, W] or
        [H, W, C] with 1, 3 or 4 channels. Numbers that are not uint8 are scaled so that
        the largest becomes 255.

    Returns:
      An upright RGB picture without transparency; each side has at most `MAX_SIDE`
      pixels. Its `info["full_size"]` is its width and height before it was reduced.

    Raises:
      PictureError: it is missing, unreadable, not a picture, too large or damaged.
    """
    with _warnings_ignored:  # Pillow's; this module checks sizes itself
        try:
            if isinstance(source, bytes):
                return _read(io.BytesIO(source), len(source))
            with open_regular_file(source) as file:
                return _read(file, os.fstat(file.fileno()).st_size)
        except PictureError:
            raise
        except Image.DecompressionBombError as error:
            raise PictureError(_TOO_LARGE) from error
        except UnidentifiedImageError as error:
            formats = ", ".join(FORMATS)
            raise PictureError(f"not a {formats} or .npy picture") from error
        except OSError as error:
            reason = (error.strerror or f"damaged ({_one_line(error)})").lower()
            raise PictureError(reason) from error
        except MemoryError as error:
            raise PictureError("too large for this machine's memory") from error
        except Exception as error:  # decoders raise anything on damaged bytes
            raise PictureError(f"damaged ({_one_line(error)})") from error


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


def _read(file: IO[bytes], size: int) -> Image.Image:
    if not size:
        raise PictureError("is empty")
    if size > MAX_BYTES:
        raise PictureError(f"is larger than {MAX_BYTES // 2**20} MiB")
    start = file.read(12)
    file.seek(0)
    if _HEIC.match(start):
        raise PictureError("is a HEIC photo, which cannot be read: save it as JPEG")
    if start.startswith(np.lib.format.MAGIC_PREFIX):
        with _one_at_a_time if size > _SMALL else contextlib.nullcontext():
            return _reduce(_levels_to_8_bits(_read_array(file, size)))
    image: Image.Image = Image.open(file, formats=FORMATS)
    pixels = image.width * image.height  # from the header; nothing is decoded yet
    if pixels > MAX_PIXELS:
        raise PictureError(_TOO_LARGE)
    _check_effort(image, file, size)
    with _one_at_a_time if pixels > _SMALL else contextlib.nullcontext():
        return _decode(image)


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
    # Where the camera's metadata are damaged, the picture is not turned.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    turned = (width < height) != (image.width < image.height)
    if image.mode in _REDUCIBLE and "transparency" not in image.info:
        image.thumbnail((MAX_SIDE, MAX_SIDE))  # now, to avoid a second large copy
    return _reduce(_to_8_bits(image), (height, width) if turned else (width, height))


def _reduce(
    image: Image.Image, full_size: tuple[int, int] | None = None
) -> Image.Image:
    full_size = full_size or image.size
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image = _fill_transparency(image)
    image.info = {"full_size": full_size}
    return image


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Reads a .npy file as [H, W] or [H, W, C]; its header is checked first."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.kind not in "buif":
        raise PictureError(f"holds {dtype.name}, not numbers")
    # A batch of one picture is a picture too.
    picture = shape[1:] if len(shape) > 2 and shape[0] == 1 else shape
    if len(picture) != 2 and not (len(picture) == 3 and picture[2] in (1, 3, 4)):
        raise PictureError(f"has the shape {shape}, which is not that of one picture")
    if 0 in picture:
        raise PictureError(f"has the shape {shape}, and so no pixels")
    if picture[0] * picture[1] > MAX_PIXELS:
        raise PictureError(_TOO_LARGE)
    if math.prod(shape) * dtype.itemsize > size - file.tell():
        raise PictureError("damaged (it ends too early)")
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False).reshape(picture)
    return array[..., 0] if array.shape[2:] == (1,) else array


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB or RGBA."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode[0] in "IF":
        return _levels_to_8_bits(np.asarray(image))
    return image.convert("RGB")


def _levels_to_8_bits(levels: np.ndarray) -> Image.Image:
    """Converts numbers [H, W] or [H, W, C] to RGB or RGBA; the largest becomes 255."""
    if levels.dtype != np.uint8:
        levels = levels.astype(np.float32)
        if not np.isfinite(levels).all():
            raise PictureError("holds numbers that are not finite (NaN)")
        levels -= min(float(levels.min()), 0)
        levels *= 255 / (float(levels.max()) or 1)
    image = Image.fromarray(levels.astype(np.uint8))
    return image if image.mode == "RGBA" else image.convert("RGB")


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
