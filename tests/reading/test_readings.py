import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_jax.errors import ArgumentError, CheckpointError, PictureError
from mnist_jax.reading import files, readings
from mnist_jax.reading.readings import Reading, load_reader
from mnist_jax.run.config_files import PRETRAINED_PAGES


def draw_one(mode="L", size=(160, 120)):
    """A picture of a 1: dark on light."""
    picture = Image.new("L", size, 235)
    ImageDraw.Draw(picture).line((85, 25, 78, 95), fill=25, width=9)
    return picture.convert(mode)


def encode(picture, form="PNG", **options):
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


@pytest.fixture(scope="module")
def reader():
    """Reads one digit a picture: that takes less to compile than the page net."""
    return load_reader(read="digit", top_k=2)


@pytest.fixture
def reading(reader):
    return reader.read(draw_one())


def test_a_picture_is_read_the_same_in_any_form(reader, tmp_path):
    picture = draw_one()
    path = tmp_path / "one.png"
    picture.save(path)
    forms = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), picture]
    forms += [np.asarray(picture), np.asarray(picture)[..., None]]
    found = [reader.read(form) for form in forms]
    assert {one.text for one in found} == {"1"}
    assert {one.status for one in found} == {"ok"}
    assert {one.page for one in found} == {0}
    assert {one.digits[0].box for one in found} == {found[0].digits[0].box}
    sources = [str(path), str(path), "<bytes>", "<bytes>", "<picture>"]
    assert [one.source for one in found] == [*sources, "<array>", "<array>"]
    assert len(found[0].digits[0].guesses) == 2


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "F", "I;16"])
def test_a_picture_of_any_mode_is_read_and_left_as_it_is(reader, mode):
    picture = draw_one("RGB" if mode == "YCbCr" else "L").convert(mode)
    before = picture.tobytes()
    assert reader.read(picture).text == "1"
    assert (picture.mode, picture.size, picture.tobytes()) == (mode, (160, 120), before)


def test_a_picture_that_lies_on_its_side_is_turned():
    turned = draw_one("RGB").rotate(90, expand=True)  # as a camera keeps it
    exif = Image.Exif()
    exif[0x0112] = 6  # it is to be turned clockwise
    for form in ("JPEG", "TIFF", "PNG"):
        opened = Image.open(io.BytesIO(encode(turned, form, exif=exif)))
        upright = files.from_pillow(opened)
        assert upright.size == upright.info["full_size"] == (160, 120)
        difference = np.asarray(upright, int) - np.asarray(draw_one("RGB"), int)
        assert np.abs(difference).mean() < 3


def test_pictures_of_pillow_may_be_too_large_or_damaged(reader, monkeypatch):
    with pytest.raises(PictureError, match="has no pixels"):
        files.from_pillow(Image.new("L", (0, 3)))
    damaged = Image.open(io.BytesIO(encode(draw_one())[:200]))
    assert reader.read(damaged).status == "error"
    monkeypatch.setattr(files, "MAX_PIXELS", 100)
    found = reader.read(draw_one())
    assert (found.status, found.text) == ("error", "")
    assert found.error.startswith("has more than ")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("none.png", "no such file"),
        ("http://host/one.png", "is a URL: download the picture first"),
        (b"", "is empty"),
        (b"GIF89a", "not a BMP, "),
        (np.zeros((2, 3, 5, 7)), "has the shape (2, 3, 5, 7)"),
        (np.full((9, 9), np.nan), ""),
    ],
    ids=str,
)
def test_what_cannot_be_read_says_why(reader, given, why):
    found = reader.read(given)
    assert (found.status, found.text, found.confidence) == ("error", "", None)
    assert found.error.startswith(why)
    assert found.error in str(found)
    assert repr(found.error) in repr(found)
    assert found.draw() is None
    assert found._repr_png_() is None
    assert "<img" not in found._repr_html_()


def test_a_page_net_in_the_place_of_a_digit_net_says_where_it_goes():
    with pytest.raises(CheckpointError, match=r"'pages', .*: give a page net as --pag"):
        load_reader(PRETRAINED_PAGES)


@pytest.mark.parametrize("given", [None, 7, [[0, 1]], np.array(["a"]), object()])
def test_what_is_no_picture_is_refused(reader, given):
    with pytest.raises(ArgumentError, match=r"a picture (is a path|must have numbers)"):
        reader.read(given)


def test_pages_are_read_one_after_another(reader):
    blank = Image.new("L", (160, 120), 235)
    tiff = encode(draw_one(), "TIFF", save_all=True, append_images=[blank])
    pages = list(reader.read_pages(tiff))
    assert [(page.page, page.text, page.status) for page in pages] == [
        (0, "1", "ok"),
        (1, "", "blank"),
    ]
    assert all(page.picture.size == (160, 120) for page in pages)
    with pytest.raises(ArgumentError, match="several pages: read_pages"):
        reader.read(tiff)


def test_images_of_digits_are_read_as_they_are(reader):
    image = np.asarray(draw_one(size=(160, 160)).resize((28, 28)))
    stack = np.stack([255 - image, np.zeros((28, 28), np.uint8)])
    one, blank = reader.read_pages(stack)
    assert (one.text, one.page, one.picture.size) == ("1", 0, (28, 28))
    assert (blank.status, blank.page, blank.picture) == ("blank", 1, None)


def test_it_prints_what_was_read_in_a_line(reading):
    assert re.fullmatch(r"<picture>: 1 \(>?\d\d\.\d\d%\)", str(reading))
    start = "Reading(text='1', confidence=0.9"
    assert repr(reading).startswith(start)
    assert "array" not in repr(reading)
    unsure = Reading("two.png", "unsure", reading.digits, certainty=0.3)
    assert re.fullmatch(r"two\.png: 1 \(\d\d\.\d\d%, unsure\)", str(unsure))
    assert str(Reading("two.png", "no_digit")) == "two.png: no digit"


def test_jupyter_shows_the_picture_with_its_answer(reading):
    png = Image.open(io.BytesIO(reading._repr_png_()))
    assert png.size == reading.draw().size
    assert png.tobytes() != reading.picture.tobytes()  # a box is drawn on it
    shown = reading._repr_html_()
    (data,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', shown)
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == png.size
    assert ">1</strong>" in shown
    assert "%, ok, &lt;picture&gt;" in shown


def test_jupyter_shows_names_of_files_as_text():
    shown = Reading("<script>.png", "error", (), "<b>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;b&gt;, &lt;script&gt;.png" in shown


def test_large_pictures_are_shown_smaller(reading):
    large = Reading("x", "blank", picture=Image.new("RGB", (2000, 900)))
    png = Image.open(io.BytesIO(large._repr_png_()))
    assert png.size == (readings._SHOWN_SIDE, round(readings._SHOWN_SIDE * 0.45))
    assert large.picture.size == (2000, 900)


def test_a_reader_of_a_run_of_ones_own(trained_workdir):
    own = load_reader(trained_workdir, read="digit", min_confidence=1.0)
    assert own.read(draw_one()).status == "unsure"
    with pytest.raises(CheckpointError, match="no folder 'none'; train first"):
        load_reader("none")
    with pytest.raises(CheckpointError, match="is of no page net"):
        load_reader(page_workdir=trained_workdir)
    with pytest.raises(ArgumentError, match="read='digits': did you mean 'digit'"):
        load_reader(read="digits")
