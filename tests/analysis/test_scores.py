import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mnist_jax import calibration
from mnist_jax.analysis import scores


@pytest.fixture
def answered():
    """Logits [500, 4] that are right about half the time, and labels [500]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    logits = 2 * np.eye(4)[labels] + rng.normal(0, 1.5, (500, 4))
    return logits.astype(np.float32), labels.astype(np.int32)


@pytest.fixture
def evaluation(answered):
    return scores.measure(*answered, ["a", "b", "c", "d"])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (20_000, 4))
    probabilities = np.exp(calibration.log_softmax(logits))
    labels = (probabilities.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    found = calibration.fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)


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
    first, second, third = scores.class_scores(confusion, ["a", "b", "c"])
    assert first == ("a", 0.75, 1.0, pytest.approx(6 / 7), 3)
    assert second == ("b", 0, 0, 0, 1)
    assert third == ("c", 0, 0, 0, 0)


def test_calibration_by_hand():
    confidences = np.array([0.5, 0.51, 0.95, 0.99, 1.0, 1 / 15])
    right = np.array([True, False, True, True, False, True])
    calibration = scores.calibrate(confidences, right)
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
    assert scores.calibrate(confidences, right).error < 0.01


def test_mistakes_are_sorted_by_confidence(answered, evaluation):
    logits, labels = answered
    wrong = evaluation.mistakes
    assert set(wrong) == set(np.flatnonzero(logits.argmax(-1) != labels))
    assert (np.diff(evaluation.confidences[wrong]) <= 0).all()


def test_interval():
    # From R: prop.test(9940, 10000, correct = FALSE)
    low, high = calibration.wilson_interval(9940, 10_000)
    assert low == pytest.approx(0.99228, abs=1e-5)
    assert high == pytest.approx(0.99534, abs=1e-5)
    assert calibration.wilson_interval(10, 10)[1] == pytest.approx(1)
    assert calibration.wilson_interval(10, 10)[0] < 0.75
    assert calibration.wilson_interval(0, 10)[0] == pytest.approx(0)


def test_log_softmax_of_large_logits_is_finite():
    log_probabilities = calibration.log_softmax(np.array([[1e4, 0.0], [-1e4, 1e4]]))
    assert np.isfinite(log_probabilities).all()
    np.testing.assert_allclose(np.exp(log_probabilities).sum(-1), 1)


def test_dict_is_strict_json(evaluation):
    text = json.dumps(scores.to_dict(evaluation), allow_nan=False)
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
    text = scores.to_text(scores.measure(logits, labels, names))
    assert max(map(len, text.splitlines())) <= 80
    assert "the surest 10 of" in text


def test_text_without_mistakes_and_with_many_classes():
    labels = np.arange(26)
    logits = 9 * np.eye(26)
    text = scores.to_text(scores.measure(logits, labels, [chr(97 + k) for k in labels]))
    assert "100.00% ± 0.00%" in text
    assert "no mistakes" in text
    assert "26 classes: see the figure" in text
