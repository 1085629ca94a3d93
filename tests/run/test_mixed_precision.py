import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import made_dataset, make_page_config, make_tiny_config
from model_configs import model_config

from mnist_jax.config import validate_config
from mnist_jax.errors import ConfigError
from mnist_jax.optimizer import create_optimizer
from mnist_jax.run.compile_ahead import create_program
from mnist_jax.run.mixed_precision import bind_gradients, compute_dtype
from mnist_jax.run.stored_config import with_defaults
from mnist_jax.tasks import DIGITS, find_task
from mnist_jax.train_state import create_train_state

pytestmark = [
    pytest.mark.usefixtures("quickly_compiled"),
    # XLA cannot write a program with calls of oneDNN into its cache.
    pytest.mark.filterwarnings("ignore:Error writing persistent"),
]

MODELS = {
    "cnn": model_config("cnn", padding="SAME", even_contrast=True),
    "batch norm": model_config("cnn", batch_norm=True),
    "vgg": model_config("vgg"),
    "mlp": model_config("mlp"),
    "sprint": model_config("sprint"),
    "tiny": model_config("tiny"),
    "tiny without a dense layer": model_config("tiny", dense=False, features=12),
}
PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution).*: \(\S+x(\w+)>,")


def bound_and_arguments(config, task=DIGITS):
    """Gradients in the config's dtype, and what they are called with."""
    model = task.create_model(config, 10)
    state = create_train_state(
        jax.random.key(0),
        model=model,
        tx=create_optimizer(config, 10),
        image_shape=task.image_shape,
        ema_decay=0.0,
    )
    images, labels = made_dataset(16)
    batch = {
        "image": jnp.asarray(images, jnp.float32) / 255,
        "label": jnp.asarray(labels),
        "mask": jnp.ones(16, bool),
    }
    arguments = (state, batch, jax.random.key(1), jnp.float32(16))
    return bind_gradients(task, model, config), arguments


def vector(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("name", MODELS)
def test_gradients_in_bfloat16_are_float32_and_close(name):
    config = make_tiny_config()
    config.model = MODELS[name]
    fine, arguments = bound_and_arguments(config)
    config.compute_dtype = "bfloat16"
    coarse, _ = bound_and_arguments(config)
    expected = jax.jit(fine)(*arguments)
    found = jax.jit(coarse)(*arguments)
    grads, outputs, batch_stats = found
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}
    assert jax.tree.structure(grads) == jax.tree.structure(arguments[0].params)
    scale = np.abs(expected[1]).max()
    np.testing.assert_allclose(outputs, expected[1], atol=0.05 * scale)
    for value, right in zip(found[::2], expected[::2], strict=True):
        if batch_stats or value is grads:
            away = np.linalg.norm(vector(value) - vector(right))
            assert away < 0.2 * np.linalg.norm(vector(right))


@pytest.mark.parametrize("name", MODELS)
def test_all_products_but_the_last_are_of_bfloat16(name):
    config = make_tiny_config()
    config.model = MODELS[name]
    config.compute_dtype = "bfloat16"
    gradients, arguments = bound_and_arguments(config)
    traced = jax.jit(gradients).trace(*arguments)
    found = PRODUCT.findall(traced.lower(lowering_platforms=("cuda",)).as_text())
    # Statistics of the tiny net are products, too.
    most = 20 if name.startswith("tiny") else 3  # logits, and their two gradients
    assert found.count("f32") <= most
    assert found.count("bf16") >= 2


def test_a_model_of_its_own_dtype_gets_it():
    config = make_page_config()
    config.compute_dtype = "bfloat16"
    task = find_task("pages")
    model = task.create_model(config, 10)
    bound = bind_gradients(task, model, config)
    assert bound.keywords["model"].dtype == "bfloat16"
    assert bound.keywords["task"] is task
    assert task.predictor(model, config).dtype == "float32"


def test_training_in_bfloat16_learns_and_keeps_float32():
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = make_tiny_config()
        config.num_epochs, config.compute_dtype = 20, dtype
        dataset = made_dataset(64)
        program = create_program(config, 64, 10)
        state = program.create_state()
        losses[dtype] = []
        for epoch in range(config.num_epochs):
            state, metrics = program.train_steps(
                state, dataset, program.indices(epoch), program.rng
            )
            losses[dtype].append(float(metrics["loss"]) / 64)
        dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(state)}
        assert dtypes == {"float32", "int32"}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"][-1] < 0.7 * losses["bfloat16"][0]
    assert losses["bfloat16"][-1] == pytest.approx(losses["float32"][-1], abs=0.2)


@pytest.mark.parametrize("value", ["float16", "bf16", ""])
def test_other_dtypes_are_one_line(value):
    config = make_tiny_config()
    config.compute_dtype = value
    message = f"config.compute_dtype must be float32 or bfloat16, got {value!r}"
    with pytest.raises(ConfigError, match=message):
        validate_config(config)


def test_runs_from_before_the_field_are_of_float32_but_for_page_nets():
    config = make_tiny_config()
    del config.compute_dtype
    assert compute_dtype(config) == "float32"
    assert with_defaults(config).compute_dtype == "float32"
    pages = make_page_config()
    pages.model.kwargs.dtype = "bfloat16"
    assert compute_dtype(pages) == "bfloat16"
