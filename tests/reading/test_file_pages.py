import io
import struct
import weakref

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_jax.errors import ArgumentError, PictureError
from mnist_jax.reading import file_pages
from mnist_jax.reading.file_pages import MAX_PAGES, read_pages
from mnist_jax.reading.files import read_picture


def draw(number, size=(60, 60)):
    """A page with a stroke of its own."""
    page = Image.new("RGB", size, "white")
    ImageDraw.Draw(page).line((5 + 9 * number, 5, 30, 50), fill="black", width=4)
    return page


def encode(kind, pages, **options):
    file = io.BytesIO()
    pages[0].save(file, kind, save_all=True, append_images=pages[1:], **options)
    return file.getvalue()


def tell(content):
    """What each page is: its number, or its error."""
    return [
        str(page) if isinstance(page, PictureError) else find(page)
        for page in read_pages(content)
    ]


def find(page):
    """The number of the page that a picture shows."""
    shown = np.asarray(page.convert("L"), float)
    distances = [
        np.abs(shown - np.asarray(draw(number).convert("L"), float)).mean()
        for number in range(5)
    ]
    assert min(distances) < 4
    return int(np.argmin(distances))


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_pages_and_frames(tmp_path, kind, count):
    content = encode(kind, [draw(number) for number in range(count)])
    (tmp_path / "x").write_bytes(content)
    for source in (content, tmp_path / "x", str(tmp_path / "x")):
        pages = list(read_pages(source))
        assert [find(page) for page in pages] == list(range(count))
        assert all(page.mode == "RGB" for page in pages)
        assert all(page.info == {"full_size": (60, 60)} for page in pages)
        assert pages[0].tobytes() == read_picture(source).tobytes()


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_frames_are_as_they_are_seen(kind, disposal):
    """A frame may be a part that is painted on the one before it."""
    pages = [draw(number) for number in (0, 3, 1, 1, 4)]
    content = encode(kind, pages, disposal=disposal, duration=[10, 20, 30, 40, 50])
    shown = list(read_pages(content))
    assert find(shown[0]) == 0
    with Image.open(io.BytesIO(content)) as image:
        assert len(shown) == image.n_frames > 3
    for number, page in enumerate(shown):
        with Image.open(io.BytesIO(content)) as image:
            image.seek(number)
            alone = read_picture(encode("PNG", [image.copy()]))
        assert page.tobytes() == alone.tobytes()


def test_pages_of_many_kinds_in_one_file(tmp_path):
    pages = [draw(0), draw(1).convert("1"), draw(2).resize((2400, 2400)), draw(3)]
    pages[3] = pages[3].rotate(-90, expand=True)
    exif = Image.Exif()
    content = encode("TIFF", pages[:3], compression="tiff_lzw")
    first, second, large = read_pages(content)
    assert [find(first), find(second), find(large.resize((60, 60)))] == [0, 1, 2]
    assert (large.size, large.info["full_size"]) == ((2048, 2048), (2400, 2400))
    exif[0x0112] = 8  # to be turned back by a quarter
    content = encode("TIFF", [pages[3], pages[3].copy()], exif=exif)
    assert tell(content) == [3, 3]


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "PPM", "MPO"])
def test_files_of_one_page(kind):
    options = {"append_images": [draw(1)], "save_all": True} if kind == "MPO" else {}
    file = io.BytesIO()
    draw(0).save(file, kind, quality=95, **options)
    assert tell(file.getvalue()) == [0]
    file = io.BytesIO()
    np.save(file, np.asarray(draw(2)))
    assert tell(file.getvalue()) == [2]


def test_thumbnails_are_no_pages():
    content = bytearray(_tiff(5))
    for number, kind in ((1, 1), (3, 4)):  # a thumbnail and a mask
        start = 9 + 102 * number + 2 + 3 * 12  # the entry of the compression
        content[start : start + 12] = struct.pack("<HHII", 254, 4, 1, kind)
    assert len(list(read_pages(bytes(content)))) == 3


def test_what_is_no_picture_is_one_error(tmp_path):
    for source in (b"", b"no picture", tmp_path, tmp_path / "none", "a\0b"):
        (error,) = read_pages(source)
        assert isinstance(error, PictureError)
    assert tell(b"") == ["is empty"]
    with pytest.raises(ArgumentError, match="a path or bytes"):
        list(read_pages(7))


