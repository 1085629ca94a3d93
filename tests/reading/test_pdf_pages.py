import importlib.util
import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from mnist_jax.errors import PictureError
from mnist_jax.reading import file_pages, pdf_pages
from mnist_jax.reading.file_pages import read_pages
from mnist_jax.reading.files import read_picture


def draw(number):
    page = Image.new("RGB", (300, 400), "white")
    ImageDraw.Draw(page).line((20 + 60 * number, 20, 150, 380), fill="black", width=9)
    return page


def scan(count=3):
    """A PDF as scanners make it, at 100 pixels an inch."""
    file = io.BytesIO()
    pages = [draw(number) for number in range(count)]
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=100)
    return file.getvalue()


def make_pdf(*objects):
    content, places = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        content
        + b"xref\n0 %d\n0000000000 65535 f \n%s"
        % (
            len(objects) + 1,
            table,
        )
        + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
        % (
            len(objects) + 1,
            len(content),
        )
    )


def stream(entries, content):
    content = zlib.compress(content)
    head = b"<<%s/Filter/FlateDecode/Length %d>>" % (entries, len(content))
    return head + b"\nstream\n" + content + b"\nendstream"


def make_page(box, content, resources=b"", more=(), kids=b"3 0 R"):
    return make_pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, kids.count(b"R")),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %s]/Resources<<%s>>/Contents 4 0 R>>"
        % (box, resources),
        stream(b"", content),
        *more,
    )


def test_each_page_is_read(tmp_path):
    (tmp_path / "scan").write_bytes(scan())
    for source in (scan(), tmp_path / "scan"):
        pages = list(read_pages(source))
        assert [page.info for page in pages] == [{"full_size": (600, 800)}] * 3
        for number, page in enumerate(pages):
            expected = np.asarray(draw(number).resize((600, 800)), float)
            assert np.abs(np.asarray(page, float) - expected).mean() < 4
        assert read_picture(source) == pages[0]


def test_a_page_is_as_it_is_seen():
    """Turned as the file says, with what was written over it."""
    note = (
        b"<</Type/Annot/Subtype/Ink/Rect[0 0 72 144]/InkList[[10 10 60 130]]/C[0 0 0]"
        b"/BS<</W 9>>/AP<</N 6 0 R>>>>"
    )
    form = stream(
        b"/Type/XObject/Subtype/Form/BBox[0 0 72 144]", b"9 w 10 10 m 60 130 l S"
    )
    content = make_page(b"72 144", b"", more=[note, form])
    content = content.replace(b"/Contents", b"/Annots[5 0 R]/Rotate 90/Contents")
    page = read_picture(content)
    assert page.info == {"full_size": (400, 200)}
    levels = np.asarray(page.convert("L"))
    assert (levels < 128).mean() > 0.05  # the ink
    assert levels[30, 30] == levels[164, 356] == 0
    assert levels[164, 30] == levels[30, 356] == 255


@pytest.mark.parametrize(
    ("box", "full", "size"),
    [
        (b"14400 14400", (40_000, 40_000), (2048, 2048)),
        (b"14400 7200", (40_000, 20_000), (2048, 1024)),
        (b"7200 36", (20_000, 100), (12_800, 64)),
        (b"1 1", (3, 3), (3, 3)),
    ],
)
def test_a_page_of_any_size_is_drawn_at_a_moderate_one(box, full, size):
    page = read_picture(make_page(box, b"0 0 m 9 9 l S"))
    assert page.info == {"full_size": full}
    assert np.abs(np.subtract(page.size, size)).max() <= 1


def test_drawing_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(pdf_pages, "SECONDS", 1)
    line = b"[1 1] 0 d 0 0 m 599 799 l S\n"
    content = make_page(b"600 800", line * 1_000_000, kids=b"3 0 R 3 0 R")
    assert len(content) < 200_000
    (error,) = read_pages(content)
    assert str(error).startswith("takes too long, or too much memory, to draw, and")
    with pytest.raises(PictureError, match="takes too long"):
        read_picture(content)


def test_memory_is_bounded(monkeypatch):
    """A stream of a few bytes may hold a picture of any size."""
    monkeypatch.setattr(pdf_pages, "MEMORY", 2**28)
    entries = b"/Type/XObject/Subtype/Image/Width 20000/Height 20000/BitsPerComponent 8"
    picture = stream(entries + b"/ColorSpace/DeviceRGB", bytes(2**24))
    content = make_page(
        b"600 800",
        b"q 600 0 0 800 0 0 cm /I Do Q",
        b"/XObject<</I 5 0 R>>",
        [picture],
    )
    for page in read_pages(content):
        assert isinstance(page, PictureError) or page.size == (1536, 2048)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.7\n", "PDFium cannot open it"),
        (scan()[:700], "PDFium cannot open it"),
        (b"%PDF-1.7\n" + bytes(5000), "PDFium cannot open it"),
        (make_page(b"9 9", b"", kids=b""), "PDFium cannot open it"),
    ],
)
def test_damaged_files(content, reason):
    (error,) = read_pages(content)
    assert reason in str(error)
    with pytest.raises(PictureError, match=reason):
        read_picture(content)


def test_only_what_begins_so_is_a_pdf():
    content = scan(1)
    (page,) = read_pages(b"\r\n" + content)
    assert page.size == (600, 800)
    file = io.BytesIO()
    about = PngInfo()
    about.add_text("made from", "%PDF-1.7")
    draw(0).save(file, "PNG", pnginfo=about)
    assert b"%PDF-" in file.getvalue()[:200]
    assert read_picture(file.getvalue()).size == (300, 400)


def test_a_password():
    content = make_page(b"9 9", b"")
    locked = content.replace(
        b"trailer<<",
        b"trailer<</ID[<00><00>]/Encrypt<</Filter/Standard/V 2/R 3/Length 128/P -4"
        b"/O<" + b"12" * 32 + b">/U<" + b"34" * 32 + b">>>",
    )
    with pytest.raises(PictureError, match="with a password: save it without one"):
        read_picture(locked)


def test_pages_are_counted(monkeypatch):
    monkeypatch.setattr(file_pages, "MAX_PAGES", 2)
    *pages, error = read_pages(scan(4))
    assert len(pages) == 2
    assert "nor is what follows: a file may have 2 pages" in str(error)
    monkeypatch.setattr(file_pages, "_MAX_PIXELS", 900_000)
    monkeypatch.setattr(file_pages, "_MAX_PIXELS_A_BYTE", 0)
    *pages, error = read_pages(scan(4))
    assert len(pages) == 1
    assert "too many pixels" in str(error)


def test_without_pdfium_one_line_says_so(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name != "pypdfium2" and find(name)
    )
    with pytest.raises(PictureError, match="pip install pypdfium2"):
        read_picture(scan())
