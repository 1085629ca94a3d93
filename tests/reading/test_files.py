import io
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_jax.errors import PictureError
from mnist_jax.reading import files
from mnist_jax.reading.files import read_picture


def draw(pen=(0, 0, 0), paper=(255, 255, 255), size=(120, 160)):
    """A 7, leaning to nothing that a turn or a flip would leave as it is."""
    picture = Image.new("RGB", size, paper)
    lines = [(30, 40), (90, 30), (45, 130)]
    ImageDraw.Draw(picture).line(lines, fill=pen, width=12)
    return picture


def distance(a, b):
    """The mean difference of two pictures, of 255."""
    assert a.size == b.size
    a, b = (np.asarray(picture.convert("RGB"), float) for picture in (a, b))
    return np.abs(a - b).mean()


def save(path, array):
    np.save(path, array, allow_pickle=True)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "ppm", "tif", "webp"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    draw().save(path)
    for source in (path, str(path), path.read_bytes()):
        picture = read_picture(source)
        assert picture.mode == "RGB"
        assert distance(picture, draw()) < 3


def test_the_content_counts_and_not_the_suffix(tmp_path):
    draw().save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.jpg")
    assert distance(read_picture(tmp_path / "picture.jpg"), draw()) == 0


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *[(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
        *[(mode, "tif") for mode in ("CMYK", "F", "I", "LAB", "YCbCr")],
    ],
)
def test_modes(tmp_path, mode, suffix):
    picture = draw()
    if mode in ("I", "F", "I;16"):
        levels = np.asarray(picture.convert("L")).astype(np.int32) * 100
        dtype = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        picture = Image.fromarray(levels.astype(dtype))
    elif mode == "LAB":
        grey = Image.new("L", picture.size, 128)
        picture = Image.merge("LAB", [picture.convert("L"), grey, grey])
    else:
        picture = picture.convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / f"picture.{suffix}")
    assert distance(read_picture(tmp_path / f"picture.{suffix}"), draw()) < 3


@pytest.mark.parametrize("ink", [(0, 0, 0), (255, 255, 255), (40, 60, 200)])
@pytest.mark.parametrize("strongest", [255, 90])
def test_ink_on_a_transparent_ground(tmp_path, ink, strongest):
    """Ink of one colour, whose form is in the alpha channel alone."""
    alpha = draw((strongest,) * 3, (0,) * 3).getchannel(0)
    picture = Image.new("RGBA", alpha.size, (*ink, 0))
    picture.putalpha(alpha)
    picture.save(tmp_path / "picture.png")
    ground = (0,) * 3 if ink == (255,) * 3 else (255,) * 3
    share = strongest / 255
    mixed = [
        round(i * share + g * (1 - share)) for i, g in zip(ink, ground, strict=True)
    ]
    shown = read_picture(tmp_path / "picture.png")
    assert distance(shown, draw(tuple(mixed), ground)) < 1


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_paper_with_transparent_margins(tmp_path, share):
    paper = (240, 240, 235)
    side = round(160 / share**0.5)
    page = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    page.paste(draw((20, 20, 60), paper), (10, 5))
    page.save(tmp_path / "picture.png")
    expected = Image.new("RGB", page.size, paper)
    expected.paste(draw((20, 20, 60), paper), (10, 5))
    assert distance(read_picture(tmp_path / "picture.png"), expected) < 1


def test_wholly_transparent_is_empty_paper(tmp_path):
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "picture.png")
    expected = Image.new("RGB", (40, 30), "white")
    assert distance(read_picture(tmp_path / "picture.png"), expected) == 0