DAMAGED = "damaged (its pixels cannot be decoded)"


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_behind_a_damaged_page_the_others_are_read(tmp_path, compression):
    pages = [draw(number) for number in range(4)]
    content = bytearray(encode("TIFF", pages, compression=compression))
    with Image.open(io.BytesIO(content)) as tiff:
        tiff.seek(1)
        place = tiff.tag_v2[273][0]  # where its pixels are
        tiff.seek(2)
        directory = tiff._frame_pos[2]
    if compression:
        content[place : place + 20] = b"\xff" * 20
        assert tell(bytes(content)) == [0, DAMAGED, 2, 3]
    else:
        content[directory + 2 : directory + 14] = bytes(12)  # its width
        assert tell(bytes(content)) == [0, 1, "damaged (missing dimensions)", 3]
    (tmp_path / "x").write_bytes(content)
    assert [
        find(page)
        for page in read_pages(tmp_path / "x")
        if page is not None and not isinstance(page, PictureError)
    ] == [page for page in tell(bytes(content)) if not isinstance(page, str)]


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_frames_on_a_damaged_one_are_not_read(kind):
    content = bytearray(encode(kind, [draw(number) for number in range(4)]))
    middle = len(content) // 2
    content[middle : middle + 9] = b"\xff" * 9
    on_it = "is painted on a frame that cannot be read"
    found = tell(bytes(content))
    assert found == [0, DAMAGED, on_it, on_it]


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_a_file_that_ends_too_early_has_an_error(kind):
    pages = [draw(number) for number in range(4)]
    content = encode(kind, pages)
    for size in range(0, len(content) - 99, 1 + len(content) // 40):
        *good, last = tell(content[:size])
        assert isinstance(last, str)
        read = [page for page in good if not isinstance(page, str)]
        assert read == list(range(len(read)))


def _tiff(count, loop=False):
    """A TIFF of directories, each of 102 bytes, that share one white pixel."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 1), (273, 4, 1, 8), (278, 3, 1, 1), (279, 4, 1, 1)]
    content = b"II*\0" + struct.pack("<I", 9) + b"\xff"
    for k in range(count):
        last = 9 if loop else 0
        following = len(content) + 102 if k < count - 1 else last
        content += struct.pack("<H", len(entries))
        content += b"".join(struct.pack("<HHII", *entry) for entry in entries)
        content += struct.pack("<I", following)
    return content


def _gif(count, size=28):
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", size, size, 0x80, 0, 0) + bytes(6)
    return head + frame * count + b";"


@pytest.mark.parametrize("make", [_gif, _tiff])
def test_a_thousand_pages_are_read(make):
    assert all(not isinstance(p, PictureError) for p in read_pages(make(7)))
    assert sum(1 for _ in read_pages(make(MAX_PAGES))) == MAX_PAGES
    for count in (MAX_PAGES + 1, 3 * MAX_PAGES):
        *pages, last = read_pages(make(count))
        assert len(pages) == MAX_PAGES
        assert not any(isinstance(page, PictureError) for page in pages)
        assert (
            str(last)
            == "not read, and nor is what follows: a file may have 1,000 pages"
        )


def test_a_circle_of_pages_ends():
    assert sum(1 for _ in read_pages(_tiff(3, loop=True))) == 3


def test_small_files_may_not_claim_pixels_without_end(monkeypatch):
    monkeypatch.setattr(file_pages, "_MAX_PIXELS", 300_000)
    content = _gif(99, size=200)
    *pages, last = read_pages(content)
    assert len(pages) == (300_000 + 2000 * len(content)) // 40_000
    assert "its pages have too many pixels for so small a file" in str(last)


def test_huge_directories_are_not_read():
    content = bytearray(_tiff(3))
    content[9 + 102 : 9 + 104] = b"\xff\xff"
    _, last = read_pages(bytes(content))
    assert str(last) == "damaged (its directory has 65,535 entries)"


def test_one_page_is_in_memory_at_a_time():
    pages = [Image.new("L", (1000, 1000), 9 * number) for number in range(20)]
    content = encode("TIFF", pages, compression="tiff_deflate")
    pages_seen, levels = [], []
    for page in read_pages(content):
        levels.append(page.getpixel((0, 0))[0])
        pages_seen.append(weakref.ref(page))
        alive = sum(seen() is not None for seen in pages_seen)
        assert alive <= 2  # this one and at most the one before it
    assert levels == [9 * number for number in range(20)]
