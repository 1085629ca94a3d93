import numpy as np
import pytest

from mnist_jax import calibration


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (20_000, 4))
    probabilities = np.exp(calibration.log_softmax(logits))
    labels = (probabilities.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    found = calibration.fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)


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