def test_palette_with_a_transparent_colour(tmp_path):
    picture = draw().convert("L").convert("P")
    picture.save(tmp_path / "picture.png", transparency=255)
    assert distance(read_picture(tmp_path / "picture.png"), draw()) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = draw()
    if orientation in turn:
        picture = picture.transpose(turn[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / f"picture.{suffix}", exif=exif)
    shown = read_picture(tmp_path / f"picture.{suffix}")
    assert distance(shown, draw()) < 3
    assert shown.info["full_size"] == draw().size


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif", "mpo"])
def test_of_several_frames_the_first_is_read(tmp_path, suffix):
    path = tmp_path / f"frames.{suffix}"
    other = draw((0, 90, 0), (90, 0, 90))
    draw().save(path, save_all=True, append_images=[other, other])
    assert distance(read_picture(path), draw()) < 3


@pytest.mark.parametrize(
    "scale",
    [lambda a: a, lambda a: a > 127, lambda a: a / 255, lambda a: a.astype(">u2") * 9],
    ids=["uint8", "bool", "unit", "big-endian"],
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda a: a,
        lambda a: a[None],
        lambda a: a[..., None],
        lambda a: a[None, ..., None],
        lambda a: np.stack([a] * 3, -1),
        lambda a: np.stack([a, a, a, np.full_like(a, a.max())], -1),
        np.asfortranarray,
    ],
    ids=["HW", "1HW", "HW1", "1HW1", "HW3", "HW4", "by columns"],
)
def test_arrays(tmp_path, scale, shape):
    array = shape(scale(np.asarray(draw().convert("L"))))
    path = save(tmp_path / "picture.npy", array)
    for source in (path, path.read_bytes()):
        assert distance(read_picture(source), draw()) < 1


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((28, 28), np.nan), "not finite"),
        (np.array([[0.0, np.inf]]), "not finite"),
        (
            np.zeros((5, 28, 28), np.uint8),
            "shape (5, 28, 28): images of digits, and no",
        ),
        (np.zeros((28, 28, 2), np.uint8), "shape (28, 28, 2)"),
        (np.zeros(783), "shape (783,)"),
        (np.zeros(()), "shape ()"),
        (np.zeros((0, 28)), "no pixels"),
        (np.zeros((28, 28), complex), "complex"),
        (np.array([["a"]]), "not numbers"),
        (np.array([[{}]], object), "not numbers"),
        (np.zeros((2, 2), [("a", "u1")]), "not numbers"),
    ],
)
def test_arrays_that_are_no_picture(tmp_path, array, reason):
    with pytest.raises(PictureError) as caught:
        read_picture(save(tmp_path / "picture.npy", array))
    assert reason in str(caught.value)


def test_arrays_are_checked_from_the_header(tmp_path):
    path = save(tmp_path / "picture.npy", np.zeros((2, 2)))
    whole = path.read_bytes()
    for shape, reason in [
        (b"(9000, 9000)", "million pixels"),
        (b"(7000, 7000)", "too early"),
        (b"(-2, -2)", "damaged"),
        (b"('a', 2)", "damaged"),
        (b"__import__('os').getcwd()", "damaged"),
    ]:
        start, end = whole[:128].split(b"(2, 2)")
        altered = (start + shape + end).rstrip(b" \n")[:127].ljust(127) + b"\n"
        path.write_bytes(altered + whole[128:])
        with pytest.raises(PictureError, match=reason):
            read_picture(path)
    for end in range(len(whole)):
        with pytest.raises(PictureError):
            read_picture(whole[:end])


def chunk(kind, content):
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def bomb(width, height):
    """A PNG of a few bytes whose header promises that many pixels."""
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_bombs_are_refused_from_the_header(tmp_path, size, monkeypatch):
    monkeypatch.setattr(files, "_decode", None)
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(PictureError, match="million pixels"):
        read_picture(tmp_path / "bomb.png")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(10**12)
    with pytest.raises(PictureError, match="larger than 256 MiB"):
        read_picture(tmp_path / "sparse.png")


def test_a_large_photo_is_read_and_reduced(tmp_path):
    draw().resize((6000, 8000), Image.Resampling.NEAREST).save(tmp_path / "photo.jpg")
    picture = read_picture(tmp_path / "photo.jpg")
    assert picture.size == (1536, 2048)
    assert picture.info["full_size"] == (6000, 8000)
    assert distance(picture, draw().resize((1536, 2048))) < 3


