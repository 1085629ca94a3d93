"""Reads the digits in pictures; each with a confidence, or the reason why not."""

import collections
import dataclasses
import itertools
import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from mnist_jax.calibration import log_softmax
from mnist_jax.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    PictureError,
    suggest,
)
from mnist_jax.reading.number_arrays import as_images
from mnist_jax.reading.paths import Source
from mnist_jax.reading.predictions import Box, Digit, Guess, Prediction
from mnist_jax.run.config_files import PRETRAINED_PAGES

if TYPE_CHECKING:
    from PIL import Image

    from mnist_jax.checkpoint.load import Loaded
    from mnist_jax.data import Dataset
    from mnist_jax.reading.page_reader import PageReader

Mode = Literal["auto", "digit", "number"]

_BATCH_SIZES = (8, 64, 1024)
# On made pictures, the pretrained weights are less sure of 2.4 % of the digits, and of
# 59 % of the pictures without a digit (checkpoints/pretrained/README.md).
MIN_CONFIDENCE = 0.5
_WORKERS = min(8, os.cpu_count() or 1)
_AHEAD = 4 * _WORKERS  # at most so many pictures are in memory at once


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
        if read == "number" and not reads_pages(loaded, read):
            trained_on = loaded.metadata["dataset"]["name"]
            raise ConfigError(f"--read=number: {trained_on} has no digits")
        self._loaded = loaded
        self._min_confidence = min_confidence
        self._reads_pages, self._page_net = reads_pages(loaded, read), pages
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
            return predict(self._loaded, images)

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
          A prediction for each source, in order; of a TIFF or an animation, one for
          each page or frame, as pages 0, 1 and so on. For an array (.npy) of N images,
          which are read as they are, one for each, as pages 0 to N - 1.

        Raises:
          UserError: the stages of a picture cannot be written.
          CheckpointError: the page net that comes along cannot be loaded.
        """
        if self._reads_pages and not self._page_reader:
            from mnist_jax.reading.page_reader import PageReader

            self._page_net = self._page_net or load_page_net()
            weight = self._loaded.config.get("page_weight", 1.0)  # older ones lack it
            self._page_reader = PageReader(self._page_net, self.classify, weight)
        pool = ThreadPoolExecutor(_WORKERS)
        waiting: collections.deque[Future[list[Prediction]]] = collections.deque()
        labels = labels or {}
        try:
            left = itertools.islice(sources, start, None)
            for index, source in enumerate(left, start + 1):
                label = labels.get(source.name)
                waiting.append(pool.submit(self._read_source, index, source, label))
                if len(waiting) == _AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

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

    def _read_source(
        self, index: int, source: Source, label: str | None
    ) -> list[Prediction]:
        from mnist_jax.reading.files import read_stack

        try:
            stack = None if source.error else read_stack(source.place)
        except PictureError as error:
            return [Prediction(source.name, "error", (), str(error), label)]
        if stack is None:
            read = [
                self._read_picture(index, source, label, picture, page)
                for page, picture in enumerate(load_each_page(source))
            ]
            if len(read) > 1:
                read = [dataclasses.replace(page, label=None) for page in read]
            return read
        rows, predictions = self.classify(stack), []
        for page, (row, image) in enumerate(zip(rows, stack, strict=True)):
            answer = self._answer(source.name, [self._digit(row, image)], label)
            if image.min() == image.max():
                answer = dataclasses.replace(answer, status="blank", digits=())
            predictions.append(dataclasses.replace(answer, page=page))
        return predictions

    def _read_picture(
        self,
        index: int,
        source: Source,
        label: str | None,
        picture: "Image.Image | PictureError",
        page: int,
    ) -> Prediction:
        from mnist_jax.reading.digit_cuts import side_by_side
        from mnist_jax.reading.page_reader import shows_something, to_grey
        from mnist_jax.reading.pictures import BlankError, stages

        def failed(status: str, error: str) -> Prediction:
            return Prediction(source.name, status, (), error, label, page)

        if isinstance(picture, PictureError):
            return failed("error", str(picture))
        scale = picture.info["full_size"][0] / picture.width
        strip = [("picture", np.asarray(picture))] if self._stages_dir else []
        try:
            if self._page_reader is None:
                strip = stages(picture) if self._stages_dir else strip
                digits = self._read_one(picture, scale)
                return self._answer(source.name, digits, label, page)
            grey = to_grey(picture)
            found = self._page_reader.read(grey)
            if self._stages_dir:
                cut = side_by_side([digit.image for digit in found.digits])
                strip += [("grey", grey), ("28x28", cut)]
        except BlankError:
            return failed("blank", "")
        except Exception as error:  # the other pictures are read nevertheless
            reason = f"{type(error).__name__}: {error}"
            return failed("error", f"cannot be read ({' '.join(reason.split())[:100]})")
        finally:
            self._draw_stages(strip, index, source, page)
        if not found.digits:
            return failed("no_digit" if shows_something(picture) else "blank", "")
        digits = [
            self._digit(
                digit.probabilities,
                digit.image[..., None],
                _scale(digit.box, scale),
                digit.line,
            )
            for digit in found.digits
        ]
        return self._answer(source.name, digits, label, page, found.certainty)

    def _read_one(self, picture: "Image.Image", scale: float) -> list[Digit]:
        """Takes all ink of a picture for one digit."""
        from mnist_jax.reading import pictures

        ink = pictures.main_digit(pictures.find_ink(picture))
        image = pictures.to_mnist(ink)[..., None]
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return [self._digit(self.classify(image[None])[0], image, _scale(box, scale))]

    def _digit(
        self,
        probabilities: np.ndarray,
        image: np.ndarray,
        box: Box | None = None,
        line: int = 0,
    ) -> Digit:
        order = np.argsort(-probabilities, kind="stable")[: self._top_k]
        guesses = tuple(
            Guess(int(k), self.class_names[k], float(probabilities[k])) for k in order
        )
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

    def _draw_stages(
        self,
        shown: list[tuple[str, np.ndarray]],
        index: int,
        source: Source,
        page: int,
    ) -> None:
        """Draws what the nets saw, if that is asked for."""
        if self._stages_dir is None:
            return
        from mnist_jax.reading import annotate, pictures

        stem = re.sub(r"[^\w.-]", "_", Path(source.name).stem, flags=re.ASCII)[:80]
        end = f"_{page}" if page else ""
        path = self._stages_dir / f"{index:05d}_{stem}{end}.png"
        annotate.save_picture(pictures.stages_strip(shown), path)


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
    from mnist_jax.run.inference import predict_logits

    images = as_images(images)
    count = len(images)
    # Each number of images compiles once more, so they are padded to a few numbers.
    size = next((size for size in _BATCH_SIZES if size >= count), count)
    images = np.pad(images, [(0, size - count)] + [(0, 0)] * 3)
    size = _BATCH_SIZES[-1]
    logits = predict_logits(
        loaded.model, loaded.variables, images, size, task=loaded.task
    )
    return np.exp(log_softmax(logits[:count] / loaded.temperature))


def reads_pages(loaded: "Loaded", read: str) -> bool:
    """Whether a reader with these arguments looks for digits with a page net."""
    names: list[str] = loaded.metadata["dataset"]["class_names"]
    return read != "digit" and names == list("0123456789")


def load_page_net(
    workdir: str | Path = PRETRAINED_PAGES, trust_code: bool = False
) -> "Loaded":
    """Loads a page net from the folder of a run; by default the one that comes along.

    Args:
      workdir: the folder.
      trust_code: see `load.load_model`.

    Raises:
      CheckpointError: the model learned another task; or see `load.load_model`.
    """
    from mnist_jax.checkpoint.load import load_model
    from mnist_jax.reading.page_task import is_page_net

    loaded = load_model(workdir, trust_code=trust_code)
    if not is_page_net(loaded):
        raise CheckpointError(
            f"the run in {str(workdir)!r} is of no page net (config.task = "
            f"{loaded.config.get('task', 'digits')!r}): see configs/page_reader.py"
        )
    return loaded


def load_picture(source: Source) -> "Image.Image":
    """Loads the picture of a source; returns and raises what `read_picture` does."""
    from mnist_jax.reading.files import read_picture

    return read_picture(source.place)


def load_each_page(source: Source) -> "Iterator[Image.Image | PictureError]":
    """Loads the pages of a source one by one; yields what `read_pages` does."""
    from mnist_jax.reading.file_pages import read_pages

    if source.error:
        return iter([PictureError(source.error)])
    return read_pages(source.place)


def _scale(box: Sequence[float], scale: float) -> Box:
    """Converts pixels of a reduced picture to pixels of the file."""
    left, top, right, bottom = box
    return (
        math.floor(left * scale),
        math.floor(top * scale),
        math.ceil(right * scale),
        math.ceil(bottom * scale),
    )
