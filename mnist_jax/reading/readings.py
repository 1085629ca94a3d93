"""Reads pictures from Python and notebooks: what is read prints and shows itself."""

import base64
import contextlib
import dataclasses
import html
import io
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from mnist_jax.calibration import show_confidence
from mnist_jax.checkpoint.load import load_classifier
from mnist_jax.errors import ArgumentError, PictureError, kind_of
from mnist_jax.local_files import local_path
from mnist_jax.reading import annotate, files
from mnist_jax.reading.load_ahead import load_each_page
from mnist_jax.reading.page_nets import load_page_net, reads_pages
from mnist_jax.reading.paths import Source, source_of_url
from mnist_jax.reading.predictions import Prediction
from mnist_jax.reading.reader import (
    MIN_CONFIDENCE,
    Mode,
    Reader,
)
from mnist_jax.run.config_files import PRETRAINED, PRETRAINED_PAGES

# A path, the content of a file, a picture of Pillow, or an array of numbers.
Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

_FIELDS = dataclasses.fields(Prediction)
_SHOWN_SIDE = 1024  # pixels, at most, of what a notebook shows


@dataclasses.dataclass(frozen=True, repr=False)
class Reading(Prediction):
    """A page that was read: a `Prediction` that prints, and shows itself in Jupyter.

    >>> from mnist_jax import load_reader
    >>> reading = load_reader().read("docs/sample.png")
    >>> reading.text, reading.status, reading.page
    ('274', 'ok', 0)
    >>> [digit.box for digit in reading.digits]  # left, top, right, bottom, in pixels
    [(..., ..., ..., ...), (..., ..., ..., ...), (..., ..., ..., ...)]
    >>> reading.digits[0].confidence > 0.5
    True
    >>> print(reading)
    docs/sample.png: 274 (...%)

    Attributes:
      picture: RGB, upright, reduced as `files.read_picture` does; what was read, or
        None if it could not be read.
    """

    picture: Image.Image | None = dataclasses.field(default=None, compare=False)

    def __str__(self) -> str:
        """Returns what was read in one line."""
        if not self.digits:
            return f"{self.source}: {self.error or self.status.replace('_', ' ')}"
        return f"{self.source}: {self._answer()}"

    def __repr__(self) -> str:
        """Returns what matters; the arrays and the picture are left out."""
        sure = self.confidence  # never rounded up
        shown = None if sure is None else math.floor(1e4 * sure) / 1e4
        error = f", error={self.error!r}" if self.error else ""
        return (
            f"Reading(text={self.text!r}, confidence={shown}, status={self.status!r}, "
            f"source={self.source!r}, page={self.page}{error})"
        )

    def _answer(self) -> str:
        sure = show_confidence(self.confidence or 0.0)
        unsure = ", unsure" if self.status == "unsure" else ""
        return f"{' '.join(self.text.split())} ({sure}{unsure})"

    def draw(self) -> Image.Image | None:
        """Returns the picture with a box and an answer for each digit, RGB.

        None if there is no picture. See `annotate.draw_answers`.
        """
        if self.picture is None:
            return None
        return annotate.draw_answers(self.picture, self.digits)

    def _encoded(self, form: str) -> bytes | None:
        drawn = self.draw()
        if drawn is None:
            return None
        drawn.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        content = io.BytesIO()
        drawn.save(content, form)
        return content.getvalue()

    def _repr_png_(self) -> bytes | None:
        """Returns the drawing for Jupyter, or None without a picture."""
        return self._encoded("PNG")

    def _repr_html_(self) -> str:
        """Returns the drawing with the answer below it, for Jupyter."""
        image = ""
        if content := self._encoded("WEBP"):
            data = base64.b64encode(content).decode()
            image = (
                f'<img src="data:image/webp;base64,{data}" alt="the picture, read" '
                'style="max-width: 100%; max-height: 30em; display: block">'
            )
        text = html.escape(self.text or self.status.replace("_", " "))
        about = [self.error] if self.error else []
        if self.confidence is not None:
            about += [show_confidence(self.confidence), self.status]
        about += [self.source + (f", page {self.page}" if self.page else "")]
        return (
            f'<figure style="margin: 0">{image}<figcaption>'
            f'<strong style="font-size: 1.4em; white-space: pre-line">{text}</strong>'
            f"<br>{html.escape(', '.join(about))}</figcaption></figure>"
        )


