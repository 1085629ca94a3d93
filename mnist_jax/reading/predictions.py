"""What was read: guesses, digits and predictions."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Guess:
    """A class that an image may show."""

    digit: int  # the class
    name: str  # the name of the class; for digits, the digit
    confidence: float  # calibrated probability, 0 to 1


@dataclasses.dataclass(frozen=True)
class Digit:
    """One digit of a picture, as it was read.

    Attributes:
      status: "ok", or "unsure" if the confidence is too low.
      guesses: the likeliest classes, the likeliest first.
      image: uint8 [28, 28, 1], what the model saw.
      box: left, top, right, bottom in pixels of the upright picture; right and bottom
        are just outside the digit. None for an image of a data set.
      line: number of its line of text, from 0 at the top.
    """

    status: str
    guesses: tuple[Guess, ...]
    image: np.ndarray = dataclasses.field(repr=False, compare=False)
    box: Box | None = None
    line: int = 0

    @property
    def confidence(self) -> float:
        """The confidence of the likeliest class."""
        return self.guesses[0].confidence


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was read on one page: a picture file, or an image of a data set.

    Attributes:
      source: the name of the file; for an image, such as `mnist/test[123]`.
      status: "ok"; "unsure" if the confidence is too low; "blank" if there is no ink;
        "no_digit" if there is ink, but no digit; "error".
      digits: in reading order; empty unless the status is "ok" or "unsure".
      error: why it could not be read, or "".
      label: the right answer, as `text` without its line breaks, if it is known.
      page: number of the page in its file, from 0.
      certainty: the probability that no digit was left unread, 0 to 1.
    """

    source: str
    status: str
    digits: tuple[Digit, ...] = ()
    error: str = ""
    label: str | None = None
    page: int = 0
    certainty: float = 1.0

    @property
    def text(self) -> str:
        r"""The names of all digits; there is a "\n" between two lines."""
        lines: dict[int, list[str]] = {}
        for digit in self.digits:
            lines.setdefault(digit.line, []).append(digit.guesses[0].name)
        return "\n".join("".join(names) for names in lines.values())

    @property
    def confidence(self) -> float | None:
        """The probability that the whole text is right, 0 to 1; None without digits."""
        if not self.digits:
            return None
        return self.certainty * math.prod(digit.confidence for digit in self.digits)

    @property
    def is_right(self) -> bool:
        """Whether the text is that of the label, if line breaks are ignored."""
        return self.label is not None and self.label == self.text.replace("\n", "")


def scale_box(box: Sequence[float], scale: float) -> Box:
    """Converts pixels of a reduced picture to pixels of the file."""
    left, top, right, bottom = box
    return (
        math.floor(left * scale),
        math.floor(top * scale),
        math.ceil(right * scale),
        math.ceil(bottom * scale),
    )
