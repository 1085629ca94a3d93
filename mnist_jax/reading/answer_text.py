"""Writes what was read as a table for people, 80 columns wide."""

import itertools
import textwrap
import unicodedata
from collections.abc import Collection, Sequence

from mnist_jax.calibration import show_confidence
from mnist_jax.local_files import printable
from mnist_jax.reading.answers import Record
from mnist_jax.reading.paths import Source
from mnist_jax.reading.predictions import Prediction

_WIDTH = 80
_LONGEST = 20  # digits of a number that the column shows


def to_text(predictions: Sequence[Prediction]) -> str:
    """Returns a line for each prediction, in columns, 80 characters wide.

    A page of a file of several is named as in "scan.tif[1]", counted from 0.

    Args:
      predictions: of all pages.
    """
    labelled = any(p.label is not None for p in predictions)
    head = ["digit", "confidence", "label"][: 3 if labelled else 2]
    rows = [_cells(p)[: len(head)] for p in predictions]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    notes = max((len(_note(p)) for p in predictions), default=0)
    room = _WIDTH - sum(width + 2 for width in widths) - notes - 2
    several = {p.source for p in predictions if p.page}
    names = [
        printable(p.source) + f"[{p.page}]" * (p.source in several) for p in predictions
    ]
    room = min(room, max(_columns(name) for name in ["image", *names]))
    lines = [_join("image", room, head, widths)]
    for p, name, row in zip(predictions, names, rows, strict=True):
        if p.digits:
            line = f"{_join(name, room, row, widths)}  {_note(p)}".rstrip()
            lines += _wrap(line, _others(p))
        else:
            line = _join(name, room, ["-"], widths[:1])
            lines += _wrap(line, _reason(p))
    return "\n".join(lines)


def describe_errors(records: Sequence[Record]) -> str:
    """Returns one line that counts the pages with an error; "" if there are none.

    Args:
      records: the answers, from `answers.to_record`.
    """
    failed = [record for record in records if record["status"] == "error"]
    if not failed:
        return ""
    first = failed[0]
    name = f"{first['source']}[{first['page']}]" if first["page"] else first["source"]
    return (
        f"{len(failed):,} of {len(records):,} pictures could not be read, the first: "
        f"{name!r}: {first['error']}"
    )


def describe_unlabelled(
    sources: Sequence[Source], records: Sequence[Record], labels: Collection[str]
) -> str:
    """Returns one line that counts files whose label belongs to none of their pages.

    Args:
      sources: what was read.
      records: the answers to all of them, from `answers.to_record`, in order.
      labels: names of the sources that have a label.

    Returns:
      The line, or "" if there are no such files.
    """
    starts = [i for i, record in enumerate(records) if not record["page"]]
    counts = [b - a for a, b in itertools.pairwise([*starts, len(records)])]
    files = [
        source.name
        for source, start, count in zip(sources, starts, counts, strict=True)
        if count > 1 and source.name in labels and records[start]["label"] is None
    ]
    if not files:
        return ""
    what = "a file" if len(files) == 1 else f"{len(files):,} files"
    return (
        f"labels: that of {what} with several pages is not used, as it may be that of "
        f"any page: {files[0]!r}"
    )


def _cells(p: Prediction) -> list[str]:
    sure = "" if p.confidence is None else show_confidence(p.confidence)
    return [_shorten(_on_one_line(p)), sure, _shorten(p.label or "")]


def _on_one_line(p: Prediction) -> str:
    return p.text.replace("\n", " ")


def _reason(p: Prediction) -> str:
    """Returns why there is no digit."""
    if p.error:
        return f"error: {printable(p.error)}"
    return p.status.replace("_", " ")


def _note(p: Prediction) -> str:
    wrong = p.label is not None and not p.is_right
    notes = ["unsure"] * (p.status == "unsure") + ["wrong"] * wrong
    return ", ".join(notes) if p.digits else ""


def _others(p: Prediction) -> str:
    """Returns what fits no column: a long number, or further guesses."""
    guesses = [f"{g.name} {show_confidence(g.confidence)}" for g in p.digits[0].guesses]
    if len(p.text) > _LONGEST:
        return _on_one_line(p)
    if len(p.digits) == 1 < len(guesses):
        return "then " + ", ".join(guesses[1:])
    return ""


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
