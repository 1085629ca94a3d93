import subprocess
import sys

import pytest

from mnist_jax.run.config_files import CONFIGS

TRAIN = str(CONFIGS.parent / "scripts" / "train.py")


def train(*flags, cwd=None):
    return subprocess.run(
        [sys.executable, TRAIN, *flags],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--config=nope.py"], 2, "no config file 'nope.py'"),
        (["--config="], 2, "no config file ''"),
        (["--config.batchsize=3"], 2, "did you mean 'batch_size'?"),
        (["--config.batch_size=many"], 2, "batch_size"),
        (["--config.batch_size=0"], 2, "must be a whole number, 1 to 2**20, got 0"),
        (["--config.model.name=cmn"], 2, "did you mean 'cnn'?"),
        (["--config.optimizer.name=adm"], 2, "did you mean 'adam'?"),
        (["--config.dataset=mnits"], 2, "did you mean 'mnist'?"),
        (["--config.train_split=trian"], 2, "trian"),
        (["--workdri=x"], 2, "Did you mean: workdir ?"),
        (["--device=abacus"], 2, "abacus"),
        (["--device=tpu"], 1, "--device=tpu: JAX found only cpu"),
        (["stray"], 2, "unexpected argument 'stray'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_flags_give_one_line_and_leave_nothing(tmp_path, flags, code, message):
    if not any(flag.startswith("--config") and "=" in flag[:9] for flag in flags):
        flags = [f"--config={CONFIGS / 'smoke.py'}", *flags]
    done = train(*flags, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["train.py", "sweep.py", "benchmark.py"])
def test_fields_of_the_default_config_are_checked_too(fork_server, script):
    """Without `--config=FILE`, which is read before the other flags are."""
    for flag, message in {
        "--config.batchsize=3": "--config.batchsize: no such field; did you mean",
        "--config.learning_rate=3": "did you mean 'optimizer.learning_rate'?",
        "--noconfig.nope": "--config.nope: no such field",
        "--config.optimizer.kwargs.b1=.9": "no such field: 'b1'; add it in a config",
    }.items():
        done = fork_server.run(script, flag)
        assert done.returncode == 2
        assert message in done.errors
        assert done.errors.startswith("error: ")
        assert done.errors.count("\n") == 1


def test_help_is_for_people():
    done = train("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("python scripts/train.py", "--config", "--workdir", "--[no]resume"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
