"""An infinity or NaN, wherever it comes from, is found and named, and never saved."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import made_dataset, make_tiny_config

from mnist_jax import train
from mnist_jax.checkpoint.load import load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.data import Dataset
from mnist_jax.datasets.batches import take_examples
from mnist_jax.errors import CheckpointError, UserError
from mnist_jax.models.create import create_model
from mnist_jax.optimizer import create_optimizer
from mnist_jax.run.compile_ahead import make_train_step
from mnist_jax.run.finite_checks import (
    add_metrics,
    float_leaves,
    watch_step,
    watch_steps,
)
from mnist_jax.run.metric_writer import read_metrics
from mnist_jax.tasks import DIGITS
from mnist_jax.train_state import create_train_state
from mnist_jax.train_step import train_steps

STEPS = 6  # in one call


class _Poison(NamedTuple):
    """Which leaf's gradients become infinite or NaN, at which update, and with what."""

    leaf: jax.Array
    update: jax.Array
    infinite: jax.Array  # an integer, as all here: not to be found itself
    count: jax.Array


def poison() -> optax.GradientTransformation:
    """An optimizer's part that spoils a gradient, as its state says: no recompiling."""

    def init(params):
        return _Poison(*jnp.array([-1, 0, 0, 0]))

    def update(grads, state, params=None):
        leaves, structure = jax.tree.flatten(grads)
        for i, leaf in enumerate(leaves):
            now = (state.leaf == i) & (state.update == state.count)
            value = jnp.where(state.infinite, jnp.inf, jnp.nan)
            spoilt = jnp.where(now, value, leaf.reshape(-1)[0])
            leaves[i] = leaf.reshape(-1).at[0].set(spoilt).reshape(leaf.shape)
        state = state._replace(count=state.count + 1)
        return jax.tree.unflatten(structure, leaves), state

    return optax.GradientTransformation(init, update)


# Images of bytes could hold no NaN.
FLOATS = dataclasses.replace(DIGITS, prepare=lambda x: x.astype(jnp.float32) / 255)


@functools.cache
def program(name: str):
    """`create()` and `steps(state, dataset)` of a tiny net of all kinds of leaves."""
    config = make_tiny_config()
    config.model.kwargs.features = (4,)
    config.model.kwargs.batch_norm = True
    if name == "mlp":
        config.model.name = "mlp"
        config.model.kwargs = {"dense": (8,), "dropout": 0.0}
    config.optimizer.name = "adamw"
    model = create_model(config.model, 10)
    tx = optax.chain(poison(), create_optimizer(config, 100))
    create = functools.partial(
        create_train_state,
        jax.random.key(0),
        model=model,
        tx=tx,
        image_shape=(28, 28, 1),
        ema_decay=config.ema_decay,
    )
    step = make_train_step(config, model, tx, task=FLOATS)
    indices = jnp.arange(STEPS * 8).reshape(STEPS, 8)

    @jax.jit
    def steps(state, dataset, bad_loss):
        def step_fn(state, batch, rng):
            state, metrics = step(state, batch, rng)
            loss = jnp.where(state.step == bad_loss, jnp.nan, metrics["loss"])
            return state, {**metrics, "loss": loss}

        key = jax.random.key(1)
        steps = functools.partial(
            train_steps, step_fn=watch_step(step_fn), take=take_examples
        )
        return watch_steps(steps)(state, dataset, indices, key)

    return jax.jit(create)(), steps


def paths_of(state) -> list[str]:
    return list(float_leaves(state))


