import dataclasses
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import jax
import pytest

from mnist_jax.data import load_splits
from mnist_jax.run.config_files import CONFIGS
from mnist_jax.run.console import Console
from mnist_jax.tasks import DIGITS

TEST = {"loss": 0.0147, "accuracy": 0.995, "correct": 9950, "count": 10_000}


@pytest.fixture
def splits(tiny_config):
    return load_splits(tiny_config, None, None)


@pytest.fixture
def console(tiny_config):
    console = Console()
    console.begin(DIGITS, tiny_config)
    return console


def test_a_silent_console_prints_nothing(tiny_config, splits, capsys):
    console = Console(is_silent=True)
    console.begin(DIGITS, tiny_config)
    console.data(splits)
    console.start(0, 10, 10)
    with console.running():
        console.steps_done(10)
        console.epoch(1, {"loss": 0.5, "accuracy": 0.9}, {}, 1234.0)
    console.trained()
    console.summary(splits, TEST, Path("run"))
    assert capsys.readouterr() == ("", "")


def test_processes_but_the_first_print_nothing(tiny_config, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    Console().begin(DIGITS, tiny_config)
    assert capsys.readouterr() == ("", "")


def test_the_summary_counts_the_wrong_ones(console, splits, capsys):
    console.summary(splits, TEST, Path("checkpoints/run"))
    out = capsys.readouterr().out
    assert "99.50% of 10,000 images right (50 wrong), loss 0.0147" in out
    assert "predict.py --workdir=checkpoints/run" in out
    assert "WARNING" not in out


def test_the_next_command_allows_code_of_ones_own(tiny_config, splits, capsys):
    console = Console()
    tiny_config.model.name = "my_package.net:Net"
    console.begin(DIGITS, tiny_config)
    console.summary(splits, TEST, Path("run"))
    assert "predict.py --workdir=run --trust_code" in capsys.readouterr().out


def test_names_of_files_do_not_control_the_terminal(console, splits, capsys):
    source = dataclasses.replace(
        splits.source, left_out=("\x1b[31m.png: is empty",), warnings=("a\x07b",)
    )
    console.data(splits._replace(source=source))
    out = capsys.readouterr().out
    assert "WARNING  left out: \\x1b[31m.png: is empty" in out
    assert "WARNING  a\\x07b" in out
    assert out.replace("\n", "").isprintable()


def test_a_fallback_is_announced_at_the_start_and_at_the_end(console, splits, capsys):
    why = "mnist is not in ~/tensorflow_datasets and cannot be downloaded " * 3
    source = dataclasses.replace(
        splits.source, fallback_for="mnist", fallback_reason=why
    )
    splits = splits._replace(source=source)
    console.data(splits)
    start = capsys.readouterr().out
    console.summary(splits, TEST, Path("run"))
    end = capsys.readouterr().out
    for out in (start, end):
        assert "WARNING  this is NOT mnist, but digits in its place" in out
        assert "docs/data.md, 'Where the data comes from', says how to get mnist" in out
        assert max(map(len, out.splitlines())) <= 80


def test_an_epoch_without_validation_has_dashes(console, capsys):
    console.start(0, 10, 10)
    with console.running():
        console.epoch(1, {"loss": 0.5, "accuracy": 0.9}, {}, 1234.0)
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


def test_why_there_is_no_test_figure_is_said_at_the_start_and_in_its_place(
    console, splits, capsys
):
    why = "100 of the 100 images of config.test_split = 'test' are trained on " * 2
    splits = splits._replace(no_test_figure=why)
    console.data(splits)
    start = capsys.readouterr().out
    console.summary(splits, {}, Path("run"))
    end = capsys.readouterr().out
    for out, label in ((start, "WARNING"), (end, "test")):
        (line,) = (line for line in out.splitlines() if line.startswith(label))
        assert line.startswith(f"{label:9}no test figure is given: 100 of the 100")
        assert max(map(len, out.splitlines())) <= 80
    assert "right" not in end
    assert "read once" not in end
