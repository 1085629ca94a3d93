import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from mnist_fixture import make_dataset
from PIL import Image, ImageFilter, ImageOps

from mnist_jax import offline_digits, pictures
from mnist_jax.errors import PictureError


@pytest.fixture(scope="module")
def digits():
    """One digit of each class in MNIST's geometry, uint8 [10, 28, 28]."""
    images, labels = offline_digits.load_digits()
    return images[[np.flatnonzero(labels == k)[0] for k in range(10)], :, :, 0]


def draw(digit, pen=(0, 0, 0), paper=(255, 255, 255), scale=8, margin=0):
    """A digit as a large picture: ink of one colour on paper of another."""
    side = 28 * scale
    ink = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.pad(np.asarray(ink) / 255, margin)[..., None]
    colours = np.array(paper) * (1 - ink) + np.array(pen) * ink
    return Image.fromarray(colours.astype(np.uint8))


def prepare(picture):
    return pictures.to_mnist(pictures.find_ink(picture.convert("RGB")))


def distance(a, b):
    """0 for equal images, 1 for images with no ink in common."""
    a, b = a.astype(float), b.astype(float)
    return np.abs(a - b).sum() / (a.sum() + b.sum())


def shade(picture, light):
    """Multiplies by `light` [W], as a lamp at one side does."""
    return Image.fromarray(
        (np.asarray(picture) * light[None, :, None]).astype(np.uint8)
    )


def grain(picture, amount):
    noise = np.random.default_rng(0).normal(0, amount, (*picture.size[::-1], 1))
    return Image.fromarray(
        np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
    )


def frame(picture, width):
    framed = Image.new("RGB", picture.size, (30, 30, 30))
    framed.paste(ImageOps.crop(picture, width), (width, width))
    return framed


CHANGES = {
    "white on black": lambda d: draw(d, (255, 255, 255), (0, 0, 0)),
    "black on white": draw,
    "28 pixels": lambda d: draw(d, scale=1),
    "faint blue pen": lambda d: grain(draw(d, (150, 160, 215), (235, 232, 225)), 4),
    "chalk": lambda d: draw(d, (220, 220, 210), (40, 80, 60)),
    "only the hue differs": lambda d: draw(d, (250, 130, 120), (180, 180, 60)),
    "low contrast": lambda d: draw(d, (215, 215, 215), (240, 240, 240)),
    "small on a large page": lambda d: grain(draw(d, scale=3, margin=200), 4),
    "light from one side": lambda d: shade(
        draw(d, margin=40), np.linspace(0.35, 1, 304)
    ),
    "shadow": lambda d: shade(
        draw(d, margin=100), np.where(np.arange(424) < 150, 0.6, 1)
    ),
    "grain": lambda d: grain(draw(d, margin=50), 20),
    "blur": lambda d: draw(d).filter(ImageFilter.GaussianBlur(4)),
    "frame": lambda d: frame(draw(d, margin=40), 6),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_pictures_of_a_digit_become_the_digit(digits, change):
    distances = [distance(prepare(change(digit)), digit) for digit in digits]
    # A shift of one pixel, which rounding can bring about, costs about 0.3.
    assert np.median(distances) < 0.15
    assert max(distances) < 0.45


def test_geometry_is_that_of_mnist(digits):
    rng = np.random.default_rng(0)
    for digit in digits:
        height, width = rng.integers(60, 300, 2)
        ink = Image.fromarray(digit).resize((int(width), int(height)))
        image = pictures.to_mnist(np.asarray(ink, np.float32) / 255)
        assert image.dtype == np.uint8
        assert image.shape == (28, 28)
        assert image.max() == 255
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        mass = image.sum(dtype=float)
        assert abs(image.sum(1) @ np.arange(28) / mass - 14) <= 0.5
        assert abs(image.sum(0) @ np.arange(28) / mass - 14) <= 0.5


def test_to_mnist_leaves_mnist_as_it_is(digits):
    for digit in digits:
        np.testing.assert_array_equal(pictures.to_mnist(digit / 255), digit)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_ink_of_any_shape_fits_in(shape):
    image = pictures.to_mnist(np.ones(shape))
    assert image.max() == 255
    # The mass is centred, so nothing was cut off at the edge.
    assert image[0].max() == image[-1].max() == 0


def test_pieces_of_a_digit_stay_together_and_specks_go():
    colours = np.full((200, 200), 255, np.uint8)
    colours[40:60, 60:140] = 0  # the bar of a 5, a little above
    colours[70:170, 60:80] = 0
    colours[180:183, 190:193] = 0  # a speck
    ink = pictures.find_ink(Image.fromarray(colours).convert("RGB"))
    assert ink[50, 100] == ink[100, 70] == 1
    assert ink[181, 191] == 0


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (200, 100), "white"),
        Image.new("RGB", (1, 1), "black"),
        Image.new("RGB", (3, 500), (120, 30, 60)),
        grain(Image.new("RGB", (300, 300), (230, 228, 220)), 6),
        shade(Image.new("RGB", (300, 300), (230, 228, 220)), np.linspace(0.5, 1, 300)),
    ],
    ids=["white", "one pixel", "one colour", "paper", "paper in uneven light"],
)
def test_blank_pictures_are_refused(picture):
    with pytest.raises(PictureError, match="blank"):
        pictures.find_ink(picture)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "ppm", "tif", "webp"])
