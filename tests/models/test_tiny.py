import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.config import validate_config
from mnist_jax.data import Dataset
from mnist_jax.errors import ConfigError
from mnist_jax.models import tiny
from mnist_jax.models.create import create_model
from mnist_jax.run.compile_ahead import create_program
from mnist_jax.run.config_files import CONFIGS, load_config

X = jax.random.normal(jax.random.key(0), (5, 8, 7, 6))  # [C, H, W, B]
KERNEL = jax.random.normal(jax.random.key(1), (5, 9))


def by_lax(x, kernel):
    """`filter_channels` as JAX's own grouped convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel.reshape(-1, 1, 3, 3),
        (1, 1),
        "VALID",
        dimension_numbers=("CHWN", "OIHW", "CHWN"),
        feature_group_count=x.shape[0],
    )


def test_filters_are_a_depthwise_convolution_with_its_gradients():
    expected, expected_vjp = jax.vjp(by_lax, X, KERNEL)
    found, vjp = jax.vjp(tiny.filter_channels, X, KERNEL)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    g = jax.random.normal(jax.random.key(2), found.shape)
    for ours, theirs in zip(vjp(g), expected_vjp(g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_layer_norm_is_of_each_image_by_itself():
    normed = tiny.layer_norm(3 * X + 2)
    np.testing.assert_allclose(jnp.mean(normed, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.var(normed, (0, 1, 2)), 1, atol=1e-3)
    alone = tiny.layer_norm(3 * X[..., :1] + 2)
    np.testing.assert_allclose(normed[..., :1], alone, atol=1e-5)


def test_layer_norm_has_the_gradient_of_its_formula():
    def formula(x):
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        return (x - mean) / jnp.sqrt(variance + 1e-3)

    expected, expected_vjp = jax.vjp(formula, X)
    found, vjp = jax.vjp(tiny.layer_norm, X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    g = jax.random.normal(jax.random.key(2), X.shape)
    np.testing.assert_allclose(vjp(g)[0], expected_vjp(g)[0], rtol=1e-4, atol=1e-4)


@pytest.fixture
def config():
    return load_config(CONFIGS / "tiny.py").unlock()


def test_every_number_that_is_learned_counts(config):
    validate_config(config)
    model = create_model(config.model, 10)
    images = jnp.zeros((1, 28, 28, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert set(variables) == {"params"}  # no statistics that would count as well
    stem, features = config.model.kwargs.stem, config.model.kwargs.features
    block = 9 * features + features**2 + features
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == (9 * stem + stem) + block + 1 == 681


def test_without_a_dense_layer_the_first_channels_are_the_logits(config):
    images = jax.random.uniform(jax.random.key(0), (2, 28, 28, 1))
    config.model.kwargs.update(stem=4, features=11, steps=1, dense=False)
    model = create_model(config.model, 10)
    variables = model.init(jax.random.key(1), images)
    assert "Dense_0" not in variables["params"]
    logits = model.apply(variables, images)
    assert logits.shape == (2, 10)
    variables["params"]["scale"] *= 2
    np.testing.assert_allclose(model.apply(variables, images), 2 * logits, rtol=1e-5)
    config.model.kwargs.features = 9
    with pytest.raises(ConfigError, match="features must be 10 or more"):
        create_model(config.model, 10)


@pytest.fixture
def small(config):
    """The same in small, and not augmented: what costs is to compile it."""
    config.model.kwargs.update(stem=4, features=6, steps=2, dense=True)
    for name in config.augment:
        config.augment[name] = 0.0
    return config


def test_an_images_logits_do_not_depend_on_its_batch(small):
    model = create_model(small.model, 10)
    images = jax.random.uniform(jax.random.key(0), (4, 28, 28, 1))
    variables = model.init(jax.random.key(1), images)
    logits = model.apply(variables, images)
    assert logits.shape == (4, 10)
    one = model.apply(variables, images[2:3])
    np.testing.assert_allclose(logits[2:3], one, rtol=1e-4, atol=1e-4)


def test_more_steps_use_the_same_weights(small):
    def shapes():
        model = create_model(small.model, 10)
        return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))

    before = shapes()
    small.model.kwargs.steps = 5
    assert shapes() == before


def test_more_steps_than_there_are_pixels_is_an_error(small):
    small.model.kwargs.steps = 7  # from 13 pixels a side, two fewer each time
    with pytest.raises(ConfigError, match="make no working 'tiny'"):
        create_model(small.model, 10)


def test_it_learns(small):
    small.num_epochs, small.batch_size = 30, 8
    small.optimizer.warmup_epochs = 4.0
    images = np.zeros((64, 28, 28, 1), np.uint8)
    labels = np.arange(64, dtype=np.int32) % 4
    for image, label in zip(images, labels, strict=True):  # a bar, at four slants
        for k in range(-8, 9):
            down, across = [(k, 0), (0, k), (k, k), (k, -k)][label]
            image[14 + down, 13 + across : 15 + across] = 255
    program = create_program(small, len(labels), num_classes=10)
    state = program.create_state()
    losses = []
    for epoch in range(small.num_epochs):
        state, metrics = program.train_steps(
            state, Dataset(images, labels), program.indices(epoch), program.rng
        )
        losses.append(float(metrics["loss"]) / len(labels))
    assert losses[-1] < 0.1 * losses[0]


def test_it_lowers_for_gpu_and_tpu(small):
    model = create_model(small.model, 10)
    images = jnp.zeros((2, 28, 28, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(variables):
        return jnp.sum(model.apply(variables, images) ** 2)

    traced = jax.jit(jax.grad(loss)).trace(variables)
    assert traced.lower(lowering_platforms=("cuda",)).as_text()
    assert traced.lower(lowering_platforms=("tpu",)).as_text()
