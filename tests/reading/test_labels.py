import os

import numpy as np
import pytest

from mnist_jax.errors import DataError
from mnist_jax.reading import labels
from mnist_jax.reading.reader import Digit, Guess, Prediction

DIGITS = list("0123456789")


def find(*names, table=None, class_names=DIGITS):
    return labels.find_labels(map(str, names), class_names, table)


def test_folders_named_as_a_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["7/a.png", "./3/b.png", "x/c.png", "12/d.png", "5.png", "7/sub/e.png"]
    assert find(*names) == {"7/a.png": "7", "./3/b.png": "3"}
    (tmp_path / "Bag").mkdir()
    assert find("Bag/1.png", class_names=["Shirt", "Bag"]) == {"Bag/1.png": "Bag"}


def test_a_table_in_the_folder_or_beside_it(tmp_path):
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "labels.csv").write_text("file,label\na.png,3\n")
    (tmp_path / "labels.csv").write_text("7/b.png,2026\n7/a.png,1\n")
    found = find(folder / "a.png", folder / "b.png", folder / "c.png")
    assert list(found.values()) == ["3", "2026", "7"]


def test_a_table_that_is_named(tmp_path):
    (tmp_path / "1").mkdir()
    table = tmp_path / "my.csv"
    table.write_text(f"{tmp_path}/1/a.png,4\n")
    assert find(tmp_path / "1" / "a.png", tmp_path / "1" / "b.png", table=table) == {
        str(tmp_path / "1" / "a.png"): "4"
    }


@pytest.mark.parametrize(
    "content",
    [
        b"a.png,4\n",
        b"file,label\r\na.png,4\r\n\r\n",
        b"\xef\xbb\xbffile;label\na.png;4\n",
        b"file\tlabel\na.png\t 4 \n",
        b'file,label,writer\n"a.png","4",me\n\xff.png,5,you',
        b"./a.png,4\n",
    ],
)
def test_tables_of_many_kinds(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    assert find(tmp_path / "a.png") == {str(tmp_path / "a.png"): "4"}


def test_names_in_tables_may_be_odd(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b'"a,\n"" .png",1\n\xff.png,2\n=x.png,3\n')
    names = ['a,\n" .png', os.fsdecode(b"\xff.png"), "=x.png"]
    found = find(*(f"{tmp_path}/{name}" for name in names))
    assert list(found.values()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a.png,4\nb.png,four\n", "row 2.*'b.png,four'"),
        (b"a.png,4\nb.png\n", "row 2"),
        (b"a.png,4\nb.png,\n", "row 2"),
        (b"\x89PNG\r\n\x1a\n\0\0", "row"),
        (b'a.png,"' + b"x" * 200_000, "cannot read the labels.*limit"),
    ],
)
def test_tables_that_are_none(tmp_path, content, reason):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        find(tmp_path / "a.png")


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        find("a.png", table=tmp_path / "none.csv")
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="pipe"):
        find(tmp_path / "a.png")


def row(text, label, status="ok"):
    digits = tuple(Digit(status, (Guess(int(c), c, 0.9),), np.zeros(1)) for c in text)
    return Prediction("x.png", status, digits, label=label)


def test_report():
    rows = [
        row("3", "3"),
        row("3", "8", "unsure"),
        row("", "8", "blank"),
        row("", "1", "error"),
        row("2026", "2026"),
        row("26", "2"),
        row("5", None),
    ]
    report = labels.score_labels(rows, DIGITS)
    assert (report.correct, report.count) == (2, 6)
    assert report.by_status == {
        "ok": (2, 3),
        "unsure": (0, 1),
        "blank": (0, 1),
        "error": (0, 1),
    }
    assert report.confusion.shape == (10, 11)
    assert report.confusion[3, 3] == report.confusion[8, 3] == 1
    assert report.confusion[8, 10] == report.confusion[2, 10] == 1
    assert report.confusion.sum() == 5
    text = report.to_text()
    assert text.startswith("accuracy   33.33%, 2 of 6 right (9.7% to 70.0%")
    assert max(map(len, text.splitlines())) <= 80
    summary = report.to_dict()
    assert summary["accuracy"] == 1 / 3
    assert summary["by_status"]["unsure"] == {"count": 1, "correct": 0}


def test_no_labels_no_report():
    assert labels.score_labels([row("5", None)], DIGITS) is None


def test_a_report_of_numbers_alone_has_no_confusion():
    report = labels.score_labels([row("12", "12")], DIGITS)
    assert "confusion" not in report.to_text()
