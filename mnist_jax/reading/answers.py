"""Writes what was read: as text for people, JSON, JSON lines or CSV."""

import csv
import io
import json
import os
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_jax.calibration import show_confidence
from mnist_jax.local_files import is_stream
from mnist_jax.reading.reader import Digit, Guess, Prediction

_WIDTH = 80
_LONGEST = 20  # digits of a number that the column shows


def to_text(predictions: Sequence[Prediction]) -> str:
    """Returns a line for each prediction, in columns, 80 characters wide.

    Args:
      predictions: one or more.
    """
    labelled = any(p.label is not None for p in predictions)
    head = ["digit", "confidence", "label"][: 3 if labelled else 2]
    rows = [_cells(p)[: len(head)] for p in predictions]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    notes = max(len(_note(p)) for p in predictions)
    room = _WIDTH - sum(width + 2 for width in widths) - notes - 2
    names = [_printable(p.source) for p in predictions]
    room = min(room, max(_columns(name) for name in ["image", *names]))
    lines = [_join("image", room, head, widths)]
    for p, name, row in zip(predictions, names, rows, strict=True):
        if p.digits:
            line = f"{_join(name, room, row, widths)}  {_note(p)}".rstrip()
            lines += _wrap(line, _others(p))
        else:
            line = _join(name, room, ["-"], widths[:1])
            lines += _wrap(
                line, f"error: {_printable(p.error)}" if p.error else "blank"
            )
    return "\n".join(lines)


def _cells(p: Prediction) -> list[str]:
    sure = "" if p.confidence is None else show_confidence(p.confidence)
    return [_shorten(p.text), sure, _shorten(p.label or "")]


def _note(p: Prediction) -> str:
    wrong = p.label is not None and not p.is_right
    notes = ["unsure"] * (p.status == "unsure") + ["wrong"] * wrong
    return ", ".join(notes) if p.digits else ""


def _others(p: Prediction) -> str:
    """Returns what fits no column: a long number, or the guesses after the first."""
    if len(p.text) > _LONGEST:
        return p.text
    guesses = [f"{g.name} {show_confidence(g.confidence)}" for g in p.digits[0].guesses]
    return "then " + ", ".join(guesses[1:]) if len(p.digits) == 1 < len(guesses) else ""


def _wrap(line: str, more: str) -> list[str]:
    """Appends `more` to a line; if that is too long, it goes below the line."""
    if _columns(line) + 2 + len(more) <= _WIDTH:
        return [f"{line}  {more}".rstrip()]
    indent = " " * 4
    return [
        line,
        *textwrap.wrap(more, _WIDTH, initial_indent=indent, subsequent_indent=indent),
    ]


def _join(name: str, room: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    while _columns(name) > room:  # cut the beginning: a path's end says more
        name = "…" + name[2:]
    padded = name + " " * (room - _columns(name))
    return padded + "".join(
        f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _columns(text: str) -> int:
    """Returns the width of a text in a terminal: some characters take two columns."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide


def _printable(text: str) -> str:
    """Escapes what would break a line or control the terminal."""
    composed = unicodedata.normalize("NFC", text)  # macOS separates accents
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in composed)


def to_json(
    predictions: Sequence[Prediction],
    class_names: Sequence[str],
    score: dict[str, Any] | None = None,
) -> str:
    """Returns a JSON array with an object for each prediction.

    Args:
      predictions: what was read.
      class_names: of the model.
      score: from `LabelScore.to_dict`. With it, the result is an object, and the array
        is its `predictions`.
    """
    rows = [_to_dict(p, class_names) for p in predictions]
    whole = rows if score is None else {"predictions": rows, "report": score}
    return json.dumps(whole, indent=2)


def to_json_line(prediction: Prediction, class_names: Sequence[str]) -> str:
    """Returns a prediction as a JSON object on one line."""
    return json.dumps(_to_dict(prediction, class_names))


def to_csv(predictions: Sequence[Prediction], class_names: Sequence[str]) -> str:
    """Returns CSV: a head, and a line for each prediction; arguments as in `to_json`.

    With several guesses, the second one is in columns `digit_2` and `confidence_2`, and
    so on. With several digits in a picture, `number` has all of them, and `digits` has
    each with its place, as JSON.
    """
    rows = []
    for prediction in predictions:
        row = _to_dict(prediction, class_names)
        for place, guess in enumerate(row.pop("top_k", [])[1:], 2):
            row |= {f"{key}_{place}": value for key, value in guess.items()}
        if "digits" in row:
            row["digits"] = json.dumps(row["digits"])
        rows.append(row | {"source": _no_formula(row["source"])})
    fields = list(dict.fromkeys(key for row in rows for key in row))
    lines = [_csv_line([row.get(field) for field in fields]) for row in rows]
    return "\n".join([_csv_line(fields), *lines])


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    # The writer quotes a cell that has a character of the line terminator in it. So the
    # terminator has both characters that may break a line.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


def _to_dict(prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns what JSON and CSV hold; the class's name only if it is not the digit."""
    named = any(name != str(k) for k, name in enumerate(class_names))

    def describe(guess: Guess) -> dict[str, Any]:
        name = {"name": guess.name} if named else {}
        return {"digit": guess.digit, **name, "confidence": guess.confidence}

    def detail(digit: Digit) -> dict[str, Any]:
        return {
            "box": digit.box,
            "line": digit.line,
            "status": digit.status,
            **describe(digit.guesses[0]),
            "top_k": [describe(guess) for guess in digit.guesses],
        }

    p = prediction
    row: dict[str, Any] = {"source": _encodable(p.source), "status": p.status}
    if p.is_number:
        row |= {"number": p.text if p.digits else None, "confidence": p.confidence}
    elif p.digits:
        row |= describe(p.digits[0].guesses[0])
    else:
        row |= {"digit": None, "confidence": None}
    if p.label is not None:
        row["label"] = p.label
    if p.is_number:
        row["digits"] = [detail(digit) for digit in p.digits]
    else:
        row["top_k"] = [describe(g) for digit in p.digits for g in digit.guesses]
    return row | {"error": _encodable(p.error) or None}


def _encodable(text: str) -> str:
    """Escapes bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _no_formula(source: str) -> str:
    """Puts ./ before names that a spreadsheet would run as a formula."""
    return (
        f"./{source}" if source.startswith(("=", "+", "-", "@", "\t", "\r")) else source
    )


def write_file(path: str, text: str) -> None:
    """Writes a text file; if that fails, the old one is left as it was.

    Into a pipe or a device, such as /dev/stderr, the text is added.

    Raises:
      OSError: it cannot be written.
    """
    content = text.encode("utf-8", "backslashreplace")
    if is_stream(path):
        with open(path, "ab") as stream:
            stream.write(content)
        return
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        Path(temporary).write_bytes(content)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
