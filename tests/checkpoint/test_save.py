import functools
import hashlib
import json
import random
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from absl import logging
from helpers import run_python

import mnist_jax
from mnist_jax.checkpoint.format import seal, tree_digest
from mnist_jax.checkpoint.load import load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.errors import CheckpointError
from mnist_jax.models.create import create_model
from mnist_jax.train_state import create_train_state

METADATA = {"config": {"seed": 0}, "dataset": {"num_classes": 10}}


@flax.struct.dataclass
class State:
    step: jax.Array
    params: Any
    opt_state: Any
    ema_params: Any = None


def make_state(step):
    values = np.random.default_rng(step).normal(size=(50, 10))
    params = {
        "Conv_0": {"kernel": jnp.asarray(values[:9, :8], jnp.float32)},
        "Dense_0": {"kernel": jnp.asarray(values, jnp.bfloat16)},
    }
    opt_state = optax.adam(optax.constant_schedule(0.1)).init(params)
    return State(jnp.int32(step), params, (opt_state, {"rng": jax.random.key(step)}))


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert jnp.array_equal(a, b)


def save(workdir, *steps, accuracy=None, max_to_keep=2):
    with Checkpointer(workdir, max_to_keep=max_to_keep) as checkpointer:
        for i, step in enumerate(steps):
            metrics = {"accuracy": accuracy[i]} if accuracy else None
            checkpointer.save(
                make_state(step),
                metadata=METADATA,
                metrics=metrics,
                score=accuracy[i] if accuracy else None,
            )
    return workdir


def restore(workdir, template=None, step=None):
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        return checkpointer.restore(
            make_state(0) if template is None else template, step
        )


def run_here(code, workdir, **env):
    """Runs code in a fresh process, with all names of this module."""
    code = f"from checkpoint.test_save import *\nworkdir = {str(workdir)!r}\n" + code
    return run_python(code, timeout=120, **env)


def test_round_trip_is_bit_equal_and_keeps_types(tmp_path):
    save(tmp_path, 3)
    for template in (make_state(0), jax.eval_shape(functools.partial(make_state, 0))):
        restored = restore(tmp_path, template)
        assert_equal(restored.state, make_state(3))
        assert restored.step == 3
        # Else the resumed run would compile the training step a second time.
        assert not restored.state.params["Conv_0"]["kernel"].committed


def test_state_may_be_donated_during_the_save(tmp_path):
    change = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    state = {"step": jnp.int32(1), "big": jnp.arange(1_000_000, dtype=jnp.float32)}
    template = jax.eval_shape(lambda: state)
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        checkpointer.save(state, metadata=METADATA)
        jax.block_until_ready(change(state))
        checkpointer.verify(1)
        big = checkpointer.restore(template).state["big"]
    np.testing.assert_array_equal(big, np.arange(1_000_000, dtype=np.float32))


def test_restored_state_may_be_donated(tmp_path):
    save(tmp_path, 1)
    add = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    params = restore(tmp_path).state.params
    assert_equal(add(params), jax.tree.map(lambda x: x + 1, make_state(1).params))


def test_tree_digest_tells_arrays_apart():
    tree = {"a": jnp.zeros(4), "b": {"c": jnp.ones((2, 2))}}
    digest = tree_digest(tree)
    assert digest == tree_digest({"b": tree["b"], "a": np.zeros(4, np.float32)})
    for other in (
        {**tree, "a": jnp.zeros(4).at[3].set(-0.0)},
        {**tree, "a": jnp.zeros(4, jnp.int32)},
        {**tree, "a": jnp.zeros((2, 2))},
        {"A": tree["a"], "b": tree["b"]},
    ):
        assert digest != tree_digest(other)


def test_metadata_says_where_the_weights_are_from(tmp_path):
    metrics = {"accuracy": np.float32(0.5), "loss": float("nan")}
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        checkpointer.save(make_state(7), metadata=METADATA, metrics=metrics)
        metadata = checkpointer.restore(make_state(0)).metadata
    assert metadata["config"] == METADATA["config"]
    assert metadata["dataset"] == METADATA["dataset"]
    assert metadata["format_version"] == 1
    assert metadata["step"] == 7
    assert metadata["metrics"] == {"accuracy": 0.5, "loss": None}
    assert metadata["versions"]["jax"] == jax.__version__
    assert metadata["device"]["platform"] == jax.default_backend()
    assert metadata["leaves"]["params/Dense_0/kernel"]["type"] == "bfloat16[50, 10]"
    assert len(metadata["sha256"]) == 64


