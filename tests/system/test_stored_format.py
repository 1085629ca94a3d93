"""Checkpoints of every released version load for ever: tests/checkpoints/VERSION.

Each is a run of a tiny net that was stopped in mid-epoch, and `expected.json`: what it
said of three images of noise and (from 0.2.0 on) of three digits, and what the run came
to when it went on. With each release:

  PYTHONPATH=tests python tests/system/test_stored_format.py
"""

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from helpers import STORED, current_config

import mnist_jax
from mnist_jax import data, train
from mnist_jax.checkpoint.load import load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.datasets import offline_digits
from mnist_jax.errors import Interrupted
from mnist_jax.run.compile_ahead import create_program
from mnist_jax.run.config_files import load_config
from mnist_jax.run.console import Console
from mnist_jax.run.signals import StopFlag
from mnist_jax.tasks import DIGITS

IMAGES = np.arange(3 * 784).reshape(3, 28, 28, 1) * 37 % 251 / np.float32(251)


def probabilities(workdir, images=IMAGES) -> np.ndarray:
    loaded = load_model(workdir)
    logits = loaded.model.apply(loaded.variables, images)
    return np.asarray(jax.nn.softmax(logits / loaded.temperature))


def digits() -> np.ndarray:
    return offline_digits.load_digits()[0][:3] / np.float32(255)


def finish(workdir) -> dict[str, float]:
    """Restores the newest state and trains until the end of the epoch it is in."""
    saved = load_model(workdir).config.to_dict()
    config = current_config(saved)
    splits = data.load_splits(config, None, None)
    program = create_program(config, len(splits.train.labels), 10)
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        restored = checkpointer.restore(jax.eval_shape(program.create_state))
    totals = {k: np.asarray(v) for k, v in restored.metadata["totals"].items()}
    state, totals = train.train_epoch(
        program,
        program.placement.put(restored.state),
        program.placement.put(splits.train),
        totals,
        StopFlag(),
        lambda count: None,
    )
    return {
        "step": int(state.step),
        "train_loss": float(totals["loss"] / totals["count"]),
        "norm": float(sum(np.abs(x).sum() for x in jax.tree.leaves(state.ema_params))),
    }


@pytest.mark.parametrize("version", sorted(p.name for p in STORED.iterdir()))
def test_a_run_of_every_released_version_loads_and_goes_on(version, tmp_path, capsys):
    stored = STORED / version
    expected = json.loads((stored / "expected.json").read_text())
    workdir = Path(shutil.copytree(stored / "run", tmp_path / "run"))
    found = probabilities(workdir)
    np.testing.assert_allclose(found, expected["probabilities"], rtol=1e-4, atol=1e-6)
    if of_digits := expected.get("of_digits"):
        found = probabilities(workdir, digits())
        np.testing.assert_allclose(found, of_digits, rtol=1e-4, atol=1e-6)
    for name, value in finish(workdir).items():
        assert value == pytest.approx(expected[name], rel=1e-3), name
    assert capsys.readouterr().err == ""


def test_what_is_stored_is_small():
    for folder in STORED.iterdir():
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert 5 < len(files) < 30
        assert sum(path.stat().st_size for path in files) < 60_000


def store(folder: Path) -> None:
    config = load_config("smoke").unlock()
    config.train_split = "train[:640]"
    config.batch_size = 44
    config.model.kwargs.features = (2, 4, 8)
    config.model.kwargs.dense = ()
    config.model.kwargs.batch_norm = True
    config.optimizer.learning_rate = 3e-2
    config.ema_decay = 0.9
    for name in config.augment:
        config.augment[name] = 0.0
    calls = []

    def steps_done(report, count):
        calls.append(count)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    workdir = folder / "run"
    task = dataclasses.replace(DIGITS, images_per_call=5 * 44)
    with (
        mock.patch.object(Console, "steps_done", steps_done),
        pytest.raises(Interrupted),
    ):
        train.train_and_evaluate(config, workdir, task)
    shutil.rmtree(workdir / "tensorboard")
    for note in workdir.rglob("commit_success.txt"):  # Orbax's, with the path
        note.write_text("Checkpoint commit was successful\n")
    expected = {
        "probabilities": probabilities(workdir).tolist(),
        "of_digits": probabilities(workdir, digits()).tolist(),
        **finish(workdir),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    target = STORED / mnist_jax.__version__
    if target.exists():
        sys.exit(f"{target} is there already, and stays as it is")
    store(target)
