import io
import struct

import numpy as np
import pytest
from PIL import Image

from mnist_jax.reading.page_counts import MAX_COUNTED, count_pages, may_have_rows
from mnist_jax.reading.paths import Source


def encode(kind, count, **options):
    """A file of so many frames; no two are the same, as encoders would join them."""
    frames = [Image.new("RGB", (20, 20), (9 * k, 0, 255)) for k in range(count)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_pages_and_frames(tmp_path, kind, count):
    content = encode(kind, count)
    assert count_pages(Source("<stdin>", content)) == count
    (tmp_path / "x").write_bytes(content)
    assert count_pages(Source(str(tmp_path / "x"))) == count


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "PPM"])
def test_files_of_one_picture(kind):
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, kind)
    assert count_pages(Source("<stdin>", file.getvalue())) == 1


def test_previews_and_thumbnails_are_no_pages():
    assert count_pages(Source("<stdin>", encode("MPO", 2))) == 1
    content = bytearray(_tiff(3))
    for start in (8 + 102, 8 + 2 * 102):  # the second and the third directory
        content[start + 2 : start + 14] = struct.pack("<HHII", 254, 4, 1, 1)
    assert count_pages(Source("<stdin>", bytes(content))) == 1


def _tiff(count, loop=False):
    """A TIFF of directories without pixels; each has 102 bytes."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 1), (273, 4, 1, 0), (278, 3, 1, 1), (279, 4, 1, 1)]
    content = b"II*\0" + struct.pack("<I", 8)
    for k in range(count):
        last = 8 if loop else 0
        following = len(content) + 102 if k < count - 1 else last
        content += struct.pack("<H", len(entries))
        content += b"".join(struct.pack("<HHII", *entry) for entry in entries)
        content += struct.pack("<I", following)
    return content


def _gif(count):
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 28, 28, 0x80, 0, 0) + bytes(6)
    return head + frame * count + b";"


def test_millions_are_not_counted():
    assert count_pages(Source("<stdin>", _gif(7))) == 7
    assert count_pages(Source("<stdin>", _gif(200_000))) == MAX_COUNTED
    assert count_pages(Source("<stdin>", _tiff(2000))) == MAX_COUNTED
    assert count_pages(Source("<stdin>", _tiff(3, loop=True))) == 3


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_damaged_files_have_a_page(tmp_path, kind):
    content = encode(kind, 3)
    for size in range(0, len(content), 11):
        assert 1 <= count_pages(Source("<stdin>", content[:size])) <= 3
    assert count_pages(Source(str(tmp_path / "none"))) == 1
    assert count_pages(Source("a\0b")) == 1
    assert count_pages(Source(str(tmp_path))) == 1


def test_files_that_may_give_several_answers(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 28, 28)))
    Image.new("L", (9, 9)).save(tmp_path / "b.png")
    assert may_have_rows(Source(str(tmp_path / "a.npy")))
    assert may_have_rows(Source("<stdin>", encode("TIFF", 2)))
    for source in (
        Source(str(tmp_path / "b.png")),
        Source("none"),
        Source("<stdin>", b""),
    ):
        assert not may_have_rows(source)
