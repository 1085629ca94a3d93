"""Finds the labels of pictures: in tables, or in the names of their folders."""

import codecs
import csv
import dataclasses
import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax.errors import DataError, PictureError
from mnist_jax.reading.files import MAX_BYTES, SUFFIXES, open_regular_file

TABLE = "labels.csv"


class FoundLabels(NamedTuple):
    """The labels of pictures, and what could not be used.

    Attributes:
      by_name: {name of a picture: label}, without pictures that have no label. A label
        is the name of a class, or several of them, such as "2026".
      left_out: one line that counts tables that cannot be read, rows without a label,
        labels that match no picture and pictures that have none; "" if there are none.
    """

    by_name: dict[str, str]
    left_out: str = ""


def find_labels(
    names: Iterable[str], class_names: Sequence[str], table: str | None = None
) -> FoundLabels:
    r"""Finds the labels of pictures.

    If a table is given, labels come from it only. Otherwise the label of a picture is
    looked up in a file labels.csv beside the picture or beside its folder; if it is not
    there, it is the name of the folder, if that is the name of a class (`7/scan.png`).

    A table names a picture as its file is named. Where only one picture can be meant,
    case, a missing suffix and Windows' way to write a path (`.\a.png`) do not matter.

    Args:
      names: paths of pictures.
      class_names: of the model.
      table: path of a file with two columns, picture and label. The paths of pictures
        are relative to the table's folder.

    Raises:
      DataError: the given table cannot be read, or has no picture and label.
    """
    pictures = {name: _absolute(name) for name in names}
    tables: dict[Path, _Table] = {}
    for picture in pictures.values():
        for path in _tables_of(picture, table):
            if path not in tables and (table is not None or os.path.lexists(path)):
                tables[path] = _read_table(path, class_names)
            if path in tables:
                tables[path].pictures.append(picture)
    for read in tables.values():
        if table is not None and not read.labels:
            reason = read.error or "no row has a file name and a label"
            raise DataError(f"cannot read the labels in {table!r}: {reason}")
        _match(read)
    labels: dict[str, str] = {}
    unlabelled = 0
    for name, picture in pictures.items():
        consulted = [tables[p] for p in _tables_of(picture, table) if p in tables]
        found = [t.matched[picture] for t in consulted if picture in t.matched]
        if table is None and picture.parent.name in class_names:
            found.append(picture.parent.name)
        if found:
            labels[name] = found[0]
        unlabelled += bool(consulted and not found)
    return FoundLabels(labels, _count_left_out(tables, unlabelled))


@dataclasses.dataclass
class _Table:
    """A table, and what came of it.

    Attributes:
      labels: by the absolute path of a picture.
      bad_rows: numbers of the rows that hold no file name and label, from 1.
      error: why it cannot be read, or "".
      pictures: those that were looked up in it.
      matched: {picture: label}.
      unmatched: the entries of `labels` for which there is neither picture nor file.
      ambiguous: those that may mean several pictures, or that contradict each other.
    """

    labels: dict[Path, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[int] = dataclasses.field(default_factory=list)
    error: str = ""
    pictures: list[Path] = dataclasses.field(default_factory=list)
    matched: dict[Path, str] = dataclasses.field(default_factory=dict)
    unmatched: list[Path] = dataclasses.field(default_factory=list)
    ambiguous: list[Path] = dataclasses.field(default_factory=list)


def _tables_of(picture: Path, table: str | None) -> list[Path]:
    if table is not None:
        return [_absolute(table)]
    return [picture.parent / TABLE, picture.parent.parent / TABLE]


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))


def _read_table(path: Path, class_names: Sequence[str]) -> _Table:
    """Reads a table, which may be anything: a stranger's file has that name too."""
    try:
        with open_regular_file(path) as file:
            content = file.read(MAX_BYTES)
        # Spreadsheets begin a file with a byte order mark.
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = (
            content.decode("utf-16")
            if is_utf16
            else content.decode("utf-8-sig", "surrogateescape")
        )
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, ValueError, PictureError, csv.Error) as error:
        return _Table(error=str(getattr(error, "strerror", None) or error))
    table = _Table()
    head = [cell.strip().casefold() for cell in rows[0]] if rows else []
    column = head.index("label") if "label" in head else 1
    for number, row in enumerate(rows, 1):
        if not any(cell.strip() for cell in row):
            continue
        name = row[0 if column else 1] if len(row) > 1 else ""
        label = _to_label(row[column].strip(), class_names) if column < len(row) else ""
        picture = _absolute(path.parent / name)
        if name and label and table.labels.setdefault(picture, label) == label:
            continue
        if number > 1:  # the first row may be a head
            table.bad_rows.append(number)
    if not table.labels:
        return _Table(error="no row has a file name and a label")
    return table


