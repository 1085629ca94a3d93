"""Finds the labels of pictures, and counts how many answers are right."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_jax.calibration import confusion_matrix, wilson_interval
from mnist_jax.errors import DataError, PictureError
from mnist_jax.reading.files import MAX_BYTES, open_regular_file

if TYPE_CHECKING:
    from mnist_jax.reading.reader import Prediction

TABLE = "labels.csv"
STATUSES = ("ok", "unsure", "blank", "error")


def find_labels(
    names: Iterable[str], class_names: Sequence[str], table: str | None = None
) -> dict[str, str]:
    """Finds the labels of pictures.

    If a table is given, labels come from it only. Otherwise the label of a picture is
    looked up in a file labels.csv beside the picture or beside its folder; if it is not
    there, it is the name of the folder, if that is the name of a class (`7/scan.png`).

    Args:
      names: paths of pictures.
      class_names: of the model.
      table: path of a file with two columns, picture and label. The paths of pictures
        are relative to the table's folder.

    Returns:
      {name: label}, without pictures that have no label. A label is the name of a
      class, or several of them, such as "2026".

    Raises:
      DataError: a table cannot be read, or has no such columns.
    """
    tables: dict[Path, dict[Path, str]] = {}

    def look_up(picture: Path, path: Path) -> str | None:
        if path not in tables:
            tables[path] = _read_table(path, class_names)
        return tables[path].get(picture)

    found: dict[str, str | None] = {}
    for name in names:
        picture = _absolute(name)
        folder = picture.parent
        if table is not None:
            found[name] = look_up(picture, _absolute(table))
            continue
        label = None
        for path in (folder / TABLE, folder.parent / TABLE):
            if label is None and (path in tables or os.path.lexists(path)):
                label = look_up(picture, path)
        if label is None and folder.name in class_names:
            label = folder.name
        found[name] = label
    return {name: label for name, label in found.items() if label is not None}


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))


def _read_table(path: Path, class_names: Sequence[str]) -> dict[Path, str]:
    """Returns {absolute path of a picture: label}."""
    try:
        with open_regular_file(path) as file:
            content = file.read(MAX_BYTES)
        # utf-8-sig: spreadsheets begin a file with a byte order mark.
        text = content.decode("utf-8-sig", "surrogateescape")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, PictureError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the labels in {str(path)!r}: {reason}") from error
    labels = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) > 1 and _is_label(cells[1], class_names):
            labels[_absolute(path.parent / row[0])] = cells[1]
        elif number > 1:  # the first row may be a head
            raise DataError(
                f"{str(path)!r}, row {number}: expected a picture's file name and its "
                f"label, not {','.join(row)[:60]!r}"
            )
    return labels


def _is_label(text: str, class_names: Sequence[str]) -> bool:
    return text in class_names or (
        text != "" and all(character in class_names for character in text)
    )


@dataclasses.dataclass(frozen=True)
class LabelScore:
    """How many pictures with labels were read right.

    Attributes:
      count: number of pictures with a label.
      correct: number of these that were read as their label says.
      by_status: {status: (correct, count)}.
      class_names: C names.
      confusion: int64 [C, C + 1], for labels that are one class: row i, column j is how
        often an i was read as a j; the last column counts all other answers.
    """

    count: int
    correct: int
    by_status: dict[str, tuple[int, int]]
    class_names: Sequence[str]
    confusion: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.correct / self.count,
            "accuracy_interval_95": list(wilson_interval(self.correct, self.count)),
            "by_status": {
                status: {"count": count, "correct": correct}
                for status, (correct, count) in self.by_status.items()
            },
            "class_names": list(self.class_names),
            "confusion_matrix": self.confusion.tolist(),  # the last column is "other"
        }

    def to_text(self) -> str:
        """Returns tables for people, 80 columns wide for up to ten classes."""
        low, high = wilson_interval(self.correct, self.count)
        lines = [
            f"accuracy   {self.correct / self.count:.2%}, {self.correct:,} of "
            f"{self.count:,} right ({low:.1%} to {high:.1%} with 95% confidence)",
            "",
            "status      right         of",
        ]
        for status, (correct, count) in self.by_status.items():
            if count:
                lines.append(f"{status:7}{correct:10,}{count:11,}")
        return "\n".join(lines + _confusion_table(self))


def score_labels(
    predictions: Iterable["Prediction"], class_names: Sequence[str]
) -> LabelScore | None:
    """Compares answers with labels; returns None if there are no labels."""
    labelled = [p for p in predictions if p.label is not None]
    if not labelled:
        return None
    by_status = {
        status: (
            sum(p.is_right for p in labelled if p.status == status),
            sum(p.status == status for p in labelled),
        )
        for status in STATUSES
    }
    index = {name: k for k, name in enumerate(class_names)}
    single = [p for p in labelled if p.label in index]
    pairs = [(index[p.label or ""], index.get(p.text, len(index))) for p in single]
    table = np.array(pairs, int).reshape(-1, 2)
    confusion = confusion_matrix(table[:, 0], table[:, 1], len(index) + 1)[:-1]
    return LabelScore(
        count=len(labelled),
        correct=sum(p.is_right for p in labelled),
        by_status=by_status,
        class_names=class_names,
        confusion=confusion,
    )


def _confusion_table(score: LabelScore) -> list[str]:
    names = score.class_names
    if not score.confusion.any() or len(names) > 10:
        return []
    width = max(len(name) for name in names)
    head = "".join(f"{name[:5]:>6}" for name in [*names, "other"])
    lines = ["", "confusion: rows are labels, columns answers", "", " " * width + head]
    for name, row in zip(names, score.confusion, strict=True):
        if row.any():
            lines.append(f"{name:{width}}" + "".join(f"{n or '.':>6}" for n in row))
    return lines
