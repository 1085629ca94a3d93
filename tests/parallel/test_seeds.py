import json
import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_tiny_config, run_python
from jax.sharding import Mesh, PartitionSpec

from mnist_jax import train
from mnist_jax.analysis import splits
from mnist_jax.checkpoint.load import load_model
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.parallel.seeds import jit_for_each_seed, over_seeds, unstack
from mnist_jax.run import inference
from mnist_jax.run.compile_ahead import create_program
from mnist_jax.run.config_files import CONFIGS
from mnist_jax.run.metric_writer import read_metrics


def with_seeds(config, seed, num_seeds):
    return ConfigDict({**config.to_dict(), "seed": seed, "num_seeds": num_seeds})


@pytest.fixture(scope="module")
def workdir_of_three(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("three")
    train.train_and_evaluate(with_seeds(make_tiny_config(), 5, 3), workdir)
    return workdir


def test_each_seed_is_its_own_single_run(workdir_of_three, tiny_config, tmp_path):
    metrics = train.train_and_evaluate(with_seeds(tiny_config, 6, 1), tmp_path)
    (record,) = [r for r in read_metrics(workdir_of_three) if "test/loss" in r]
    assert record["test/correct/seed_6"] == metrics["correct"]
    assert record["test/loss/seed_6"] == pytest.approx(metrics["loss"], rel=1e-4)
    alone = load_model(tmp_path).variables
    together = unstack(load_model(workdir_of_three).variables, 3)
    for ours, theirs in zip(
        jax.tree.leaves(together[1]), jax.tree.leaves(alone), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(*(jax.tree.leaves(t)[1] for t in together[:2]))


def test_the_record_has_mean_and_standard_deviation(workdir_of_three):
    (record,) = [r for r in read_metrics(workdir_of_three) if "test/loss" in r]
    each = [record[f"test/accuracy/seed_{seed}"] for seed in (5, 6, 7)]
    assert record["test/accuracy"] == pytest.approx(np.mean(each))
    assert record["test/accuracy_sd"] == pytest.approx(np.std(each, ddof=1))
    assert record["test/num_seeds"] == 3


def test_several_seeds_are_resumed_bit_for_bit(workdir_of_three, tmp_path):
    workdir = shutil.copytree(workdir_of_three, tmp_path / "copy")
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))
    shutil.rmtree(workdir / "checkpoints" / str(steps[-1]))
    train.train_and_evaluate(with_seeds(make_tiny_config(), 5, 3), workdir, resume=True)
    assert read_metrics(workdir) == read_metrics(workdir_of_three)
    leaves = [
        jax.tree.leaves(load_model(path).variables)
        for path in (workdir, workdir_of_three)
    ]
    jax.tree.map(np.testing.assert_array_equal, *leaves)


def test_several_seeds_load_as_an_ensemble(workdir_of_three):
    loaded = load_model(workdir_of_three)
    images = splits.load_split(loaded).dataset.images[:7]
    got = inference.predict_logits(loaded.model, loaded.variables, images, 7)
    member = loaded.model.member
    each = [
        jax.nn.log_softmax(inference.predict_logits(member, variables, images, 7))
        for variables in unstack(loaded.variables, 3)
    ]
    np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)


def test_seeds_are_spread_over_the_cores(tmp_path):
    flags = [
        f"--config={CONFIGS / 'smoke.py'}",
        "--config.num_seeds=4",
        "--config.num_epochs=1",
        "--config.optimizer.warmup_epochs=0.1",
        "--config.train_split=train[:128]",
        "--config.model.kwargs.features=(4,)",
        "--config.model.kwargs.dense=(8,)",
        "--config.augment.elastic=0",
    ]
    script = str(CONFIGS.parent / "scripts" / "train.py")

    def run(name, num_devices):
        command = [sys.executable, script, *flags, f"--workdir={tmp_path / name}"]
        devices = f"--xla_force_host_platform_device_count={num_devices}"
        environment = {**os.environ, "XLA_FLAGS": devices}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])

    one, two = run("one", 1), run("two", 2)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-3), name


def seeds_on_four_devices():
    """Run as a process of its own, as this one has one device."""
    jax.config.update("jax_num_cpu_devices", 4)
    rng = np.random.default_rng(0)
    dataset = Dataset(
        rng.integers(0, 256, (128, 28, 28, 1), np.uint8),
        rng.integers(0, 10, 128).astype(np.int32),
    )
    config = make_tiny_config()
    config.model.name = "mlp"
    config.model.kwargs = {"dense": (16,), "dropout": 0.2}
    together = create_program(with_seeds(config, 5, 4), 128, 10)
    state = together.create_state()
    arguments = (state, dataset, together.indices(0), together.rng)
    compiled = together.train_steps.lower(*arguments).compile()
    alike = [len(leaf.sharding.device_set) == 4 for leaf in jax.tree.leaves(state)]
    last = unstack(compiled(*arguments)[0], 4)[3]
    alone = create_program(with_seeds(config, 8, 1), 128, 10)
    own = alone.train_steps(alone.create_state(), dataset, alone.indices(0), alone.rng)[
        0
    ]
    pairs = zip(*map(jax.tree.leaves, (last, own)), strict=True)
    alike += [np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs]
    mesh = Mesh(np.array(jax.devices()), ("seeds",))
    total = jax.shard_map(
        lambda x: jax.lax.psum(x, "seeds"),
        mesh=mesh,
        in_specs=PartitionSpec("seeds"),
        out_specs=PartitionSpec(),
    )
    control = jax.jit(total).lower(jnp.arange(4)).compile()
    print(
        json.dumps(
            {
                "alike": all(map(bool, alike)),
                "collectives": collectives(compiled),
                "control": len(collectives(control)) > 0,
            }
        )
    )


def collectives(compiled):
    names = r"\b(?:all-|collective-|reduce-scatter|ragged-)[-a-z]*\("
    return re.findall(names, compiled.as_text())


def test_seeds_on_several_devices_do_not_communicate():
    program = "from parallel import test_seeds; test_seeds.seeds_on_four_devices()"
    done = run_python(program, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "alike": True,
        "collectives": [],
        "control": True,
    }


def test_one_seed_has_no_axis_of_seeds():
    double = jit_for_each_seed(lambda x, y: x + y, (0, None), 1)
    assert double(1, 2).shape == ()
    several = jit_for_each_seed(lambda x, y: x + y, (0, None), 3)
    np.testing.assert_array_equal(several(np.arange(3), 2), [2, 3, 4])
    assert over_seeds([{"loss": 1.0}]) == {"loss": 1.0}
