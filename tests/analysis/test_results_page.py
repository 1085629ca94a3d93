import ast
import re

import numpy as np
import pytest
from helpers import full_disk

from mnist_jax.analysis import classification, corruptions, plots, results_page
from mnist_jax.analysis.corruptions import Robustness
from mnist_jax.checkpoint.load import load_model
from mnist_jax.config import ConfigDict, validate_config
from mnist_jax.errors import UserError
from mnist_jax.run.stored_config import config_from_dict


@pytest.fixture
def results(trained_workdir):
    labels = np.arange(100) % 10
    logits = 9 * np.eye(10)[labels]
    logits[:3] = np.roll(logits[:3], 1, axis=1)
    names = ["<b>0</b>", *"123456789"]
    evaluation = classification.score_answers(logits, labels, names)
    rows = {name: [0.9, 0.8, 0.7, 0.6, 0.5] for name in corruptions.CORRUPTIONS}
    return results_page.Results(
        workdir="runs/<script>alert(1)</script>",
        loaded=load_model(trained_workdir),
        checkpoint="latest",
        evaluated_on="digits/test",
        description="made & kept",
        warning="",
        evaluation=evaluation,
        members={"accuracy": 0.96, "accuracy_sd": 0.01, "num_seeds": 3},
        robustness=Robustness(100, 0.97, rows, ("shear",)),
        figures={"reliability": plots.draw_reliability_diagram(evaluation, "x")},
        command="python scripts/evaluate.py --report",
    )


def test_page_says_what_there_is(results):
    page = results_page.to_html(results)
    for text in (
        "97.00%",
        "digits/test: made &amp; kept.",
        "validated on its own 200 validation images",
        "mean accuracy of the 3 that make up the ensemble",
        "mean of 14 without *",
        "optimizer.learning_rate",
        "python scripts/evaluate.py --report",
    ):
        assert text in page
    assert page.count("data:image/png;base64,") == 1
    bare = results_page.to_html(results._replace(members={}, robustness=None))
    assert "ensemble" not in bare
    assert "MNIST-C" not in bare


def test_page_is_self_contained_and_escapes_what_others_named(results):
    page = results_page.to_html(results._replace(warning="<i>not</i>"))
    assert "<script" not in page
    assert "<b>0</b>" not in page
    assert "<i>not" not in page
    assert "&lt;b&gt;0&lt;/b&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "url(" not in page


def test_page_says_what_was_held_out(results):
    results.loaded.metadata["dataset"]["splits"].pop("validation")
    page = results_page.to_html(results)
    assert "images of it that were held out for validation" in page


def test_page_says_why_there_is_no_test_figure(results):
    results.loaded.metadata["no_test_figure"] = "9 of the 9 images are trained on"
    page = results_page.to_html(results)
    assert "No test figure is given: 9 of the 9 images are trained on." in page


def test_weights_chosen_on_validation_are_said_to_be(results):
    page = results_page.to_html(results._replace(checkpoint="best"))
    assert "those that did best on validation" in page
    assert "neither step nor seed" not in page


def test_its_config_file_makes_the_same_config(results):
    config = results.loaded.config.to_dict()
    text = results_page._config_file(config)
    ast.parse(text)
    names = {}
    exec(text, names)
    made = names["get_config"]()
    validate_config(made)
    assert made.to_dict() == config
    assert isinstance(made, ConfigDict)
    assert config_from_dict(made.to_dict()).to_dict() == config


def test_a_page_is_written_whole_or_not_at_all(results, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("old")
    with full_disk(), pytest.raises(UserError, match="cannot write"):
        results_page.write_page(results, page)
    assert page.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html", "trained"]


def test_what_cannot_be_written(results, tmp_path):
    results_page.write_page(results, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    with pytest.raises(UserError, match="cannot write"):
        results_page.write_page(results, tmp_path / "none" / "report.html")
