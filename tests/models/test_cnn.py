import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError
from mnist_jax.models.cnn import (
    MODELS,
    Ensemble,
    _cosine_filters,
    create_model,
    for_prediction,
)

IMAGES = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))


def model_config(name="cnn", **changes):
    kwargs = {
        "cnn": {
            "features": (4, 8),
            "kernel_size": 3,
            "padding": "VALID",
            "dense": (16,),
            "dropout": 0.0,
            "batch_norm": False,
        },
        "mlp": {"dense": (16,), "dropout": 0.0},
        "tiny": {"stem": 4, "features": 6, "steps": 2},
        "sprint": {
            "border": 2,
            "filters": 3,
            "filter_size": 5,
            "features": (8,),
            "dense": (16,),
        },
        "vgg": {
            "features": (4, 8),
            "depths": (1, 2),
            "dense": (16,),
            "dropout": 0.0,
        },
    }[name]
    return ConfigDict({"name": name, "kwargs": {**kwargs, **changes}})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_classes", [10, 26])
def test_logits_have_a_column_for_each_class(name, num_classes):
    model = create_model(model_config(name), num_classes)
    variables = model.init(jax.random.key(0), IMAGES)
    logits = model.apply(variables, IMAGES)
    assert logits.shape == (3, num_classes)
    assert logits.dtype == jnp.float32
    stats = {"batch_stats"} if name == "sprint" else set()
    assert set(variables) == {"params"} | stats


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


def test_sprint_is_convolutions_pooling_and_batch_norm():
    """Its patches and own batch norm are what linen's layers compute."""
    import flax.linen as nn

    model = create_model(model_config("sprint"), 10)
    variables = model.init(jax.random.key(0), IMAGES)
    params = variables["params"]

    def normalise(x, bias):
        norm = nn.BatchNorm(False, use_scale=False, use_bias=False, epsilon=1e-4)
        return nn.relu(norm.init_with_output(jax.random.key(0), x)[0] + bias)

    filters = jnp.asarray(_cosine_filters(3, 5))
    x = nn.Conv(6, (5, 5), padding="VALID", use_bias=False).apply(
        {"params": {"kernel": filters}}, IMAGES[:, 2:-2, 2:-2]
    )
    x = normalise(nn.max_pool(x, (2, 2), (2, 2)), 0)
    kernel = params["Dense_0"]["kernel"].reshape(3, 3, 6, 8)
    x = nn.Conv(8, (3, 3), padding="VALID", use_bias=False).apply(
        {"params": {"kernel": kernel}}, x
    )
    bias = jnp.arange(8.0)
    x = normalise(nn.max_pool(x, (2, 2), (2, 2)), bias).reshape(3, -1)
    x = normalise(x @ params["Dense_1"]["kernel"], 0)
    expected = nn.Dense(10).apply({"params": params["Dense_2"]}, x)
    params = {**params, "BatchNorm_1": {"bias": bias}}
    got, updated = model.apply(
        {**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    first = np.asarray(updated["batch_stats"]["BatchNorm_0"]["mean"])
    assert (np.abs(first) > 1e-3).all()  # a tenth of the batch's own


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


def test_cosine_filters_are_orthogonal():
    filters = _cosine_filters(25, 5).reshape(25, 50)
    products = filters[:, :25].T @ filters[:, :25]
    np.testing.assert_allclose(products, np.eye(25), atol=1e-6)
    np.testing.assert_array_equal(filters[:, 25:], -filters[:, :25])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model_config("sprint", filters=26), "filters must be from 1 to filter_size"),
        (ConfigDict({"name": "cnnn", "kwargs": {}}), "did you mean 'cnn'"),
        (model_config(depth=3), "kwargs.depth is unknown for 'cnn'; it takes: batch"),
        (ConfigDict({"name": "mlp", "kwargs": {"dense": ()}}), "dropout is missing"),
        (model_config(kernel_size=30), "no working 'cnn': kernel"),
        (model_config(padding="FULL"), "padding must be 'VALID' or 'SAME'"),
        (model_config(features="many"), "no working 'cnn'"),
        (model_config(dropout=1.0), "dropout must be from 0 to below 1"),
        (model_config(dropout=-0.5), "dropout must be from 0 to below 1"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_model(config, 10)
    assert "\n" not in str(caught.value)


def test_moved_views_are_averaged():
    net = create_model(model_config("mlp"), 10)
    variables = net.init(jax.random.key(0), IMAGES)
    model = for_prediction(net, ConfigDict({"test_time_shift": 2}))
    padded = np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)])
    moves = [(2, 2), (0, 2), (4, 2), (2, 0), (2, 4)]
    views = [padded[:, y : y + 28, x : x + 28] for y, x in moves]
    each = [jax.nn.log_softmax(net.apply(variables, view)) for view in views]
    expected = np.mean(each, axis=0)
    np.testing.assert_allclose(model.apply(variables, IMAGES), expected, rtol=1e-5)
    several = jax.tree.map(lambda v: jnp.stack([v, v]), variables)
    both = Ensemble(model).apply(several, IMAGES)
    np.testing.assert_allclose(both, jax.nn.log_softmax(expected), rtol=1e-5)


def test_a_config_of_before_there_were_moved_views_has_none():
    net = create_model(model_config("mlp"), 10)
    assert for_prediction(net, ConfigDict({})) is net
    assert for_prediction(net, ConfigDict({"test_time_shift": 0})) is net


def test_a_layer_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="make no working 'cnn'"):
        create_model(model_config(dense=(0,)), 10)
