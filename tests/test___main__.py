import os
import subprocess
import sys

import pytest

from mnist_jax.commands.run_module import COMMANDS


def run(*arguments, cwd=None):
    """Runs `python -m mnist_jax`, which is what the program mnist-jax does."""
    return subprocess.run(
        [sys.executable, "-m", "mnist_jax", *arguments],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "COLUMNS"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_its_help_shows_examples_first_and_lists_all_commands():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].startswith("  mnist-jax ")
    for name, what in COMMANDS.items():
        line = next(x for x in done.stdout.splitlines() if x.startswith(f"  {name} "))
        assert line.endswith(f" {what}")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_calls_itself_as_it_was_called(name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].startswith(f"  mnist-jax {name}")
    assert "scripts/" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a command: train, "),
        (["trian"], "no command 'trian': did you mean 'train'?"),
        (["photo.png"], "no command 'photo.png': valid: benchmark, "),
        (["--seed=1", "train"], "name the command first: mnist-jax train --seed=1"),
        (["--help", "train"], "name the command first: mnist-jax train --help"),
        (["--nope"], "unknown flag --nope: --help lists all flags"),
        (["export"], "--output is missing: name a folder to write"),
        (["train", "--lr=1"], "unknown flag --lr: did you mean --config.optimizer."),
        (["evaluate"], "no folder 'checkpoints/default'; train first: mnist-jax train"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line(tmp_path, arguments, message):
    done = run(*arguments, cwd=tmp_path)
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.returncode == (1 if arguments == ["evaluate"] else 2)
    assert not list(tmp_path.iterdir())


def test_a_command_gets_the_arguments_behind_its_name(tmp_path):
    """Also those that are names of commands."""
    done = run("predict", "train", "--format=csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "train,0,error," in done.stdout
