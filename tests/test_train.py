import dataclasses
import functools
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import made_dataset

from mnist_jax import evaluate, ops, train
from mnist_jax.analysis import splits
from mnist_jax.calibration import log_softmax
from mnist_jax.checkpoint.export import export_model
from mnist_jax.checkpoint.load import load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.data import Dataset, load_splits
from mnist_jax.datasets.batches import epoch_indices
from mnist_jax.errors import ConfigError, Interrupted, UserError
from mnist_jax.ops import convolution
from mnist_jax.parallel.placement import Placement
from mnist_jax.run import inference
from mnist_jax.run.compile_ahead import create_program, state_shapes, steps_per_call
from mnist_jax.run.config_files import CONFIGS, load_config
from mnist_jax.run.console import Console
from mnist_jax.run.metric_writer import read_metrics
from mnist_jax.tasks import DIGITS

FILES = sorted(CONFIGS.glob("[!_]*.py"))


def final_state(workdir, config):
    """The bytes of every leaf of the newest state in a workdir."""
    program = create_program(config, 10, 10)
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        restored = checkpointer.restore(jax.eval_shape(program.create_state))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(restored.state)]


@pytest.fixture
def run(tiny_config):
    """A program, its data set on the device, and a function that makes a new state."""
    dataset = made_dataset(50)
    program = create_program(tiny_config, len(dataset.labels), 10)
    return program, jax.device_put(dataset)


def test_an_epoch_has_every_example_once():
    order = epoch_indices(
        jax.random.key(0), jnp.int32(3), num_examples=50, batch_size=16
    )
    assert order.shape == (4, 16)
    assert sorted(np.ravel(order)) == [-1] * 14 + list(range(50))
    assert (order[-1, 2:] == -1).all()  # only the last batch is short


def test_data_order_is_a_pure_function_of_seed_and_epoch():
    def order(seed, epoch):
        rng = jax.random.key(seed)
        return np.asarray(
            epoch_indices(rng, jnp.int32(epoch), num_examples=99, batch_size=9)
        )

    np.testing.assert_array_equal(order(0, 1), order(0, 1))
    assert (order(0, 1) != order(0, 2)).any()
    assert (order(0, 1) != order(1, 1)).any()


def test_many_steps_in_one_scan_are_the_same_as_one_by_one(run):
    program, dataset = run
    indices = program.indices(0)
    whole, metrics = program.train_steps(
        program.create_state(), dataset, indices, program.rng
    )
    state, total = program.create_state(), 0
    for row in indices:
        state, one = program.train_steps(state, dataset, row[None], program.rng)
        total += int(one["count"])
    assert int(metrics["count"]) == total == 50
    assert int(state.step) == len(indices)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing(run):
    program, dataset = run
    short = jnp.array([[4, 8, 15]])
    padded = jnp.array([[4, 8, 15, -1, -1, -1]])
    a, metrics_a = program.train_steps(
        program.create_state(), dataset, short, program.rng
    )
    b, metrics_b = program.train_steps(
        program.create_state(), dataset, padded, program.rng
    )
    assert int(metrics_a["count"]) == int(metrics_b["count"]) == 3
    np.testing.assert_allclose(metrics_a["loss"], metrics_b["loss"], rtol=1e-5)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("quickly_compiled")
