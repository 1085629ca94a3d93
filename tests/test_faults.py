"""Runs that are killed, whose files fail, whose disk is full."""

import errno
import os
import signal

import pytest
from faults.client import FAIL, KILL, Fault


@pytest.fixture
def server(fork_server):
    if not fork_server.has_shim:
        pytest.skip("faults need Linux and a C compiler")
    return fork_server


def test_the_server_runs_scripts_as_a_shell_does(fork_server, tmp_path):
    done = fork_server.run("predict.py", "--help")
    assert (done.returncode, done.errors) == (0, "")
    assert done.output.startswith("Reads pictures")
    done = fork_server.run("predict.py", "nothing.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing.png" in done.output
    assert 0 < done.seconds < 100
    assert 10 < done.memory < 2000
    process = fork_server.start("predict.py", "-", input=tmp_path)
    process.kill(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        process.wait(timeout=0.1)


def test_the_shim_counts_kills_and_fails(server, tmp_path):
    workdir, log = tmp_path / "run", tmp_path / "log"
    command = ("train.py", "--config=configs/smoke.py", f"--workdir={workdir}")
    done = server.run(*command, fault=Fault(tmp_path, 1, KILL, log=log))
    assert (done.returncode, log.read_text()) == (-9, f"1 mkdir {workdir}\n")
    assert not workdir.exists()
    done = server.run(*command, fault=Fault(tmp_path, 1, FAIL, errno.EROFS))
    assert done.returncode == 1
    assert done.errors.count("\n") == 1
    assert os.strerror(errno.EROFS) in done.errors
    assert not workdir.exists()
    assert server.run(*command, fault=Fault(tmp_path, 0, KILL)).returncode == -9
