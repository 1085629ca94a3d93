import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_configs import model_config

from mnist_jax.models.cosine_filters import cosine_filters
from mnist_jax.models.create import create_model

IMAGES = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))


@pytest.mark.parametrize("depths", [(), (1,), (3,)])
def test_sprint_is_convolutions_pooling_and_batch_norm(depths):
    """Its patches and own batch norm are what linen's layers compute."""
    model = create_model(model_config("sprint", depths=depths), 10)
    variables = model.init(jax.random.key(0), IMAGES)
    params = variables["params"]

    def normalise(x, bias):
        norm = nn.BatchNorm(False, use_scale=False, use_bias=False, epsilon=1e-4)
        return nn.relu(norm.init_with_output(jax.random.key(0), x)[0] + bias)

    filters = jnp.asarray(cosine_filters(3, 5))
    x = nn.Conv(6, (5, 5), padding="VALID", use_bias=False).apply(
        {"params": {"kernel": filters}}, IMAGES[:, 2:-2, 2:-2]
    )
    x = normalise(nn.max_pool(x, (2, 2), (2, 2)), 0)
    kernel = params["Dense_0"]["kernel"].reshape(3, 3, 6, 8)
    x = nn.Conv(8, (3, 3), padding="VALID", use_bias=False).apply(
        {"params": {"kernel": kernel}}, x
    )
    for i in range(1, sum(depths)):
        kernel = params[f"kernel_0_{i}"]
        x = nn.Conv(8, (3, 3), padding="SAME", use_bias=False).apply(
            {"params": {"kernel": kernel}}, normalise(x, 0)
        )
    bias = jnp.arange(8.0)
    x = normalise(nn.max_pool(x, (2, 2), (2, 2)), bias).reshape(3, -1)
    x = normalise(x @ params["Dense_1"]["kernel"], 0)
    expected = nn.Dense(10).apply({"params": params["Dense_2"]}, x)
    params = {**params, f"BatchNorm_{sum(depths) or 1}": {"bias": bias}}
    got, updated = model.apply(
        {**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    first = np.asarray(updated["batch_stats"]["BatchNorm_0"]["mean"])
    assert (np.abs(first) > 1e-3).all()  # a tenth of the batch's own


def test_cosine_filters_are_orthogonal():
    filters = cosine_filters(25, 5).reshape(25, 50)
    products = filters[:, :25].T @ filters[:, :25]
    np.testing.assert_allclose(products, np.eye(25), atol=1e-6)
    np.testing.assert_array_equal(filters[:, 25:], -filters[:, :25])