def spoil(state, path: str, value: float):
    """The state with one element of one leaf replaced."""

    def change(where, leaf):
        if jax.tree_util.keystr(where, simple=True, separator="/") != path:
            return leaf
        host = np.array(leaf)
        host.flat[host.size // 2] = value
        return jnp.asarray(host)

    return jax.tree_util.tree_map_with_path(change, state)


def message(name, state, dataset=None, bad_loss=-1) -> str:
    """What one call of `train_steps` leads to."""
    dataset = jax.device_put(made_dataset(STEPS * 8)) if dataset is None else dataset
    end = int(state.step) + STEPS
    after, metrics = program(name)[1](state, dataset, bad_loss)
    if all(np.all(metrics[key]) for key in ("finite", "finite_state")):
        add_metrics({}, metrics, end, after)
        return ""
    with pytest.raises(UserError) as caught:
        add_metrics({}, metrics, end, after)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_finite_passes():
    assert message("cnn", program("cnn")[0]) == ""
    assert message("mlp", program("mlp")[0]) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_in_each_leaf_of_the_state_it_is_found_within_a_call(name, value):
    state = program(name)[0].replace(step=jnp.int32(20))
    paths = paths_of(state)
    groups = {path.split("/")[0] for path in paths}
    assert groups >= {"params", "opt_state", "ema_params"}
    assert ("batch_stats" in groups) == (name == "cnn")
    for path in paths:
        said = message(name, spoil(state, path, value))
        assert f": {path} was infinite or NaN at step 20; " in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_in_each_leaf_of_the_gradients_it_is_found_at_its_step(name, value):
    state = program(name)[0]
    for i, path in enumerate(paths_of(state.params)):
        update = i % STEPS
        poisoned = state.opt_state[0]._replace(
            leaf=jnp.int32(i),
            update=jnp.int32(update),
            infinite=jnp.int32(np.isinf(value)),
        )
        said = message(name, state.replace(opt_state=(poisoned, state.opt_state[1])))
        assert f": params/{path} became infinite or NaN at step {update + 1}; " in said


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_in_the_batch_it_is_found_at_its_step(name):
    images, labels = made_dataset(STEPS * 8)
    for step in (1, STEPS):
        bad = images.astype(np.float32)
        bad[step * 8 - 1, 14, 14] = np.nan
        dataset = jax.device_put(Dataset(bad, labels))
        said = message(name, program(name)[0], dataset)
        assert " became infinite or NaN at step " + str(step) in said
        assert ": params/" in said


def test_in_the_metrics_it_is_found_at_its_step():
    said = message("cnn", program("cnn")[0], bad_loss=3)
    assert ": the loss became infinite or NaN at step 3; " in said


def test_what_shows_in_no_weight_is_found_at_the_end_of_the_call():
    """Running statistics and averages: no later step reads them."""
    state, _ = program("cnn")
    metrics = {
        "finite": np.ones((STEPS, len(paths_of(state.params)) + 1), bool),
        "finite_state": np.ones((2, len(paths_of(state))), bool),
    }
    where = next(p for p in paths_of(state) if p.startswith("batch_stats/"))
    metrics["finite_state"][1, paths_of(state).index(where)] = False
    with pytest.raises(UserError, match=f"{where} became .* between steps 5 and 10;"):
        add_metrics({}, metrics, 10, state)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_leaf_of_a_state_is_ever_saved_with_it(tmp_path, value):
    state = program("cnn")[0].replace(step=jnp.int32(7))
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        for path in paths_of(state):
            with pytest.raises(CheckpointError, match=f"^{path} is infinite .* step 7"):
                checkpointer.save(spoil(state, path, value), metadata={})
        assert checkpointer.latest_step() is None
    assert not any((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("where", ["gradients", "validation"])
def test_a_run_that_meets_it_ends_and_keeps_what_was_good(
    tiny_config, tmp_path, monkeypatch, where
):
    """In its second epoch of ten steps."""
    if where == "gradients":
        message = "params/ConvStage_0/bias became infinite or NaN at step 16;"

        def create_poisoned(*args, **kwargs):
            first = poison()

            def init(params):
                return first.init(params)._replace(
                    leaf=jnp.int32(0), update=jnp.int32(15), infinite=jnp.int32(0)
                )

            spoiler = optax.GradientTransformation(init, first.update)
            return optax.chain(spoiler, create_optimizer(*args, **kwargs))

        monkeypatch.setattr(
            "mnist_jax.run.compile_ahead.create_optimizer", create_poisoned
        )
    else:
        message = "the loss on images held out is infinite or NaN at step 20;"
        measured = []
        evaluate_well = train.evaluate

        def evaluate_badly(*args):
            measured.append(evaluate_well(*args))
            bad = {"loss": float("nan"), "accuracy": 1.0} if len(measured) > 1 else {}
            return measured[-1] | bad

        monkeypatch.setattr(train, "evaluate", evaluate_badly)
    with pytest.raises(UserError, match=message):
        train.train_and_evaluate(tiny_config, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")] == ["10"]
    for which in ("latest", "best"):
        loaded = load_model(tmp_path, which)
        assert loaded.step == 10
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(loaded.variables))
    assert [record["step"] for record in read_metrics(tmp_path)] == [10]
