import sys
from pathlib import Path

import pytest

from mnist_jax.run import command_lines


@pytest.mark.parametrize(
    ("launcher", "line"),
    [
        ("/usr/bin/mnist-jax", "mnist-jax train"),
        ("mnist-jax.exe", "mnist-jax train"),
        ("/usr/lib/mnist_jax/__main__.py", "mnist-jax train"),
        ("/usr/lib/pytest/__main__.py", "python scripts/train.py"),
        ("scripts/predict.py", "python scripts/train.py"),
        ("", "python scripts/train.py"),
    ],
)
def test_commands_are_called_as_this_process_was(monkeypatch, launcher, line):
    monkeypatch.setattr(sys, "argv", [launcher])
    assert command_lines.command_line("train") == line


def test_without_a_checkout_there_are_no_scripts(monkeypatch, tmp_path):
    monkeypatch.setattr(command_lines, "_SCRIPTS", Path(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py"])
    assert command_lines.command_line("train") == "mnist-jax train"
