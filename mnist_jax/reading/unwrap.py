"""Takes pictures out of what they are wrapped in: data URLs, base64 text, .npz files.

A canvas of a web page gives its picture as such a URL; so they end up in files and in
the bodies of requests.
"""

import base64
import binascii
import io
import re
from typing import IO

from mnist_jax.errors import PictureError

_URL = re.compile(rb"data:([^,]{0,200}),", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")
_AROUND = b"\xef\xbb\xbf \t\r\n\"'"  # a byte order mark, space, and quotes of JSON
# How files begin; base64 text is a picture if it stands for one of these.
_MAGIC = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF|BM|II\*\0|MM\0\*|%PDF-|P[1-7]\s|.{4}ftyp|\x93NUMPY",
    re.DOTALL,
)
_LEAST = 64  # characters; no picture's base64 is shorter
_START = 2 * _LEAST


def content_of(text: str) -> bytes | None:
    """Returns a data URL or base64 text as bytes; None for all else, such as a path."""
    around = _AROUND.decode("utf-8")
    start = text[:_START].lstrip(around).encode("ascii", "replace")
    is_content = start[:5].lower() == b"data:" or (
        len(text) >= _LEAST and _is_base64(start)
    )
    return text.strip(around).encode("ascii", "replace") if is_content else None


def unwrap(file: IO[bytes], size: int, most: int) -> tuple[IO[bytes], int]:
    """Returns the file in a wrapped one, and its number of bytes; others as they are.

    Args:
      file: at its start.
      size: its number of bytes.
      most: bytes that it, and what is in it, may have. A larger file is left as it is.

    Raises:
      PictureError: it is damaged, or an archive of something else than one array.
    """
    if size > most:
        return file, size
    start = file.read(_START)
    file.seek(0)
    if start.startswith(b"PK\3\4"):
        content = _read_npz(file, most)
    elif _is_text(start.lstrip(_AROUND)):
        content = _decode(file.read().strip(_AROUND))
    else:
        return file, size
    return io.BytesIO(content), len(content)


def _is_text(start: bytes) -> bool:
    return bool(_URL.match(start)) or start[:5].lower() == b"data:" or _is_base64(start)


def _is_base64(start: bytes) -> bool:
    if len(start) < _LEAST // 2 or not _BASE64.fullmatch(start):
        return False
    letters = b"".join(start.split())
    try:
        return bool(_MAGIC.match(base64.b64decode(letters[: len(letters) // 4 * 4])))
    except binascii.Error:
        return False


def _decode(text: bytes) -> bytes:
    if text[:5].lower() == b"data:":
        found = _URL.match(text)
        if not found:
            raise PictureError("damaged (a data URL without a comma)")
        if not found[1].lower().rstrip().endswith(b";base64"):
            raise PictureError("is a data URL without base64, and so no picture")
        text = text[found.end() :]
    letters = b"".join(text.replace(b"%2B", b"+").replace(b"%2F", b"/").split())
    letters = letters.replace(b"%3D", b"=").rstrip(b"=")
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except binascii.Error as error:
        raise PictureError("damaged (its base64 cannot be decoded)") from error


def _read_npz(file: IO[bytes], most: int) -> bytes:
    """Returns the .npy file in a .npz file of one array."""
    import zipfile  # only now, as most pictures do not need it

    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if not all(member.filename.endswith(".npy") for member in members):
                raise PictureError("is an archive: take the pictures out of it")
            if len(members) != 1:
                shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                raise PictureError(
                    f"holds {len(members)} arrays ({shown:.100}): save the one of "
                    "pictures alone, as .npy"
                )
            # The header says how long it is; what follows beyond that is not read.
            if members[0].file_size > most:
                raise PictureError(f"its array is larger than {most // 2**20} MiB")
            with archive.open(members[0]) as member:
                return member.read(most)
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:
        raise PictureError("damaged (its array cannot be unpacked)") from error
