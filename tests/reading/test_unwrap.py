import base64
import io
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_jax.errors import PictureError
from mnist_jax.reading import files
from mnist_jax.reading.file_pages import read_pages
from mnist_jax.reading.files import read_picture, read_stack
from mnist_jax.reading.paths import find_pictures
from mnist_jax.reading.unwrap import content_of, unwrap


def encode(kind="PNG"):
    picture = Image.new("RGB", (60, 80), "white")
    ImageDraw.Draw(picture).line((10, 10, 40, 70), fill="black", width=5)
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


WRAPPED = {
    "url": b"data:image/png;base64,%s",
    "capitals": b"DATA:image/png;name=x;BASE64,%s",
    "no_kind": b"data:;base64,%s",
    "quoted": b'  "data:image/png;base64,%s"\r\n',
    "text": b"%s\n",
    "mark": b"\xef\xbb\xbf%s",
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PDF"])
def test_text_is_read_as_the_picture_in_it(tmp_path, name, kind):
    content = encode(kind)
    wrapped = WRAPPED[name] % base64.b64encode(content)
    expected = read_picture(content)
    (tmp_path / "canvas.txt").write_bytes(wrapped)
    for source in (wrapped, tmp_path / "canvas.txt", wrapped.decode()):
        assert read_picture(source) == expected
    (page,) = read_pages(wrapped)
    assert page == expected
    (source,) = find_pictures([wrapped.decode()]).sources
    assert (source.name, source.place) == ("<data URL>", content_of(wrapped.decode()))


def test_text_in_lines_and_as_a_form_sends_it():
    content = encode()
    expected = read_picture(content)
    assert read_picture(base64.encodebytes(content)) == expected
    text = base64.b64encode(content).rstrip(b"=")
    for letter in b"+/":
        text = text.replace(bytes([letter]), b"%%%02X" % letter)
    assert read_picture(b"data:image/png;base64," + text + b"%3D") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data:image/svg+xml,<svg/>", "without base64"),
        ("data:image/png;base64", "without a comma"),
        ("data:image/png;base64,a?b", "base64 cannot be decoded"),
        ("data:image/png;base64,", "is empty"),
        ("data:text/plain;base64,aGVsbG8=", "not a BMP"),
        ("data:image/png;base64,iVBORw0KGgo=", "not a BMP"),
    ],
)
def test_urls_that_hold_no_picture(tmp_path, text, reason):
    for source in (text, text.encode()):
        with pytest.raises(PictureError, match=reason):
            read_picture(source)


@pytest.mark.parametrize(
    "text", ["7.png", "a" * 300, "/9j/short", "data", "/home/me/AAAA" + "b" * 60, ""]
)
def test_a_path_is_a_path(text):
    assert content_of(text) is None
    with pytest.raises(PictureError, match=r"no such file|too long|directory"):
        read_picture(text)


def test_text_that_is_no_picture_stays_as_it_is():
    for content in (b"hello", b"A" * 500, encode(), b"PNG " * 99):
        file, size = unwrap(io.BytesIO(content), len(content), 2**20)
        assert (file.read(), size) == (content, len(content))


def save_arrays(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def test_an_npz_of_one_array_is_read_as_that_array(tmp_path):
    picture = np.arange(60 * 70).reshape(60, 70) % 256
    file = io.BytesIO()
    np.save(file, picture)
    assert read_picture(save_arrays(x=picture)) == read_picture(file.getvalue())
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    images[:, 0] = 0
    (tmp_path / "x.npz").write_bytes(save_arrays(images=images))
    assert read_stack(tmp_path / "x.npz").shape == (3, 28, 28, 1)


def make_zip(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (save_arrays(x=np.ones((28, 28)), y=np.ones(3)), r"2 arrays \(x, y\)"),
        (save_arrays(**{f"a{i}": np.ones(3) for i in range(9)}), r"9 arrays.*\.\.\."),
        (make_zip(a_png=encode()), "archive: take the pictures out"),
        (make_zip(), "not a BMP"),
        (save_arrays(x=np.ones((28, 28)))[:90], "unpacked"),
        (make_zip(x_npy=b"no array"), "not a BMP"),
        (save_arrays(x=np.array([{}], object)), "not numbers"),
    ],
)
def test_archives_that_are_not_read(content, reason):
    with pytest.raises(PictureError, match=reason):
        read_picture(content)


def test_what_an_archive_or_text_grows_to_is_bounded(monkeypatch):
    most = 2**20
    monkeypatch.setattr(files, "MAX_BYTES", most)
    bomb = save_arrays(x=np.zeros((2000, 2000), np.uint8))
    assert len(bomb) < 10_000
    with pytest.raises(PictureError, match="array is larger than 1 MiB"):
        read_picture(bomb)
    # The header of an archive may say less than there is.
    size = (4_000_128).to_bytes(4, "little")
    assert size in bomb
    lie = bomb.replace(size, (1000).to_bytes(4, "little"))
    with pytest.raises(PictureError, match="damaged"):
        read_picture(lie)
    text = b"data:image/png;base64," + b"A" * most
    with pytest.raises(PictureError, match="is larger than 1 MiB"):
        read_picture(text)
