"""Reads the digits in pictures; each with a confidence, or the reason why not."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mnist_jax.calibration import log_softmax
from mnist_jax.errors import (
    ArgumentError,
    ConfigError,
    PictureError,
    UserError,
    suggest,
)
from mnist_jax.reading import page_nets
from mnist_jax.reading.load_ahead import (
    LoadedPage,
    in_threads,
    load_batches,
    prepare_page,
    unforeseen,
)
from mnist_jax.reading.number_arrays import as_images
from mnist_jax.reading.paths import Source
from mnist_jax.reading.predictions import Box, Digit, Guess, Prediction, scale_box

if TYPE_CHECKING:
    from PIL import Image

    from mnist_jax.checkpoint.load import Loaded
    from mnist_jax.data import Dataset
    from mnist_jax.reading.page_reader import PageReader, PageReading
    from mnist_jax.run.saved_programs import SavedProgram

Mode = Literal["auto", "digit", "number"]

_BATCH_SIZES = (1024, 32, 8, 1)  # each compiles once
# On made pictures, the pretrained weights are less sure of 2.4 % of the digits, and of
# 59 % of the pictures without a digit (checkpoints/pretrained/README.md).
MIN_CONFIDENCE = 0.5


class Reader:
    """Reads pictures.

    A page net finds the digits of a picture, and the model is asked again which each of
    them is. Models of other classes than digits read one thing a picture, as a digit is
    read with `read="digit"`.

    Args:
      loaded: the model, from `load.load_model`.
      pages: the page net, from `load.load_model`; None loads the one that comes along.
      read: "auto" and "number" read all digits that are there, on any number of lines;
        "digit" takes all ink of a picture for one digit, without the page net.
      top_k: number of guesses for each digit.
      min_confidence: a digit or a page with a lower confidence is "unsure".
      stages_dir: folder for strips that show how each picture was prepared.

    Raises:
      ArgumentError: `read`, `top_k` or `min_confidence` is none of their values.
      ConfigError: `read` is "number", and the model does not read digits.
    """

    def __init__(
        self,
        loaded: "Loaded",
        *,
        pages: "Loaded | None" = None,
        read: Mode = "auto",
        top_k: int = 1,
        min_confidence: float = MIN_CONFIDENCE,
        stages_dir: Path | None = None,
    ) -> None:
        if read not in get_args(Mode):
            raise ArgumentError(f"read={read!r}: {suggest(str(read), get_args(Mode))}")
        if not isinstance(min_confidence, int | float) or not 0 <= min_confidence <= 1:
            raise ArgumentError(f"min_confidence={min_confidence!r} is not from 0 to 1")
        if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
            raise ArgumentError(f"top_k={top_k!r} is not a whole number of 1 or more")
        self.class_names: list[str] = loaded.metadata["dataset"]["class_names"]
        if read == "number" and not page_nets.reads_pages(loaded, read):
            trained_on = loaded.metadata["dataset"]["name"]
            raise ConfigError(f"--read=number: {trained_on} has no digits")
        self._loaded = loaded
        self._min_confidence = min_confidence
        self._reads_pages, self._page_net = page_nets.reads_pages(loaded, read), pages
        self._page_reader: PageReader | None = None
        self._top_k = top_k
        self._stages_dir = stages_dir
        self._lock = threading.Lock()

    @property
    def page_metadata(self) -> object:
        """Says which page net is used: the metadata of its checkpoint, or None."""
        return self._page_net and self._page_net.metadata

    def classify(self, images: np.ndarray) -> np.ndarray:
        """As `predict`, and threads may call it."""
        with self._lock:  # one call at a time, as XLA uses all cores by itself
            return _probabilities(as_images(images), self._loaded, self._program)

    @functools.cached_property
    def _program(self) -> "SavedProgram":
        from mnist_jax.evaluate import apply_model
        from mnist_jax.run.saved_programs import SavedProgram

        logits = functools.partial(apply_model, self._loaded.task, self._loaded.model)
        key = self._loaded.program_key
        return SavedProgram(logits, self._loaded.variables, key and f"logits {key}")

    def read_files(
        self,
        sources: Iterable[Source],
        labels: Mapping[str, str] | None = None,
        start: int = 0,
    ) -> Iterator[Prediction]:
        """Reads pictures, several at once; one that cannot be read does not stop it.

        Args:
          sources: from `paths.find_pictures`.
          labels: right answers by the name of the source, for any of them. Each image
            of an array has that of its file; of a file with several pages, none has it.
          start: how many of the sources are left out, because they were read before.

        Yields:
          A prediction for each source, in order; of a PDF, a TIFF or an animation, one
          for each page or frame, as pages 0, 1 and so on. For an array (.npy) of N
          images, which are read as they are, one for each, as pages 0 to N - 1.

        Raises:
          UserError: the stages of a picture cannot be written.
          CheckpointError: the page net that comes along cannot be loaded.
        """
        self._open_page_reader()
        batches = load_batches(sources, labels or {}, start, self._reads_pages)
        # While XLA computes for one thread, Python works for the other.
        for read in in_threads(self._read_batch, batches, workers=2, ahead=2):
            yield from self._in_order(*read, start)

    def read_page(
        self, name: str, picture: "Image.Image | PictureError", page: int = 0
    ) -> Prediction:
        """Reads a picture that is decoded already.

        Args:
          name: of its source.
          picture: from `files.read_picture`, `files.from_pillow` or `load_each_page`.
          page: its number in its file.

        Raises:
          CheckpointError: the page net that comes along cannot be loaded.
        """
        self._open_page_reader()
        loaded = LoadedPage(Source(name), 1, page=page)
        prepared = prepare_page(loaded, picture, self._reads_pages)
        return next(self._in_order(*self._read_batch([prepared])))

    def _open_page_reader(self) -> None:
        if self._reads_pages and not self._page_reader:
            from mnist_jax.reading.page_reader import PageReader

            self._page_net = self._page_net or page_nets.load_page_net()
            weight = self._loaded.config.get("page_weight", 1.0)  # older ones lack it
            self._page_reader = PageReader(self._page_net, self.classify, weight)

    def read_samples(
        self, name: str, dataset: "Dataset", count: int, seed: int
    ) -> list[Prediction]:
        """Reads randomly chosen images of a data set.

        Args:
          name: of the data set, such as "mnist/test", for the names of the sources.
          dataset: N images and labels.
          count: how many images; if there are fewer, all of them.
          seed: chooses the images; the same seed chooses the same ones.

        Raises:
          ArgumentError: `count` or `seed` is too small.
        """
        if count < 1 or seed < 0:
            raise ArgumentError(f"count={count} or seed={seed} is too small")
        images, labels = dataset
        count = min(count, len(labels))
        chosen = np.random.default_rng(seed).choice(len(labels), count, replace=False)
        rows = self.classify(images[chosen])
        return [
            self._answer(
                f"{name}[{i}]",
                [self._digit(row, images[i])],
                self.class_names[labels[i]],
            )
            for i, row in zip(chosen, rows, strict=True)
        ]

    def _read_batch(
        self, pages: Sequence[LoadedPage]
    ) -> tuple[Sequence[LoadedPage], Iterator[Prediction]]:
        """Returns the pages, and the answers to those that have pictures."""
        shown = [page for page in pages if page.picture is not None]
        read = self._read_pages if self._page_reader else self._read_ones
        try:
            answers = iter(read(shown))
        except UserError:
            raise
        except Exception as error:  # later batches are read nevertheless
            why = unforeseen(error)
            answers = iter([self._failed(page, "error", why) for page in shown])
        return pages, answers

    def _in_order(
        self, pages: Sequence[LoadedPage], answers: Iterator[Prediction], start: int = 0
    ) -> Iterator[Prediction]:
        """Yields as `read_files` does, for what `_read_batch` returns."""
        for page in pages:
            answer = next(answers) if page.picture else None
            if page.number <= start:
                continue
            if page.stack is not None:
                yield from self.read_images(page.source.name, page.stack, page.label)
            else:
                yield answer or self._failed(page, "error", page.error)

    def read_images(
        self, name: str, images: np.ndarray, label: str | None = None
    ) -> Iterator[Prediction]:
        """Reads images of digits as they are.

        Args:
          name: of their source.
          images: from `files.read_stack`.
          label: the right answer of each of them, if it is known.

        Yields:
          A prediction for each image, as pages 0, 1 and so on.
        """
        rows = self.classify(images)
        for number, (row, image) in enumerate(zip(rows, images, strict=True)):
            digits = [self._digit(row, image)]
            answer = self._answer(name, digits, label, number)
            if image.min() == image.max():
                answer = dataclasses.replace(answer, status="blank", digits=())
            yield answer

    def _read_pages(self, pages: Sequence[LoadedPage]) -> list[Prediction]:
        """Reads all digits of each page."""
        assert self._page_reader is not None
        greys = [page.grey for page in pages if page.grey is not None]
        read = self._page_reader.read(greys)
        return [self._name_digits(*each) for each in zip(pages, read, strict=True)]

    def _name_digits(
        self, page: LoadedPage, read: "PageReading | Exception"
    ) -> Prediction:
        from mnist_jax.reading.digit_cuts import side_by_side
        from mnist_jax.reading.page_reader import shows_something

        assert page.picture is not None
        assert page.grey is not None
        if isinstance(read, Exception):
            return self._failed(page, "error", unforeseen(read))
        if self._stages_dir:
            # It imports SciPy, for which reading alone need not wait.
            from mnist_jax.reading.pictures import save_stages

            cut = side_by_side([digit.image for digit in read.digits])
            shown = np.asarray(page.picture)
            strip = [("picture", shown), ("grey", page.grey), ("28x28", cut)]
            where = (self._stages_dir, page.number, page.source.name, page.page)
            save_stages(strip, *where)
        if not read.digits:
            is_inked = shows_something(page.picture)
            return self._failed(page, "no_digit" if is_inked else "blank")
        digits = [
            self._digit(
                digit.probabilities,
                digit.image[..., None],
                scale_box(digit.box, page.scale),
                digit.line,
            )
            for digit in read.digits
        ]
        name, certainty = page.source.name, read.certainty
        return self._answer(name, digits, page.label, page.page, certainty)

    def _read_ones(self, pages: Sequence[LoadedPage]) -> list[Prediction]:
        """Takes all ink of each page for one digit."""
        cuts = [self._cut_one(page) for page in pages]
        images = [cut[0] for cut in cuts if isinstance(cut, tuple)]
        rows = iter(self.classify(np.stack(images)) if images else ())
        answers = []
        for page, cut in zip(pages, cuts, strict=True):
            if isinstance(cut, Prediction):
                answers.append(cut)
                continue
            digits = [self._digit(next(rows), *cut)]
            name = page.source.name
            answers.append(self._answer(name, digits, page.label, page.page))
        return answers

    def _cut_one(self, page: LoadedPage) -> tuple[np.ndarray, Box] | Prediction:
        """Returns all ink as an image [28, 28, 1] and its box, or why there is none."""
        from mnist_jax.reading import pictures

        assert page.picture is not None
        strip = [("picture", np.asarray(page.picture))] if self._stages_dir else []
        try:
            strip = pictures.stages(page.picture) if self._stages_dir else strip
            ink = pictures.main_digit(pictures.find_ink(page.picture))
            image = pictures.to_mnist(ink)[..., None]
        except pictures.BlankError:
            return self._failed(page, "blank")
        except Exception as error:  # the other pictures are read nevertheless
            return self._failed(page, "error", unforeseen(error))
        finally:
            if self._stages_dir:
                where = (self._stages_dir, page.number, page.source.name, page.page)
                pictures.save_stages(strip, *where)
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return image, scale_box(box, page.scale)

    def _failed(self, page: LoadedPage, status: str, error: str = "") -> Prediction:
        return Prediction(page.source.name, status, (), error, page.label, page.page)

    def _digit(
        self, row: np.ndarray, image: np.ndarray, box: Box | None = None, line: int = 0
    ) -> Digit:
        best = np.argsort(-row, kind="stable")[: self._top_k]
        guesses = tuple(Guess(int(k), self.class_names[k], float(row[k])) for k in best)
        sure = guesses[0].confidence >= self._min_confidence
        return Digit("ok" if sure else "unsure", guesses, image, box, line)

    def _answer(
        self,
        source: str,
        digits: Sequence[Digit],
        label: str | None,
        page: int = 0,
        certainty: float = 1.0,
    ) -> Prediction:
        answer = Prediction(
            source, "ok", tuple(digits), "", label, page, certainty=certainty
        )
        is_sure = (answer.confidence or 0) >= self._min_confidence
        return answer if is_sure else dataclasses.replace(answer, status="unsure")


def predict(loaded: "Loaded", images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class.

    The logits are divided by the checkpoint's temperature, which was fitted on
    validation data (Guo et al., 2017, arXiv:1706.04599); it is 1 if there were none.

    Args:
      loaded: from `load.load_model`.
      images: uint8 [N, 28, 28, 1], white ink on black, prepared as MNIST's images; or
        [N, 28, 28], [N, 784], numbers from 0 to 1, and what else
        `number_arrays.as_images` takes.

    Returns:
      float64 [N, C]; each row sums to 1.

    Raises:
      ArgumentError: the images have another shape or other numbers.
    """
    from mnist_jax.run.inference import predict_loaded

    def logits(batch: np.ndarray) -> np.ndarray:
        return predict_loaded(loaded, batch, batch_size=len(batch))

    return _probabilities(as_images(images), loaded, logits)


def _probabilities(
    images: np.ndarray, loaded: "Loaded", logits_of: Callable[[np.ndarray], Any]
) -> np.ndarray:
    """Returns float64 [N, C] of images [N, 28, 28, 1], in batches of a few sizes."""
    count, logits = len(images), []
    images = images if count else np.zeros((1, 28, 28, 1), np.uint8)
    while len(images):
        size = next(size for size in _BATCH_SIZES if size <= len(images))
        logits.append(np.asarray(logits_of(images[:size]), np.float32))
        images = images[size:]
    logits_of_all = np.concatenate(logits)[:count]
    return np.exp(log_softmax(logits_of_all / loaded.temperature))
