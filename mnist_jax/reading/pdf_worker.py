"""Draws the pages of a PDF, in a process of its own that may be killed.

PDFium may not be used by several threads at once, and a hostile file can make it draw
for ever or take all memory. So `pdf_pages` runs this file, with the PDF as stdin and
what is drawn as stdout. It imports nothing of mnist_jax, and starts fast.

For each page it writes a line of JSON, and behind it `rows` rows of `stride` bytes, of
which the first 3 * `width` are RGB.
"""

import json
import resource
import sys
from typing import Any

_INCH = 72  # points, the unit of PDF


def main(dots: float, side: int, least: int, seconds: int, memory: int) -> None:
    """Writes all pages.

    Args:
      dots: pixels an inch of a page's full size.
      side: pixels of the longer side that a larger page is reduced to.
      least: pixels of the shorter side that a long strip keeps.
      seconds: of the processor, for each page.
      memory: bytes of address space.
    """
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, seconds + 1)
    _limit(resource.RLIMIT_CORE, 0)  # which would be written when it is ended
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(open(0, "rb"))  # noqa: SIM115  till the end
        document.init_forms()  # what is typed into a form is drawn too
        count = len(document)
    except pypdfium2.PdfiumError as error:
        _write({"error": str(error)})
        return
    _write({"pages": count})
    for number in range(count):
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + 1)
        try:
            page = document[number]
            size = page.get_size()
            full = [max(1, round(points * dots / _INCH)) for points in size]
            longer = round(reduction(full[0], full[1], side, least) * max(full))
            # PDFium rounds sizes up; a little less gives those that are meant.
            scale = longer / max(size) * (1 - 1e-7)
            bitmap = page.render(
                scale=scale,
                rev_byteorder=True,
                force_bitmap_format=pypdfium2.raw.FPDFBitmap_BGR,
            )
        except (pypdfium2.PdfiumError, ValueError, MemoryError) as error:
            _write({"error": f"page: {error}"})
            continue
        head = {"width": bitmap.width, "rows": bitmap.height, "stride": bitmap.stride}
        _write({**head, "full": full})
        sys.stdout.buffer.write(bitmap.buffer)
        sys.stdout.buffer.flush()
        bitmap.close()
        page.close()


def reduction(width: int, height: int, side: int, least: int) -> float:
    """Returns the scale, up to 1, of `reduction.reduced_size`."""
    short, long = min(width, height), max(width, height)
    readable = min(least / short, side / (short * long) ** 0.5)
    return min(1.0, max(side / long, readable))


def _limit(what: int, value: int) -> None:
    """Lowers a limit of this process; some systems have no limit of memory."""
    try:
        hard = resource.getrlimit(what)[1]
        within = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (within, hard))
    except (ValueError, OSError):
        pass


def _write(record: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(record).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
