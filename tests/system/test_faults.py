"""Runs that are killed, whose files fail, whose disk is full."""

import errno
import fnmatch
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.client import FAIL, FAIL_ON, JUMP, KILL, SIGNAL, TEAR, Fault
from faults.runs import STEPS_PER_EPOCH, Left, Run, read_log


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def unbroken(fork_server, tmp_path_factory):
    """Runs that nothing happens to: what they left and did, by number of epochs."""

    @functools.cache
    def unbroken(num_epochs):
        folder = tmp_path_factory.mktemp("unbroken")
        run = Run(fork_server, folder / "compiled", num_epochs)
        assert run.resume().returncode == 0
        run = run._replace(workdir=folder / "run")
        done = run.resume(Fault(run.workdir, log=folder / "log"))
        assert (done.returncode, done.errors) == (0, "")
        return run.left(), read_log(folder / "log", run.workdir), done.seconds

    return unbroken


def draw_instants(seed, num_operations, seconds):
    """Yields when to kill: after which operation, and how much later, for ever."""
    draw = random.Random(seed)
    while True:
        if draw.random() < 0.4:  # anywhere: mostly in start-up and steps
            yield 0, round(draw.uniform(0.01, seconds), 3)
        else:  # mostly while saving and deleting
            later = draw.choice([0.0, draw.expovariate(1 / 0.01)])
            yield draw.randint(1, num_operations), round(later, 4)


def kill_again_and_again(run, instants, num_kills, expected):
    """Kills a run and resumes it, and begins another when it has ended.

    Returns:
      How many kills there were in which phase.
    """
    phases = Counter()
    log = run.workdir.with_name("log")
    while phases.total() < num_kills:
        shutil.rmtree(run.workdir, ignore_errors=True)
        killed_at = []
        returncode = -9
        while returncode:
            number, seconds = next(instants)
            if phases.total() == num_kills:
                number, seconds = 1_000_000, 0.0
            killed_at.append((number, seconds))
            told = f"killed at {killed_at}, of which the last shows it"
            fault = Fault(run.workdir, number, KILL, seconds=seconds, log=log)
            done = run.resume(fault)
            returncode = done.returncode
            assert returncode in (0, -9), (told, done)
            assert done.errors == "", told
            if returncode:
                phases[phase(done.output, read_log(log, run.workdir))] += 1
            # While a step is being saved the next ones are done, at most an interval
            # of them; otherwise no more than one interval is lost.
            epochs = [int(n) for n in re.findall(r"^ +(\d+)/", done.output, re.M)]
            lost = max(epochs, default=0) - run.newest_step() // STEPS_PER_EPOCH
            assert lost <= 2, told
        assert run.left() == expected, told
    return phases


def phase(output, operations):
    """Says what a run was doing when it was killed."""
    last = operations[-1] if operations else ""
    if "orbax-checkpoint-tmp" in last:
        return "save"
    if "deleted" in last:
        return "deletion"
    if not re.search("^epoch", output, re.M):
        return "start-up"
    ended = not re.search(r"^ +\d+/\d+ ", output, re.M)
    return "evaluation or end" if ended else "steps"


def test_a_run_that_is_killed_again_and_again_ends_the_same(server, unbroken, tmp_path):
    expected, operations, seconds = unbroken(3)
    run = Run(server, tmp_path / "run")
    instants = draw_instants(0, len(operations), seconds)
    assert kill_again_and_again(run, instants, 30, expected).total() == 30


def begin_to_save(step):
    return f"mkdir checkpoints/{step}.orbax-checkpoint-tmp"


def number_each(operations):
    """Names operations by what does not change between runs.

    A save does not always take the same number of them, nor always in the same order.

    Returns:
      For each a pattern, with a star for what is drawn at random, and its number among
      those that fit that.
    """
    numbers, seen = [], Counter()
    for operation in operations:
        pattern = re.sub(
            r"[0-9a-f]{32}|(?<=\D)[0-9a-f]{8}(?=\D|$)|(?<=tfevents\.)\S+",
            "*",
            operation,
        )
        seen[pattern] += 1
        numbers.append((pattern, seen[pattern]))
    return numbers


