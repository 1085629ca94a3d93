from mnist_jax.reading.score import score_labels

DIGITS = list("0123456789")


def row(text, label, status="ok"):
    return {"text": text, "label": label, "status": status}


def test_report():
    rows = [
        row("3", "3"),
        row("3", "8", "unsure"),
        row("", "8", "blank"),
        row("", "1", "error"),
        row("20\n26", "2026"),
        row("26", "2"),
        row("5", None),
    ]
    report = score_labels(rows, DIGITS)
    assert (report.correct, report.count) == (2, 6)
    assert report.by_status == {
        "ok": (2, 3),
        "unsure": (0, 1),
        "blank": (0, 1),
        "no_digit": (0, 0),
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
    assert score_labels([row("5", None)], DIGITS) is None


def test_a_report_of_numbers_alone_has_no_confusion():
    report = score_labels([row("12", "12")], DIGITS)
    assert "confusion" not in report.to_text()