def test_scans_without_end_are_refused():
    """A small file of many scans over many pixels would take minutes."""
    content = io.BytesIO()
    draw().save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    few, many = (whole[:-2] + count * last + b"\xff\xd9" for count in (9, 999))
    # A video may follow a photo, and hold any bytes.
    assert distance(read_picture(few + b"\xff\xda" * 999), draw()) < 6
    with pytest.raises(PictureError, match="scans"):
        read_picture(many)


def test_slow_formats_are_read_only_when_small():
    small = b"P3 2 1 255 " + b"9 8 7 " * 2
    assert read_picture(small).getpixel((0, 0)) == (9, 8, 7)
    with pytest.raises(PictureError, match="plain or RLE"):
        read_picture(b"P3 1000 1000 255 " + b"9 8 7 " * 10**6)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello", "not a BMP, DIB, GIF"),
        ("zeros.png", bytes(999), "not a BMP, DIB, GIF"),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a"),
        ("vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a"),
        ("page.pdf", b"%PDF-1.7\n", "damaged .PDFium cannot open it"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "damaged"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "not a"),
        ("short.png", bomb(100, 100), "damaged"),
    ],
)
def test_bad_files(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PictureError, match=reason) as caught:
        read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_half_a_tiff_is_damaged():
    """Its description is at its end, so that Pillow does not know it without that."""
    file = io.BytesIO()
    draw().save(file, "TIFF")
    whole = file.getvalue()
    with pytest.raises(PictureError, match="damaged \\(it ends too early"):
        read_picture(whole[: len(whole) // 2])


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "ppm"])
def test_files_cut_short_or_altered_give_a_picture_or_a_reason(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    draw().save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(40):
        content = bytearray(
            whole[: len(whole) if trial % 2 else rng.integers(len(whole))]
        )
        for place in rng.integers(len(content) or 1, size=5 * (trial % 2)):
            content[place] = rng.integers(256)
        try:
            picture = read_picture(bytes(content))
        except PictureError:
            continue
        assert picture.mode == "RGB"
        assert max(picture.size) <= files.MAX_SIDE


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    os.mkfifo("pipe.png")
    os.symlink("loop.png", "loop.png")
    os.symlink("nothing.png", "broken.png")
    os.mkdir("folder.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        for path, reason in [
            ("folder.png", "is a directory"),
            ("pipe.png", "is a pipe"),
            ("socket.png", "is a socket"),
            ("/dev/zero", "is a pipe or a device"),
            ("loop.png", "symbolic links"),
            ("broken.png", "no such file"),
            ("nothing.png", "no such file"),
            ("\udcff.png", "no such file"),
            ("a\0b.png", "no such file"),
            ("x" * 300, "name too long"),
            ("folder.png/x.png", "no such file"),
            ("pipe.png/x.png", "not a directory"),
        ]:
            with pytest.raises(PictureError, match=reason):
                read_picture(path)


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PictureError, match="permission denied"):
        read_picture(tmp_path / "mine.png")


