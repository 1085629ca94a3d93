import io
import os

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_jax.errors import ArgumentError, PictureError, UserError
from mnist_jax.web.corrections import Corrections, cut_out

NAMES = list("0123456789")
BOX = (40, 60, 80, 120)


def draw(size=(200, 160), mode="RGB"):
    """A picture with a tone of its own at each place."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    levels = np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)
    return Image.fromarray(levels).convert(mode)


def save(picture, form="PNG", **options):
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def files_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_digit_is_kept_with_a_margin_in_its_own_pixels(tmp_path):
    picture = draw()
    kept = Corrections(tmp_path / "my_digits", NAMES).keep(save(picture), "7", BOX)
    assert kept.parent == tmp_path / "my_digits" / "7"
    assert kept.suffix == ".png"
    # A fifth of 60 pixels on each side.
    expected = np.asarray(picture)[48:132, 28:92]
    np.testing.assert_array_equal(np.asarray(Image.open(kept)), expected)
    assert files_of(tmp_path / "my_digits") == [f"7/{kept.name}"]


def test_what_is_said_last_counts(tmp_path):
    corrections = Corrections(tmp_path, NAMES)
    first = corrections.keep(save(draw()), "7", BOX)
    again = corrections.keep(save(draw()), "7", BOX)
    other = corrections.keep(save(draw()), "1", BOX)
    assert first == again
    assert files_of(tmp_path) == [f"1/{other.name}"]
    corrections.keep(save(draw()), "1", (0, 0, 20, 20))
    assert len(files_of(tmp_path)) == 2


def test_a_box_is_cut_at_the_border(tmp_path):
    assert cut_out(save(draw()), (150, 100, 200, 160)).size == (62, 72)
    assert cut_out(save(draw()), None).size == (200, 160)


@pytest.mark.parametrize("box", [(50, 50, 50, 50), (500, 0, 600, 9), (9, 9, 1, 1)])
def test_a_box_beside_the_picture_is_refused(box):
    with pytest.raises(ArgumentError, match=r"is no part of 200x160 pixels"):
        cut_out(save(draw()), box)


def test_large_photographs_keep_their_pixels_and_lose_their_notes():
    picture = draw((3000, 2400))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    exif[0x010E] = "taken at home"
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    content = save(turned, "PNG", exif=exif, pnginfo=None)
    box = (1000, 1200, 1100, 1300)
    cut = cut_out(content, box)
    expected = np.asarray(picture)[1180:1320, 980:1120]
    np.testing.assert_array_equal(np.asarray(cut), expected)
    assert b"home" not in save(cut)
    assert not cut.getexif()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "1", "P", "CMYK"])
def test_large_pictures_of_any_mode_are_cut(mode):
    rgb = draw((2600, 300))
    if mode in ("RGBA", "LA"):
        rgb.putalpha(255)
    picture = rgb.convert(mode)
    content = save(picture, "TIFF" if mode == "CMYK" else "PNG")
    cut = cut_out(content, (1000, 100, 1100, 150))
    expected = picture.crop((980, 80, 1120, 170)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(cut.convert("RGB")), np.asarray(expected))
    assert save(cut)


def test_pages_are_told_apart(tmp_path):
    first, second = draw((3000, 400)), draw((3000, 400)).rotate(180)
    content = save(first, "TIFF", save_all=True, append_images=[second])
    for page, picture in enumerate((first, second)):
        cut = cut_out(content, (100, 100, 200, 200), page)
        expected = np.asarray(picture)[80:220, 80:220]
        np.testing.assert_array_equal(np.asarray(cut), expected)
    with pytest.raises(ArgumentError, match="page=2: there is no such page"):
        cut_out(content, None, 2)


def test_a_page_behind_a_mask_is_cut_from_what_was_read():
    """A mask is no page, so that pages and places in the file differ."""
    page, mask, last = draw((3000, 400)), draw((3000, 400)).rotate(180), None
    last = Image.new("RGB", (3000, 400), "white")
    ImageDraw.Draw(last).rectangle((1000, 100, 1100, 300), "navy")
    mask.encoderinfo = {"tiffinfo": {254: 4}}
    content = save(page, "TIFF", save_all=True, append_images=[mask, last])
    cut = cut_out(content, (1000, 100, 1100, 300), 1)
    assert np.abs(np.asarray(cut)[60, 50].astype(int) - (0, 0, 128)).max() < 9


def test_arrays_are_kept_too():
    content = io.BytesIO()
    np.save(content, np.asarray(draw(mode="L")))
    assert cut_out(content.getvalue(), BOX).size == (64, 84)


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_an_image_of_an_array_of_images_is_kept_as_it_is(tmp_path, form):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    images[:, [0, -1]] = 0  # the ink is light
    content = io.BytesIO()
    np.save(content, images) if form == "npy" else np.savez(content, images)
    corrections = Corrections(tmp_path, NAMES)
    for page, image in enumerate(images):
        kept = corrections.keep(content.getvalue(), "7", None, page)
        np.testing.assert_array_equal(np.asarray(Image.open(kept)), image)
    assert cut_out(content.getvalue(), (4, 4, 14, 14), 2).size == (14, 14)
    for page in (-1, 3):
        with pytest.raises(ArgumentError, match=f"page={page}: there is no such"):
            cut_out(content.getvalue(), None, page)


@pytest.mark.parametrize("content", [b"", b"no picture", save(draw())[:200]])
def test_what_is_no_picture_is_not_kept(tmp_path, content):
    with pytest.raises(PictureError):
        Corrections(tmp_path, NAMES).keep(content, "7", BOX)
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("label", ["x", "", "../7", "10"])
def test_only_classes_are_labels(tmp_path, label):
    with pytest.raises(ArgumentError, match="is none of 0, 1, 2"):
        Corrections(tmp_path / "a", NAMES).keep(save(draw()), label, BOX)
    assert files_of(tmp_path) == []


def test_names_of_classes_are_made_names_of_folders(tmp_path):
    corrections = Corrections(tmp_path, ["T-shirt/top", "..", "Ankle boot"])
    folders = [
        corrections.keep(save(draw()), name, None).parent
        for name in ("T-shirt/top", "..", "Ankle boot")
    ]
    assert [f.name for f in folders] == ["T-shirt_top", "__", "Ankle boot"]
    assert {f.parent for f in folders} == {tmp_path}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--corrections=.*file: Not a directory"):
        Corrections(tmp_path / "file", NAMES)
    corrections = Corrections(tmp_path / "kept", NAMES)
    (tmp_path / "kept" / "7").touch()
    with pytest.raises(UserError, match=r"cannot write .*: File exists"):
        corrections.keep(save(draw()), "7", BOX)


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="No space left"):
        Corrections(tmp_path, NAMES).keep(save(draw()), "7", BOX)
    assert files_of(tmp_path) == []
