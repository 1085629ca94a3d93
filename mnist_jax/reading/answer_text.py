"""Writes what was read as a table for people, 80 columns wide."""

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from mnist_jax.calibration import show_confidence
from mnist_jax.reading.answers import Record
from mnist_jax.reading.page_counts import MAX_COUNTED
from mnist_jax.reading.predictions import Prediction

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
            lines += _wrap(line, _reason(p))
    return "\n".join(lines)


def describe_unread(unread: Mapping[str, int], records: Iterable[Record]) -> str:
    """Returns one line that counts the pages that were not read; "" if there are none.

    Args:
      unread: {source: how many of its pages or frames were not read}.
      records: the answers, from `answers.to_record`.
    """
    files = {name: count for name, count in unread.items() if count}
    if not files:
        return ""
    first, count = next(iter(files.items()))
    total = f"{sum(files.values()):,}"
    if max(files.values()) >= MAX_COUNTED - 1:
        total += " or more"
    line = (
        f"only the first page or frame of {len(files):,} "
        f"{'file' if len(files) == 1 else 'files'} was read, and {total} further ones "
        f"were not, the first in {first!r} ({count:,})"
    )
    empty = [r["source"] for r in records if r["status"] in ("blank", "no_digit")]
    if blank := [source for source in empty if source in files]:
        line += f"; {len(blank):,} of them showed no digit there: {blank[0]!r}"
    return line


def _cells(p: Prediction) -> list[str]:
    sure = "" if p.confidence is None else show_confidence(p.confidence)
    return [_shorten(_on_one_line(p)), sure, _shorten(p.label or "")]


def _on_one_line(p: Prediction) -> str:
    return p.text.replace("\n", " ")


def _reason(p: Prediction) -> str:
    """Returns why there is no digit."""
    if p.error:
        return f"error: {_printable(p.error)}"
    return "; ".join([p.status.replace("_", " "), *_unread(p)])


def _unread(p: Prediction) -> list[str]:
    return [f"page 1 of {p.unread_pages + 1:,}"] if p.unread_pages else []


def _note(p: Prediction) -> str:
    wrong = p.label is not None and not p.is_right
    notes = ["unsure"] * (p.status == "unsure") + ["wrong"] * wrong
    return ", ".join(notes) if p.digits else ""


def _others(p: Prediction) -> str:
    """Returns what fits no column: a long number, further guesses, further pages."""
    others = []
    guesses = [f"{g.name} {show_confidence(g.confidence)}" for g in p.digits[0].guesses]
    if len(p.text) > _LONGEST:
        others.append(_on_one_line(p))
    elif len(p.digits) == 1 < len(guesses):
        others.append("then " + ", ".join(guesses[1:]))
    return "; ".join(others + _unread(p))


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