def test_files_are_closed_again(tmp_path):
    draw().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("good.png", "bad.png", "none.png", ".", "/dev/zero"):
        for _ in range(3):
            try:
                read_picture(tmp_path / name)
            except PictureError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_pillows_warnings_are_not_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 1
    draw().save(tmp_path / "picture.jpg", exif=exif.tobytes()[:-6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)

        def read():
            for _ in range(20):
                read_picture(tmp_path / "picture.jpg")

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert warnings.filters == before


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bitmaps_without_a_file_header(tmp_path, mode):
    draw().convert(mode).save(tmp_path / "picture.dib")
    assert not (tmp_path / "picture.dib").read_bytes().startswith(b"BM")
    shown = read_picture(tmp_path / "picture.dib")
    assert distance(shown, draw().convert(mode)) < 1


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_grey_tiff_with_premultiplied_transparency(tmp_path, compression):
    path = tmp_path / "picture.tif"
    draw().convert("LA").save(path, compression=compression)
    unassociated = struct.pack("<HHLH", 338, 3, 1, 2)  # the tag ExtraSamples
    whole = path.read_bytes()
    assert whole.count(unassociated) == 1
    path.write_bytes(whole.replace(unassociated, struct.pack("<HHLH", 338, 3, 1, 1)))
    with Image.open(path) as opened:
        assert opened.mode == "La"
    assert distance(read_picture(path), draw()) < 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_damaged_tiffs_print_nothing_and_say_what_is_wrong(compression, capfd):
    content = io.BytesIO()
    draw().save(content, "TIFF", compression=compression)
    whole = content.getvalue()
    rng = np.random.default_rng(0)
    reasons = set()
    for _ in range(40):
        altered = bytearray(whole)
        for place in rng.integers(8, len(whole) // 2, size=8):
            altered[place] = rng.integers(256)
        try:
            read_picture(bytes(altered))
        except PictureError as error:
            reasons.add(str(error))
    assert "damaged (its pixels cannot be decoded)" in reasons
    assert not any("decod" in reason and "error" in reason for reason in reasons)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "ppm", "tif"])
def test_reasons_are_words_and_not_codes(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (80, 90, 3), np.uint8))
    noise.save(path, **({"compression": "tiff_lzw"} if suffix == "tif" else {}))
    whole, reasons = path.read_bytes(), set()
    for end in (len(whole) // 2, len(whole) - 200):
        for content in (whole[:end], whole[:end] + bytes(len(whole) - end)):
            try:
                read_picture(content)
            except PictureError as error:
                reasons.add(str(error))
    assert reasons
    assert reasons <= {
        "damaged (it ends too early)",
        "damaged (its pixels cannot be decoded)",
        "damaged (its header does not fit its pixels)",
        f"not a {', '.join(files.FORMATS)}, AVIF, HEIC, PDF, .npy or .npz picture",
    }


def test_a_webp_of_a_few_bytes_and_many_pixels(monkeypatch):
    """Its decoder would hold 1.3 GB: the header says so before anything is decoded."""
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "WEBP", lossless=True)
    whole = bytearray(content.getvalue())
    place = whole.index(b"VP8L") + 9  # after the length and the signature
    bits = int.from_bytes(whole[place : place + 4], "little") >> 28 << 28
    size = bits | 7999 | 7999 << 14
    whole[place : place + 4] = size.to_bytes(4, "little")
    assert Image.open(io.BytesIO(whole)).size == (8000, 8000)
    monkeypatch.setattr(files, "_decode", None)
    with pytest.raises(PictureError, match="WebP of over 24 million pixels"):
        read_picture(bytes(whole))


MEASURE = """
import re, sys
from mnist_jax.reading.files import read_picture
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = peak()
assert read_picture(sys.argv[1]).size == (2048, 2048)
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
def test_the_memory_of_a_large_picture_of_numbers(tmp_path):
    """One copy of 49 million pixels of 4 bytes, and no more than some rows of it."""
    side = 7000
    path = tmp_path / "numbers.tif"
    Image.fromarray(np.zeros((1, side), np.int32)).save(path)
    whole = path.read_bytes()
    height, lengths = struct.pack("<HHLL", 257, 4, 1, 1), (4 * side, 4 * side * side)
    path.write_bytes(
        whole.replace(height, struct.pack("<HHLL", 257, 4, 1, side))
        .replace(
            struct.pack("<HHLL", 278, 4, 1, 1), struct.pack("<HHLL", 278, 4, 1, side)
        )
        .replace(*(struct.pack("<HHLL", 279, 4, 1, length) for length in lengths))
    )
    with open(path, "r+b") as file:  # sparse: no disk is needed
        file.truncate(len(whole) + lengths[1])
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 1.5 * 4 * side**2 / 2**20
