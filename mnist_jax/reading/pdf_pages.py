"""Reads the pages of a PDF, drawn by PDFium in a process of its own."""

import contextlib
import importlib.util
import json
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

from PIL import Image

from mnist_jax.errors import PictureError
from mnist_jax.reading.reduction import MAX_SIDE, MIN_SIDE

DOTS = 200  # pixels an inch: the full size of a page
SECONDS = 20  # of the processor, that a page may take
MEMORY = 2**30  # bytes that the process may have
_WORKER = Path(__file__).with_name("pdf_worker.py")
_MAX_LINE = 2000
_IN_FRONT = b"\xef\xbb\xbf \t\r\n\0"  # what some writers put before a PDF


def is_pdf(file: IO[bytes]) -> bool:
    """Whether a file is a PDF; leaves it at its start."""
    start = file.read(64).lstrip(_IN_FRONT)
    file.seek(0)
    return start.startswith(b"%PDF-")


def draw_pages(
    file: IO[bytes],
) -> Generator[Image.Image | PictureError, None, None]:
    """Draws the pages of a PDF, one at a time.

    Args:
      file: at its start.

    Yields:
      For each page, an RGB picture of `reduction.reduced_size`, whose
      `info["full_size"]` is its size in pixels at `DOTS` to the inch; or the error why
      it cannot be drawn. What a page may cost is bounded, and behind one that costs
      more no other is drawn.

    Raises:
      PictureError: PDFium is missing, or the file is damaged or has a password.
    """
    if not importlib.util.find_spec("pypdfium2"):
        raise PictureError("is a PDF: pip install pypdfium2, and it can be read")
    import shutil  # only now, as most pictures need none of these
    import subprocess
    import tempfile

    with contextlib.ExitStack() as stack:
        try:
            file.fileno()
        except OSError:  # it is in memory
            content, file = file, stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(content, file)
            file.seek(0)
        numbers = (DOTS, MAX_SIDE, MIN_SIDE, SECONDS, MEMORY)
        worker = stack.enter_context(
            # -P: the folder of the worker has modules of common names.
            subprocess.Popen(
                [sys.executable, "-P", str(_WORKER), *map(str, numbers)],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
        stack.callback(worker.kill)  # before it is waited for
        assert worker.stdout
        yield from _receive(worker.stdout)


def _receive(stream: IO[bytes]) -> Iterator[Image.Image | PictureError]:
    head = _read_head(stream)
    if head is None or "error" in head:
        if head and "password" in head["error"].lower():
            raise PictureError("is a PDF with a password: save it without one")
        raise PictureError("damaged (PDFium cannot open it)")
    if not head["pages"]:
        raise PictureError("is a PDF without a page")
    for number in range(head["pages"]):
        page = _read_head(stream)
        content, length = b"", 0
        if page and "error" in page:
            yield PictureError("damaged (PDFium cannot draw it)")
            continue
        if page:
            length = page["rows"] * page["stride"]
            content = stream.read(length)
        if not page or len(content) < length:
            more = ", and what follows is not read" * (number + 1 < head["pages"])
            yield PictureError(f"takes too long, or too much memory, to draw{more}")
            return
        size = page["width"], page["rows"]
        image = Image.frombytes("RGB", size, content, "raw", "RGB", page["stride"])
        image.info = {"full_size": tuple(page["full"])}
        yield image


def _read_head(stream: IO[bytes]) -> dict[str, Any] | None:
    """Reads a line of the worker; None if it has ended."""
    line = stream.readline(_MAX_LINE)
    found: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
    return found