def choose(operations, number):
    """Chooses operations of so many kinds, from beginning to end."""
    kinds = {}
    for pattern, n in number_each(operations):
        kinds.setdefault(re.sub(r"\d+", "#", pattern), (pattern, n))
    firsts = list(kinds.values())
    return [firsts[i * len(firsts) // number] for i in range(number)]


class Scenario(NamedTuple):
    """Where file operations fail: those of `run`, after `begin`."""

    run: Run
    source: Path | None  # a folder to start from
    operations: list[str]
    expected: Left

    def begin(self):
        shutil.rmtree(self.run.workdir, ignore_errors=True)
        if self.source:
            shutil.copytree(self.source, self.run.workdir)


@pytest.fixture(scope="module")
def scenarios(server, unbroken, tmp_path_factory):
    """A first start and save; and a last epoch, with a clean-up and the end."""
    folder = tmp_path_factory.mktemp("scenarios")
    expected, operations, _ = unbroken(1)
    first = Scenario(Run(server, folder / "first", 1), None, operations, expected)
    run = Run(server, folder / "half")
    expected = unbroken(3)[0]
    fault = Fault(run.workdir, 1, KILL, operation=begin_to_save(30))
    assert run.resume(fault).returncode == -9
    assert run.newest_step() == 20
    last = Scenario(run._replace(workdir=folder / "last"), run.workdir, [], expected)
    last.begin()
    operations = last.run.operations(folder / "log")
    assert last.run.left() == expected
    return {"first": first, "last": last._replace(operations=operations)}


def fail_at(scenario, operation, number, mode, error=0):
    """Lets an operation fail, and checks what a user is told and can go on with.

    Returns:
      Whether it came to that: not each run does all that another did.
    """
    scenario.begin()
    run = scenario.run
    told = (operation, number, mode, error)
    log = run.workdir.with_name("log")
    done = run.resume(
        Fault(run.workdir, number, mode, error, log=log, operation=operation)
    )
    did = read_log(log, run.workdir)
    if done.returncode == 0:  # what is deleted may wait until the next start
        left = run.left()
        assert done.errors == "", told
        assert left._replace(files=left.files - {"deleted"}) == scenario.expected, told
    elif mode in (KILL, TEAR):
        assert (done.returncode, done.errors) == (-9, ""), told
    else:
        assert done.returncode == 1, (told, done)
        assert re.fullmatch("error: [^\n]+\n", done.errors), (told, done.errors)
        assert os.strerror(error) in done.errors or "SHA-256" in done.errors, (
            told,
            done.errors,
        )
    done = run.resume()
    assert (done.returncode, done.errors) == (0, ""), (told, done)
    assert run.left() == scenario.expected, told
    return len(fnmatch.filter(did, operation)) >= number


FAULTS = [(KILL, 0), (TEAR, 0), (FAIL, errno.EIO), (FAIL_ON, errno.ENOSPC)]


@pytest.mark.parametrize("name", ["first", "last"])
def test_file_operations_that_fail(scenarios, name):
    chosen = choose(scenarios[name].operations, 6)
    faults = zip(chosen, FAULTS + FAULTS[2:], strict=True)
    failed = [fail_at(scenarios[name], *each, *fault) for each, fault in faults]
    assert sum(failed) >= 5, (chosen, failed)


def test_a_disk_that_is_full_when_tensorboard_writes(scenarios):
    fault = ("write tensorboard*", 1, FAIL_ON, errno.ENOSPC)
    assert fail_at(scenarios["first"], *fault)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["first", "last"])
def test_every_file_operation_fails(scenarios, name, fault):
    operations = [
        (operation, number)
        for operation, number in number_each(scenarios[name].operations)
        if fault[0] != TEAR or "write" in operation  # the others cannot be torn
    ]
    missed = [
        each
        for each in operations
        # Not every run does all that another did.
        if not any(fail_at(scenarios[name], *each, *fault) for _ in range(5))
    ]
    done = len(operations) - len(missed)
    print(name, fault, done, "of", len(operations), "operations; not", missed)
    assert done > 0.9 * len(operations)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 41))
def test_a_thousand_kills(server, unbroken, tmp_path, seed):
    expected, operations, seconds = unbroken(3)
    instants = draw_instants(seed, len(operations), seconds)
    run = Run(server, tmp_path / "run")
    print(f"seed {seed}:", kill_again_and_again(run, instants, 25, expected))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(server, unbroken, tmp_path, signum):
    """Sent while the first epoch's step is being saved."""
    run = Run(server, tmp_path / "run")
    fault = Fault(run.workdir, 1, SIGNAL, signum, operation=begin_to_save(10))
    done = run.resume(fault)
    assert done.returncode == 128 + signum
    assert re.fullmatch(
        f"stopped: at step [12]0 of 30, which is saved in {run.workdir}; to go on, "
        "repeat the command with --resume and no --overwrite\n",
        done.errors,
    )
    done = run.resume()
    assert (done.returncode, done.errors) == (0, "")
    assert run.left() == unbroken(3)[0]