def test_latest_and_best_are_kept(tmp_path):
    accuracy = [0.1, 0.9, 0.5, float("nan"), 0.8, float("inf")]
    save(tmp_path, 1, 2, 3, 4, 5, 6, accuracy=accuracy)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2", "5", "6"}
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        assert checkpointer.latest_step() == 6
        assert checkpointer.best_step() == 2
        checkpointer.save(make_state(7), metadata=METADATA, score=0.9)
        assert checkpointer.best_step() == 7  # the newest of equals
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"6", "7"}


def test_checkpoints_from_before_there_were_scores_are_ranked_by_accuracy(tmp_path):
    save(tmp_path, 1, 2, 3, accuracy=[0.9, 0.5, 0.6], max_to_keep=3)
    for path in tmp_path.glob("checkpoints/*/metadata/metadata"):
        metadata = json.loads(path.read_text())
        del metadata["score"], metadata["sha256"]
        path.write_text(json.dumps(seal(metadata)))
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        assert checkpointer.best_step() == 1


def test_without_validation_only_the_latest_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"3", "4"}
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        assert checkpointer.best_step() is None
    with pytest.raises(CheckpointError, match="load the latest"):
        load_model(tmp_path, "best")


def test_saving_a_step_again_leaves_it(tmp_path):
    save(save(tmp_path, 1, 2), 2)
    assert_equal(restore(tmp_path).state, make_state(2))


def test_an_empty_run_has_no_steps(tmp_path):
    with Checkpointer(tmp_path / "new", max_to_keep=2) as checkpointer:
        assert checkpointer.latest_step() is None
        assert checkpointer.best_step() is None
        with pytest.raises(CheckpointError, match="no complete checkpoint"):
            checkpointer.restore(make_state(0))


def test_relative_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path("run"), 1)
    assert restore("run").step == 1
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()


def test_nothing_is_printed(tmp_path, capfd):
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    try:
        save(tmp_path, 1, 2, 3)
        restore(tmp_path)
    finally:
        logging.set_verbosity(verbosity)
    assert capfd.readouterr() == ("", "")


def change_conv(state, **params):
    conv = {**state.params["Conv_0"], **params}
    return state.replace(params={**state.params, "Conv_0": conv})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            change_conv(make_state(0), kernel=jnp.zeros((9, 8), jnp.bfloat16)),
            r"Conv_0/kernel is float32\[9, 8\] in it, but bfloat16\[9, 8\]",
        ),
        (
            change_conv(make_state(0), kernel=jnp.zeros((9, 9))),
            r"float32\[9, 8\] in it, but float32\[9, 9\]",
        ),
        (
            change_conv(make_state(0), bias=jnp.zeros(8)),
            r"Conv_0/bias is nothing in it, but float32\[8\]",
        ),
        (
            make_state(0).replace(opt_state=()),
            r"opt_state/0/0/count is int32\[\] in it, but nothing",
        ),
    ],
)
def test_a_template_that_differs_is_refused(tmp_path, template, message):
    save(tmp_path, 1, 2)
    with pytest.raises(CheckpointError, match=message):
        restore(tmp_path, template)


def test_an_absent_step_is_refused(tmp_path):
    save(tmp_path, 1, 2)
    with pytest.raises(CheckpointError, match="no checkpoint of step 9, only of 1, 2"):
        restore(tmp_path, step=9)


def mutate(path, kind, rng):
    data = bytearray(path.read_bytes())
    if kind == "delete" or not data:
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def test_mutated_checkpoints_are_never_loaded(tmp_path, capsys):
    original = save(tmp_path / "original", 1, 2)
    step_dir = original / "checkpoints" / "2"
    files = [p.relative_to(step_dir) for p in step_dir.rglob("*") if p.is_file()]
    rng = random.Random(0)
    for i, (path, kind) in enumerate(
        (path, kind) for path in files for kind in ("flip", "truncate", "delete")
    ):
        workdir = tmp_path / str(i)
        shutil.copytree(original, workdir)
        mutate(workdir / "checkpoints" / "2" / path, kind, rng)
        state, step, _ = restore(workdir)
        assert_equal(state, make_state(step))
        assert len(capsys.readouterr().err.splitlines()) == (step == 1)
        # The files of Orbax's own bookkeeping are not read.
        if kind != "flip" and str(path.parent) in ("metadata", "state/d"):
            assert step == 1 or path.name == "commit_success.txt"


