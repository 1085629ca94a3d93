import dataclasses
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mnist_jax.data import load_splits
from mnist_jax.run.config_files import CONFIGS
from mnist_jax.run.console import Report

TEST = {"loss": 0.0147, "accuracy": 0.995, "correct": 9950, "count": 10_000}


@pytest.fixture
def splits(tiny_config):
    return load_splits(tiny_config, None, None)


def test_the_summary_counts_the_wrong_ones(splits, capsys):
    report = Report()
    report.summary(splits.source, TEST, Path("checkpoints/run"))
    out = capsys.readouterr().out
    assert "99.50% of 10,000 images right (50 wrong), loss 0.0147" in out
    assert "predict.py --workdir=checkpoints/run" in out
    assert "WARNING" not in out


def test_a_fallback_is_announced_at_the_start_and_at_the_end(splits, capsys):
    why = "mnist is not in ~/tensorflow_datasets and cannot be downloaded " * 3
    source = dataclasses.replace(
        splits.source, fallback_for="mnist", fallback_reason=why
    )
    report = Report()
    report.data(splits._replace(source=source))
    start = capsys.readouterr().out
    report.summary(source, TEST, Path("run"))
    end = capsys.readouterr().out
    for out in (start, end):
        assert "WARNING  this is NOT mnist, but digits in its place" in out
        assert max(map(len, out.splitlines())) <= 80


def test_an_epoch_without_validation_has_dashes(capsys):
    report = Report()
    report.start(0, 10, 10)
    report.epoch(1, {"loss": 0.5, "accuracy": 0.9}, {}, 1234.0)
    report.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["1/1", "0.5000", "90.00%", "-", "-", "1,234"]


def test_a_terminal_gets_a_progress_bar_and_a_pipe_none(tmp_path):
    command = [
        sys.executable,
        str(CONFIGS.parent / "scripts" / "train.py"),
        f"--config={CONFIGS / 'smoke.py'}",
        "--dry_run",
    ]
    piped = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    assert piped.stderr == b""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=theirs, check=True, cwd=tmp_path
    )
    assert b"step" in os.read(ours, 100_000)
    os.close(ours)
    os.close(theirs)
    assert not list(tmp_path.iterdir())
