"""What is counted of each page is summed by condition, on maps made by hand."""

import json

import numpy as np
import pytest
from placed_marks import PAGES, score


def test_each_condition_has_its_own_means():
    evaluation, _ = score(PAGES)
    assert list(evaluation.by_condition) == ["plain", "boxes", "blank"]
    boxes, plain = (evaluation.by_condition[name] for name in ("boxes", "plain"))
    assert (boxes["count"], boxes["digits"]) == (2, 4)
    assert boxes["f1"] == pytest.approx(2 * 4 / (4 + 5))
    assert (boxes["lines_right"], boxes["pages_right"]) == (0.5, 0.5)
    assert boxes["empty_sure"] is None
    assert plain["f1"] == pytest.approx(2 * 1 / (4 + 3))
    blank = evaluation.by_condition["blank"]
    assert [blank[k] for k in ("f1", "lines_right", "pages_right")] == [None] * 3
    assert blank["empty_sure"] == 0.5
    total = evaluation.total
    assert (total["count"], total["digits"]) == (6, 8)
    assert total["f1"] == pytest.approx(2 * 5 / (8 + 9))
    assert total["pages_right"] == 0.5
    assert total["loss"] == pytest.approx(
        np.mean([each["loss"] for each in evaluation.by_condition.values()])
    )


def test_the_worst_page_comes_first_and_right_ones_are_left_out():
    evaluation, _ = score(PAGES)
    assert evaluation.worst.tolist() == [1, 3, 4]
    assert evaluation.to_dict()["worst_pages"][0] == {
        "index": 1,
        "condition": "plain",
        "digits": 3,
        "marked": 2,
        "right": 0,
    }
    assert json.loads(json.dumps(evaluation.to_dict()))["conditions"]["blank"]


def test_the_batch_does_not_matter():
    many, _ = score(PAGES * 6)  # more than are scored at once
    few, _ = score(PAGES)
    assert many.total["count"] == 36
    for name in ("f1", "lines_right", "pages_right", "empty_sure"):
        assert many.total[name] == pytest.approx(few.total[name])


def test_tables_are_80_columns_wide():
    evaluation, _ = score(PAGES * 2)
    lines = evaluation.to_text().splitlines()
    assert max(map(len, lines)) == 80
    cells = {line.split("  ")[0]: line.split()[1:] for line in lines if line}
    assert cells["boxes"] == ["4", "8", "88.89%", "50.00%", "50.00%", "-"]
    assert cells["blank"] == ["4", "0", "-", "-", "-", "50.00%"]
    assert cells["all"] == ["12", "16", "58.82%", "50.00%", "50.00%", "50.00%"]
    assert "6 pages with errors" in lines
    right, _ = score(PAGES[:1])
    assert right.to_text().splitlines()[-1] == "no page has an error"
