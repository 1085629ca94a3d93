"""What pictures show, by their folders' names or a table, and how many are right."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_jax.calibration import wilson_interval
from mnist_jax.errors import DataError, PictureError
from mnist_jax.metrics import confusion_matrix
from mnist_jax.reading.files import MAX_BYTES, open_regular_file

if TYPE_CHECKING:
    from mnist_jax.reading.reader import Prediction

TABLE = "labels.csv"
STATUSES = ("ok", "unsure", "blank", "error")


def find_labels(
    names: Iterable[str], class_names: Sequence[str], table: str | None = None
) -> dict[str, str]:
    """Finds the labels of pictures.

    That of a picture stands in `table`, if there is one; else in the file labels.csv
    beside the picture, or beside the picture's folder; else it is the name of that
    folder, if that is the name of a class, such as `7/scan.png`.

    Args:
      names: paths of pictures.
      class_names: of the model.
      table: path of a file of two columns, picture and label. Pictures' paths start
        at the table's folder.

    Returns:
      {name: label}; without those that have none. A label is the name of a class or,
      for digits, several: "2026".

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
    """{absolute path of a picture: label}."""
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
        elif number > 1:  # the first may be a head
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
class Report:
    """How well pictures with labels were read.

    Attributes:
      count: pictures with a label.
      correct: of these, how many were read as their label says.
      by_status: {status: (correct, count)}.
      class_names: C names.
      confusion: int64 [C, C + 1], of labels of one class: row i, column j is how often
        an i was taken for a j; the last column is for all else.
    """

    count: int
    correct: int
    by_status: dict[str, tuple[int, int]]
    class_names: Sequence[str]
    confusion: np.ndarray


def make_report(
    predictions: Iterable["Prediction"], class_names: Sequence[str]
) -> Report | None:
    """Compares answers with labels; None where nothing has a label."""
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
    return Report(
        count=len(labelled),
        correct=sum(p.is_right for p in labelled),
        by_status=by_status,
        class_names=class_names,
        confusion=confusion,
    )


def to_dict(report: Report) -> dict[str, Any]:
    """The report, as JSON can hold it."""
    return {
        "count": report.count,
        "correct": report.correct,
        "accuracy": report.correct / report.count,
        "accuracy_interval_95": list(wilson_interval(report.correct, report.count)),
        "by_status": {
            status: {"count": count, "correct": correct}
            for status, (correct, count) in report.by_status.items()
        },
        "class_names": list(report.class_names),
        "confusion_matrix": report.confusion.tolist(),  # the last column is "other"
    }


def to_text(report: Report) -> str:
    """The report for people, 80 columns wide for up to ten classes."""
    low, high = wilson_interval(report.correct, report.count)
    lines = [
        f"accuracy   {report.correct / report.count:.2%}, {report.correct:,} of "
        f"{report.count:,} right ({low:.1%} to {high:.1%} with 95% confidence)",
        "",
        "status      right         of",
    ]
    for status, (correct, count) in report.by_status.items():
        if count:
            lines.append(f"{status:7}{correct:10,}{count:11,}")
    return "\n".join(lines + _confusion_table(report))


def _confusion_table(report: Report) -> list[str]:
    names = report.class_names
    if not report.confusion.any() or len(names) > 10:
        return []
    width = max(len(name) for name in names)
    head = "".join(f"{name[:5]:>6}" for name in [*names, "other"])
    lines = ["", "confusion: rows are labels, columns answers", "", " " * width + head]
    for name, row in zip(names, report.confusion, strict=True):
        if row.any():
            lines.append(f"{name:{width}}" + "".join(f"{n or '.':>6}" for n in row))
    return lines