def _to_label(text: str, class_names: Sequence[str]) -> str:
    """Returns a label, or "" if it is none."""
    # Where a column has gaps, pandas writes 7 as 7.0.
    for label in (text, text.removesuffix(".0")):
        if label in class_names or all(character in class_names for character in label):
            return label
    return ""


def _match(table: _Table) -> None:
    """Finds the label of each picture: by its exact name, then by one that is alike."""
    asked = set(table.pictures)
    table.matched = {p: table.labels[p] for p in table.pictures if p in table.labels}
    left = [entry for entry in table.labels if entry not in table.matched]
    if not left:
        return
    # Pictures that were not asked for may be what a label means.
    pictures = asked.union(*(_pictures_in(p) for p in {p.parent for p in asked}))
    exact, stems = _group(pictures, _without_case), _group(pictures, _without_suffix)
    meant: dict[Path, list[Path]] = {}
    for entry in left:
        name = _without_case(entry)
        candidates = _different(exact.get(name) or stems.get(name) or set(), asked)
        if os.path.lexists(entry) and not any(_is_same(entry, p) for p in candidates):
            continue  # this file was not asked for
        if not candidates:
            table.unmatched.append(entry)
        elif len(candidates) == 1:
            meant.setdefault(candidates[0], []).append(entry)
        elif asked & set(candidates):
            table.ambiguous.append(entry)
    for picture in [p for p in meant if p in asked]:
        labels = {table.labels[entry] for entry in meant[picture]}
        if picture in table.matched or len(labels) > 1:
            table.ambiguous += meant[picture]
        else:
            (table.matched[picture],) = labels


def _pictures_in(folder: Path) -> set[Path]:
    try:
        paths = {folder / name for name in os.listdir(folder)}
    except (OSError, ValueError):
        return set()
    return {path for path in paths if path.suffix.lower() in SUFFIXES}


def _different(paths: set[Path], asked: set[Path]) -> list[Path]:
    """Leaves out other names of one file, as on disks that know no case."""
    kept: list[Path] = []
    for path in sorted(paths, key=lambda path: path not in asked):
        if not any(_is_same(path, other) for other in kept):
            kept.append(path)
    return kept


def _is_same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _group(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, set[Path]]:
    groups: dict[str, set[Path]] = {}
    for path in paths:
        groups.setdefault(key(path), set()).add(path)
    return groups


def _without_case(path: Path) -> str:
    """Returns a path as Windows and macOS compare them."""
    text = os.path.normpath(str(path).replace("\\", "/")).strip()
    return unicodedata.normalize("NFC", text).casefold()


def _without_suffix(path: Path) -> str:
    stem, suffix = os.path.splitext(_without_case(path))
    return stem if suffix in SUFFIXES else stem + suffix


def _count_left_out(tables: Mapping[Path, _Table], unlabelled: int) -> str:
    """Returns one line on what could not be used, with the first of each kind."""

    def count(things: Sequence[Any], one: str, many: str) -> list[str]:
        if not things:
            return []
        what = one if len(things) == 1 else f"{many}, the first:"
        return [f"{len(things):,} {what} {things[0]}"]

    broken = [f"{str(p)!r} ({t.error})" for p, t in tables.items() if t.error]
    bad = [f"row {n} of {str(p)!r}" for p, t in tables.items() for n in t.bad_rows]

    def name(kind: str) -> list[str]:
        return [
            f"{os.path.relpath(entry, path.parent)!r} in {str(path)!r}"
            for path, table in tables.items()
            for entry in getattr(table, kind)
        ]

    parts = [
        *count(broken, "table is not used:", "tables are not used"),
        *count(bad, "row has no usable label:", "rows have no usable label"),
        *count(
            name("unmatched"), "label matches no picture:", "labels match no picture"
        ),
        *count(
            name("ambiguous"),
            "label may mean another picture too:",
            "labels may mean other pictures too",
        ),
    ]
    if unlabelled and len(broken) < len(tables):
        have = "picture has" if unlabelled == 1 else "pictures have"
        parts.append(f"{unlabelled:,} {have} no label")
    return "; ".join(parts)
