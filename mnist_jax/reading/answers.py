"""Answers that programs read: one record a page, as JSON, JSON lines or CSV.

This is version 1 of the form; `answers.schema.json`, beside this file, is its JSON
Schema. The keys are the same in every form, for every picture and every model.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from mnist_jax.reading.predictions import Guess, Prediction

VERSION = 1
COLUMNS = (
    *("source", "page", "status", "text", "confidence", "digits", "label", "error"),
)

Record = dict[str, Any]


def to_record(prediction: Prediction, class_names: Sequence[str]) -> Record:
    """Returns an answer as what JSON can hold.

    Args:
      prediction: what was read on a page.
      class_names: of the model. If all are digits, a digit is a number, as in 7;
        otherwise it is the name of a class, as in "Bag".
    """
    are_digits = all(len(name) == 1 and name in "0123456789" for name in class_names)

    def describe(guess: Guess) -> Record:
        digit = int(guess.name) if are_digits else guess.name
        return {"digit": digit, "confidence": guess.confidence}

    p = prediction
    digits = [
        {
            **describe(digit.guesses[0]),
            "box": None if digit.box is None else list(digit.box),
            "line": digit.line,
            "top_k": [describe(guess) for guess in digit.guesses],
        }
        for digit in p.digits
    ]
    return {
        "source": _encodable(p.source),
        "page": p.page,
        "status": p.status,
        "text": p.text,
        "confidence": p.confidence,
        "digits": digits,
        "label": p.label,
        "error": _encodable(p.error) or None,
    }


def to_json(records: Iterable[Record], score: Record | None = None) -> str:
    """Returns all answers as one JSON object.

    Args:
      records: from `to_record`.
      score: from `LabelScore.to_dict`, or None if no picture has a label.
    """
    answers = ",\n  ".join(map(json.dumps, records))
    return (
        f'{{\n "version": {VERSION},\n "answers": [\n  {answers}\n ],\n'
        f' "score": {json.dumps(score)}\n}}'
    )


def csv_head() -> str:
    """Returns the names of the columns as a line of CSV, without its end."""
    return _csv_line(COLUMNS)


def to_csv_line(record: Record) -> str:
    """Returns an answer as a row of CSV, without its end; `digits` are JSON."""
    row = record | {"digits": json.dumps(record["digits"])}
    row["source"] = _no_formula(record["source"])
    return _csv_line([row[column] for column in COLUMNS])


def from_csv(text: str) -> list[Record]:
    """Returns the answers of a table with its head.

    Raises:
      ValueError: it is no such table.
    """
    limit = csv.field_size_limit(2**31 - 1)  # a page may have thousands of digits
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    finally:
        csv.field_size_limit(limit)
    if tuple(head) != COLUMNS:
        raise ValueError("its columns are others")
    records = []
    for cells in rows:
        row: Record = dict(zip(COLUMNS, cells, strict=True))
        row["page"], row["digits"] = int(row["page"]), json.loads(row["digits"])
        row["confidence"] = float(row["confidence"]) if row["confidence"] else None
        records.append(row | {key: row[key] or None for key in ("label", "error")})
    return records


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    # The writer quotes a cell that has a character of the line terminator in it. So the
    # terminator has both characters that may break a line.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


def _encodable(text: str) -> str:
    """Escapes bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _no_formula(source: str) -> str:
    """Puts ./ before names that a spreadsheet would run as a formula."""
    return (
        f"./{source}" if source.startswith(("=", "+", "-", "@", "\t", "\r")) else source
    )
