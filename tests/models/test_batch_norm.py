import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_configs import model_config

from mnist_jax.models.create import create_model

IMAGES = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))


@pytest.mark.parametrize(
    "config", [model_config(batch_norm=True), model_config("sprint")], ids=str
)
def test_batch_norm_leaves_padding_out_of_its_statistics(config):
    model = create_model(config, 10)
    variables = model.init(jax.random.key(0), IMAGES)
    garbage = jnp.full((2, 28, 28, 1), 9.0)
    padded = jnp.concatenate([IMAGES, garbage])
    mask = jnp.array([1, 1, 1, 0, 0])
    logits, updated = model.apply(
        variables, IMAGES, train=True, mutable=["batch_stats"]
    )
    logits_padded, updated_padded = model.apply(
        variables, padded, train=True, mask=mask, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(logits_padded[:3], logits, rtol=1e-3, atol=1e-3)
    for a, b in zip(
        jax.tree.leaves(updated), jax.tree.leaves(updated_padded), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_batch_norm_of_nothing_but_padding_changes_nothing():
    model = create_model(model_config("sprint"), 10)
    variables = model.init(jax.random.key(0), IMAGES)
    logits, updated = model.apply(
        variables, IMAGES, train=True, mask=jnp.zeros(3), mutable=["batch_stats"]
    )
    assert np.isfinite(logits).all()
    for a, b in zip(
        jax.tree.leaves(updated["batch_stats"]),
        jax.tree.leaves(variables["batch_stats"]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
