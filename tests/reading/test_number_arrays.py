import io

import numpy as np
import pytest
from mnist_fixture import make_dataset
from PIL import Image, ImageDraw

from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.errors import ArgumentError, PictureError
from mnist_jax.reading.files import read_picture, read_stack
from mnist_jax.reading.number_arrays import as_images, is_stack


@pytest.fixture(scope="module")
def digits():
    """uint8 [40, 28, 28, 1], written by people."""
    return load_digits()[0][:40]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SHAPES = {
    "N784": lambda a: a.reshape(-1, 784),
    "NHW": lambda a: a[..., 0],
    "NHW1": lambda a: a,
    "N1HW": lambda a: a.transpose(0, 3, 1, 2),
}
SCALES = {
    "bytes": lambda a: a,
    "int64": lambda a: a.astype(np.int64),
    "unit": lambda a: a / 255,
    "half": lambda a: (a / 255).astype(np.float16),
    "16 bits": lambda a: a.astype(np.uint16) * 257,
    "black on white": lambda a: 255 - a,
    "standardised": lambda a: (a - 33.3) / 78.6,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", SCALES)
def test_a_file_of_several_images(digits, shape, scale):
    stack = read_stack(npy(SHAPES[shape](SCALES[scale](digits))))
    assert stack.dtype == np.uint8
    assert stack.shape == digits.shape
    assert np.abs(stack.astype(int) - digits).max() <= 1


@pytest.mark.parametrize("scale", ["binary", "sixteen"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_the_scale_of_a_file_is_what_its_numbers_show(digits, scale, dtype):
    """However many levels there are, and of whichever dtype they are."""
    levels = {"binary": 1, "sixteen": 16}[scale]
    numbers = np.rint(digits / 255 * levels).astype(dtype)
    expected = np.rint(numbers * (255 / levels))
    stack = read_stack(npy(numbers.reshape(-1, 784)))
    np.testing.assert_array_equal(stack, expected)
    one = np.asarray(read_picture(npy(numbers[0, ..., 0])))
    np.testing.assert_array_equal(one, expected[0].repeat(3, axis=-1))


@pytest.mark.parametrize("count", [2, 3, 28, 40])
def test_few_images_are_told_from_one_picture(digits, count):
    """Also 28 of them, which are 28 x 784, as a line of 28 digits is."""
    flat = digits[:count].reshape(-1, 784)
    assert len(read_stack(npy(flat))) == count
    with pytest.raises(PictureError, match="images of digits, and no picture"):
        read_picture(npy(flat))


def test_pictures_of_784_pixels_across_are_pictures(digits):
    line = np.hstack(digits[:28, ..., 0])
    assert line.shape == (28, 784)
    page = Image.new("L", (784, 600), 230)
    ImageDraw.Draw(page).line([(90, 80), (300, 90), (200, 500)], fill=20, width=30)
    blank = np.zeros((90, 784), np.uint8)
    for picture in (line, np.asarray(page), blank):
        assert read_stack(npy(picture)) is None
        assert read_picture(npy(picture)).size == picture.shape[::-1]


@pytest.mark.parametrize("shape", [(784,), (1, 784), (784, 1), (1, 1, 28, 28)])
def test_784_numbers_are_a_picture(digits, shape):
    content = npy(digits[0].reshape(shape))
    assert read_stack(content) is None
    shown = np.asarray(read_picture(content))
    np.testing.assert_array_equal(shown, digits[0].repeat(3, axis=-1))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", npy(np.zeros((2, 783))), npy(np.zeros((2, 28, 28, 3))), npy(3)],
)
def test_other_files_hold_no_images(content):
    assert read_stack(content) is None


def test_damaged_files_of_images_say_so(digits):
    whole = npy(digits.reshape(-1, 784))
    with pytest.raises(PictureError, match="ends too early"):
        read_stack(whole[:-1])
    with pytest.raises(PictureError, match="not finite"):
        read_stack(npy(np.full((3, 28, 28), np.nan)))
    with pytest.raises(PictureError, match="not numbers"):
        read_stack(npy(np.full((3, 28, 28), "a")))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", ["bytes", "int64", "unit", "half"])
def test_arrays_of_other_shapes_and_scales_are_the_same_images(digits, shape, scale):
    images = as_images(SHAPES[shape](SCALES[scale](digits)))
    assert images.dtype == np.uint8
    assert images.shape == digits.shape
    assert np.abs(images.astype(int) - digits).max() <= (scale == "half")


def test_zeros_and_ones_are_paper_and_ink(digits):
    for dtype in (bool, np.uint8, np.float64):
        binary = (digits > 127).astype(dtype)
        np.testing.assert_array_equal(as_images(binary), 255 * (digits > 127))


def test_one_image_may_come_alone(digits):
    for one in (digits[0, ..., 0], digits[0].ravel(), digits[:1]):
        np.testing.assert_array_equal(as_images(one), digits[:1])
    assert as_images(digits[:0]).shape == (0, 28, 28, 1)
    np.testing.assert_array_equal(as_images(digits.tolist()), digits)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((56, 56)), r"\[N, 28, 28\] or \[N, 784\]: got float64 \[56, 56\]"),
        (np.zeros((2, 28, 28, 3)), "must be"),
        (np.zeros((28, 28, 2)), "must be"),
        (np.zeros(3), "must be"),
        (np.zeros(()), "must be"),
        (np.full((2, 28, 28), -0.4), "from 0 to 255.*from -0.4 to -0.4"),
        (np.full((2, 28, 28), 256), "from 0 to 255.*from 256 to 256"),
        (np.full((2, 28, 28), np.nan), "from nan to nan"),
        (np.full((2, 28, 28), "a"), "must be numbers"),
        (np.zeros((2, 28, 28), complex), "must be numbers"),
    ],
)
def test_what_are_no_images_is_said(array, says):
    with pytest.raises(ArgumentError, match=says):
        as_images(array)


def test_made_images_are_taken_as_they_are():
    images = make_dataset(20, seed=0).images
    assert np.shares_memory(as_images(images), images)


@pytest.mark.parametrize("scale", ["0 to 16", "0 to 2", "0 to 15"])
def test_numbers_of_another_scale_are_refused(digits, scale):
    """They would be read as nearly black."""
    array = {
        "0 to 16": digits // 15.9,
        "0 to 2": digits / 127.5,
        "0 to 15": digits // 16,
    }[scale]
    assert 1 < array.max() <= 16
    with pytest.raises(
        ArgumentError, match=r"from 0 to 255, or from 0 to 1.*from 0 to"
    ):
        as_images(array)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_images_that_are_all_alike_are_images_too(digits, count):
    same = np.repeat(digits[:1].reshape(1, 784), count, axis=0)
    assert is_stack(same)
    assert is_stack(np.maximum(same, np.arange(count)[:, None].astype(np.uint8)))
    shades = np.cumsum(np.random.default_rng(0).normal(size=784))  # of a picture
    assert not is_stack(np.repeat(shades[None], count, axis=0))
