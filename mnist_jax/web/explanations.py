"""Says why an answer is as it is: one sentence, and what the model saw."""

import base64
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mnist_jax.errors import PictureError
from mnist_jax.reading.file_pages import read_pages
from mnist_jax.reading.files import read_stack
from mnist_jax.reading.predictions import Digit, Prediction

_PREVIEW_SIDE = 1024  # pixels
_MAX_PREVIEWS = 100  # pages of one file that are shown
_SMALL = 256  # pixels; smaller pictures are shown as they are, without loss
_PLAINLY = 0.9  # a digit that is surer leaves no doubt worth a word
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


def explain(answer: Prediction, class_names: Sequence[str]) -> str:
    """Returns one sentence that says why an answer has its status.

    Args:
      answer: of a reader whose `top_k` is at least 2; if it gives all classes, the
        sentence may say that something is perhaps none of them.
      class_names: of the reader.
    """
    if answer.status == "error":
        return f"It could not be read: {answer.error}."
    if answer.status == "blank":
        return "There is no ink that stands out from the paper."
    if not answer.digits:
        return "There is something, but nothing in it looks like a digit."
    confidences = [digit.confidence for digit in answer.digits]
    at = int(np.argmin(confidences))
    weakest, count = answer.digits[at], len(answer.digits)
    which = "It" if count == 1 else f"The {_ordinal(at)} one"
    name = describe_class(weakest.guesses[0].name)
    doubt = f"{which} looks most like {name}, but {_doubt(weakest, class_names)}."
    if answer.status == "ok":
        if weakest.confidence < _PLAINLY:
            return doubt
        if count == 1:
            return f"It looks like {name}, and like nothing else."
        return f"Each of the {count} looks like one digit, and like nothing else."
    if weakest.status != "ok":
        return doubt
    if count == 1 or answer.certainty < weakest.confidence:
        return (
            "Something else there may be a digit as well, and was left out "
            f"({percent(1 - answer.certainty)})."
        )
    return (
        f"Each digit is likely, but all {count} together are right with only "
        f"{percent(answer.confidence or 0)}."
    )


def describe_class(name: str) -> str:
    """Returns "a 7", "an 8", or another class's name in quotes."""
    if len(name) == 1 and name.isdecimal():
        return f"an {name}" if name == "8" else f"a {name}"
    return f"“{name}”"


def percent(probability: float) -> str:
    """Returns a probability in percent, never rounded up to certainty."""
    if probability < 0.01:
        return "under 1 %"
    return f"{math.floor(probability * 100)} %"


def _doubt(digit: Digit, class_names: Sequence[str]) -> str:
    """Says what else a digit may be, with its probability."""
    nothing = 0.0
    if len(digit.guesses) == len(class_names):
        nothing = 1 - math.fsum(guess.confidence for guess in digit.guesses)
    other = digit.guesses[1]
    if nothing > other.confidence:
        return f"may be no digit at all ({percent(nothing)})"
    return f"may be {describe_class(other.name)} ({percent(other.confidence)})"


def _ordinal(index: int) -> str:
    return _ORDINALS[index] if index < len(_ORDINALS) else f"{index + 1}th"


def show_digits(answer: Prediction) -> list[str]:
    """Returns what the model saw of each digit, 28x28 pixels, as data URLs."""
    return [_to_url(Image.fromarray(digit.image[..., 0])) for digit in answer.digits]


def show_pages(content: bytes) -> Iterator[dict[str, Any]]:
    """Shows the pages of a picture file, those too that browsers cannot show.

    Yields:
      For each page, `picture`, as a data URL, and the `size` of the page, width and
      height, that boxes refer to; both None for what has no page or cannot be read.
    """
    nothing = {"picture": None, "size": None}
    try:
        is_stack = read_stack(content) is not None  # images of digits, without pages
    except PictureError:
        is_stack = True
    pages = iter(()) if is_stack else read_pages(content)
    for page in itertools.islice(pages, _MAX_PREVIEWS):
        if isinstance(page, PictureError):
            yield nothing
            continue
        size = page.info["full_size"]
        page.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        yield {"picture": _to_url(page), "size": list(size)}
    yield from itertools.repeat(nothing)


def _to_url(picture: Image.Image) -> str:
    form = "PNG" if max(picture.size) <= _SMALL else "JPEG"
    content = io.BytesIO()
    picture.save(content, form)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return f"data:image/{form.lower()};base64,{encoded}"
