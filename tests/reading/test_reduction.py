import numpy as np
import pytest
from PIL import Image

from mnist_jax.errors import PictureError
from mnist_jax.reading import reduction
from mnist_jax.reading.reduction import levels_to_8_bits, reduce_picture, reduced_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((28, 28), (28, 28)),
        ((2048, 2048), (2048, 2048)),
        ((8000, 8000), (2048, 2048)),
        ((6000, 8000), (1536, 2048)),
        ((4000, 800), (2048, 410)),
        # Strips, whose digits are as high as the strip.
        ((8000, 20), (8000, 20)),
        ((20, 8000), (20, 8000)),
        ((8000, 200), (2560, 64)),
        # No more pixels than a square has.
        ((60_000, 400), (9600, 64)),
        ((90_000, 60), (79_319, 53)),
        ((64_000_000, 1), (16_384_000, 1)),
    ],
)
def test_sizes(size, expected):
    assert reduced_size(size) == expected


def test_a_smaller_size():
    assert reduced_size((8000, 6000), 640) == (640, 480)
    assert reduced_size((8000, 20), 640) == (8000, 20)
    assert reduced_size((8000, 200), 640) == (2560, 64)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"])
@pytest.mark.parametrize("size", [(3001, 2003), (2500, 1500), (1000, 1200), (30, 20)])
def test_parts_give_what_the_whole_gives(mode, size, monkeypatch):
    """A band has a thousandth of the usual number of pixels, so that there are many."""
    x, y = np.meshgrid(*(np.linspace(0, 255, side) for side in size))
    picture = Image.fromarray(((x + y) / 2).astype(np.uint8))
    whole = picture.convert(mode)
    expected = whole.convert("L").resize(reduced_size(size), Image.Resampling.BICUBIC)
    if mode in "IF":  # the largest number becomes 255
        expected = expected.point(lambda level: level * 255 / 254.5)
    monkeypatch.setattr(reduction, "_BAND", 2**16)
    found = reduce_picture(whole)
    assert found.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
    if mode == "1":  # its dots are averaged in another way
        assert found.size == expected.size
        return
    difference = np.abs(
        np.asarray(found.convert("L"), float) - np.asarray(expected, float)
    )
    assert difference.mean() < 1
    assert difference.max() < 6


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I", "I;16", "F"])
def test_no_large_picture_is_copied_as_a_whole(mode, monkeypatch):
    """Each copy of 64 million pixels would take 256 MB."""
    sizes = []

    def spy(name):
        call = getattr(Image.Image, name)

        def spied(image, *arguments, **options):
            sizes.append(image.width * image.height)
            return call(image, *arguments, **options)

        monkeypatch.setattr(Image.Image, name, spied)

    picture = Image.new(mode, (5000, 5000))
    for name in ("convert", "copy", "reduce", "resize", "tobytes"):
        spy(name)
    assert reduce_picture(picture).size == (2048, 2048)
    assert max(sizes) == 2500**2


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("largest", [1, 16, 100])
def test_the_dtype_does_not_count(dtype, largest):
    levels = np.arange(largest + 1)[None].astype(dtype)
    expected = np.rint(np.arange(largest + 1) * (255 / largest))[None]
    np.testing.assert_array_equal(levels_to_8_bits(levels), expected)


def test_bytes_stay_as_they_are():
    levels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    levels[0, 0] = 255
    np.testing.assert_array_equal(levels_to_8_bits(levels), levels)
    np.testing.assert_array_equal(levels_to_8_bits(levels / 255), levels)


def test_numbers_below_0():
    np.testing.assert_array_equal(
        levels_to_8_bits(np.array([[-1.0, 0, 1]])), [[0, 128, 255]]
    )
    np.testing.assert_array_equal(levels_to_8_bits(np.array([[-3, -2]])), [[0, 255]])
    whole = np.iinfo(np.int64)
    far = np.array([[whole.min, 0, whole.max]])
    np.testing.assert_array_equal(levels_to_8_bits(far), [[0, 128, 255]])
    np.testing.assert_array_equal(levels_to_8_bits(np.zeros((2, 3))), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([np.nan, 0], "NaN"),
        ([np.nan, np.inf], "NaN"),
        ([np.inf, 0], "infinite"),
        ([-np.inf, np.inf], "infinite"),
    ],
)
def test_numbers_that_are_not_finite(numbers, kind):
    levels = np.zeros((40, 40))
    levels[39, 3:5] = numbers
    with pytest.raises(PictureError, match=rf"not finite \({kind}\)"):
        levels_to_8_bits(levels)
    with pytest.raises(PictureError, match=rf"not finite \({kind}\)"):
        reduce_picture(Image.fromarray(levels.astype(np.float32)))