def test_formats(tmp_path, digits, suffix):
    path = tmp_path / f"picture.{suffix}"
    draw(digits[3]).save(path)
    assert distance(pictures.load_digit(path), digits[3]) < 0.2


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *[(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
        *[(mode, "tif") for mode in ("CMYK", "F", "I", "LAB", "YCbCr")],
    ],
)
def test_modes(tmp_path, digits, mode, suffix):
    path = tmp_path / f"picture.{suffix}"
    picture = draw(digits[3])
    if mode in ("I", "F", "I;16"):
        levels = np.asarray(picture.convert("L")).astype(np.int32) * 100
        dtype = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        picture = Image.fromarray(levels.astype(dtype))
    elif mode == "LAB":
        picture = Image.merge(
            "LAB", [picture.convert("L")] + [Image.new("L", picture.size, 128)] * 2
        )
    else:
        picture = picture.convert(mode)
    assert picture.mode == mode
    picture.save(path)
    assert distance(pictures.load_digit(path), digits[3]) < 0.2


def test_numbers_that_are_none_count_as_paper(tmp_path, digits):
    levels = 1 - np.asarray(draw(digits[3]).convert("L")) / np.float32(255)
    levels[:20, :20], levels[0, 100] = np.nan, np.inf
    Image.fromarray(levels).save(tmp_path / "picture.tif")
    image = pictures.load_digit(tmp_path / "picture.tif")
    assert distance(image, digits[3]) < 0.2


@pytest.mark.parametrize("ink", [(0, 0, 0), (255, 255, 255), (40, 60, 200)])
def test_transparent_ground(tmp_path, digits, ink):
    """Ink of one colour, whose form is in the alpha channel alone."""
    alpha = draw(digits[3], (255,) * 3, (0,) * 3).getchannel(0)
    picture = Image.new("RGBA", alpha.size, (*ink, 0))
    picture.putalpha(alpha)
    picture.save(tmp_path / "picture.png")
    image = pictures.load_digit(tmp_path / "picture.png")
    assert distance(image, digits[3]) < 0.2


def test_paper_with_transparent_margins(tmp_path, digits):
    picture = draw(digits[3], (20, 20, 60), (240, 240, 235)).convert("RGBA")
    page = Image.new("RGBA", (280, 280), (0, 0, 0, 0))
    page.paste(picture, (30, 30))
    page.save(tmp_path / "picture.png")
    image = pictures.load_digit(tmp_path / "picture.png")
    assert distance(image, digits[3]) < 0.2


def test_palette_with_a_transparent_colour(tmp_path, digits):
    picture = draw(digits[3]).convert("L").convert("P")
    picture.save(tmp_path / "picture.png", transparency=255)
    image = pictures.load_digit(tmp_path / "picture.png")
    assert distance(image, digits[3]) < 0.2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, digits, orientation):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = draw(digits[4])
    if orientation in turn:
        picture = picture.transpose(turn[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "picture.jpg", exif=exif)
    image = pictures.load_digit(tmp_path / "picture.jpg")
    assert distance(image, digits[4]) < 0.2


def test_of_several_frames_the_first_is_read(tmp_path, digits):
    frames = [draw(digits[k]) for k in (3, 7)]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    assert distance(pictures.load_digit(tmp_path / "p.gif"), digits[3]) < 0.2


def bomb(width, height):
    """A PNG of a few bytes whose header promises that many pixels."""

    def chunk(kind, content):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_bombs_are_refused_from_the_header(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(PictureError, match="million pixels"):
        pictures.read_picture(tmp_path / "bomb.png")


def test_a_large_photo_is_read_and_reduced(tmp_path, digits):
    draw(digits[3]).resize((6000, 8000)).save(tmp_path / "photo.jpg")
    picture = pictures.read_picture(tmp_path / "photo.jpg")
    assert picture.size == (768, 1024)
    assert picture.mode == "RGB"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello", "not a BMP, GIF"),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "not a"),
        ("short.png", bomb(100, 100), "damaged"),
    ],
)
def test_bad_files(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PictureError, match=reason) as caught:
        pictures.load_digit(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "ppm"])
def test_files_cut_short_or_altered_give_an_image_or_a_reason(tmp_path, digits, suffix):
    path = tmp_path / f"picture.{suffix}"
    draw(digits[3], scale=2).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(20):
        content = bytearray(
            whole[: len(whole) if trial % 2 else rng.integers(len(whole))]
        )
        for place in rng.integers(len(content) or 1, size=5 * (trial % 2)):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            image = pictures.load_digit(path)
        except PictureError:
            continue
        assert image.shape == (28, 28)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path, reason in [
        (tmp_path, "is a directory"),
        (tmp_path / "pipe.png", "is a pipe"),
        ("/dev/zero", "is a pipe or a device"),
        (tmp_path / "loop.png", "symbolic links"),
        (tmp_path / "nothing.png", "no such file"),
        (os.fsencode(tmp_path) + b"/\xff.png", "no such file"),
    ]:
        with pytest.raises(PictureError, match=reason):
            pictures.read_picture(path)


def test_no_permission(tmp_path, monkeypatch):
    (tmp_path / "mine.png").write_bytes(bomb(9, 9))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pictures.Path, "open", refuse)
    with pytest.raises(PictureError, match="permission denied"):
        pictures.read_picture(tmp_path / "mine.png")


def test_pillows_warnings_are_not_shown(tmp_path, digits):
    picture = draw(digits[3])
    exif = Image.Exif()
    exif[0x0112] = 1
    broken = exif.tobytes()[:-6]
    picture.save(tmp_path / "picture.jpg", exif=broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.load_digit(tmp_path / "picture.jpg")


def test_a_large_stain_does_not_hide_the_digit(digits):
    colours = np.asarray(draw(digits[3], margin=200)).copy()
    colours[450:600, 80:540] = 140
    assert distance(prepare(Image.fromarray(colours)), digits[3]) < 0.2


def test_noisy_images_of_28_pixels_are_read():
    for image in make_dataset(10, seed=0).images[..., 0]:
        prepared = prepare(Image.fromarray(image))
        assert 0 < (prepared > 127).mean() < 0.3
