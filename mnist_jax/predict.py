"""Pictures to digits: a row for each picture, and the rows as text, JSON or CSV."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_jax.errors import PictureError
from mnist_jax.evaluate import LabelledSplit, predict_logits
from mnist_jax.scores import log_softmax, show_confidence

if TYPE_CHECKING:
    from mnist_jax.checkpoint import Loaded

_BATCH_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Guess:
    """A digit that an image may show."""

    digit: int  # the label
    name: str  # the label's name: for digits, the same
    confidence: float  # probability, 0 to 1


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What one source, a picture file or an image of a data set, was read as.

    Attributes:
      source: the file, or the image as `mnist/test[123]`.
      status: "ok", or "error" where it could not be read.
      guesses: the likeliest digits, the likeliest first; none in an error.
      error: why it could not be read, or "".
      label: what it shows, where that is known.
      image: uint8 [28, 28, 1], what the model saw; None in an error.
    """

    source: str
    status: str
    guesses: tuple[Guess, ...] = ()
    error: str = ""
    label: int | None = None
    image: np.ndarray | None = dataclasses.field(default=None, repr=False)

    @property
    def digit(self) -> int | None:
        """The likeliest digit."""
        return self.guesses[0].digit if self.guesses else None

    @property
    def confidence(self) -> float | None:
        """The probability of `digit`, 0 to 1."""
        return self.guesses[0].confidence if self.guesses else None


def predict(loaded: "Loaded", images: np.ndarray) -> np.ndarray:
    """The probability of each class.

    Args:
      loaded: from `checkpoint.load_model`.
      images: uint8 [N, 28, 28, 1], white ink on black, prepared as MNIST was.

    Returns:
      float64 [N, C]; each row sums to 1.
    """
    if not len(images):
        return np.zeros((0, len(class_names(loaded))))
    logits = predict_logits(loaded.model, loaded.variables, images, _BATCH_SIZE)
    return np.exp(log_softmax(logits))


def predict_files(
    loaded: "Loaded", paths: Sequence[str | os.PathLike[str]], top_k: int = 1
) -> list[Prediction]:
    """Reads picture files, each of one digit.

    Args:
      loaded: from `checkpoint.load_model`.
      paths: picture files. One that cannot be read does not keep the others from it.
      top_k: how many guesses to give for each.

    Returns:
      One for each path, in order.
    """
    from mnist_jax import pictures

    read: list[np.ndarray | PictureError] = []
    for path in paths:
        try:
            read.append(pictures.load_digit(path)[..., None])
        except PictureError as error:
            read.append(error)
    images = [image for image in read if isinstance(image, np.ndarray)]
    rows = iter(predict(loaded, np.array(images)))
    names = class_names(loaded)
    return [
        Prediction(os.fsdecode(path), "error", error=str(image))
        if isinstance(image, PictureError)
        else Prediction(
            os.fsdecode(path), "ok", _guesses(next(rows), names, top_k), image=image
        )
        for path, image in zip(paths, read, strict=True)
    ]


def predict_samples(
    loaded: "Loaded", split: LabelledSplit, count: int, seed: int, top_k: int = 1
) -> list[Prediction]:
    """Reads some images of a data set, whose labels are known.

    Args:
      loaded: from `checkpoint.load_model`.
      split: from `evaluate.load_split`.
      count: how many images; all, if there are fewer.
      seed: which images; the same seed chooses the same ones.
      top_k: how many guesses to give for each.
    """
    images, labels = split.dataset
    count = min(count, len(labels))
    chosen = np.random.default_rng(seed).choice(len(labels), count, replace=False)
    rows = predict(loaded, images[chosen])
    return [
        Prediction(
            source=f"{split.name}[{i}]",
            status="ok",
            guesses=_guesses(row, class_names(loaded), top_k),
            label=int(labels[i]),
            image=images[i],
        )
        for i, row in zip(chosen, rows, strict=True)
    ]


def class_names(loaded: "Loaded") -> list[str]:
    """The name of each class of a model."""
    return loaded.metadata["dataset"]["class_names"]


def _guesses(
    probabilities: np.ndarray, names: list[str], top_k: int
) -> tuple[Guess, ...]:
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return tuple(Guess(int(k), names[k], float(probabilities[k])) for k in order)


def to_text(predictions: Sequence[Prediction], names: Sequence[str]) -> str:
    """A line for each prediction, in columns.

    Args:
      predictions: one or more.
      names: the names of all classes.
    """
    source_width = min(50, max(len(_printable(p.source)) for p in predictions))
    width = max(5, *(len(name) for name in names))
    labelled = any(p.label is not None for p in predictions)
    head = f"{'image':{source_width}}  {'digit':>{width}}  confidence"
    lines = [head + (f"  {'label':>{width}}" if labelled else "")]
    for p in predictions:
        source = f"{_printable(p.source):{source_width}}  "
        if p.status == "error":
            lines.append(f"{source}{'-':>{width}}  error: {_printable(p.error)}")
            continue
        first, *others = p.guesses
        line = f"{source}{first.name:>{width}}  {show_confidence(first.confidence):>10}"
        if p.label is not None:
            wrong = "" if p.label == first.digit else "wrong"
            line += f"  {names[p.label]:>{width}}  {wrong:5}"
        if others:
            then = ", ".join(
                f"{g.name} {show_confidence(g.confidence)}" for g in others
            )
            line += f"  then {then}"
        lines.append(line.rstrip())
    if labelled:
        right = sum(p.label == p.digit for p in predictions)
        lines.append(f"{right} of {len(predictions)} right")
    return "\n".join(lines)


def to_json(predictions: Sequence[Prediction], names: Sequence[str]) -> str:
    """A JSON array with an object for each prediction; arguments as in `to_text`."""
    return json.dumps([_to_dict(p, names) for p in predictions], indent=2)


def to_csv(predictions: Sequence[Prediction], names: Sequence[str]) -> str:
    """A head and a line for each prediction; arguments as in `to_text`.

    With several guesses, the second is in columns `digit_2` and `confidence_2`, and so
    on.
    """
    rows = []
    for prediction in predictions:
        row = _to_dict(prediction, names)
        for place, guess in enumerate(row.pop("top_k")[1:], 2):
            row |= {f"{key}_{place}": value for key, value in guess.items()}
        rows.append(row)
    fields = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _to_dict(prediction: Prediction, names: Sequence[str]) -> dict[str, Any]:
    """What JSON and CSV say; names of classes only where they are not the digits."""
    named = any(name != str(k) for k, name in enumerate(names))

    def describe(guess: Guess) -> dict[str, Any]:
        name = {"name": guess.name} if named else {}
        return {"digit": guess.digit, **name, "confidence": guess.confidence}

    first: dict[str, Any] = {"digit": None, "confidence": None}
    if prediction.guesses:
        first = describe(prediction.guesses[0])
    return {
        "source": _encodable(prediction.source),
        "status": prediction.status,
        **first,
        **({} if prediction.label is None else {"label": prediction.label}),
        "top_k": [describe(guess) for guess in prediction.guesses],
        "error": _encodable(prediction.error) or None,
    }


def _encodable(text: str) -> str:
    """File names may hold bytes that are no UTF-8: these become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _printable(text: str) -> str:
    """Such that a file name cannot break a line or command the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


FORMATS: dict[str, Callable[[Sequence[Prediction], Sequence[str]], str]] = {
    "text": to_text,
    "json": to_json,
    "csv": to_csv,
}
