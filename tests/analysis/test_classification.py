import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mnist_jax import calibration
from mnist_jax.analysis import classification


@pytest.fixture
def answered():
    """Logits [500, 4] that are right about half the time, and labels [500]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    logits = 2 * np.eye(4)[labels] + rng.normal(0, 1.5, (500, 4))
    return logits.astype(np.float32), labels.astype(np.int32)


@pytest.fixture
def evaluation(answered):
    return classification.score_answers(*answered, ["a", "b", "c", "d"])


def test_against_scikit_learn(answered, evaluation):
    logits, labels = answered
    answers = logits.argmax(-1)
    np.testing.assert_array_equal(
        evaluation.confusion, sklearn_metrics.confusion_matrix(labels, answers)
    )
    expected = sklearn_metrics.precision_recall_fscore_support(labels, answers)
    got = [score[1:] for score in evaluation.classes]
    np.testing.assert_allclose(got, np.transpose(expected))
    probabilities = np.exp(calibration.log_softmax(logits))
    assert evaluation.nll == pytest.approx(
        sklearn_metrics.log_loss(labels, probabilities)
    )
    assert evaluation.accuracy == pytest.approx(
        sklearn_metrics.accuracy_score(labels, answers)
    )


def test_classes_that_never_occur_score_zero():
    confusion = np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]])
    first, second, third = classification.class_scores(confusion, ["a", "b", "c"])
    assert first == ("a", 0.75, 1.0, pytest.approx(6 / 7), 3)
    assert second == ("b", 0, 0, 0, 1)
    assert third == ("c", 0, 0, 0, 0)


def test_calibration_by_hand():
    confidences = np.array([0.5, 0.51, 0.95, 0.99, 1.0, 1 / 15])
    right = np.array([True, False, True, True, False, True])
    calibration = classification.measure_calibration(confidences, right)
    assert calibration.count.sum() == 6
    assert calibration.count[0] == 1  # the upper edge belongs to the bin
    assert calibration.count[7] == 2
    assert calibration.count[14] == 3
    assert np.isnan(calibration.accuracy[3])
    gaps = abs(1.01 - 1) + abs(2.94 - 2) + abs(1 / 15 - 1)
    assert calibration.error == pytest.approx(gaps / 6)


def test_perfectly_calibrated_answers_have_a_small_error():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.1, 1, 100_000)
    right = rng.uniform(size=100_000) < confidences
    assert classification.measure_calibration(confidences, right).error < 0.01


def test_mistakes_are_sorted_by_confidence(answered, evaluation):
    logits, labels = answered
    wrong = evaluation.mistakes
    assert set(wrong) == set(np.flatnonzero(logits.argmax(-1) != labels))
    assert (np.diff(evaluation.confidences[wrong]) <= 0).all()


def test_dict_is_strict_json(evaluation):
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    report = json.loads(text)
    assert report["count"] == 500
    assert np.sum(report["confusion_matrix"]) == 500
    assert len(report["calibration_bins"]) == 15
    assert len(report["mistakes"]) == 500 - report["correct"]
    assert report["classes"][2]["name"] == "c"


def test_text_fits_in_80_columns():
    names = ["T-shirt/top", *"bcdefghij"]
    labels = np.arange(10_000) % 10
    logits = 9 * np.eye(10)[labels] + np.random.default_rng(0).normal(
        0, 3, (10_000, 10)
    )
    text = classification.score_answers(logits, labels, names).to_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "the surest 10 of" in text


def test_text_without_mistakes_and_with_many_classes():
    labels = np.arange(26)
    logits = 9 * np.eye(26)
    names = [chr(97 + k) for k in labels]
    text = classification.score_answers(logits, labels, names).to_text()
    assert "100.00% ± 0.00%" in text
    assert "no mistakes" in text
    assert "26 classes: see the figure" in text