def test_swapped_steps_are_noticed(tmp_path):
    checkpoints = save(tmp_path, 1, 2) / "checkpoints"
    (checkpoints / "1" / "state").rename(checkpoints / "state")
    (checkpoints / "2" / "state").rename(checkpoints / "1" / "state")
    (checkpoints / "state").rename(checkpoints / "2" / "state")
    with pytest.raises(CheckpointError, match=r"no intact checkpoint in .* SHA-256"):
        restore(tmp_path)
    with pytest.raises(CheckpointError, match=r"no intact checkpoint in .* SHA-256"):
        load_model(tmp_path)


def damage(workdir, step):
    path = workdir / "checkpoints" / str(step) / "metadata" / "metadata"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))


def test_a_run_goes_on_from_the_step_before_a_damaged_one(tmp_path, capsys):
    save(tmp_path, 1, 2, 3, max_to_keep=3)
    damage(tmp_path, 2)
    damage(tmp_path, 3)
    with Checkpointer(tmp_path, max_to_keep=3) as checkpointer:
        assert checkpointer.restore(make_state(0)).step == 1
        warning = capsys.readouterr().err
        assert warning.startswith("warning: checkpoint 2, 3 in ")
        assert warning.endswith("match its SHA-256); step 1 is used\n")
        assert warning.count("\n") == 1
        checkpointer.save(make_state(3), metadata=METADATA)
        checkpointer.verify(3)
    assert restore(tmp_path).step == 3
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"1", "3"}


def test_verify_refuses_a_damaged_step(tmp_path):
    save(tmp_path, 1, 2)
    damage(tmp_path, 2)
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        checkpointer.verify(1)
        with pytest.raises(CheckpointError, match="no intact checkpoint"):
            checkpointer.verify(2)


