"""Picture files of any kind, hostile ones too, become RGB pictures or a reason.

`PictureError`s hold the reason only: whoever shows one knows which file it is about.
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

# Formats without scripts, external programs or references to other files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".bmp", ".dib", ".gif", ".jpe", ".jpeg", ".jpg", ".npy", ".pbm", ".pgm", ".png"}
    | {".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
MAX_BYTES = 2**28  # of a file; 64 million pixels of four bytes pass
MAX_PIXELS = 64_000_000  # decoded; a 48-megapixel photo passes
MAX_SIDE = 1024  # pixels: larger pictures are reduced to it

_TOO_LARGE = f"has more than {MAX_PIXELS // 10**6} million pixels"
# Pillow has these decoders in Python: a second or more for each million bytes.
_SLOW_DECODERS, _MAX_SLOW_BYTES = ("ppm_plain", "bmp_rle"), 3_000_000
_MAX_SCANS = 100  # of a progressive JPEG, which has ten; each goes over all pixels
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_HEIC = re.compile(rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)

_REDUCIBLE = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "F")  # modes

# Threads decode small pictures at once, but of large ones one at a time.
_one_at_a_time = threading.Lock()
_SMALL = 8_000_000  # pixels


def read_picture(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Opens, checks and decodes a picture.

    Args:
      source: the path of a regular file, or a file's content as bytes. It is in one of
        `FORMATS`, of which the first frame is read, or a NumPy array (.npy), [H, W] or
        [H, W, C] of 1, 3 or 4 channels, of 8 bits or of any scale from 0 on.

    Returns:
      An RGB picture, upright, transparency filled in, `MAX_SIDE` at most. Its
      `info["full_size"]` is its width and height before it was reduced.

    Raises:
      PictureError: it is missing, unreadable, no picture, too large or damaged.
    """
    with _warnings_ignored:  # Pillow's doubts; sizes are checked here
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
        except Exception as error:  # of every kind: decoders meet any bytes at all
            raise PictureError(f"damaged ({_one_line(error)})") from error


def open_regular_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a file for reading, but at once refuses what may hang or never end.

    Raises:
      PictureError: it is a directory, pipe, socket or device.
      OSError: it cannot be opened.
    """
    if "\0" in os.fspath(path):
        raise PictureError("no such file: no name holds a null character")
    # Looked at once it is open, since before that it may still be exchanged; and not
    # blocking, since a pipe would wait for its writer.
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
    """As `warnings.catch_warnings`, which threads must not enter by turns."""

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
    pixels = image.width * image.height  # known from the header alone
    if pixels > MAX_PIXELS:
        raise PictureError(_TOO_LARGE)
    _check_effort(image, file, size)
    with _one_at_a_time if pixels > _SMALL else contextlib.nullcontext():
        return _decode(image)


def _check_effort(image: Image.Image, file: IO[bytes], size: int) -> None:
    """Refuses small files that take minutes; leaves the file where it was."""
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
    """The scans of a JPEG's first image; not of thumbnails and what follows it."""
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
    # A note of the camera that is damaged turns nothing.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    turned = (width < height) != (image.width < image.height)
    if image.mode in _REDUCIBLE and "transparency" not in image.info:
        image.thumbnail((MAX_SIDE, MAX_SIDE))  # before there is a second large copy
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
    """Reads a .npy file, if its header is that of a picture, as [H, W(, C)]."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.kind not in "buif":
        raise PictureError(f"holds {dtype.name}, not numbers")
    # A batch of one is one picture.
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
    """Brings any mode to RGB or RGBA."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode[0] in "IF":
        return _levels_to_8_bits(np.asarray(image))
    return image.convert("RGB")


def _levels_to_8_bits(levels: np.ndarray) -> Image.Image:
    """Brings numbers [H, W(, C)] of any scale to RGB or RGBA by their own largest."""
    if levels.dtype != np.uint8:
        levels = levels.astype(np.float32)
        if not np.isfinite(levels).all():
            raise PictureError("holds numbers that are not finite (NaN)")
        levels -= min(float(levels.min()), 0)
        levels *= 255 / (float(levels.max()) or 1)
    image = Image.fromarray(levels.astype(np.uint8))
    return image if image.mode == "RGBA" else image.convert("RGB")


def _fill_transparency(image: Image.Image) -> Image.Image:
    """Puts a picture on a ground of one colour on which its ink can be seen.

    What is opaque is either a drawing on paper, when it fills most of its own frame and
    is not of one tone, and the ground is the paper; or it is ink, black, white or
    coloured, and the ground is white or black, whichever is farther.
    """
    if image.mode == "RGB":
        return image
    alpha = np.asarray(image.getchannel("A"))
    opaque = alpha > alpha.max() / 2  # faint ink may have no more
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