def test_gradients_of_micro_batches_add_up_to_the_batchs(tiny_config, monkeypatch):
    tiny_config.optimizer.name = "sgd"
    tiny_config.optimizer.learning_rate = 0.1
    dataset = jax.device_put(made_dataset(60))
    indices = jnp.arange(60, dtype=jnp.int32)[None].at[0, 50:].set(-1)

    def step(micro_batch):
        monkeypatch.setattr(convolution, "MICRO_BATCH", micro_batch)
        program = create_program(tiny_config, 60, 10)
        return program.train_steps(
            program.create_state(), dataset, indices, program.rng
        )

    whole, metrics = step(60)
    for size in (4, 15):  # of 4, three hold nothing but padding
        parts, part_metrics = step(size)
        assert int(part_metrics["correct"]) == int(metrics["correct"])
        for a, b in zip(
            jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "expected", "on_one_core"),
    [
        (128, 64, 32),
        (1000, 50, 25),
        (32, 32, 32),
        (63, 63, 21),
        (127, 127, 127),
        (62, 62, 31),
    ],
)
def test_micro_batches_divide_the_batch(batch_size, expected, on_one_core):
    assert ops.micro_batch_size(batch_size) == expected
    assert ops.micro_batch_size(batch_size, one_core=True) == on_one_core


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_all_programs_lower_for_every_platform(seed_config, platform):
    seed_config.num_shards = 1
    program = create_program(seed_config, 256, 10)
    state = jax.eval_shape(program.create_state)
    dataset = made_dataset(256)
    batch = {
        "image": dataset.images,
        "label": dataset.labels,
        "mask": np.ones(256, bool),
    }
    traced = {
        "train_steps": program.train_steps.trace(
            state, dataset, program.indices(0), program.rng
        ),
        "eval_step": program.eval_step.func.trace(
            DIGITS, program.model, state.variables, batch
        ),
        "predict": evaluate.apply_model.trace(
            DIGITS, program.model, state.variables, dataset.images
        ),
    }
    for name, program_traced in traced.items():
        text = program_traced.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.dot_general" in text, name
        # Training alone has convolutions of its own, and only on the CPU.
        native = platform != "cpu" or name != "train_steps"
        assert ("stablehlo.convolution" in text) == native, name


def test_what_is_no_digit_teaches_doubt(tiny_config):
    """Label -1 does not count, and brings its confidence down to chance."""
    dataset = made_dataset(64)
    doubtful = Dataset(dataset.images, np.where(dataset.labels < 5, dataset.labels, -1))
    config = tiny_config
    config.num_epochs = 30
    config.batch_size = 16
    program = create_program(config, 64, 10)
    state = program.create_state()
    for epoch in range(config.num_epochs):
        state, metrics = program.train_steps(
            state, doubtful, program.indices(epoch), program.rng
        )
    assert int(metrics["count"]) == (doubtful.labels >= 0).sum()
    logits = inference.predict_logits(
        program.model, state.variables, dataset.images, 64
    )
    confidence = np.exp(log_softmax(logits)).max(-1)
    assert confidence[doubtful.labels >= 0].mean() > 0.8
    assert confidence[doubtful.labels < 0].mean() < 0.3


def test_golden_step(tiny_config):
    """Two steps of a fixed net on fixed data give the numbers they always gave.

    If this fails after a change that was not meant to change the computation, the
    change is wrong.
    """
    tiny_config.augment.shift = 2.0
    dataset = jax.device_put(made_dataset(32))
    program = create_program(tiny_config, 32, 10)
    indices = jnp.arange(32, dtype=jnp.int32).reshape(2, 16)
    state, metrics = program.train_steps(
        program.create_state(), dataset, indices, program.rng
    )
    got = {
        "loss": float(metrics["loss"]),
        "norm": float(optax.tree.norm(state.params)),
        "ema_norm": float(optax.tree.norm(state.ema_params)),
    }
    assert got == pytest.approx(GOLDEN, rel=1e-4), (
        f"the computation has changed. If that was meant, put this into GOLDEN: {got}"
    )


GOLDEN = {"loss": 73.46066, "norm": 8.211815, "ema_norm": 8.206689}


def test_training_learns(tiny_config):
    tiny_config.num_epochs = 30
    dataset = jax.device_put(made_dataset(50))
    program = create_program(tiny_config, 50, 10)
    state = program.create_state()
    for epoch in range(30):
        state, metrics = program.train_steps(
            state, dataset, program.indices(epoch), program.rng
        )
    assert int(metrics["correct"]) > 25  # of 50; guessing has 5