class PictureReader(Reader):
    """A `Reader` for Python and notebooks: it takes a picture in any form.

    It is made by `load_reader`. `read_files` reads many files at once.
    """

    def read(self, picture: Picture) -> Reading:
        """Reads one picture.

        >>> import numpy as np
        >>> from mnist_jax import load_reader
        >>> reader = load_reader()
        >>> reader.read(np.full((90, 60), 255)).status  # white paper
        'blank'
        >>> print(reader.read("none.png"))
        none.png: no such file or directory

        Args:
          picture: a path; the content of a file, as bytes; a picture of Pillow, of
            which the frame where it stands is read; or an array, [H, W] or [H, W, C]
            with 1, 3 or 4 channels, or [28, 28] and [784], of any dtype, on any scale.

        Returns:
          What was read. What cannot be read, such as a damaged file, raises no error:
          its status is "error", and its `error` says why.

        Raises:
          ArgumentError: `picture` is none of these, or has several pages.
          CheckpointError: the page net that comes along cannot be loaded.
        """
        pages = self.read_pages(picture)
        first = next(pages)
        if next(pages, None) is not None:
            raise ArgumentError(
                f"{first.source!r} has several pages: read_pages(...) reads all of them"
            )
        return first

    def read_pages(self, picture: Picture) -> Iterator[Reading]:
        """Reads the pages of a TIFF or an animation, or the images of an array.

        >>> from mnist_jax import load_dataset, load_reader
        >>> images, labels = load_dataset("digits", "test[:3]")
        >>> [reading.text for reading in load_reader().read_pages(images)]
        ['...', '...', '...']

        Args:
          picture: as for `read`; or images of digits as an array, [N, 28, 28],
            [N, 28, 28, 1], [N, 1, 28, 28] or [N, 784], which are read as they are.

        Yields:
          A reading for each page, one after another; all other files have one page.

        Raises:
          ArgumentError: `picture` is none of these.
          CheckpointError: the page net that comes along cannot be loaded.
        """
        if isinstance(picture, Image.Image):
            name, pages = "<picture>", iter([_from_image(picture)])
        else:
            source = _to_source(picture)
            stack = _read_stack(source)
            if stack is not None:
                yield from map(_of_stack, self.read_images(source.name, stack))
                return
            name, pages = source.name, load_each_page(source)
        for number, page in enumerate(pages):
            answer = self.read_page(name, page, number)
            yield _show(answer, None if isinstance(page, PictureError) else page)


def load_reader(
    workdir: str | os.PathLike[str] = PRETRAINED,
    *,
    page_workdir: str | os.PathLike[str] = PRETRAINED_PAGES,
    read: Mode = "auto",
    top_k: int = 1,
    min_confidence: float = MIN_CONFIDENCE,
    checkpoint: str = "latest",
    trust_code: bool = False,
) -> PictureReader:
    """Loads a reader of pictures, by default with the weights that come along.

    >>> reader = load_reader()
    >>> reader.read("docs/sample.png").text
    '274'
    >>> letters = load_reader("checkpoints/letters")
    Traceback (most recent call last):
    ...
    mnist_jax.errors.CheckpointError: no folder 'checkpoints/letters'; train first: ...

    The first picture takes some seconds, as the nets are compiled for its size.

    Args:
      workdir: folder of the run of a digit net, or of a net of other classes.
      page_workdir: folder of the run of a page net, which finds the digits.
      read: "auto" reads all digits that are there; "digit" takes all ink for one.
      top_k: number of guesses for each digit.
      min_confidence: a digit or a page with a lower confidence is "unsure".
      checkpoint: "latest" or "best", of `workdir`.
      trust_code: see `load_model`.

    Raises:
      CheckpointError: there is no checkpoint, or it cannot be used.
      ArgumentError: an argument is none of its values.
    """
    loaded = load_classifier(os.fspath(workdir), checkpoint, trust_code=trust_code)
    pages = None
    if reads_pages(loaded, read):
        pages = load_page_net(os.fspath(page_workdir), trust_code)
    return PictureReader(
        loaded, pages=pages, read=read, top_k=top_k, min_confidence=min_confidence
    )


def _to_source(picture: Any) -> Source:
    """Returns where the bytes of a picture are, which is no picture of Pillow.

    Raises:
      ArgumentError: it is none of `Picture`.
    """
    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        return source_of_url(path) or Source(local_path(path))
    if isinstance(picture, bytes | bytearray | memoryview):
        return Source("<bytes>", bytes(picture))
    if not hasattr(picture, "__array__"):
        kind = kind_of(picture)
        raise ArgumentError(
            f"a picture is a path, bytes, a PIL image or an array: got {kind}"
        )
    array, content = np.asarray(picture), io.BytesIO()
    if array.dtype.kind not in "buif":
        raise ArgumentError(f"a picture must have numbers: got {array.dtype}")
    np.save(content, array)
    return Source("<array>", content.getvalue())


def _read_stack(source: Source) -> np.ndarray | None:
    """Reads images of 28x28, if it holds several; what is damaged is said later."""
    if not source.error:
        with contextlib.suppress(PictureError):
            return files.read_stack(source.place)
    return None


def _of_stack(answer: Prediction) -> Reading:
    image = answer.digits[0].image[..., 0] if answer.digits else None
    return _show(answer, None if image is None else Image.fromarray(image))


def _from_image(image: Image.Image) -> Image.Image | PictureError:
    try:
        return files.from_pillow(image)
    except PictureError as error:
        return error


def _show(answer: Prediction, picture: Image.Image | None) -> Reading:
    fields = {field.name: getattr(answer, field.name) for field in _FIELDS}
    return Reading(**fields, picture=picture)