def test_a_signal_at_the_end_of_a_cell_stops_the_sweep(server, tmp_path):
    """Sent while its last step is being saved, after which nothing is trained."""
    run = Run(server, tmp_path / "sweep", num_epochs=1)
    command = ("sweep.py", *run.command("--sweep.ema_decay=0,.9")[1:])
    first, second = (run.workdir / f"ema_decay={value}" for value in (0, 0.9))
    last = begin_to_save(STEPS_PER_EPOCH)
    done = server.run(*command, fault=Fault(first, 1, SIGNAL, 15, operation=last))
    assert (done.returncode, done.errors) == (
        128 + signal.SIGTERM,
        "stopped: in cell 1 of 2, ema_decay=0; repeat the command to go on\n",
    )
    assert not second.exists()
    done = server.run(*command)
    assert (done.returncode, done.errors) == (0, "")
    for cell in (first, second):  # neither was trained twice
        assert (cell / "log.txt").read_text().count("images/s\n") == 1


def start_and_stop(run):
    """Starts a run and stops it, as by SIGSTOP, when its second save begins."""
    log, begins = run.workdir.with_name("log"), begin_to_save(20)
    fault = Fault(run.workdir, 1, SIGNAL, signal.SIGSTOP, log=log, operation=begins)
    process = run.server.start(*run.command(), fault=fault)
    process.wait_until_stopped(lambda: begins in read_log(log, run.workdir))
    return process


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing(server, unbroken, tmp_path):
    run = Run(server, tmp_path / "run")
    process = start_and_stop(run)
    process.kill(signal.SIGINT)
    process.kill(signal.SIGTERM)
    process.kill(signal.SIGCONT)
    done = process.wait()
    assert done.returncode in (-signal.SIGINT, -signal.SIGTERM)
    assert done.errors == ""
    assert run.resume().returncode == 0
    assert run.left() == unbroken(3)[0]


@pytest.mark.parametrize(
    "script", ["train.py", "evaluate.py", "predict.py", "sweep.py"]
)
def test_ctrl_c_during_the_imports_is_no_traceback(script):
    """Sent when absl is being imported, which is the first that takes a while."""
    program = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'absl':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    program = f"import sys; sys.argv = ['scripts/{script}']\n" + program
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_during_a_compilation_does_not_wait_for_it(tmp_path):
    """Sent when all is read and nothing yet compiled, or saved."""
    command = [sys.executable, "scripts/train.py", "--config.dataset=digits"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": ""}
    with subprocess.Popen(
        [*command, f"--workdir={tmp_path}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("model"):
                process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGINT


def test_a_file_that_becomes_too_large(server, unbroken, tmp_path):
    """What `ulimit -f` or a quota does; the limit is reached in the third save."""
    done = server.run(
        *Run(server, tmp_path / "run").command(), limits={"RLIMIT_FSIZE": 20_000}
    )
    assert done.returncode == 1
    assert re.fullmatch("error: cannot save a checkpoint in [^\n]+\n", done.errors)
    assert "File too large" in done.errors
    assert Run(server, tmp_path / "run").resume().returncode == 0
    assert Run(server, tmp_path / "run").left() == unbroken(3)[0]


def test_a_folder_that_vanishes_is_no_success(server, unbroken, tmp_path):
    run = Run(server, tmp_path / "run")
    process = start_and_stop(run)
    assert run.newest_step() == 10
    run.workdir.rename(tmp_path / "moved")
    process.kill(signal.SIGCONT)
    done = process.wait()
    assert done.returncode == 1
    assert re.fullmatch("error: [^\n]+\n", done.errors), done.errors
    assert "was moved or deleted during the run" in done.errors
    moved = run._replace(workdir=tmp_path / "moved")
    assert moved.newest_step() == 10
    shutil.rmtree(run.workdir, ignore_errors=True)
    moved.workdir.rename(run.workdir)
    done = run.resume()
    assert (done.returncode, done.errors) == (0, "")
    assert run.left() == unbroken(3)[0]


@pytest.mark.parametrize("seconds", [-1e8, 1e8])
def test_a_clock_that_jumps_changes_nothing(server, unbroken, tmp_path, seconds):
    run = Run(server, tmp_path / "run")
    at = begin_to_save(10)
    done = run.resume(Fault(run.workdir, 1, JUMP, seconds=seconds, operation=at))
    assert (done.returncode, done.errors) == (0, "")
    assert run.left() == unbroken(3)[0]
    spent = re.search(
        r"^time +([0-9.]+) s, of which training ([0-9.]+) s", done.output, re.M
    )
    assert 0 <= float(spent[2]) <= float(spent[1]) < 1e4


def test_two_runs_in_one_folder(server, unbroken, tmp_path):
    run = Run(server, tmp_path / "run")
    process = start_and_stop(run)
    for flag in ("--resume", "--overwrite"):
        done = server.run(*run.command(flag))
        assert done.returncode == 1
        assert re.fullmatch("error: another run is under way in [^\n]+\n", done.errors)
    process.kill(signal.SIGCONT)
    assert process.wait().returncode == 0
    assert run.left() == unbroken(3)[0]
