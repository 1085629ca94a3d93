"""What was read, as text for people, as JSON, JSON lines and CSV."""

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
from mnist_jax.errors import UserError
from mnist_jax.reading.reader import Digit, Guess, Prediction

_WIDTH = 80
_LONGEST = 20  # number in the column of digits


def to_text(predictions: Sequence[Prediction]) -> str:
    """A line for each prediction, in columns; within 80 characters.

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
    """What fits no column: a long number, or the guesses after the first."""
    if len(p.text) > _LONGEST:
        return p.text
    guesses = [f"{g.name} {show_confidence(g.confidence)}" for g in p.digits[0].guesses]
    return "then " + ", ".join(guesses[1:]) if len(p.digits) == 1 < len(guesses) else ""


def _wrap(line: str, more: str) -> list[str]:
    """Puts more at the end of a line, or, where that is too long, below it."""
    if _columns(line) + 2 + len(more) <= _WIDTH:
        return [f"{line}  {more}".rstrip()]
    indent = " " * 4
    return [
        line,
        *textwrap.wrap(more, _WIDTH, initial_indent=indent, subsequent_indent=indent),
    ]


def _join(name: str, room: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    while _columns(name) > room:  # the end of a path says most
        name = "…" + name[2:]
    padded = name + " " * (room - _columns(name))
    return padded + "".join(
        f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _columns(text: str) -> int:
    """How wide a terminal shows a text: some characters take two columns."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide


def _printable(text: str) -> str:
    """Such that a file name cannot break a line or command the terminal."""
    composed = unicodedata.normalize("NFC", text)  # macOS writes an accent on its own
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in composed)


def to_json(
    predictions: Sequence[Prediction],
    class_names: Sequence[str],
    report: dict[str, Any] | None = None,
) -> str:
    """A JSON array with an object for each prediction.

    Args:
      predictions: what was read.
      class_names: of the model.
      report: from `labels.to_dict`; with it, the array is `predictions` of an object.
    """
    rows = [_to_dict(p, class_names) for p in predictions]
    whole = rows if report is None else {"predictions": rows, "report": report}
    return json.dumps(whole, indent=2)


def to_json_line(prediction: Prediction, class_names: Sequence[str]) -> str:
    """A prediction as a JSON object on one line."""
    return json.dumps(_to_dict(prediction, class_names))


def to_csv(predictions: Sequence[Prediction], class_names: Sequence[str]) -> str:
    """A head and a line for each prediction; arguments as in `to_json`.

    With several guesses, the second is in columns `digit_2` and `confidence_2`, and so
    on. With several digits in a picture, `number` is all of them, and `digits` says in
    JSON where each is.
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
    # Only what is in the line's end is sure to be quoted within a cell.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


def _to_dict(prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
    """What JSON and CSV say; names of classes only where they are not the digits."""
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
    """File names may hold bytes that are no UTF-8: these become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _no_formula(source: str) -> str:
    """Spreadsheets would run a name that begins so; with ./ it is the same file's."""
    return (
        f"./{source}" if source.startswith(("=", "+", "-", "@", "\t", "\r")) else source
    )


def write_file(path: str, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    target = os.path.realpath(path)
    content = text.encode("utf-8", "backslashreplace")
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            Path(target).write_bytes(content)  # /dev/stdout, say, is not to be replaced
            return
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            Path(temporary).write_bytes(content)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path!r}: {error.strerror}") from error
