import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.losses import cross_entropy
from mnist_jax.metrics import mean_metrics
from mnist_jax.metrics import summed_metrics as sum_over_batch

LOGITS = jnp.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-3.0, 1.0, 5.0]])
LABELS = jnp.array([0, 1, 1])


def summed_metrics(logits, labels, mask):
    return sum_over_batch(logits, {"label": labels, "mask": mask})


def test_cross_entropy_is_minus_log_softmax():
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    expected = -np.log(softmax[np.arange(3), LABELS])
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), expected, rtol=1e-6)


def test_label_smoothing_mixes_in_the_even_distribution():
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    target = 0.7 * np.eye(3)[LABELS] + 0.3 / 3
    expected = -(target * log_softmax).sum(-1)
    got = cross_entropy(LOGITS, LABELS, label_smoothing=0.3)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_target_of_no_class_is_even():
    got = cross_entropy(LOGITS, jnp.array([-1, -1, 1]), label_smoothing=0.2)
    expected = cross_entropy(LOGITS, LABELS, label_smoothing=1.0)
    np.testing.assert_allclose(got[:2], expected[:2], rtol=1e-6)
    sums = summed_metrics(LOGITS, jnp.array([-1, -1, 1]), jnp.ones(3))
    assert int(sums["count"]) == 1


def test_a_class_that_is_ruled_out_costs_nothing_where_it_is_wrong():
    logits = jnp.array([[0.0, -jnp.inf]])
    assert float(cross_entropy(logits, jnp.array([0]))[0]) == 0


def test_sums_count_only_what_the_mask_lets_through():
    whole = summed_metrics(LOGITS, LABELS, jnp.ones(3))
    first = summed_metrics(LOGITS, LABELS, jnp.array([1, 0, 0]))
    rest = summed_metrics(LOGITS, LABELS, jnp.array([False, True, True]))
    assert int(whole["count"]) == 3
    assert int(whole["correct"]) == 1  # ties go to the first class
    for key, value in whole.items():
        np.testing.assert_allclose(first[key] + rest[key], value, rtol=1e-6)


def test_targets_below_zero_that_are_no_classes_count():
    batch = {"label": jnp.array([-1.0, 2.0]), "mask": jnp.ones(2)}
    metrics = {"loss": lambda outputs, batch: (outputs - batch["label"]) ** 2}
    sums = sum_over_batch(jnp.zeros(2), batch, metrics)
    assert mean_metrics([sums]) == {"loss": 2.5, "count": 2}


def test_padding_may_hold_anything():
    logits = LOGITS.at[2].set(jnp.nan)
    sums = summed_metrics(logits, LABELS, jnp.array([1, 1, 0]))
    assert np.isfinite(sums["loss"])
    assert int(sums["count"]) == 2


def test_means_weigh_every_example_alike():
    sums = [
        summed_metrics(LOGITS[:2], LABELS[:2], jnp.ones(2)),
        summed_metrics(LOGITS[2:], LABELS[2:], jnp.ones(1)),
    ]
    means = mean_metrics(sums)
    assert means["accuracy"] == pytest.approx(1 / 3)
    assert means["loss"] == pytest.approx(float(cross_entropy(LOGITS, LABELS).mean()))
