import os
import subprocess
import sys

import pytest

from mnist_jax.run.config_files import CONFIGS

SCRIPTS = CONFIGS.parent / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_script_and_its_module_are_the_same_command(name):
    script = run_python(str(SCRIPTS / f"{name}.py"), "--help")
    module = run_python("-m", f"mnist_jax.commands.{name}", "--help")
    assert (script.returncode, script.stderr) == (0, "")
    assert (module.returncode, module.stderr) == (0, "")
    assert f"python scripts/{name}.py" in script.stdout
    assert "\n\nFlags:\n  --" in script.stdout
    assert module.stdout == script.stdout


def test_a_module_that_is_run_exits_as_a_script_does(tmp_path):
    done = run_python("-m", "mnist_jax.commands.export", f"--workdir={tmp_path}/none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --output is missing: name a folder to write\n"


def test_one_program_can_import_all_commands():
    """Each has flags of its own, and none changes absl's or what Ctrl-C does."""
    done = run_python(
        "-c",
        "import importlib, signal\n"
        "from absl import flags, logging\n"
        "before = set(flags.FLAGS), signal.getsignal(signal.SIGINT)\n"
        f"for name in {NAMES}:\n"
        "    command = importlib.import_module(f'mnist_jax.commands.{name}')\n"
        "    assert callable(command.main) and callable(command.run)\n"
        "after = set(flags.FLAGS), signal.getsignal(signal.SIGINT)\n"
        "assert after == before\n",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_flags_of_absl_are_understood(tmp_path):
    script = str(SCRIPTS / "export.py")
    done = run_python(script, "--verbosity=1", f"--output={tmp_path}", "--workdir=none")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no folder 'none'")


RUN_AND_COLLECT = """
import gc, sys
from absl import flags
from mnist_jax.commands.run_command import run_command

def collections():
    return sum(each["collections"] for each in gc.get_stats())

def main(arguments):
    count = collections()
    import jax, flax, optax
    assert collections() == count
    kept.extend([] for _ in range(number))
    assert (collections() > count) == (number > 0)

def run():
    try:
        run_command(main, flags.FlagValues())
    except SystemExit as end:
        print(end.code)

kept, number = [], 0
before, frozen = gc.get_threshold(), gc.get_freeze_count()
"""


def test_garbage_is_collected_for_the_first_time_after_the_imports():
    done = run_python(
        "-c",
        f"{RUN_AND_COLLECT}run()\n"
        "number = 500_000\n"
        "run()\n"
        "assert gc.get_freeze_count() > frozen + 100_000\n"
        "assert gc.get_threshold() == before\n",
    )
    assert (done.stdout, done.stderr) == ("0\n0\n", "")


@pytest.mark.parametrize("number", [0, 500_000])
def test_a_host_that_lives_on_collects_its_garbage_as_before(number):
    done = run_python(
        "-c",
        f"{RUN_AND_COLLECT}sys.ps1 = 'In '\n"
        f"number = {number}\n"
        "run()\n"
        "assert gc.get_threshold() == before\n"
        "assert not [each for each in gc.callbacks if 'mnist' in each.__module__]\n"
        "assert gc.get_freeze_count() == frozen\n",
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_collector_that_is_off_stays_off():
    done = run_python(
        "-c", f"{RUN_AND_COLLECT}gc.set_threshold(0)\nrun()\nprint(gc.get_threshold())"
    )
    assert done.stdout.startswith("0\n(0, "), done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="it is a device of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stdout_is_named(unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / "predict.py"), "--help"],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    reason = "cannot write to stdout: No space left on device"
    assert done.stderr == f"error: {reason}; make room there, or name another place\n"
