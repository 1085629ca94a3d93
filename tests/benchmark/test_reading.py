import sys
import types

import numpy as np
import pytest
from PIL import Image

from mnist_jax.benchmark import reading
from mnist_jax.benchmark.reading import Answer, Kind
from mnist_jax.errors import UserError
from mnist_jax.reading.predictions import Digit, Guess, Prediction
from mnist_jax.simulation.pages import Page


def make(*digits):
    """A page with digits 10 wide and 20 high: x, y, label, line."""
    rows = [(x, y, 10, 20, label, line) for x, y, label, line in digits]
    digits = np.array(rows, np.float32).reshape(-1, 6)
    return Page(np.zeros((40, 60), np.uint8), digits, "plain")


@pytest.fixture
def kinds(monkeypatch):
    """Kinds of which pages are made in no time."""
    some = {"one": None, reading.LINE: Kind((64, 128), 2, (1, 9), (1, 1))}
    monkeypatch.setattr(reading, "KINDS", some)
    monkeypatch.setattr(reading, "PICTURES", 2)


def test_texts_and_digits_that_are_right():
    pages = [make((10, 10, 4, 0), (30, 10, 2, 0)), make((10, 10, 7, 0)), make()]
    answers = [
        Answer("42", [(14, 19, 4), (25, 1, 2)]),  # inside of their boxes
        Answer("17", [(10, 10, 1), (10, 10, 7)]),  # a digit too many
        Answer("", []),
    ]
    assert reading.score_texts_and_digits(pages, answers) == (2 / 3, 2 * 3 / (3 + 4))
    twice = [Answer("44", [(10, 10, 4), (10, 10, 4)]), Answer("7", []), Answer("3")]
    assert reading.score_texts_and_digits(pages, twice) == (1 / 3, None)  # no places
    beside = [Answer("42", [(16, 10, 4), (30, 21, 2)]), *answers[1:]]
    assert reading.score_texts_and_digits(pages, beside) == (2 / 3, 2 * 1 / (3 + 4))
    once = [Answer("44", [(10, 10, 4), (10, 10, 4)]), *answers[1:]]
    assert reading.score_texts_and_digits(pages, once) == (1 / 3, 2 * 2 / (3 + 4))
    assert reading.score_texts_and_digits([make()], [Answer("", [])]) == (1, None)
    assert reading.score_texts_and_digits([make()], [Answer("8", [(1, 1, 8)])]) == (
        0,
        None,
    )


def test_a_page_is_of_a_kind_if_all_digits_can_be_read():
    kind = Kind((64, 64), 1, (2, 3), (2, 2))
    two_lines = (10, 10, 4, 0), (30, 30, 2, 1)
    assert kind.fits(make(*two_lines))
    assert not kind.fits(make(*two_lines, (50, 10, -1, 0)))
    assert not kind.fits(make((10, 10, 4, 0), (30, 10, 2, 0)))
    assert not kind.fits(make(*two_lines, (1, 9, 1, 0), (9, 9, 1, 0)))
    assert Kind((64, 64), 1, (0, 0), (0, 0)).fits(make())


def test_pictures_are_enlarged_with_their_boxes():
    kind = Kind((64, 64), 1, (1, 1), (1, 1))
    (small,) = reading.make_pictures(kind, 1)
    (large,) = reading.make_pictures(kind._replace(enlarged=3), 1)
    assert small.picture.shape == (64, 64)
    assert large.picture.shape == (192, 192)
    np.testing.assert_array_equal(large.digits[:, :4], 3 * small.digits[:, :4])
    np.testing.assert_array_equal(large.digits[:, 4:], small.digits[:, 4:])
    page = reading.make_pictures(None, 3)[2]
    (x, y, width, height, _, _), ink = page.digits[0], page.picture > 0
    assert page.picture.shape == (28, 28)
    assert ink.any(0).sum() == width <= 20
    assert ink.any(1).sum() == height <= 20
    assert x == np.flatnonzero(ink.any(0))[[0, -1]].sum() / 2 + 0.5
    assert y == np.flatnonzero(ink.any(1))[[0, -1]].sum() / 2 + 0.5


def test_readers_take_turns_and_the_first_reading_is_not_timed(kinds):
    read = []

    def reader(name):
        def answer(paths):
            for path in paths:
                with Image.open(path) as picture:
                    assert picture.size in ((28, 28), (256, 128))
            read.append((name, len(paths)))
            return [Answer("", []) for _ in paths]

        return answer

    names = (reading.OURS, reading.RAPIDOCR, reading.RECOGNITION)
    readers = {name: reader(name) for name in names}
    results = dict(reading.measure_reading(readers, 2))
    assert list(results) == list(reading.KINDS)
    both, all_three = names[:2], names
    assert [list(some) for some in results.values()] == [list(both), list(all_three)]
    rounds = [(some, count) for some in (both, all_three) for count in (4, 2, 2)]
    assert read == [(name, count) for some, count in rounds for name in some]
    ours = results["one"][reading.OURS]
    assert ours.pictures_per_second.repeats == 2
    assert ours.cpu_milliseconds_per_picture.repeats == 2
    assert (ours.pictures, ours.share_right, ours.digits_f1) == (4, 0.0, 0.0)


class MadeReader:
    """Answers with one 7, on the second of two lines, or with an error."""

    def __init__(self, error=""):
        self.error = error

    def read_files(self, sources):
        for source in sources:
            digits = [
                Digit("ok", (Guess(k, str(k), 0.9),), np.zeros(1), box, line)
                for k, box, line in ((4, (0, 0, 10, 20), 0), (7, (3, 20, 8, 50), 1))
            ]
            yield Prediction(source.name, "ok", tuple(digits), self.error)


def test_our_readers_answers():
    answers = reading.read_by(MadeReader())(["a.png"])
    assert answers == [Answer("47", [(5, 10, 4), (5.5, 35, 7)])]
    with pytest.raises(UserError, match=r"^'a\.png': no memory$"):
        reading.read_by(MadeReader("no memory"))(["a.png"])


@pytest.fixture
def rapidocr(monkeypatch):
    """A RapidOCR that answers with the options it was called with."""

    class Made:
        def __init__(self, params):
            self.params = params

        def __call__(self, path, **options):
            texts = {"none": None, "two": ("No. 12-\u0663", "O3")}[path]
            assert options in ({}, {"use_det": False, "use_cls": False})
            return types.SimpleNamespace(txts=texts and (*texts, str(len(options))))

    module = types.SimpleNamespace(RapidOCR=Made)
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace())
    return module


def test_only_digits_of_rapidocr_count(rapidocr):
    readers = reading.load_rapidocr()
    assert readers[reading.RAPIDOCR](["two", "none"]) == [Answer("1230"), Answer("")]
    assert readers[reading.RECOGNITION](["two"]) == [Answer("1232")]


@pytest.mark.parametrize("name", ["rapidocr", "onnxruntime"])
def test_a_missing_package_is_one_line(rapidocr, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as error:
        reading.load_rapidocr()
    assert str(error.value) == f"no module '{name}'; pip install -e '.[peers]'"


def test_a_rapidocr_that_does_not_start_is_one_line(rapidocr, monkeypatch):
    def fail(params):
        raise OSError("no\nnetwork")

    monkeypatch.setattr(rapidocr, "RapidOCR", fail)
    with pytest.raises(UserError, match=r"^it does not start: no network$"):
        reading.load_rapidocr()
