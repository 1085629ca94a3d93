"""How fast and how well pictures of digits are read, by this project and by RapidOCR.

The pictures are simulated, with a seed of their own, and with digits that no net of
this project has learned (`offline_digits`). They are read from PNG files, as predict.py
reads them. A first reading of all of them is not timed: it compiles the programs, and
tells which answers are right. In each repeat the readers then take turns with the same
files, so that what slows the machine for a while slows all of them.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnist_jax.benchmark.workloads import Spread
from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.drawing.masks import ink_box
from mnist_jax.errors import UserError
from mnist_jax.reading.paths import Source
from mnist_jax.reading.reader import Reader
from mnist_jax.simulation.pages import Page, make_page

OURS, RAPIDOCR = "mnist_jax", "RapidOCR"
RECOGNITION = "RapidOCR, recognition alone"  # it takes the whole picture for one line
PICTURES = 10  # of each kind that are read in one repeat
_SEED = 2**32 + 2  # no pages of training, validation or test have this seed


class Kind(NamedTuple):
    """A kind of simulated picture."""

    shape: tuple[int, int]  # height and width of the page that is made
    enlarged: int  # how many times as high and as wide its file is
    digits: tuple[float, float]  # how many it has, at least and at most
    lines: tuple[float, float]  # how many lines of digits, at least and at most

    def fits(self, page: Page) -> bool:
        """Whether a page is of this kind, and no digit on it is cut or covered."""
        count, lines = len(page.digits), len(np.unique(page.digits[:, 5]))
        return (
            self.digits[0] <= count <= self.digits[1]
            and self.lines[0] <= lines <= self.lines[1]
            and bool((page.digits[:, 4] >= 0).all())
        )


LINE = "line of 400x80"
KINDS: dict[str, Kind | None] = {
    "digit of 28x28": None,  # an image of the data set as it is
    "digit of 300x300": Kind((100, 100), 3, (1, 1), (1, 1)),
    LINE: Kind((80, 400), 1, (2, np.inf), (1, 1)),
    "page of 1280x800": Kind((400, 640), 2, (3, np.inf), (3, np.inf)),
    "no digit on 1280x800": Kind((400, 640), 2, (0, 0), (0, 0)),
}


Place = tuple[float, float, int]  # x and y of a digit's centre in the file; its class


class Answer(NamedTuple):
    """What was read in a picture."""

    text: str  # the digits in reading order, without line breaks and other signs
    digits: list[Place] | None = None  # None if the reader does not tell where they are


Read = Callable[[Sequence[str]], list[Answer]]  # from the paths of the files


@dataclass(frozen=True)
class ReadingScore:
    """How a reader did on one kind of picture.

    Attributes:
      pictures_per_second: with all cores.
      cpu_milliseconds_per_picture: of all threads together.
      pictures: how many different ones were read.
      share_right: of pictures, those whose whole text is right. Line breaks do not
        count. Where there is no digit, none may be read.
      digits_f1: a digit that was read is right if its class is, and its centre lies in
        the box of such a digit; None if there are no digits, or no places of them.
    """

    pictures_per_second: Spread
    cpu_milliseconds_per_picture: Spread
    pictures: int
    share_right: float
    digits_f1: float | None


def measure_reading(
    readers: Mapping[str, Read], repeats: int
) -> Iterator[tuple[str, dict[str, ReadingScore]]]:
    """Yields each of `KINDS` and how each reader did, as soon as that is measured.

    Args:
      readers: by name; `RECOGNITION` reads lines only.
      repeats: how often is timed, each time on `PICTURES` other pictures.

    Raises:
      UserError: OpenCV is missing, or a picture could not be read.
    """
    for kind, how in KINDS.items():
        pages = make_pictures(how, repeats * PICTURES)
        some = {k: v for k, v in readers.items() if kind == LINE or k != RECOGNITION}
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / f"{i}.png") for i in range(len(pages))]
            for page, path in zip(pages, paths, strict=True):
                Image.fromarray(page.picture).save(path)
            yield kind, _take_turns(some, pages, paths)


def make_pictures(kind: Kind | None, count: int) -> list[Page]:
    """Makes pictures of a kind, the same ones each time.

    Returns:
      Pages, whose pictures and boxes are enlarged; for None, images of the data set.

    Raises:
      UserError: OpenCV is missing.
    """
    images, labels = load_digits()
    images = images[..., 0]
    pages: list[Page] = []
    if kind is None:
        chosen = np.random.default_rng(_SEED).choice(len(labels), count)
        return [_as_page(images[i], labels[i]) for i in chosen]
    index = 0
    while len(pages) < count:
        page = make_page(_SEED, index, images, labels, kind.shape)
        index += 1
        if kind.fits(page):
            pages.append(_enlarge(page, kind.enlarged))
    return pages


def _as_page(image: np.ndarray, label: int) -> Page:
    left, top, right, bottom = ink_box(image) or (0, 0, 28, 28)
    x, y = (left + right) / 2, (top + bottom) / 2
    digits = np.array([(x, y, right - left, bottom - top, label, 0)], np.float32)
    return Page(image, digits, "single digit")


def _enlarge(page: Page, times: int) -> Page:
    picture = Image.fromarray(page.picture)
    size = times * picture.width, times * picture.height
    digits = page.digits * np.array([times] * 4 + [1, 1], np.float32)
    larger = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    return Page(larger, digits, page.condition)


def _take_turns(
    readers: Mapping[str, Read], pages: Sequence[Page], paths: Sequence[str]
) -> dict[str, ReadingScore]:
    scores = {
        name: score_texts_and_digits(pages, read(paths))
        for name, read in readers.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    costs: dict[str, list[float]] = {name: [] for name in readers}
    for start in range(0, len(paths), PICTURES):
        part = paths[start : start + PICTURES]
        for name, read in readers.items():
            started, used = time.perf_counter(), time.process_time()
            read(part)
            rates[name].append(len(part) / (time.perf_counter() - started))
            costs[name].append(1e3 * (time.process_time() - used) / len(part))
    spreads = {name: (Spread.of(rates[name]), Spread.of(costs[name])) for name in rates}
    return {n: ReadingScore(*spreads[n], len(paths), *scores[n]) for n in readers}


def score_texts_and_digits(
    pages: Sequence[Page], answers: Sequence[Answer]
) -> tuple[float, float | None]:
    """Returns `share_right` and `digits_f1` of a `ReadingScore`."""
    texts_right = digits_right = digits_read = wanted = 0
    for page, answer in zip(pages, answers, strict=True):
        text = "".join(str(int(digit)) for digit in page.digits[:, 4])
        texts_right += answer.text == text
        wanted += len(page.digits)
        digits_read += len(answer.digits or ())
        digits_right += _count_in_boxes(page.digits, answer.digits or ())
    has_places = all(answer.digits is not None for answer in answers)
    f1 = 2 * digits_right / (wanted + digits_read) if wanted and has_places else None
    return texts_right / len(pages), f1


def _count_in_boxes(digits: np.ndarray, read: Sequence[Place]) -> int:
    """Counts the digits of a page that were read; each digit counts once."""
    left = list(read)
    for x, y, width, height, label, _ in digits:
        for one in left:
            away = max(abs(one[0] - x) / width, abs(one[1] - y) / height)
            if one[2] == label and away <= 0.5:
                left.remove(one)
                break
    return len(read) - len(left)


def read_by(reader: Reader) -> Read:
    """Returns a function that reads files with this project's reader."""

    def read(paths: Sequence[str]) -> list[Answer]:
        answers = []
        for prediction in reader.read_files([Source(path) for path in paths]):
            if prediction.error:
                raise UserError(f"{prediction.source!r}: {prediction.error}")
            digits = []
            for digit in prediction.digits:
                assert digit.box
                left, top, right, bottom = digit.box
                middle = (left + right) / 2, (top + bottom) / 2
                digits.append((*middle, digit.guesses[0].digit))
            answers.append(Answer(prediction.text.replace("\n", ""), digits))
        return answers

    return read


def load_rapidocr() -> dict[str, Read]:
    """Loads RapidOCR: as it is used by default, and its recognition alone.

    Raises:
      UserError: it is not installed, or does not start.
    """
    try:
        import onnxruntime  # noqa: F401  RapidOCR takes it and does not require it
        from rapidocr import RapidOCR
    except ImportError as error:
        missing = f"no module {error.name!r}"
        raise UserError(f"{missing}; pip install -e '.[peers]'") from error
    try:
        engine = RapidOCR(params={"Global.log_level": "error"})
    except Exception as error:
        raise UserError(f"it does not start: {' '.join(str(error).split())}") from error

    def read_with(**options: Any) -> Read:
        def read(paths: Sequence[str]) -> list[Answer]:
            texts = ("".join(engine(path, **options).txts or ()) for path in paths)
            return [Answer("".join(c for c in t if c in "0123456789")) for t in texts]

        return read

    return {RAPIDOCR: read_with(), RECOGNITION: read_with(use_det=False, use_cls=False)}