@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_trains_a_step(path):
    config = load_config(path).unlock()
    if config.get("task", "digits") != "digits":
        pytest.skip("another task, which has a test of its own")
    config.num_seeds = 1
    program = create_program(config, 6000, 10)
    dataset = program.placement.put(made_dataset(8))
    indices = jnp.arange(8, dtype=jnp.int32)[None]
    state, metrics = program.train_steps(
        program.create_state(), dataset, indices, program.rng
    )
    assert int(state.step) == 1
    assert metrics["finite"].all()


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_run_that_was_stopped_and_resumed_ends_the_same(
    tiny_config, tmp_path, monkeypatch, calls
):
    """SIGTERM after some calls, in mid-epoch or at its end, then --resume."""
    task = dataclasses.replace(DIGITS, images_per_call=4 * 64)
    train.train_and_evaluate(tiny_config, tmp_path / "unbroken", task)
    seen = []

    def steps_done(self, count):
        seen.append(count)
        if len(seen) == calls:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Console, "steps_done", steps_done)
        with pytest.raises(Interrupted, match="--resume") as caught:
            train.train_and_evaluate(tiny_config, tmp_path / "broken", task)
    assert caught.value.exit_code == 143
    train.train_and_evaluate(tiny_config, tmp_path / "broken", task, resume=True)
    unbroken, broken = (
        final_state(tmp_path / name, tiny_config) for name in ("unbroken", "broken")
    )
    assert unbroken == broken
    log, again = (
        (tmp_path / name / "metrics.jsonl").read_text()
        for name in ("unbroken", "broken")
    )
    assert log == again


def test_the_seed_decides_everything(tiny_config, tmp_path):
    states = []
    for number, seed in enumerate([0, 0, 1]):
        tiny_config.seed = seed
        train.train_and_evaluate(tiny_config, tmp_path / str(number))
        states.append(final_state(tmp_path / str(number), tiny_config))
    assert states[0] == states[1] != states[2]


