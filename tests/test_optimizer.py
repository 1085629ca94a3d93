import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax.errors import ConfigError
from mnist_jax.optimizer import SCHEDULES, create_optimizer, create_schedule
from mnist_jax.run.config_files import CONFIGS, load_config

STEPS_PER_EPOCH = 10


@pytest.fixture
def config(default_config):
    default_config.num_epochs = 3
    default_config.optimizer.learning_rate = 0.5
    default_config.optimizer.warmup_epochs = 1.0
    return default_config


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_rise_to_the_peak_and_fall(config, name):
    config.optimizer.schedule = name
    schedule = create_schedule(config, STEPS_PER_EPOCH)
    rates = np.array([schedule(step) for step in range(31)])
    assert rates[0] < 0.05
    np.testing.assert_allclose(rates[10], 0.5)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) <= 0).all()
    if name != "constant":
        assert rates[30] < 1e-4
    assert rates.max() == rates[10]


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_no_warm_up_starts_at_the_peak(config, name):
    config.optimizer.schedule = name
    config.optimizer.warmup_epochs = 0.0
    np.testing.assert_allclose(create_schedule(config, STEPS_PER_EPOCH)(0), 0.5)


@pytest.mark.parametrize(
    "name", ["adam", "adamw", "sgd", "lion", "rmsprop", "adafactor", "muon", "lamb"]
)
def test_any_optimizer_of_optax_makes_a_step(config, name):
    config.optimizer.name = name
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    tx = create_optimizer(config, STEPS_PER_EPOCH)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert (new["kernel"] < params["kernel"]).all()


def test_muon_sees_a_convolution_as_a_matrix(config):
    """What it does to [H, W, C, D] is what it does to [H W C, D]; not so to biases."""
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    grads = {
        "conv": jax.random.normal(jax.random.key(0), (3, 3, 2, 6)),
        "bias": jax.random.normal(jax.random.key(1), (6,)),
    }
    flat = {**grads, "conv": grads["conv"].reshape(18, 6)}

    def first_update(tx, grads):
        return tx.update(grads, tx.init(grads), grads)[0]

    config.optimizer.name = "muon"
    muon = create_optimizer(config, STEPS_PER_EPOCH)
    update = first_update(muon, grads)
    matrix = update["conv"].reshape(18, 6)
    np.testing.assert_allclose(matrix, first_update(muon, flat)["conv"], rtol=1e-4)
    # All directions are followed alike, and as far as Adam would: 0.2 in the mean.
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values.max() / values.min() < 2
    assert 0.1 < np.sqrt(np.mean(matrix**2)) / 0.5 < 0.3
    adam = optax.adam(0.5, nesterov=True)
    np.testing.assert_allclose(
        update["bias"], first_update(adam, grads)["bias"], rtol=1e-4
    )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_acts_on_kernels_only(config, name):
    config.optimizer.name = name
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.weight_decay = 0.1
    tx = create_optimizer(config, STEPS_PER_EPOCH)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.5 * 0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0.0)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle"])
@pytest.mark.parametrize("warmup_epochs", [1.0, 3.0, 1e308])
def test_a_warm_up_that_is_too_long_is_cut_to_a_quarter(
    config, schedule, warmup_epochs
):
    config.num_epochs = 1
    config.optimizer.schedule = schedule
    config.optimizer.warmup_epochs = warmup_epochs
    cut = create_schedule(config, STEPS_PER_EPOCH)
    config.optimizer.warmup_epochs = 0.2  # 2 of 10 steps, as 10 // 4
    quarter = create_schedule(config, STEPS_PER_EPOCH)
    steps = range(STEPS_PER_EPOCH + 1)
    assert [float(cut(step)) for step in steps] == [float(quarter(s)) for s in steps]
    assert float(cut(2)) == pytest.approx(0.5)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("[!_]*.py")), ids=lambda f: f.stem)
@pytest.mark.parametrize("steps_per_epoch", [1, 7, 900])
def test_every_config_trains_for_one_epoch(file, steps_per_epoch):
    config = load_config(file).unlock()
    config.num_epochs = 1
    schedule = create_schedule(config, steps_per_epoch)
    rates = [float(schedule(step)) for step in range(steps_per_epoch)]
    assert all(0 <= rate <= config.optimizer.learning_rate * 1.001 for rate in rates)
    assert max(rates) > 0


def test_adamw_decays_nothing_where_the_config_says_so(config):
    config.optimizer.name = "adamw"
    tx = create_optimizer(config, STEPS_PER_EPOCH)
    params = {"kernel": jnp.ones((2, 2))}
    updates, _ = tx.update({"kernel": jnp.zeros((2, 2))}, tx.init(params), params)
    np.testing.assert_array_equal(updates["kernel"], 0.0)


def test_clip_norm_bounds_the_whole_gradient(config):
    config.optimizer.name = "sgd"
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.learning_rate = 1.0
    config.optimizer.clip_norm = 2.0
    tx = create_optimizer(config, STEPS_PER_EPOCH)
    params = {"kernel": jnp.full((2, 2), 9.0), "bias": jnp.full(2, 9.0)}
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(optax.tree.norm(updates), 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "adamm", "did you mean 'adam'"),
        ("name", "cosine_decay_schedule", "no optimizer of optax"),
        ("name", "lbfgs", "optax.lbfgs cannot be used so"),
        ("schedule", "cosin", "did you mean 'cosine'"),
        ("kwargs", {"b9": 1.0}, "unexpected keyword argument 'b9'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(config, field, value, message):
    config.optimizer[field] = value
    with pytest.raises(ConfigError, match=message) as caught:
        create_optimizer(config, STEPS_PER_EPOCH)
    assert "\n" not in str(caught.value)
