"""The commands in other people's shells, programs and notebooks."""

import json
import os
import subprocess
import sys

from mnist_jax.checkpoint.format import tree_digest
from mnist_jax.checkpoint.load import load_model
from mnist_jax.parallel.jax_options import REQUIRED, REQUIRED_OF_RANDOM
from mnist_jax.run.config_files import CONFIGS

REPOSITORY = CONFIGS.parent
LIGHT = (
    f"--config={CONFIGS / 'mlp.py'}",
    "--config.dataset=digits",
    "--config.offline_dataset=",
    "--config.train_split=train[:256]",
    "--config.num_epochs=2",
    "--config.batch_size=64",
    "--config.model.kwargs.dense=(8,)",
    "--config.augment.scale=0",
    "--config.augment.rotation=0",
    "--config.augment.shear=0",
    "--config.augment.shift=0",
)

# What each option would have to be for the commands to fail, or to give other results.
UNWANTED = {
    "jax_explicit_x64_dtypes": "error",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_transfer_guard": "disallow",
    "jax_transfer_guard_device_to_device": "disallow",
    "jax_transfer_guard_device_to_host": "disallow",
    "jax_transfer_guard_host_to_device": "disallow",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": "0",
    "jax_random_seed_offset": "7",
}

# Runs commands one after the other, as a notebook does by `%run`.
HOST = """
import contextlib, io, json, runpy, signal, sys
found = []
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [f"scripts/{script}.py", *arguments]
    code, output = 0, io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
    found.append([code, output.getvalue()])
assert sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
print(json.dumps(found))
"""


def run_in_one_process(commands, **environment):
    done = subprocess.run(
        [sys.executable, "-c", HOST, json.dumps(commands)],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_no_option_of_the_environment_changes_a_result(fork_server, tmp_path):
    """And one process can run every command, some of them twice."""
    usual = f"--workdir={tmp_path / 'usual'}"
    assert fork_server.run("train.py", *LIGHT, usual).returncode == 0
    workdir = f"--workdir={tmp_path / 'run'}"
    picture = str(next(CONFIGS.parent.glob("checkpoints/pretrained/*.png")))
    variables = {
        name.upper(): UNWANTED.get(name, "1") for name in REQUIRED | REQUIRED_OF_RANDOM
    }
    found, errors = run_in_one_process(
        [
            ["train", "--typo"],
            ["train", *LIGHT, workdir],
            ["train", *LIGHT, workdir],
            ["train", *LIGHT, workdir, "--resume"],
            ["predict", workdir, "--format=json", picture],
            ["evaluate", workdir, "--nofigures", "--json"],
            ["evaluate", workdir, "--nofigures"],
            ["export", workdir, f"--output={tmp_path / 'small'}"],
            [
                "sweep",
                *LIGHT,
                f"--workdir={tmp_path / 'sweep'}",
                "--sweep.ema_decay=0,.9",
            ],
            ["benchmark", *LIGHT, "--only=model", "--repeats=1", "--json"],
        ],
        **variables,
    )
    assert [code for code, _ in found] == [2, 0, 2, 0, 0, 0, 0, 0, 0, 0], errors
    lines = errors.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("warning: ")
    assert all(f"{name}={value}" in lines[1] for name, value in variables.items())
    assert lines[2].startswith("error: ")
    assert "holds a run" in lines[2]
    for _, output in (found[4], found[5], found[9]):
        json.loads(output)  # data only
    ours, theirs = (load_model(tmp_path / name) for name in ("run", "usual"))
    assert tree_digest(ours.variables) == tree_digest(theirs.variables)


def test_a_variable_that_jax_refuses_is_one_line():
    for script in ("train", "predict", "evaluate"):
        done = subprocess.run(
            [sys.executable, f"scripts/{script}.py"],
            env={**os.environ, "JAX_ENABLE_X64": "maybe"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: JAX refuses a variable of the env")
        assert "'JAX_ENABLE_X64'" in done.stderr
        assert done.stderr.count("\n") == 1


def test_training_needs_no_stream(tmp_path):
    """Neither a stdout that takes what is printed, nor one that can spell it."""
    code = {">&- 2>&- <&-": 0, ">/dev/full": 1}
    for number, shell in enumerate(code):
        workdir = tmp_path / f"\u4e00{number}"
        command = [sys.executable, "scripts/train.py", *LIGHT, f"--workdir={workdir}"]
        done = subprocess.run(
            ["bash", "-c", f'"$@" {shell}', "bash", *command],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code[shell], done.stderr
        assert (workdir / "checkpoints" / "8").is_dir()
        assert done.stdout == ""
    reason = "No space left on device; make room there, or name another place"
    assert done.stderr == f"error: cannot write to stdout: {reason}\n"