def test_what_a_run_leaves_behind(trained_workdir):
    config = json.loads((trained_workdir / "config.json").read_text())
    assert config["dataset"] == "digits"
    records = read_metrics(trained_workdir)
    assert [r["step"] for r in records] == [10, 20, 20]
    assert records[0]["validation/count"] == 200
    assert records[-1]["test/count"] == 400
    assert list((trained_workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert not list(trained_workdir.glob("*.tmp"))


def test_a_folder_with_a_run_is_refused_before_training(tiny_config, trained_workdir):
    before = sorted(p.stat().st_mtime_ns for p in trained_workdir.rglob("*"))
    with pytest.raises(ConfigError, match=r"holds a run: add --resume .* --overwrite"):
        train.train_and_evaluate(tiny_config, trained_workdir)
    assert before == sorted(p.stat().st_mtime_ns for p in trained_workdir.rglob("*"))


def test_resume_refuses_another_config(tiny_config, trained_workdir):
    tiny_config.optimizer.learning_rate = 0.5
    with pytest.raises(ConfigError, match=r"learning_rate is 0.5, but the run .* has"):
        train.train_and_evaluate(tiny_config, trained_workdir, resume=True)


def test_resume_of_a_finished_run_reports_it_again(
    tiny_config, trained_workdir, capsys
):
    before = (trained_workdir / "metrics.jsonl").read_text()
    result = train.train_and_evaluate(
        tiny_config, trained_workdir, resume=True, console=Console()
    )
    assert result["count"] == 400
    printed = capsys.readouterr().out
    assert "of 400 images right" in printed
    assert "training had ended before" in printed
    assert "read once" not in printed
    assert (trained_workdir / "metrics.jsonl").read_text() == before


def test_overwrite_starts_again(tiny_config, tmp_path):
    workdir = tmp_path / "run"
    train.train_and_evaluate(tiny_config, workdir)
    (workdir / "notes.txt").write_text("mine")
    tiny_config.seed = 5
    train.train_and_evaluate(tiny_config, workdir, overwrite=True)
    assert json.loads((workdir / "config.json").read_text())["seed"] == 5
    assert len(read_metrics(workdir)) == 3
    assert (workdir / "notes.txt").read_text() == "mine"


def test_overwrite_with_a_bad_config_loses_nothing(tiny_config, trained_workdir):
    tiny_config.model.name = "nope"
    with pytest.raises(ConfigError, match="nope"):
        train.train_and_evaluate(tiny_config, trained_workdir, overwrite=True)
    assert len(read_metrics(trained_workdir)) == 3


@pytest.mark.parametrize("late", ["parallel", "weights"])
def test_what_is_refused_once_data_is_there_loses_nothing(
    tiny_config, trained_workdir, late, tmp_path
):
    if late == "parallel":
        tiny_config.num_seeds = tiny_config.num_shards = 2
    else:  # the weights to start from are those of another model
        tiny_config.init_from = str(shutil.copytree(trained_workdir, tmp_path / "own"))
        tiny_config.model.kwargs.dense = (9,)
    with pytest.raises(ConfigError):
        train.train_and_evaluate(tiny_config, trained_workdir, overwrite=True)
    assert len(read_metrics(trained_workdir)) == 3
    assert list(trained_workdir.glob("checkpoints/[0-9]*"))


def test_dry_run_writes_nothing(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train.train_and_evaluate(tiny_config, Path("run"), dry_run=True, console=Console())
    assert not list(tmp_path.iterdir())
    assert "dry run" in capsys.readouterr().out


def test_divergence_stops_the_run_and_saves_nothing(tiny_config, tmp_path):
    tiny_config.optimizer.name = "sgd"
    tiny_config.optimizer.learning_rate = 1e6
    with pytest.raises(UserError, match="training diverged") as caught:
        train.train_and_evaluate(tiny_config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


def test_batch_norm_dropout_and_mlp_train(tiny_config, tmp_path):
    tiny_config.model.kwargs.features = (4,)
    tiny_config.model.kwargs.batch_norm = True
    tiny_config.model.kwargs.dropout = 0.5
    result = train.train_and_evaluate(tiny_config, tmp_path / "cnn")
    assert result["count"] == 400
    tiny_config.model.name = "mlp"
    tiny_config.model.kwargs = {"dense": (16,), "dropout": 0.1}
    result = train.train_and_evaluate(tiny_config, tmp_path / "mlp")
    assert result["count"] == 400


def test_calls_of_an_epoch_are_even_where_they_can_be(run):
    program, _ = run
    for batch_size, steps, num_seeds, expected in [
        (128, 5, 1, 5),
        (128, 430, 1, 10),
        (128, 469, 1, 7),
        (128, 431, 1, 16),
        (32, 1719, 1, 9),
        (10_000, 6, 1, 1),
        (128, 430, 4, 5),
        (128, 431, 64, 4),
        (10_000, 6, 4, 1),
    ]:
        program = program._replace(
            batch_size=batch_size,
            steps_per_epoch=steps,
            placement=Placement(num_seeds=num_seeds),
        )
        assert steps_per_call(program) == expected


def test_resume_and_overwrite_exclude_each_other(tiny_config, trained_workdir):
    with pytest.raises(ConfigError, match="exclude each other"):
        train.train_and_evaluate(
            tiny_config, trained_workdir, resume=True, overwrite=True
        )
    assert len(read_metrics(trained_workdir)) == 3


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("model", "name", "cmn"),
        ("optimizer", "name", "adm"),
        ("optimizer", "schedule", "cosin"),
    ],
)
def test_names_are_checked_before_any_data_is_touched(
    tiny_config, tmp_path, group, name, value
):
    task = dataclasses.replace(DIGITS, load_splits=lambda *_: pytest.fail("too late"))
    tiny_config[group][name] = value
    with pytest.raises(ConfigError, match=str(value)):
        train.train_and_evaluate(tiny_config, tmp_path / "run", task)


def lengthen(config, workdir, num_epochs, capsys):
    """Resumes a run to make it longer; returns what is printed."""
    config.num_epochs = num_epochs
    train.train_and_evaluate(config, workdir, resume=True, console=Console())
    return " ".join(capsys.readouterr().out.split())


def test_a_longer_run_of_a_constant_rate_is_as_if_at_once(
    tiny_config, tmp_path, capsys
):
    tiny_config.optimizer.schedule = "constant"
    tiny_config.num_epochs = 3
    train.train_and_evaluate(tiny_config, tmp_path / "at_once")
    tiny_config.num_epochs = 2
    train.train_and_evaluate(tiny_config, tmp_path / "longer")
    told = lengthen(tiny_config, tmp_path / "longer", 3, capsys)
    assert "longer 2 epochs become 3: this is the run that it would be" in told
    assert "resume at step 20 of 30" in told
    assert "read at the end, as it was if the shorter run had ended" in told
    states = [
        final_state(tmp_path / name, tiny_config) for name in ("at_once", "longer")
    ]
    assert states[0] == states[1]
    records = [read_metrics(tmp_path / name) for name in ("at_once", "longer")]
    assert records[0] == records[1]
    assert json.loads((tmp_path / "longer/config.json").read_text())["num_epochs"] == 3


def test_a_longer_run_says_what_becomes_of_the_rate(
    tiny_config, trained_workdir, capsys
):
    told = lengthen(tiny_config, trained_workdir, 4, capsys)
    assert "longer 2 epochs become 4: the learning rate (one_cycle) was " in told
    assert "the result is not that of 4 epochs at once" in told
    told = lengthen(tiny_config, trained_workdir, 4, capsys)
    assert "epochs become" not in told


def test_a_run_is_not_made_shorter(tiny_config, trained_workdir, capsys):
    with pytest.raises(
        ConfigError, match=r"num_epochs is 1, but .* has 2: give the sa"
    ):
        lengthen(tiny_config, trained_workdir, 1, capsys)
    assert len(read_metrics(trained_workdir)) == 3


def test_resume_refuses_other_data(tiny_config, trained_workdir):
    splits = load_splits(tiny_config, None, None)
    source = dataclasses.replace(splits.source, name="mnist")
    other = splits._replace(source=source)
    task = dataclasses.replace(DIGITS, load_splits=lambda *_: other)
    with pytest.raises(ConfigError, match=r"trained on digits .* now is mnist"):
        train.train_and_evaluate(tiny_config, trained_workdir, task, resume=True)


def test_a_signal_outside_the_steps_loses_nothing(tiny_config, tmp_path, monkeypatch):
    """One that comes right after the save was passed over."""
    tiny_config.checkpoint_every_epochs = 2
    tiny_config.num_epochs = 3

    def epoch(self, *_):
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Console, "epoch", epoch)
        with pytest.raises(Interrupted) as caught:
            train.train_and_evaluate(tiny_config, tmp_path / "run")
    assert caught.value.exit_code == 130
    assert (tmp_path / "run" / "checkpoints" / "10").is_dir()


def test_the_shapes_of_a_state_need_no_state(run):
    """Also where its jit has compiler options, as that of seeds on several devices."""
    program, _ = run
    jitted, args = program.create_state.func, program.create_state.args
    options = {"xla_cpu_multi_thread_eigen": False}
    with_options = jax.jit(jitted.__wrapped__, compiler_options=options)
    program = program._replace(create_state=functools.partial(with_options, *args))
    shapes = state_shapes(program)
    state = program.create_state()
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    for shape, leaf in zip(*map(jax.tree.leaves, (shapes, state)), strict=True):
        assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)


