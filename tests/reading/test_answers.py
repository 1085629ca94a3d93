import csv
import io
import json
import os
import unicodedata

import numpy as np
import pytest

from mnist_jax.reading import answers
from mnist_jax.reading.reader import Digit, Guess, Prediction

DIGITS = list("0123456789")
GUESSES = (Guess(7, "7", 0.9876), Guess(1, "1", 0.01))


def digit(guesses=GUESSES, status="ok", **place):
    return Digit(status, guesses, np.zeros((28, 28, 1), np.uint8), **place)


def number(text):
    return tuple(
        digit((Guess(int(c), c, 0.9),), box=(9 * i, 0, 9 * i + 8, 12))
        for i, c in enumerate(text)
    )


ROWS = [
    Prediction("a.png", "ok", (digit(),)),
    Prediction('b,"\n\x1b[1m\udcff.png', "error", error="is empty"),
    Prediction("c.png", "unsure", (digit(status="unsure"),)),
    Prediction("d.png", "blank"),
]
NUMBERS = [
    Prediction("a.png", "ok", number("2026"), is_number=True),
    Prediction("b.png", "blank", is_number=True),
]


def width(line):
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
    return len(line) + wide


def test_text():
    lines = answers.to_text(ROWS).splitlines()
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
    right, wrong = answers.to_text(rows).splitlines()[1:]
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
    text = answers.to_text(rows)
    assert max(width(line) for line in text.splitlines()) <= 80
    # Nothing is lost but the beginning of a path.
    assert "12.34%, 9 12.34%" in " ".join(text.split())
    assert " ".join(reason.split()) in " ".join(text.split())
    assert "1234567890" * 30 in "".join(text.split())


def test_json():
    good, bad, unsure, blank = json.loads(answers.to_json(ROWS, DIGITS))
    assert good == {
        "source": "a.png",
        "status": "ok",
        "digit": 7,
        "confidence": 0.9876,
        "top_k": [
            {"digit": 7, "confidence": 0.9876},
            {"digit": 1, "confidence": 0.01},
        ],
        "error": None,
    }
    assert bad["status"] == "error"
    assert bad["error"] == "is empty"
    assert bad["digit"] is None
    assert bad["source"] == 'b,"\n\x1b[1m\\udcff.png'
    assert (unsure["status"], unsure["digit"]) == ("unsure", 7)
    assert (blank["status"], blank["digit"], blank["error"]) == ("blank", None, None)


def test_json_of_numbers():
    row, blank = json.loads(answers.to_json(NUMBERS, DIGITS))
    assert (row["number"], row["status"], row["error"]) == ("2026", "ok", None)
    assert row["confidence"] == pytest.approx(0.9**4)
    assert row["digits"][1] == {
        "box": [9, 0, 17, 12],
        "line": 0,
        "status": "ok",
        "digit": 0,
        "confidence": 0.9,
        "top_k": [{"digit": 0, "confidence": 0.9}],
    }
    assert (blank["number"], blank["digits"]) == (None, [])


def test_json_with_a_report():
    whole = json.loads(answers.to_json(ROWS, DIGITS, {"count": 4}))
    assert whole["report"] == {"count": 4}
    assert len(whole["predictions"]) == 4


def test_json_lines():
    whole = json.loads(answers.to_json(ROWS, DIGITS))
    for row, expected in zip(ROWS, whole, strict=True):
        line = answers.to_json_line(row, DIGITS)
        assert "\n" not in line
        assert json.loads(line) == expected


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1]])
def test_csv(rows):
    text = answers.to_csv(rows, DIGITS)
    text.encode("utf-8")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    by_status = {row["status"]: row for row in read}
    good, bad = by_status["ok"], by_status["error"]
    assert (good["digit"], good["confidence"]) == ("7", "0.9876")
    assert (good["digit_2"], good["confidence_2"]) == ("1", "0.01")
    assert (bad["digit"], bad["error"]) == ("", "is empty")
    assert bad["source"].startswith('b,"\n')


def test_csv_of_numbers():
    text = answers.to_csv([*NUMBERS, ROWS[0]], DIGITS)
    row, _, one = csv.DictReader(io.StringIO(text, newline=""))
    assert row["number"] == "2026"
    assert json.loads(row["digits"])[3]["box"] == [27, 0, 35, 12]
    assert (one["number"], one["digit"]) == ("", "7")


@pytest.mark.parametrize("name", ["=1+1.png", "+x", "-x", "@x", "\tx", "\rx", "a\r\nb"])
def test_names_in_csv_are_no_formulas(name):
    text = answers.to_csv([Prediction(name, "blank")], DIGITS)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert not row["source"].startswith(tuple("=+-@\t\r"))
    assert os.path.normpath(row["source"]) == name  # the same file


def test_classes_that_are_no_digits_are_named():
    rows = [Prediction("a.png", "ok", (digit((Guess(1, "Bag", 0.9),)),))]
    (row,) = json.loads(answers.to_json(rows, ["Shirt", "Bag"]))
    assert (row["digit"], row["name"]) == (1, "Bag")
    assert "source,status,digit,name," in answers.to_csv(rows, ["Shirt", "Bag"])


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    answers.write_file(str(path), "été\udcff\n")
    assert path.read_bytes() == "été\\udcff\n".encode()

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            answers.write_file(str(path), "new")
    assert path.read_bytes() == "été\\udcff\n".encode()
    assert os.listdir(tmp_path) == ["out.json"]
    (tmp_path / "link").symlink_to(path)
    answers.write_file(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"


def test_devices_are_written_to_and_not_replaced(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    answers.write_file(str(link), "text")
    assert not os.path.isfile("/dev/null")
    with pytest.raises(FileNotFoundError):
        answers.write_file(str(tmp_path / "none" / "x"), "text")


def test_an_answer_is_added_to_what_a_pipe_or_stderr_has(tmp_path, capfd):
    """stderr may be a file, as in 2>> log: what was there stays."""
    answers.write_file("/dev/stderr", "text\n")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    answers.write_file(str(tmp_path / "pipe"), "text")
    assert os.read(reader, 99) == b"text"
    os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.write(log, b"before\n")
    answers.write_file(f"/dev/fd/{log}", "text")
    os.close(log)
    assert (tmp_path / "log").read_text() == "before\ntext"
    assert capfd.readouterr().err == "text\n"
