import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax.models.create import create_model
from mnist_jax.train_state import create_train_state


def create(config, model, tx):
    return create_train_state(
        jax.random.key(0),
        model=model,
        tx=tx,
        image_shape=(28, 28, 1),
        ema_decay=config.ema_decay,
    )


@pytest.fixture
def parts(tiny_config):
    return tiny_config, create_model(tiny_config.model, 10), optax.sgd(0.5)


def test_a_new_state_is_arrays_only(parts):
    state = create(*parts)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert state.step.dtype == jnp.int32
    assert int(state.step) == 0
    assert state.batch_stats == {}


def test_the_average_shares_no_buffer_with_the_weights(parts):
    state = create(*parts)
    donated = jax.jit(lambda s: s, donate_argnums=0)(state)
    assert int(donated.step) == 0


def test_without_an_average_the_weights_are_used(parts):
    config, model, tx = parts
    config.ema_decay = 0.0
    state = create(config, model, tx)
    assert state.ema_params is None
    assert state.variables["params"] is state.params


def test_a_step_moves_the_weights_and_the_average_follows(parts):
    config, model, tx = parts
    state = create(config, model, tx)
    ones = jax.tree.map(jnp.ones_like, state.params)
    after = state
    averages = [state.ema_params["Dense_1"]["bias"]]
    for _ in range(3):
        after = after.apply_gradients(ones, {}, tx, ema_decay=0.15)
        averages.append(after.ema_params["Dense_1"]["bias"])
    assert int(after.step) == 3
    np.testing.assert_allclose(after.params["Dense_1"]["bias"], -1.5, rtol=1e-6)
    # decay: min(.15, (1 + t) / (10 + t)) = .1, .15, .15
    expected = 0.0
    for decay, weight in [(0.1, -0.5), (0.15, -1.0), (0.15, -1.5)]:
        expected = decay * expected + (1 - decay) * weight
    np.testing.assert_allclose(averages[-1], expected, rtol=1e-5)
    assert after.variables["params"] is after.ema_params
