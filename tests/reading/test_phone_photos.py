import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageDraw, features

from mnist_jax.errors import PictureError
from mnist_jax.reading import files
from mnist_jax.reading.file_pages import read_pages
from mnist_jax.reading.files import read_picture


def draw(size=(120, 160)):
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).line((20, 10, 90, 150), fill=(20, 30, 90), width=9)
    return picture


def encode(kind, *pages, **options):
    pages, file = pages or (draw(),), io.BytesIO()
    if kind == "AVIF":
        more = {"save_all": True, "append_images": pages[1:]} if pages[1:] else {}
        pages[0].save(file, kind, quality=90, speed=10, **more, **options)
        return file.getvalue()
    heif = pillow_heif.HeifFile()
    for page in pages:
        heif.add_from_pillow(page)
    heif.save(file, quality=90, **options)
    return file.getvalue()


def distance(a, b):
    return np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_photos_are_read(tmp_path, kind):
    content = encode(kind)
    (tmp_path / "photo.jpg").write_bytes(content)  # its content counts
    for source in (content, tmp_path / "photo.jpg"):
        picture = read_picture(source)
        assert (picture.mode, picture.info) == ("RGB", {"full_size": (120, 160)})
        assert distance(picture, draw()) < 3
        (page,) = read_pages(source)
        assert page == picture


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_photos_are_turned_as_the_camera_says(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    lying, file = draw().rotate(90, expand=True), io.BytesIO()
    if kind == "AVIF":
        lying.save(file, kind, quality=90, speed=10, exif=exif.tobytes())
    else:
        size, pixels = lying.size, lying.tobytes()
        options = {"exif": exif.tobytes(), "quality": 90}
        pillow_heif.encode("RGB", size, pixels, file, **options)
    picture = read_picture(file.getvalue())
    assert picture.info == {"full_size": (120, 160)}
    assert distance(picture, draw()) < 4


def test_what_stands_beside_a_heic_photo_is_no_page_and_frames_of_avif_are():
    other = Image.new("RGB", (60, 60), "black")
    assert len(list(read_pages(encode("HEIC", draw(), other)))) == 1
    frames = [draw(), Image.new("RGB", (120, 160), "black"), draw()]
    pages = list(read_pages(encode("AVIF", *frames)))
    assert [distance(p, f) < 4 for p, f in zip(pages, frames, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_sizes_are_bounded_from_the_header(kind, monkeypatch):
    """What decodes a picture holds several copies of it."""
    content = encode(kind, draw((64, 64)))
    size = (64).to_bytes(4, "big")
    place = content.index(b"ispe") + 8
    assert content[place : place + 8] == size * 2
    monkeypatch.setattr(files, "_decode", None)
    for side, reason in (
        (60_000, "million pixels|header cannot be read"),
        (7_500, {"HEIC": "is a HEIC of over", "AVIF": "is an AVIF of over"}[kind]),
    ):
        large = side.to_bytes(4, "big") * 2
        with pytest.raises(PictureError, match=reason):
            read_picture(content[:place] + large + content[place + 8 :])


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_damaged_photos_give_a_picture_or_a_reason(kind, capfd):
    content, told = encode(kind), set()
    for end in (0.1, 0.5, 0.9):
        cut = content[: int(end * len(content))]
        for damaged in (cut, cut + bytes(len(content) - len(cut))):
            try:
                read_picture(damaged)
            except PictureError as error:
                told.add(str(error))
    assert told
    assert all(t.startswith(("damaged", "not a")) and "\n" not in t for t in told), told
    assert capfd.readouterr() == ("", "")


def test_without_what_reads_them_one_line_says_so(monkeypatch):
    heic, avif = encode("HEIC"), encode("AVIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match="pip install pillow-heif"):
        read_picture(heic)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(PictureError, match="AVIF, which this Pillow cannot read"):
        read_picture(avif)
