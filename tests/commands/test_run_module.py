import subprocess
import sys

import pytest

from mnist_jax.commands import run_module
from mnist_jax.run.config_files import CONFIGS


def test_the_commands_are_the_scripts():
    scripts = (CONFIGS.parent / "scripts").glob("*.py")
    assert {path.stem for path in scripts} == set(run_module.COMMANDS)


@pytest.mark.parametrize(
    ("module", "meant"),
    [
        ("mnist_jax.train", "train\n"),
        ("mnist_jax.predict", "predict\n"),
        ("mnist_jax.commands", "NAME, of train, "),
        ("mnist_jax.commands.shared_flags", "NAME, of train, "),
        ("mnist_jax.reading.reader", "NAME, of train, "),
        ("mnist_jax.nope", "NAME, of train, "),
    ],
)
def test_a_module_that_is_no_command_is_refused(module, meant):
    for arguments in (["-m", module, "--seed=1"], ["-Wignore", f"-m{module}"]):
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (2, "")
        start = f"error: {module} is no command: say python -m mnist_jax "
        assert done.stderr.startswith(start + meant)
        assert done.stderr.count("\n") == 1


def test_other_programs_import_the_package_in_peace(tmp_path):
    """Also those that are started by `-m`, and have a module's name as an argument."""
    (tmp_path / "program.py").write_text("import mnist_jax\nprint('ends')\n")
    for arguments in (
        ["-m", "program", "mnist_jax.train"],
        ["-c", "import mnist_jax; print('ends')", "-m", "mnist_jax.train"],
        ["program.py", "-m"],
    ):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")
