import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from absl import flags
from mnist_jax.commands.run_command import run_command

def main(arguments):
    print("result")
    sys.stdout.flush()
    print("warning", file=sys.stderr)
    os.fstat(1)  # the descriptors are there
    os.fstat(2)
    print(sys.stdin.read())
    with open("done", "w") as file:  # gets the number of no standard stream
        assert file.fileno() > 2
    return 0

flag_values = flags.FlagValues()
before = sys.stdin, sys.stdout, sys.stderr
try:
    run_command(main, flag_values, needs_stdout=lambda: NEEDS)
finally:
    assert before == (sys.stdin, sys.stdout, sys.stderr)
"""

FULL = (
    "error: cannot write to stdout: No space left on device; make room there, or name "
    "another place\n"
)


def run(folder, shell, *, needs=False, program=PROGRAM, **environment):
    (folder / "program.py").write_text(program.replace("NEEDS", str(needs)))
    return subprocess.run(
        ["bash", "-c", f"'{sys.executable}' program.py {shell}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("shell", "code", "output", "errors"),
    [
        ("</dev/null", 0, "result\n\n", "warning\n"),
        ("<&-", 0, "result\n\n", "warning\n"),
        (">&-", 0, "", "warning\n"),
        ("2>&-", 0, "result\n\n", ""),
        (">&- 2>&- <&-", 0, "", ""),
        ("2>/dev/full", 0, "result\n\n", ""),
        (
            ">/dev/full",
            1,
            "",
            f"warning\n{FULL}",
        ),
        (
            "1</dev/null",
            1,
            "",
            "warning\nerror: cannot write to stdout: Bad file descriptor\n",
        ),
    ],
)
def test_no_stream_costs_work_and_none_mix(tmp_path, shell, code, output, errors):
    done = run(tmp_path, shell)
    assert (done.returncode, done.stdout, done.stderr) == (code, output, errors)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("shell", "errors"),
    [
        (">&-", "error: stdout is closed: redirect it to a file\n"),
        (">/dev/full", FULL),
    ],
)
def test_without_a_stdout_that_is_needed_nothing_is_done(tmp_path, shell, errors):
    done = run(tmp_path, shell, needs=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", errors)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("needs", [False, True])
def test_a_reader_that_has_left_is_no_error(tmp_path, needs):
    done = run(tmp_path, "| true; exit ${PIPESTATUS[0]}", needs=needs)
    assert done.returncode in (0, 141)
    assert "rror" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_a_stream_lacks_are_escaped(tmp_path, encoding):
    program = PROGRAM.replace('"result"', r'"\u2603"').replace('"warning"', r'"\u2603"')
    done = run(tmp_path, "", program=program, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, "\\u2603\n\n")
    assert done.stderr == "\\u2603\n"
