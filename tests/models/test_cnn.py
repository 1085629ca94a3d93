import jax
import numpy as np
from model_configs import model_config

from mnist_jax.models.create import create_model

IMAGES = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))


def test_the_seed_recipe_has_its_parameters(seed_config):
    model = create_model(seed_config.model, 10)
    params = model.init(jax.random.key(0), IMAGES)["params"]
    count = sum(p.size for p in jax.tree.leaves(params))
    conv = (9 * 32 + 32) + (9 * 32 * 64 + 64)
    dense = (5 * 5 * 64 * 128 + 128) + (128 * 10 + 10)
    assert count == conv + dense


def test_the_cnn_is_convolution_relu_and_pooling():
    """The stages through `ops` are what linen's own layers compute."""
    import flax.linen as nn

    model = create_model(model_config(), 10)
    params = model.init(jax.random.key(0), IMAGES)["params"]
    x = IMAGES
    for i, features in enumerate((4, 8)):
        conv = nn.Conv(features, (3, 3), padding="VALID")
        x = nn.relu(conv.apply({"params": params[f"ConvStage_{i}"]}, x))
        x = nn.max_pool(x, (2, 2), (2, 2))
    x = x.reshape(3, -1)
    x = nn.relu(nn.Dense(16).apply({"params": params["Dense_0"]}, x))
    expected = nn.Dense(10).apply({"params": params["Dense_1"]}, x)
    got = model.apply({"params": params}, IMAGES)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_only():
    model = create_model(model_config(dropout=0.5), 10)
    variables = model.init(jax.random.key(0), IMAGES)

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, IMAGES, train=True, rngs=rngs)

    assert (train(0) == train(0)).all()
    assert (train(0) != train(1)).any()
    evaluated = model.apply(variables, IMAGES)
    assert (evaluated == model.apply(variables, IMAGES)).all()
