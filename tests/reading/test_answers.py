import csv
import io
import json
import os
from pathlib import Path

import jsonschema
import pytest
from made_predictions import ROWS, digit, number

from mnist_jax.reading import answers
from mnist_jax.reading.predictions import Guess, Prediction

DIGITS = list("0123456789")
SCHEMA = json.loads(Path(answers.__file__).with_name("answers.schema.json").read_text())
WHOLE = jsonschema.Draft202012Validator(SCHEMA)


NUMBERS = [
    Prediction("a.png", "ok", number("2026")),
    Prediction("b.png", "blank"),
]


def records(rows, class_names=DIGITS):
    return [answers.to_record(row, class_names) for row in rows]


def read_csv(rows, class_names=DIGITS):
    """The text of a table, and its rows as Python's csv reads them."""
    lines = [answers.csv_head()]
    lines += [answers.to_csv_line(record) for record in records(rows, class_names)]
    text = "".join(f"{line}\n" for line in lines)
    return text, list(csv.DictReader(io.StringIO(text, newline="")))


def test_records():
    good, bad, unsure, blank = records(ROWS)
    assert good == {
        "source": "a.png",
        "page": 0,
        "status": "ok",
        "text": "7",
        "confidence": 0.9876,
        "digits": [
            {
                "digit": 7,
                "confidence": 0.9876,
                "box": None,
                "line": 0,
                "top_k": [
                    {"digit": 7, "confidence": 0.9876},
                    {"digit": 1, "confidence": 0.01},
                ],
            }
        ],
        "label": None,
        "error": None,
    }
    assert (bad["status"], bad["error"], bad["digits"]) == ("error", "is empty", [])
    assert (bad["text"], bad["confidence"]) == ("", None)
    assert bad["source"] == 'b,"\n\x1b[1m\\udcff.png'
    assert (unsure["status"], unsure["text"]) == ("unsure", "7")
    assert (blank["status"], blank["text"], blank["error"]) == ("blank", "", None)


def test_records_of_numbers():
    row, blank = records(NUMBERS)
    assert (row["text"], row["status"], row["error"]) == ("2026", "ok", None)
    assert row["confidence"] == pytest.approx(0.9**4)
    assert row["digits"][1] == {
        "digit": 0,
        "confidence": 0.9,
        "box": [9, 0, 17, 12],
        "line": 0,
        "top_k": [{"digit": 0, "confidence": 0.9}],
    }
    assert (blank["text"], blank["digits"]) == ("", [])


def test_records_of_pages_and_lines():
    digits = (digit(line=0), digit(line=0), digit(line=2))
    (row,) = records([Prediction("a.tif", "ok", digits, label="777", page=3)])
    assert (row["page"], row["text"], row["label"]) == (3, "77\n7", "777")
    assert [d["line"] for d in row["digits"]] == [0, 0, 2]


def test_classes_that_are_no_digits_are_named():
    rows = [Prediction("a.png", "ok", (digit((Guess(1, "Bag", 0.9),)),), label="Bag")]
    (row,) = records(rows, ["Shirt", "Bag"])
    assert (row["text"], row["digits"][0]["digit"]) == ("Bag", "Bag")
    # The class "7" of a folder of pictures may have another number.
    rows = [Prediction("a.png", "ok", (digit((Guess(1, "7", 0.9),)),))]
    assert records(rows, ["3", "7"])[0]["digits"][0]["digit"] == 7
    assert records(rows, ["A", "7"])[0]["digits"][0]["digit"] == "7"


EVERY = [
    *ROWS,
    *NUMBERS,
    Prediction("mnist/test[3]", "ok", (digit(),), label="7"),
    Prediction("a.tif", "unsure", (digit(), digit(line=1)), page=1),
    Prediction("a.tif", "no_digit", page=2, label="3"),
    Prediction("", "error", error="no such file"),
]


def test_all_answers_are_as_the_schema_says():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    whole = json.loads(answers.to_json(records(EVERY)))
    WHOLE.validate(whole)
    assert (whole["version"], whole["score"]) == (1, None)
    assert whole["answers"] == records(EVERY)
    assert all(list(row) == list(answers.COLUMNS) for row in whole["answers"])
    assert SCHEMA["$defs"]["answer"]["required"] == list(answers.COLUMNS)
    WHOLE.validate(json.loads(answers.to_json([])))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("page", -1),
        ("status", "fine"),
        ("text", None),
        ("confidence", 1.1),
        ("digits", []),
        ("error", "is empty"),
        ("more", 1),
    ],
)
def test_the_schema_finds_what_is_wrong(key, value):
    (row,) = records(ROWS[:1])
    whole = {"version": 1, "answers": [row], "score": None}
    WHOLE.validate(whole)
    row[key] = value
    assert not WHOLE.is_valid(whole)


def test_columns_are_the_same_whatever_is_read():
    for rows in (EVERY, EVERY[::-1], ROWS[3:], []):
        text, read = read_csv(rows)
        text.encode("utf-8")
        head = text.splitlines()[0]
        assert head == "source,page,status,text,confidence,digits,label,error"
        assert len(read) == len(rows)


def test_csv_holds_what_json_holds():
    text, read = read_csv(EVERY)
    assert answers.from_csv(text) == records(EVERY)
    assert (read[0]["text"], read[0]["confidence"]) == ("7", "0.9876")
    assert json.loads(read[4]["digits"])[3]["box"] == [27, 0, 35, 12]
    assert (read[1]["text"], read[1]["digits"], read[1]["label"]) == ("", "[]", "")


def test_csv_of_thousands_of_digits_is_read_back():
    records_ = records([Prediction("a.png", "ok", number("7" * 3000))])
    lines = [answers.csv_head(), *map(answers.to_csv_line, records_)]
    assert answers.from_csv("\n".join(lines)) == records_


@pytest.mark.parametrize("text", ["", "a,b\n", "source,page\nx"])
def test_other_tables_are_refused(text):
    with pytest.raises(ValueError):
        answers.from_csv(text)


@pytest.mark.parametrize("name", ["=1+1.png", "+x", "-x", "@x", "\tx", "\rx", "a\r\nb"])
def test_names_in_csv_are_no_formulas(name):
    _, (row,) = read_csv([Prediction(name, "blank")])
    assert not row["source"].startswith(tuple("=+-@\t\r"))
    assert os.path.normpath(row["source"]) == name  # the same file