def rewrite(step_dir, *, seal, **fields):
    path = step_dir / "metadata" / "metadata"
    metadata = {**json.loads(path.read_text()), **fields}
    if seal:
        del metadata["sha256"]
        text = json.dumps(metadata, sort_keys=True).encode()
        metadata["sha256"] = hashlib.sha256(text).hexdigest()
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize("version", [2, 10**9, 0, "2", None, 1.5, [1]])
def test_a_newer_format_is_refused_by_name(tmp_path, version):
    path = save(tmp_path, 1, 2) / "checkpoints" / "2"
    rewrite(path, seal=True, format_version=version)
    message = re.escape(
        f"written by a newer mnist_jax: format {version!r}, and this one "
        f"({mnist_jax.__version__}) reads up to 1; upgrade"
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        restore(tmp_path)


def test_a_damaged_format_version_is_not_called_newer(tmp_path, capsys):
    path = save(tmp_path, 1, 2) / "checkpoints" / "2"
    rewrite(path, seal=False, format_version=3)
    assert restore(tmp_path).step == 1
    assert "does not match its SHA-256" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_named_and_not_created(tmp_path):
    def message(path):
        with pytest.raises(CheckpointError) as info:
            load_model(path)
        assert "\n" not in str(info.value)
        return str(info.value)

    assert "train first" in message(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()

    (tmp_path / "file").write_text("")
    assert "no folder" in message(tmp_path / "file")

    (tmp_path / "other").mkdir()
    assert "holds no run" in message(tmp_path / "other")
    assert not any((tmp_path / "other").iterdir())

    (tmp_path / "partial" / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(
        parents=True
    )
    assert "no complete checkpoint" in message(tmp_path / "partial")

    (tmp_path / "empty" / "checkpoints" / "5").mkdir(parents=True)
    assert "no metadata of mnist_jax" in message(tmp_path / "empty")

    with ocp.CheckpointManager(tmp_path / "foreign" / "checkpoints") as manager:
        manager.save(5, args=ocp.args.StandardSave({"w": np.zeros(3)}))
    assert "no metadata of mnist_jax" in message(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="no metadata of mnist_jax"):
        restore(tmp_path / "foreign")


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Not a directory; name another folder"):
        Checkpointer(tmp_path / "file" / "run", max_to_keep=2)


def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(tmp_path):
    save(tmp_path, 1)
    code = """
        import resource
        with pytest.raises(CheckpointError) as info:
            with Checkpointer(workdir, max_to_keep=2) as checkpointer:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
                checkpointer.save(make_state(2), metadata=METADATA)
        print(info.value)
    """
    process = run_here(textwrap.dedent(code), tmp_path)
    assert process.stderr == ""
    assert process.stdout.startswith("cannot save a checkpoint in ")
    assert process.stdout.count("\n") == 1
    assert_equal(restore(tmp_path).state, make_state(1))


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_run_killed_in_a_save_leaves_the_step_before(tmp_path, moment):
    save(tmp_path, 1)
    code = f"""
        import os
        checkpointer = Checkpointer(workdir, max_to_keep=2)
        if {moment!r} == "rename":
            os.rename = os.replace = lambda *args, **kwargs: os._exit(9)
        checkpointer.save(make_state(2), metadata=METADATA)
        if {moment!r} == "rename":
            checkpointer.wait()
        os._exit(9)
    """
    assert run_here(textwrap.dedent(code), tmp_path).returncode == 9
    assert_equal(restore(tmp_path).state, make_state(1))
    assert_equal(restore(save(tmp_path, 2)).state, make_state(2))
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"1", "2"}


def test_checkpoints_move_between_numbers_of_devices(tmp_path):
    save(tmp_path, 1)
    code = """
        mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        with Checkpointer(workdir, max_to_keep=2) as checkpointer:
            template = jax.device_put(make_state(0), sharding)
            state = checkpointer.restore(template).state
            assert_equal(state, make_state(1))
            assert all(x.sharding == sharding for x in jax.tree.leaves(state))
            split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
            big = {"step": jnp.int32(2), "w": jnp.arange(8.0)}
            big["w"] = jax.device_put(big["w"], split)
            checkpointer.save(big, metadata=METADATA)
    """
    flags = "--xla_force_host_platform_device_count=4"
    process = run_here(
        textwrap.dedent(code), tmp_path, XLA_FLAGS=flags, JAX_PLATFORMS="cpu"
    )
    assert (process.returncode, process.stderr) == (0, "")
    restored = restore(tmp_path, {"step": jnp.int32(0), "w": jnp.zeros(8)})
    np.testing.assert_array_equal(restored.state["w"], np.arange(8.0))
    assert restored.metadata["device"]["count"] == 4


def save_run(workdir, config, accuracy=(0.5, 0.4), num_classes=10, **more_kwargs):
    config.model.name = "mlp"
    config.model.kwargs = {"dense": (8,), "dropout": 0.0}
    model = create_model(config.model, 10)
    tx = optax.adam(1e-3)
    create = functools.partial(
        create_train_state,
        model=model,
        tx=tx,
        image_shape=(28, 28, 1),
        ema_decay=config.ema_decay,
    )
    state = jax.jit(create)(jax.random.key(1))
    states = {}
    config.model.kwargs.update(more_kwargs)
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        for step, value in enumerate(accuracy, start=1):
            states[step] = jax.tree.map(
                lambda x, k=step: (x * k).astype(x.dtype), state
            )
            states[step] = states[step].replace(step=jnp.int32(step))
            checkpointer.save(
                states[step],
                metadata={
                    "config": config.to_dict(),
                    "dataset": {"num_classes": num_classes},
                },
                metrics={"accuracy": value},
                score=value,
            )
    return states


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_load_model_needs_only_the_workdir(tmp_path, default_config, ema_decay):
    default_config.ema_decay = ema_decay
    states = save_run(tmp_path, default_config)
    before = sorted(tmp_path.rglob("*"))
    for which, step in (("latest", 2), ("best", 1)):
        loaded = load_model(tmp_path, which)
        assert loaded.step == step
        assert loaded.config.to_dict() == default_config.to_dict()
        assert_equal(loaded.variables, states[step].variables)
        logits = loaded.model.apply(loaded.variables, jnp.zeros((2, 28, 28, 1)))
        assert logits.shape == (2, 10)
    assert sorted(tmp_path.rglob("*")) == before


def test_load_model_passes_over_a_damaged_best(tmp_path, default_config, capsys):
    save_run(tmp_path, default_config, accuracy=(0.9, 0.4, 0.5))
    damage(tmp_path, 1)
    assert load_model(tmp_path, "best").step == 3
    assert "checkpoint 1 in" in capsys.readouterr().err


def test_load_model_refuses_weights_of_another_model(tmp_path, default_config):
    save_run(tmp_path, default_config, num_classes=9)
    with pytest.raises(CheckpointError, match=r"Dense_1/bias is float32\[10\] in it"):
        load_model(tmp_path)


def test_load_model_needs_only_the_model_of_a_config(tmp_path, default_config):
    """Fields come and go between versions; weights stay readable."""
    default_config.new_field = 1
    del default_config.label_smoothing
    save_run(tmp_path, default_config)
    assert load_model(tmp_path).config.new_field == 1


def test_load_model_refuses_a_model_of_another_version(tmp_path, default_config):
    save_run(tmp_path, default_config, new_field=1)
    with pytest.raises(CheckpointError, match=r"not fit this mnist_jax .*new_field"):
        load_model(tmp_path)
