"""Another task trains through the same loop, and its stream is resumed bit for bit."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import dots_task
import jax
import numpy as np
import pytest
from helpers import TESTS

from mnist_jax import train
from mnist_jax.analysis.splits import load_split
from mnist_jax.checkpoint.format import tree_digest
from mnist_jax.checkpoint.load import load_classifier, load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.errors import CheckpointError, ConfigError, DataError, Interrupted
from mnist_jax.parallel.seeds import unstack
from mnist_jax.run import inference
from mnist_jax.run.config_files import CONFIGS
from mnist_jax.run.console import Console
from mnist_jax.run.metric_writer import read_metrics
from mnist_jax.tasks import DIGITS, find_task

FILE = "from dots_task import make_config as get_config\n"


@pytest.fixture
def config():
    return dots_task.make_config()


def start(tmp_path, *flags, **environment):
    """Starts `scripts/train.py` on the dots."""
    (tmp_path / "dots.py").write_text(FILE)
    script = CONFIGS.parent / "scripts" / "train.py"
    paths = [str(CONFIGS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.Popen(
        [sys.executable, str(script), f"--config={tmp_path / 'dots.py'}", *flags],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )


def digest(workdir):
    loaded = load_model(workdir)
    return loaded.step, tree_digest(loaded.variables)


def test_a_task_of_ones_own_trains_is_logged_ranked_and_loaded(
    config, tmp_path, capsys
):
    result = train.train_and_evaluate(config, tmp_path, console=Console())
    assert set(result) == {"loss", "misses", "count"}
    assert result["count"] == 30
    records = read_metrics(tmp_path)
    assert [r["step"] for r in records] == [10, 20, 30, 30]
    assert records[0]["train/count"] == 80
    assert records[-2]["validation/loss"] < records[0]["validation/loss"]
    out = capsys.readouterr().out
    assert "epoch      loss     misses   val. loss val. misses    images/s" in out
    assert "dots missed" in out
    by_misses = {r["step"]: r["validation/misses"] for r in records[:3]}
    with Checkpointer(tmp_path, max_to_keep=2) as checkpointer:
        best = checkpointer.best_step()
    assert by_misses[best] == min(by_misses.values())
    loaded = load_model(tmp_path, "best")
    assert loaded.step == best
    outputs = loaded.model.apply(loaded.variables, np.zeros((2, 12, 20, 1)))
    assert outputs.shape == (2, 12, 20)


def test_a_streamed_run_that_is_stopped_in_mid_epoch_goes_on_bit_for_bit(
    config, tmp_path, monkeypatch
):
    monkeypatch.setenv("DOTS_WORKERS", "1")
    train.train_and_evaluate(config, tmp_path / "unbroken")
    monkeypatch.setenv("DOTS_WORKERS", "3")
    calls = []

    def steps_done(self, count):
        calls.append(count)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Console, "steps_done", steps_done)
        with pytest.raises(Interrupted):
            train.train_and_evaluate(config, tmp_path / "broken")
    assert sum(calls) % 10  # in mid-epoch
    train.train_and_evaluate(config, tmp_path / "broken", resume=True)
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")
    logs = [
        (tmp_path / name / "metrics.jsonl").read_bytes()
        for name in ("broken", "unbroken")
    ]
    assert logs[0] == logs[1]


def test_seeds_share_a_stream(config, tmp_path):
    config.num_seeds = 2
    result = train.train_and_evaluate(config, tmp_path)
    assert result["num_seeds"] == 2
    assert result["count"] == 30
    loaded = load_model(tmp_path)
    images = np.random.default_rng(0).random((2, 12, 20, 1), np.float32)
    each = [
        loaded.model.member.apply(variables, images)
        for variables in unstack(loaded.variables, 2)
    ]
    together = loaded.model.apply(loaded.variables, images)
    np.testing.assert_allclose(together, sum(each) / 2, rtol=1e-4, atol=1e-5)


def halve(images):
    return images / np.float32(510)


HALVED = dataclasses.replace(DIGITS, prepare=halve)


def test_what_is_loaded_prepares_images_as_its_task_does(tiny_config, tmp_path):
    result = train.train_and_evaluate(tiny_config, tmp_path, HALVED)
    tiny_config.task = "test_tasks:HALVED"
    module = sys.modules[__name__]
    with mock.patch.dict(sys.modules, {"test_tasks": module}):
        train.train_and_evaluate(tiny_config, tmp_path / "named")
        loaded = load_classifier(tmp_path / "named")
        split = load_split(loaded)
        logits = inference.predict_logits(
            loaded.model, loaded.variables, split.dataset.images, 50, task=loaded.task
        )
        correct = int((logits.argmax(-1) == split.dataset.labels).sum())
        assert correct == result["correct"]


def test_scripts_of_digits_say_that_a_run_learned_another_task(config, tmp_path):
    train.train_and_evaluate(config, tmp_path)
    with pytest.raises(CheckpointError, match=r"learned config\.task = 'dots_task"):
        load_classifier(tmp_path)


def test_an_error_in_a_worker_is_one_line_and_leaves_no_process(
    config, tmp_path, monkeypatch
):
    monkeypatch.setenv("DOTS_FAIL_AT", "13")
    with pytest.raises(DataError) as caught:
        train.train_and_evaluate(config, tmp_path)
    assert str(caught.value) == (
        "the batch of step 13 could not be made: RuntimeError: no ink is left"
    )
    assert not children(os.getpid())


def children(pid):
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True
    )
    return [
        line.split()[0]
        for line in found.stdout.splitlines()
        if "multiprocessing.spawn" in line
    ]


@pytest.mark.skipif(not os.path.exists("/bin/ps"), reason="needs ps")
def test_a_signal_to_the_group_while_a_worker_starts_hangs_nothing(tmp_path):
    with start(tmp_path, "--config.num_epochs=1000", "--workdir=run") as process:
        header = next(line for line in process.stdout if line.startswith("epoch"))
        assert header
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1].startswith("stopped: at step")


def stop(process, workdir, signum):
    """Sends a signal to a run that is under way; returns its workers, by number."""
    deadline = time.monotonic() + 120
    while not (workdir / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = children(process.pid)
    assert 1 <= len(workers) <= 2  # the second one starts when there is work for it
    process.send_signal(signum)
    return workers


@pytest.mark.skipif(not os.path.exists("/bin/ps"), reason="needs ps")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_the_workers_too(tmp_path, signum):
    with start(tmp_path, "--config.num_epochs=1000", "--workdir=run") as process:
        workers = stop(process, tmp_path / "run", signum)
        _, errors = process.communicate(timeout=60)
    if signum == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + signum
        assert errors.splitlines()[-1].startswith("stopped: at step")
        assert len(errors.splitlines()) == 1
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < deadline, "a worker is left"
        time.sleep(0.1)


def test_what_is_no_task_is_refused(config, tmp_path):
    for name, says in [
        ("dots", "config.task = 'dots': .*valid: digits"),
        ("dots_task:SHAPE", "is no mnist_jax.tasks.Task"),
        ("dots_task:NOTHING", "cannot be imported: .*NOTHING"),
        ("no_such_package:TASK", "cannot be imported: No module named"),
    ]:
        config.task = name
        with pytest.raises(ConfigError, match=says):
            train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert find_task("digits") is find_task("mnist_jax.tasks:DIGITS")


def test_code_that_a_checkpoint_names_is_not_imported_unasked(config, tmp_path):
    train.train_and_evaluate(config, tmp_path)
    sys.modules.pop("dots_task")
    try:
        with pytest.raises(CheckpointError, match=r"dots_task:TASK.*--trust_code"):
            load_model(tmp_path)
        assert "dots_task" not in sys.modules
        assert load_model(tmp_path, trust_code=True).step == 30
    finally:
        sys.modules["dots_task"] = dots_task


def test_a_task_without_a_loss_among_its_metrics_is_refused():
    with pytest.raises(ValueError, match="a metric of the name 'loss'"):
        dataclasses.replace(dots_task.TASK, metrics={"misses": dots_task.misses})


def test_no_two_records_of_a_task_share_what_is_compiled():
    copy = dataclasses.replace(dots_task.TASK)
    assert copy != dots_task.TASK
    assert hash(copy) != hash(dots_task.TASK)
    assert jax.tree.leaves(dots_task.TASK) == [dots_task.TASK]
