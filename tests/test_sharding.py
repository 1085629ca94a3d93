import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import sharding, train
from mnist_jax.augment import augment
from mnist_jax.checkpoint import load_model, tree_digest
from mnist_jax.config import CONFIGS, ConfigDict
from mnist_jax.errors import ConfigError
from mnist_jax.optimizer import create_optimizer

SCRIPT = CONFIGS.parent / "scripts" / "train.py"


def command(workdir, num_devices, *flags, num_epochs=2):
    return [
        *(sys.executable, str(SCRIPT), f"--config={CONFIGS / 'smoke.py'}"),
        *(f"--workdir={workdir}", f"--num_cpu_devices={num_devices}"),
        *(
            "--config.num_shards=4",
            "--config.batch_size=90",
            "--config.augment.scale=0",
        ),
        *("--config.augment.rotation=0", "--config.augment.shear=0"),
        *("--config.augment.shift=0", "--config.model.kwargs.features=(4, 8)"),
        *("--config.model.kwargs.dropout=0.2", f"--config.num_epochs={num_epochs}"),
        "--data_dir=/none",
        *flags,
    ]


def start(arguments):
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(arguments):
    code, out, err = finish(start(arguments))
    assert code == 0, err
    return out


def several(arguments, count):
    """Starts so many processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [f"--coordinator_address={address}", f"--num_processes={count}"]
    return [start([*arguments, *flags, f"--process_id={i}"]) for i in range(count)]


def result(workdir):
    digest = tree_digest(load_model(workdir).variables)
    return digest, (workdir / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    run(command(workdir, 1))
    return workdir


def test_two_processes_of_two_devices_give_the_bits_of_one_device(
    on_one_device, tmp_path
):
    first, second = map(finish, several(command(tmp_path, 2), 2))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "saved" in first[1]
    # But for Gloo's own line, only the first process says anything.
    lines = [line for line in second[1].splitlines() if "[Gloo]" not in line]
    assert lines == []
    assert result(tmp_path) == result(on_one_device)


def test_a_run_goes_on_with_the_same_bits_on_other_devices(on_one_device, tmp_path):
    stopped = start(command(tmp_path, 4))
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("checkpoints/[0-9]*/metadata")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stopped.send_signal(signal.SIGKILL)
    finish(stopped)
    run(command(tmp_path, 2, "--resume"))
    assert result(tmp_path) == result(on_one_device)


@pytest.mark.parametrize(
    ("number", "code", "seconds"), [(signal.SIGKILL, 1, 5), (signal.SIGTERM, 143, 20)]
)
def test_where_one_process_goes_all_go(tmp_path, number, code, seconds):
    first, second = several(command(tmp_path, 1, num_epochs=100_000), 2)
    for line in first.stdout:
        if re.match(r" *1/100000 ", line):
            break
    second.send_signal(number)
    began = time.monotonic()
    found, _, err = finish(first)
    assert time.monotonic() - began < seconds
    assert found == code, err
    last = err.splitlines()[-1]
    assert last.startswith("stopped: " if number == signal.SIGTERM else "error: ")
    assert finish(second)[0] == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert load_model(tmp_path).step > 0


def test_shards_of_a_batch_add_up_to_the_batch():
    mesh = sharding.make_mesh(3)
    values = np.arange(1.0, 9.0, dtype=np.float32)  # which 3 does not divide

    def sums(batch):
        def of_shard(shard, index):
            counted = shard["value"] * shard["mask"]
            return {"sum": jnp.sum(counted), "index": index, "size": shard["mask"].size}

        return sharding.sum_over_shards(of_shard, 3, batch)

    found = sharding.jit_over_shards(sums, mesh)(
        {"value": values, "mask": np.ones(8, np.float32)}
    )
    assert found == {"sum": values.sum(), "index": 0 + 1 + 2, "size": 9}


def test_sharded_gradients_equal_those_of_the_whole_batch(tiny_config):
    rng = np.random.default_rng(0)
    dataset = train.Dataset(
        rng.integers(0, 256, (50, 28, 28, 1), np.uint8),
        rng.integers(0, 10, 50).astype(np.int32),
    )
    tiny_config.batch_size = 50
    tiny_config.optimizer.name = "sgd"
    weights = []
    for num_shards in (1, 4):
        config = ConfigDict({**tiny_config.to_dict(), "num_shards": num_shards})
        program = train.create_program(config, 50, 10)
        state, metrics = program.train_steps(
            program.create_state(), dataset, program.indices(0), program.rng
        )
        weights.append(jax.device_get(state.params))
        assert metrics["count"] == 50
    for one, four in zip(*map(jax.tree.leaves, weights), strict=True):
        np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-6)


def test_shards_have_randomness_of_their_own(tiny_config):
    tiny_config.augment.shift = 3.0
    mesh = sharding.make_mesh(2)
    image = np.zeros((2, 28, 28, 1), np.float32)
    image[:, 10:14, 10:14] = 1

    def augmented(batch):
        def of_shard(shard, index):
            key = jax.random.fold_in(jax.random.key(0), index)
            moved = augment(key, shard, tiny_config.augment)
            return jnp.zeros((2, 28, 28, 1)).at[index].set(moved[0])

        return sharding.sum_over_shards(of_shard, 2, batch)

    first, second = sharding.jit_over_shards(augmented, mesh)(image)
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"num_seeds": 2, "num_shards": 2}, "cannot both be above 1"),
        ({"num_shards": 2, "batch_norm": True}, "needs the statistics of whole"),
    ],
)
def test_what_does_not_go_together_is_refused(default_config, overrides, says):
    if overrides.pop("batch_norm", False):
        default_config.model.kwargs.batch_norm = True
    default_config.update(overrides)
    with pytest.raises(ConfigError, match=says):
        train.create_program(default_config, 100, 10)


def test_devices_that_the_shards_do_not_spread_over_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: [None] * 6)
    with pytest.raises(ConfigError, match="must be a multiple of 6"):
        sharding.make_mesh(8)


def test_half_given_processes_are_refused():
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--num_processes=2"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert found.returncode == 2
    assert "--coordinator_address, --num_processes and --process_id" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("where", ["a leaf", "the loss"])
def test_what_is_not_finite_is_named_with_its_step(tiny_config, where):
    tiny_config.batch_size = 4
    program = train.create_program(tiny_config, 40, 10)
    rng = np.random.default_rng(0)
    dataset = train.Dataset(
        rng.integers(0, 256, (40, 28, 28, 1), np.uint8), np.zeros(40, np.int32)
    )
    model, tx = program.model, create_optimizer(tiny_config, 10)

    def step_fn(state, batch, key):
        state, metrics = train.train_step(
            state, batch, key, model=model, tx=tx, config=tiny_config
        )
        bad = jnp.where(state.step == 7, jnp.nan, 1.0)
        if where == "the loss":
            return state, {**metrics, "loss": metrics["loss"] * bad}
        bias = state.params["Dense_0"]["bias"] * bad
        dense = {**state.params["Dense_0"], "bias": bias}
        return state.replace(params={**state.params, "Dense_0": dense}), metrics

    state, metrics = train.train_steps(
        program.create_state(),
        program.place(dataset),
        program.indices(0),
        program.rng,
        step_fn=step_fn,
    )
    name = "loss" if where == "the loss" else "Dense_0/bias"
    with pytest.raises(train.UserError, match=f"{name} became .* at step 7;"):
        train.add_metrics(dict(train.NO_TOTALS), metrics, 10, state)
