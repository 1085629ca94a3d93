import unicodedata

import pytest
from made_predictions import ROWS, digit, number

from mnist_jax.reading import answer_text
from mnist_jax.reading.answers import to_record
from mnist_jax.reading.paths import Source
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
        Prediction("a.tif", "ok", lines),
        Prediction("a.tif", "error", error="damaged", page=1),
        Prediction("a.tif", "blank", page=2),
        Prediction("c.png", "no_digit"),
    ]
    text = [line.split() for line in answer_text.to_text(rows).splitlines()[1:]]
    assert text[0][:3] == ["a.tif[0]", "77", "7"]
    assert text[1] == ["a.tif[1]", "-", "error:", "damaged"]
    assert text[2] == ["a.tif[2]", "-", "blank"]
    assert text[3] == ["c.png", "-", "no", "digit"]
    assert answer_text.to_text([]).split() == ["image", "digit", "confidence"]


def test_pages_that_cannot_be_read_are_counted():
    rows = [
        Prediction("a.tif", "blank"),
        Prediction("a.tif", "error", error="is lost", page=1),
        Prediction("b.png", "error", error="is empty"),
    ]
    records = [to_record(row, "0123456789") for row in rows]
    assert answer_text.describe_errors(records[:1]) == ""
    assert answer_text.describe_errors(records) == (
        "2 of 3 pictures could not be read, the first: 'a.tif[1]': is lost"
    )
    assert answer_text.describe_errors(records[2:]).endswith("'b.png': is empty")


def test_labels_of_files_of_several_pages_are_counted():
    rows = [
        Prediction("a.tif", "blank"),
        Prediction("a.tif", "blank", page=1),
        Prediction("b.png", "blank", label="7"),
        Prediction("c.npy", "blank", label="7"),
        Prediction("c.npy", "blank", label="7", page=1),
        Prediction("d\udcff.gif", "blank"),
        Prediction("d\udcff.gif", "blank", page=1),
    ]
    records = [to_record(row, "0123456789") for row in rows]
    sources = [Source(name) for name in ("a.tif", "b.png", "c.npy", "d\udcff.gif")]

    def told(*labels):
        return answer_text.describe_unlabelled(sources, records, labels)

    assert told() == told("b.png", "c.npy") == ""
    assert "that of a file with several pages is not used" in told("a.tif")
    assert told("a.tif").endswith("'a.tif'")
    assert "2 files with several" in told("a.tif", "b.png", "c.npy", "d\udcff.gif")
