import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import ops
from mnist_jax.benchmark import flops
from mnist_jax.models.create import create_model


def test_seed_recipe_by_hand(seed_config):
    first = 2 * 26 * 26 * 32 * 9
    rest = 2 * (11 * 11 * 64 * 9 * 32 + 5 * 5 * 64 * 128 + 128 * 10)
    count = flops.count_model_flops(create_model(seed_config.model, 10))
    assert count.forward_flops_per_image == first + rest == 5_262_080
    # Backward: both factors of each product, but for the images.
    assert count.training_flops_per_image == 2 * first + 3 * rest == 15_396_864


def test_batch_norm_and_dropout_count_nothing(seed_config):
    plain = flops.count_model_flops(create_model(seed_config.model, 10))
    seed_config.model.kwargs.update(batch_norm=True, dropout=0.5)
    assert flops.count_model_flops(create_model(seed_config.model, 10)) == plain


def test_products_in_a_loop_count_each_time():
    def f(x, w):
        return jax.lax.scan(lambda x, _: (jax.jit(jnp.matmul)(x, w), None), x, length=7)

    jaxpr = jax.make_jaxpr(f)(jnp.zeros((2, 3)), jnp.zeros((3, 3)))
    assert flops.count_flops(jaxpr.jaxpr) == 7 * 2 * 2 * 3 * 3


def test_grouped_convolution():
    x, kernel = jnp.zeros((1, 8, 8, 6)), jnp.zeros((3, 3, 2, 9))
    conv = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    jaxpr = jax.make_jaxpr(conv)(x, kernel).jaxpr
    assert flops.count_flops(jaxpr) == 2 * 6 * 6 * 9 * (3 * 3 * 2)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_definitions_give_what_ops_gives(padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 9, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 4)), jnp.float32)
    bias = jnp.arange(4.0)
    for name, args in {
        "conv": (x, kernel, bias, padding),
        "conv_relu_pool": (x, kernel, bias, padding),
        "max_pool": (x,),
    }.items():
        np.testing.assert_allclose(
            getattr(flops, f"_{name}")(*args), getattr(ops, name)(*args), atol=1e-5
        )
