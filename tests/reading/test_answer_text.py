import unicodedata

import pytest
from made_predictions import ROWS, digit, number

from mnist_jax.reading import answer_text
from mnist_jax.reading.answers import to_record
from mnist_jax.reading.predictions import Guess, Prediction


def width(line):
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
    return len(line) + wide


def test_text():
    lines = answer_text.to_text(ROWS).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == ["a.png", "7", "98.76%", "then", "1", "1.00%"]
    assert lines[2].endswith("error: is empty")
    assert r"\n\x1b[1m\udcff.png" in lines[2]
    assert "unsure" in lines[3]
    assert lines[4].split() == ["d.png", "-", "blank"]


def test_text_shows_labels():
    rows = [
        Prediction("a", "ok", (digit((Guess(0, name, 0.5),)),), label=label)
        for name, label in [("Shirt", "Shirt"), ("Shirt", "Ankle boot")]
    ]
    right, wrong = answer_text.to_text(rows).splitlines()[1:]
    assert right.split() == ["a", "Shirt", "50.00%", "Shirt"]
    assert wrong.split() == ["a", "Shirt", "50.00%", "Ankle", "boot", "wrong"]


@pytest.mark.parametrize("label", [None, "7", "1"])
@pytest.mark.parametrize(
    "name", ["a.png", "folder/" * 20 + "a.png", "数" * 60, "\n" * 99, "e\u0301" * 80]
)
@pytest.mark.parametrize("status", ["ok", "unsure"])
def test_text_is_80_columns_wide(label, name, status):
    ten = tuple(Guess(k, str(k), 0.1234) for k in range(10))
    reason = "damaged (" + 20 * "it is ever so long " + ")"
    rows = [
        Prediction(name, status, (digit(ten, status),), label=label),
        Prediction(name, "error", error=reason, label=label),
        Prediction(name, status, number("1234567890" * 30), label=label),
        Prediction(name, "blank"),
    ]
    text = answer_text.to_text(rows)
    assert max(width(line) for line in text.splitlines()) <= 80
    # Nothing is lost but the beginning of a path.
    assert "12.34%, 9 12.34%" in " ".join(text.split())
    assert " ".join(reason.split()) in " ".join(text.split())
    assert "1234567890" * 30 in "".join(text.split())


def test_text_of_several_lines_and_pages():
    lines = (digit(line=0), digit(line=0), digit(line=1))
    rows = [
        Prediction("a.tif", "ok", lines, unread_pages=4),
        Prediction("b.gif", "blank", unread_pages=1),
        Prediction("c.png", "no_digit"),
    ]
    first, second, third = answer_text.to_text(rows).splitlines()[1:]
    assert first.split()[:3] == ["a.tif", "77", "7"]
    assert first.endswith("page 1 of 5")
    assert second.endswith("blank; page 1 of 2")
    assert third.endswith("no digit")


def test_pages_that_were_not_read_are_counted():
    rows = [
        Prediction("a.tif", "ok", (digit(),)),
        Prediction("b.gif", "blank"),
        Prediction("c.png", "blank"),
    ]
    records = [to_record(row, "0123456789") for row in rows]
    told = answer_text.describe_unread({"a.tif": 4, "b.gif": 1, "c.png": 0}, records)
    assert "first page or frame of 2 files was read, and 5 further ones" in told
    assert "the first in 'a.tif' (4)" in told
    assert told.endswith("; 1 of them showed no digit there: 'b.gif'")
    assert answer_text.describe_unread({"c.png": 0}, records) == ""
    assert "999 or more" in answer_text.describe_unread({"a.tif": 999}, records)
