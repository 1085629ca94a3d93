import contextlib
import functools
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faults.topology import LIGHT, Runs, result
from helpers import run_python
from jax.sharding import Mesh

from mnist_jax.augment import augment
from mnist_jax.checkpoint.load import load_model
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.datasets.batches import take_examples
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.optimizer import create_optimizer
from mnist_jax.parallel import shards
from mnist_jax.run.compile_ahead import create_program, make_train_step
from mnist_jax.run.config_files import CONFIGS, load_config
from mnist_jax.run.finite_checks import add_metrics, watch_step, watch_steps
from mnist_jax.train_step import train_steps


@pytest.fixture(scope="session")
def runs(fork_server):
    return Runs(fork_server)


@pytest.fixture(scope="session")
def on_one_device(runs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    runs.finish(workdir, 1)
    return workdir


def test_two_processes_of_two_devices_give_the_bits_of_one_device(
    runs, on_one_device, tmp_path
):
    assert "saved" in runs.finish(tmp_path, 2, 2)
    assert result(tmp_path) == result(on_one_device)
    # Process 0 alone has written.
    assert len(list(tmp_path.glob("tensorboard/*"))) == 1


def test_two_processes_take_as_many_devices_as_there_are_shards(runs, tmp_path):
    """Without `--num_cpu_devices` each would take both cores for two shards."""
    flags = (*LIGHT, "--config.num_epochs=2", f"--workdir={tmp_path}")
    done = [p.wait() for p in runs.start_script("train.py", None, 2, *flags)]
    assert [each.returncode for each in done] == [0, 0], done


def test_a_run_goes_on_with_the_same_bits_on_other_devices(
    runs, on_one_device, tmp_path
):
    (stopped,) = runs.start(tmp_path, 8)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("checkpoints/[0-9]*/metadata")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stopped.kill()
    stopped.wait()
    runs.finish(tmp_path, 1, 2, "--resume")
    assert result(tmp_path) == result(on_one_device)


def test_evaluation_counts_the_same_on_any_devices(
    runs, on_one_device, fork_server, tmp_path
):
    flags = (f"--workdir={on_one_device}", "--json", "--nofigures")
    alone = fork_server.run("evaluate.py", *flags)
    spread, *_ = runs.start_script("evaluate.py", 2, 2, *flags)
    spread = spread.wait()
    assert (alone.returncode, spread.returncode) == (0, 0), spread.errors
    alone, spread = (
        json.loads(done.output[done.output.index("{") :]) for done in (alone, spread)
    )
    assert alone["count"] == spread["count"] > 0
    assert alone["confusion_matrix"] == spread["confusion_matrix"]


@pytest.fixture
def pair(runs, tmp_path):
    """Two processes of a run that would take hours, in its first epochs."""
    flags = (*LIGHT, f"--workdir={tmp_path}", "--config.num_epochs=100000")
    both = runs.start_script("train.py", 1, 2, *flags)
    deadline = time.monotonic() + 100
    while not re.search(r"\n *1/100000 ", both[0].output.read_text()):
        assert time.monotonic() < deadline, both[0].errors.read_text()
        time.sleep(0.02)
    yield both
    for process in both:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@pytest.mark.parametrize("which", [0, 1])
def test_where_one_process_is_killed_the_other_says_so(pair, which):
    pair[which].kill()
    began = time.monotonic()
    other = pair[1 - which].wait()
    assert time.monotonic() - began < 12
    assert other.returncode == 1
    last = other.errors.splitlines()[-1]
    assert last.startswith(f"error: process {which} has ended without a word: ")
    assert pair[which].wait().returncode == -signal.SIGKILL


def test_where_one_process_is_stopped_the_other_says_so(pair):
    first, second = pair
    second.kill(signal.SIGSTOP)
    began = time.monotonic()
    found = first.wait()
    assert time.monotonic() - began < 12
    assert found.returncode == 1
    line = "error: process 1 has not answered for 8 seconds: "
    assert found.errors.splitlines()[-1].startswith(line)
    second.kill(signal.SIGCONT)  # and it is not left behind
    found = second.wait()
    assert found.returncode == 1
    assert found.errors.splitlines()[-1].startswith("error: process ")


def listening(process):
    """The addresses, in the kernel's hex, that a process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines():
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1])
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux only")
def test_the_coordinator_listens_on_its_own_address_alone(runs, pair):
    port = f":{runs.port:04X}"
    found = [address for address in listening(pair[0]) if address.endswith(port)]
    # 127.0.0.1, as IPv4 or within IPv6.
    loopback = ("0100007F", "0000000000000000FFFF00000100007F")
    assert len(found) == 1
    assert found[0].removesuffix(port) in loopback


def test_a_signal_to_one_process_saves_and_stops_all(pair, tmp_path):
    pair[1].kill(signal.SIGTERM)
    first, second = (process.wait() for process in pair)
    assert (first.returncode, second.returncode) == (143, 143)
    assert first.errors.startswith("stopped: at step ")
    assert (first.errors.count("\n"), second.errors) == (1, "")
    assert load_model(tmp_path).step > 0


def test_an_error_of_one_process_is_said_by_all(runs, mnist_data_dir, tmp_path):
    damaged = Path(shutil.copytree(mnist_data_dir, tmp_path / "damaged"))
    for path in damaged.rglob("*train*"):
        path.write_bytes(path.read_bytes()[:1000])
    flags = (*LIGHT, f"--workdir={tmp_path / 'run'}", "--config.dataset=mnist")
    flags = (*flags, f"--data_dir={mnist_data_dir}", "--config.validation=10")
    own = {1: [f"--data_dir={damaged}"]}
    both = runs.start_script("train.py", 1, 2, *flags, own=own)
    first, second = (process.wait() for process in both)
    assert (first.returncode, second.returncode) == (1, 1)
    (line,) = second.errors.splitlines()
    reason = line.removeprefix("error: ")
    assert str(damaged) in reason
    assert first.errors.splitlines() == [f"error: process 1 ended: {reason}"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("num_shards", [1, 2, 3, 6, 8])
def test_shards_of_a_batch_add_up_to_the_batch(num_shards):
    mesh = shards.make_mesh(num_shards)
    values = np.arange(1.0, 24.0, dtype=np.float32)  # none of those divides 23

    def sums(batch):
        def of_shard(shard, index):
            counted = shard["value"] * shard["mask"]
            powers = counted[:, None] ** jnp.arange(3)
            return {
                "powers": powers.sum(axis=0, where=shard["mask"][:, None] > 0),
                "index": index,
                "size": shard["mask"].size,
            }

        return shards.sum_over_shards(of_shard, num_shards, batch)

    found = shards.jit_over_shards(sums, mesh)(
        {"value": values, "mask": np.ones(23, np.float32)}
    )
    np.testing.assert_array_equal(found["powers"], [23, 276, np.sum(values**2)])
    assert found["index"] == sum(range(num_shards))
    assert found["index"].dtype == np.int32
    assert found["size"] == -(-23 // num_shards) * num_shards


def sums_on_each_number_of_devices():
    """Run as a process of its own, as this one has one device."""
    jax.config.update("jax_num_cpu_devices", 12)
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(24, 50)).astype(np.float32)
    weights = rng.normal(size=(50, 37)).astype(np.float32)

    def step(num_shards, weights, momentum, batch):
        def of_shard(shard, index):
            def loss(weights):
                return jnp.sum(jnp.tanh(shard @ weights * (index + 0.3)) ** 2) / 24

            return jax.value_and_grad(loss)(weights)

        loss, grads = shards.sum_over_shards(of_shard, num_shards, batch)
        momentum = 0.9 * momentum + 0.1 * grads
        return weights - 0.3 * momentum, momentum, loss

    differ = []
    for num_shards in (1, 2, 3, 8, 12):
        results = set()
        for used in (n for n in range(1, 13) if num_shards % n == 0):
            mesh = Mesh(np.array(jax.devices()[:used]), ("data",))
            fn = functools.partial(step, num_shards)
            compiled = shards.jit_over_shards(fn, mesh)
            state = (weights, np.zeros_like(weights))
            for _ in range(10):
                *state, loss = compiled(*state, batch)
            results.add(b"".join(np.asarray(x).tobytes() for x in (*state, loss)))
        differ += [num_shards] * (len(results) > 1)
    print(differ)


def test_sums_have_the_same_bits_on_each_number_of_devices():
    program = (
        "from parallel import test_shards; test_shards.sums_on_each_number_of_devices()"
    )
    done = run_python(program, timeout=300)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.usefixtures("quickly_compiled")
def test_sharded_gradients_equal_those_of_the_whole_batch(tiny_config):
    rng = np.random.default_rng(0)
    dataset = Dataset(
        rng.integers(0, 256, (50, 28, 28, 1), np.uint8),
        rng.integers(0, 10, 50).astype(np.int32),
    )
    tiny_config.batch_size = 50
    tiny_config.optimizer.name = "sgd"
    weights = []
    for num_shards in (1, 4):
        config = ConfigDict({**tiny_config.to_dict(), "num_shards": num_shards})
        program = create_program(config, 50, 10)
        state, metrics = program.train_steps(
            program.create_state(), dataset, program.indices(0), program.rng
        )
        weights.append(jax.device_get(state.params))
        assert metrics["count"] == 50
    for one, four in zip(*map(jax.tree.leaves, weights), strict=True):
        np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-6)


def test_shards_normalise_by_themselves_and_average_what_is_kept():
    """The last of four shards is nothing but padding."""
    config = load_config(CONFIGS / "fast.py").unlock()
    config.model.kwargs.update(filters=2, features=(4,), dense=(8,))
    config.batch_size, config.num_shards = 12, 4
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 28, 28, 1), np.uint8)
    dataset = Dataset(images, np.arange(9, dtype=np.int32))
    program = create_program(config, 9, 10)
    before = jax.device_get(program.create_state())
    indices = program.indices(0)
    after, _ = program.train_steps(
        program.create_state(), dataset, indices, program.rng
    )
    kept = []
    for shard in np.asarray(indices).reshape(4, 3)[:3]:
        _, updated = program.model.apply(
            before.variables,
            images[shard] / np.float32(255),
            train=True,
            mutable=["batch_stats"],
        )
        kept.append(updated["batch_stats"])
    mean = jax.tree.map(lambda *x: sum(x) / 4, *kept, before.batch_stats)
    for a, b in zip(*map(jax.tree.leaves, (after.batch_stats, mean)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))


def test_shards_have_randomness_of_their_own(tiny_config):
    tiny_config.augment.shift = 3.0
    mesh = shards.make_mesh(2)
    image = np.zeros((2, 28, 28, 1), np.float32)
    image[:, 10:14, 10:14] = 1

    def augmented(batch):
        def of_shard(shard, index):
            key = jax.random.fold_in(jax.random.key(0), index)
            moved = augment(key, shard, tiny_config.augment)
            return jnp.zeros((2, 28, 28, 1)).at[index].set(moved[0])

        return shards.sum_over_shards(of_shard, 2, batch)

    first, second = shards.jit_over_shards(augmented, mesh)(image)
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"num_seeds": 2, "num_shards": 2}, "cannot both be above 1"),
        ({"num_shards": 2, "batch_norm": True}, "needs the statistics of whole"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, says):
    config = load_config("cnn").unlock()
    config.model.kwargs.batch_norm = overrides.pop("batch_norm", False)
    config.update(overrides)
    with pytest.raises(ConfigError, match=says):
        create_program(config, 100, 10)


def test_devices_that_the_shards_do_not_spread_over_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: [None] * 6)
    says = "set it to 6 or 12, or start processes with 4 or 8 devices in all"
    with pytest.raises(ConfigError, match=says):
        shards.make_mesh(8)


def test_what_differs_between_processes_is_named(monkeypatch):
    def gather(own):
        return np.stack([own, own, own + 1])

    shards.check_same("weights", lambda: "of one process all are the same", "")
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(shards.multihost_utils, "process_allgather", gather)
    with pytest.raises(UserError, match="process 2 has other weights than process 0"):
        shards.check_same("weights", lambda: "digest", "mend it")


def test_half_given_processes_are_refused(fork_server):
    found = fork_server.run("train.py", "--num_processes=2")
    assert found.returncode == 2
    assert "--coordinator_address, --num_processes and --process_id" in found.errors
    assert len(found.errors.splitlines()) == 1


@pytest.mark.parametrize("where", ["a leaf", "the loss"])
def test_what_is_not_finite_is_named_with_its_step(tiny_config, where):
    tiny_config.batch_size = 4
    program = create_program(tiny_config, 40, 10)
    rng = np.random.default_rng(0)
    dataset = Dataset(
        rng.integers(0, 256, (40, 28, 28, 1), np.uint8), np.zeros(40, np.int32)
    )
    tx = create_optimizer(tiny_config, 10)
    step = make_train_step(tiny_config, program.model, tx)

    def step_fn(state, batch, key):
        state, metrics = step(state, batch, key)
        bad = jnp.where(state.step == 7, jnp.nan, 1.0)
        if where == "the loss":
            return state, {**metrics, "loss": metrics["loss"] * bad}
        bias = state.params["Dense_0"]["bias"] * bad
        dense = {**state.params["Dense_0"], "bias": bias}
        return state.replace(params={**state.params, "Dense_0": dense}), metrics

    steps = functools.partial(
        train_steps, step_fn=watch_step(step_fn), take=take_examples
    )
    state, metrics = watch_steps(steps)(
        program.create_state(),
        program.placement.put(dataset),
        program.indices(0),
        program.rng,
    )
    name = "loss" if where == "the loss" else "Dense_0/bias"
    with pytest.raises(UserError, match=f"{name} became .* at step 7;"):
        add_metrics({}, metrics, 10, state)
