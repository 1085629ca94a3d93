import re
import subprocess
import sys

import pytest

import mnist_jax
from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.errors import ConfigError
from mnist_jax.run.config_files import CONFIGS, check_field_names

NAMES = sorted(path.stem for path in (CONFIGS.parent / "scripts").glob("*.py"))

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
        (["--workdri=x"], 2, "did you mean --workdir?"),
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


@pytest.mark.parametrize(
    ("command", "given", "meant"),
    [
        ("train", "epochs=3", "did you mean --config.num_epochs?"),
        ("train", "Epochs=3", "did you mean --config.num_epochs?"),
        ("train", "lr=0.1", "did you mean --config.optimizer.learning_rate?"),
        ("train", "learning-rate=1", "did you mean --config.optimizer.learning_rate?"),
        ("train", "seed=1", "did you mean --config.seed?"),
        ("train", "batch_size=64", "did you mean --config.batch_size?"),
        ("train", "bs=64", "did you mean --config.batch_size?"),
        ("train", "model=cnn", "did you mean --config.model.name?"),
        ("train", "rotation=3", "did you mean --config.augment.rotation?"),
        ("train", "dry-run", "did you mean --dry_run?"),
        ("train", "no-cuda", "did you mean --device?"),
        ("train", "output_dir=a", "did you mean --workdir?"),
        ("train", "nope", "unknown flag --nope: --help lists all flags"),
        ("benchmark", "epochs=3", "did you mean --config.num_epochs?"),
        ("sweep", "lr=1,2", "or --sweep.optimizer.learning_rate?"),
        ("sweep", "num_seed=1", "did you mean --num_seeds?"),
        ("evaluate", "batch_size=64", "train.py sets config.batch_size"),
        ("predict", "lr=1", "train.py sets config.optimizer.learning_rate"),
        ("predict", "model=a", "did you mean --workdir?"),
        ("predict", "top-k=3", "did you mean --top_k?"),
        ("export", "out=a", "did you mean --output?"),
    ],
)
def test_a_flag_of_another_name_is_answered_with_ours(
    fork_server, command, given, meant
):
    done = fork_server.run(f"{command}.py", f"--{given}")
    assert (done.returncode, done.output) == (2, "")
    name = given.partition("=")[0]
    assert done.errors.startswith(f"error: unknown flag --{name}: ")
    assert meant in done.errors
    assert done.errors.count("\n") == 1
    assert len(done.errors) < 160


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("batch_size=64", "did you mean --config.batch_size=64?"),
        ("lr=0.1", "did you mean --config.optimizer.learning_rate=0.1?"),
        ("configs/seed.py", "did you mean --config=configs/seed.py?"),
        ("seed", "flags look like --name=value"),
    ],
)
def test_an_argument_that_should_be_a_flag_is_shown_as_one(argument, meant):
    with pytest.raises(ConfigError, match=re.escape(f"{argument!r}; {meant}")):
        refuse_arguments([argument])


def test_a_field_of_another_name_is_answered_with_ours():
    listed = r" \(?configs/default.py lists all fields\)?$"
    for name, meant in {
        "lr": "did you mean 'optimizer.learning_rate'\\?",
        "batch-size": "did you mean 'batch_size'\\?",
        "shift": "did you mean 'augment.shift'\\?",
        "qqq": "",
    }.items():
        start = f"--config.{name}: no such field; {meant}"
        with pytest.raises(ConfigError, match=start.strip() + listed):
            check_field_names([name])


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_its_version(fork_server, name):
    done = fork_server.run(f"{name}.py", "--nope", "--version")
    assert (done.returncode, done.errors) == (0, "")
    versions = rf"mnist_jax {mnist_jax.__version__}, jax \d\S*, Python 3\.\d+\.\S+\n"
    assert re.fullmatch(versions, done.output)


def test_help_is_for_people():
    done = train("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("python scripts/train.py", "--config", "--workdir", "--[no]resume"):
        assert word in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_examples_first_and_fits_a_terminal(fork_server, name):
    done = fork_server.run(f"{name}.py", "--help")
    summary, gap, example, *rest = done.output.splitlines()
    assert summary.endswith(".")
    assert not gap
    assert example.startswith(f"  python scripts/{name}.py")
    assert "Flags:" in rest
    too_long = [line for line in done.output.splitlines() if len(line) > 80]
    assert not too_long
    assert str(CONFIGS) not in done.output  # paths of this machine tell nothing