def test_a_run_that_trains_on_test_images_gives_no_test_figure(
    tiny_config, tmp_path, capsys
):
    tiny_config.train_split = "train[:400]+test[:50%]"
    tiny_config.num_epochs = 1
    tiny_config.optimizer.warmup_epochs = 0.0
    workdir = tmp_path / "run"
    result = train.train_and_evaluate(tiny_config, workdir, console=Console())
    assert result == {}
    printed = " ".join(capsys.readouterr().out.split())
    why = (
        "200 of the 400 images of config.test_split = 'test' are also in "
        "config.train_split = 'train[:400]+test[:50%]'"
    )
    assert printed.count(f"no test figure is given: {why}") == 2
    assert "images right" not in printed
    records = read_metrics(workdir)
    assert "validation/accuracy" in records[-1]
    assert not any(key.startswith("test/") for r in records for key in r)

    loaded = load_model(workdir)
    assert loaded.metadata["no_test_figure"] == why
    export_model(loaded, workdir, tmp_path / "small")
    small = load_model(tmp_path / "small")
    assert small.metadata["no_test_figure"] == why
    for split in (None, "test"):
        with pytest.raises(ConfigError, match=r"no test figure.*--split=validation"):
            splits.load_split(small, split=split)
    assert splits.load_split(loaded, split="validation").note == ""
    assert splits.load_split(loaded, split="test[50%:]").note == ""
    note = splits.load_split(loaded, split="test[:75%]").note
    assert note.startswith("200 of these images are in config.train_split")
    assert "this is no test" in note
    # A checkpoint of an older version does not say so by itself.
    del loaded.metadata["no_test_figure"]
    with pytest.raises(ConfigError, match="no test figure"):
        splits.load_split(loaded)


def test_a_run_of_the_usual_splits_has_a_test_figure(trained_workdir):
    loaded = load_model(trained_workdir)
    assert loaded.metadata["no_test_figure"] == ""
    assert splits.load_split(loaded).note == ""
    assert "600 of these images" in splits.load_split(loaded, split="train").note
