import matplotlib
import numpy as np
import pytest
from helpers import full_disk
from mnist_fixture import make_dataset
from PIL import Image

from mnist_jax.analysis import classification, plots
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.reading.predictions import Digit, Guess, Prediction


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(60, seed=0)


@pytest.fixture(scope="module")
def evaluation(dataset):
    noise = np.random.default_rng(0).normal(0, 1, (60, 10))
    logits = 2 * np.eye(10)[dataset.labels] + noise
    return classification.score_answers(logits, dataset.labels, list("0123456789"))


def texts(figure):
    return {text.get_text() for text in figure.findobj(matplotlib.text.Text)}


def check(figure, path):
    """Saves a figure, which draws it, and looks at whether something is on it."""
    plots.save_figure(figure, path)
    with Image.open(path) as image:
        assert min(image.size) > 300
        assert max(image.size) < 4000
        assert len(image.convert("L").getcolors()) > 10


def test_learning_curves(tmp_path):
    records = [
        {"step": 10, "train/loss": 2.0, "train/accuracy": 0.5, "validation/loss": 1.0},
        {"step": 20, "train/loss": 0.5, "train/accuracy": 0.8, "validation/loss": 0.4},
        {"step": 20, "test/loss": 0.45, "test/accuracy": 0.85},
    ]
    figure = plots.draw_learning_curves(records)
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation", "test"]
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [50, 80])
    check(figure, tmp_path / "figure.png")


def test_learning_curves_of_several_seeds_have_bands(tmp_path):
    records = [
        {
            "step": step,
            "validation/accuracy": accuracy,
            "validation/accuracy_sd": 0.02,
            "validation/accuracy/seed_0": accuracy + 0.02,
            "validation/accuracy/seed_1": accuracy - 0.02,
            "validation/loss": 1 - accuracy,
        }
        for step, accuracy in ((10, 0.5), (20, 0.9))
    ]
    last = {"step": 20, "test/accuracy": 0.8, "test/accuracy_sd": 0.01}
    _, accuracy = (figure := plots.draw_learning_curves([*records, last])).axes
    (band,) = [c for c in accuracy.collections if len(c.get_paths()[0].vertices) > 4]
    low, high = np.ptp(band.get_paths()[0].vertices, axis=0)
    assert (low, high) == (10, pytest.approx(44))  # from 48 to 92 %
    assert "validation" in {line.get_label() for line in accuracy.lines}
    check(figure, tmp_path / "figure.png")


def test_learning_curves_of_a_run_without_records(tmp_path):
    check(plots.draw_learning_curves([]), tmp_path / "figure.png")


def test_confusion_matrix(tmp_path, evaluation):
    figure = plots.draw_confusion_matrix(evaluation, "mnist/test")
    wrong = 60 - evaluation.correct
    assert f"{wrong} of 60 wrong on mnist/test" in texts(figure)
    check(figure, tmp_path / "figure.png")


def test_confusion_matrix_without_mistakes(tmp_path):
    evaluation = classification.score_answers(
        9 * np.eye(3), np.arange(3), ["a", "b", "c"]
    )
    check(plots.draw_confusion_matrix(evaluation, "x/test"), tmp_path / "figure.png")


def test_mistakes(tmp_path, evaluation, dataset):
    figure = plots.draw_mistakes(evaluation, dataset.images, "mnist/test")
    worst = evaluation.mistakes[0]
    above = f"{dataset.labels[worst]} → {evaluation.answers[worst]}"
    assert figure.axes[0].get_title() == above
    np.testing.assert_array_equal(
        figure.axes[0].images[0].get_array(), dataset.images[worst, ..., 0]
    )
    check(figure, tmp_path / "figure.png")


def test_no_mistakes(tmp_path, dataset):
    evaluation = classification.score_answers(
        9 * np.eye(3), np.arange(3), ["a", "b", "c"]
    )
    figure = plots.draw_mistakes(evaluation, dataset.images[:3], "x/test")
    assert "0 mistakes on x/test" in texts(figure)
    plots.save_figure(figure, tmp_path / "figure.png")


def test_reliability_diagram(tmp_path, evaluation):
    check(
        plots.draw_reliability_diagram(evaluation, "mnist/test"),
        tmp_path / "figure.png",
    )


def test_predictions(tmp_path, dataset):
    image = dataset.images[0]
    seven = Digit("ok", (Guess(7, "7", 0.99),), image)
    rows = [
        Prediction("a/$x_1$/very/long/path/to/seven.png", "ok", (seven,)),
        Prediction("b.png", "error", error="is empty"),
        Prediction("mnist/test[1]", "ok", (seven,), label="7"),
        Prediction("mnist/test[2]", "ok", (seven,), label="1"),
        Prediction("c.png", "ok", (seven, seven), label="77"),
        Prediction("d.png", "ok", (seven, seven), label="71"),
    ]
    figure = plots.draw_predictions(rows)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:5] == ["7, not 1", "7", "7", "7", "7"]
    assert "99.0%\nin 77, not 71\nd.png" in texts(figure)
    check(figure, tmp_path / "figure.png")
    many = plots.draw_predictions(rows[:1] * 100)
    assert "What the model read: 96 of 100" in texts(many)
    check(plots.draw_predictions(rows[1:2]), tmp_path / "empty.png")


def test_suffixes_are_checked_before_there_is_a_figure():
    plots.check_format("a/b.png")
    plots.check_format("a.PDF")
    for name in ("answers", "answers.xyz", "png"):
        with pytest.raises(ConfigError, match=r"end it with \.png"):
            plots.check_format(name)


def test_callers_style_is_left_alone(evaluation):
    before = dict(matplotlib.rcParams)
    plots.draw_reliability_diagram(evaluation, "mnist/test")
    assert dict(matplotlib.rcParams) == before


def test_figures_that_cannot_be_written(tmp_path, evaluation):
    figure = plots.draw_learning_curves([])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the figure"):
        plots.save_figure(figure, tmp_path / "file" / "figure.png")
    with pytest.raises(UserError, match=r"end it with \.png"):
        plots.save_figure(figure, tmp_path / "figure.xyz")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_written_whole_or_not_at_all(evaluation, tmp_path, suffix):
    figure = plots.draw_reliability_diagram(evaluation, "x")
    path = tmp_path / f"figure.{suffix}"
    path.write_text("old")
    with full_disk(), pytest.raises(UserError, match="cannot write the figure"):
        plots.save_figure(figure, path)
    assert path.read_text() == "old"
    plots.save_figure(figure, path)
    assert path.stat().st_size > 4096
    assert list(tmp_path.iterdir()) == [path]
