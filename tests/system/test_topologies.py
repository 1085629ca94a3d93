"""Long tests: one run on any devices and processes, and on ever others."""

import random
import re
import signal
import time

import pytest
from faults.topology import Runs, result

TOPOLOGIES = [(devices, count) for devices in (1, 2, 4, 8) for count in (1, 2)]
FLAGS = (
    "--config.num_shards=16",
    "--config.num_epochs=24",
)
FEW_STEPS = (
    "--config.num_epochs=2",
    "--config.train_split=train[:800]",
    "--config.test_split=test[:100]",
    "--config.validation=100",
)
ROOT_CAUSE = re.compile(r"error: process (\d) has ended without a word: ")


@pytest.mark.soak
def test_one_result_on_1_2_4_8_devices_of_1_and_2_processes(
    fork_server, tmp_path_factory
):
    """The same weights, log and metadata; 6 steps, with dropout and padded shards."""
    runs, found = Runs(fork_server), []
    for topology in TOPOLOGIES:
        workdir = tmp_path_factory.mktemp("run")
        runs.finish(workdir, *topology, *FLAGS, *FEW_STEPS)
        found.append(result(workdir))
        print("devices x processes", topology, found[-1][0], flush=True)
        assert found[-1] == found[0]


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1])
def test_50_changes_of_topology_with_kills_in_between(
    fork_server, tmp_path_factory, seed
):
    runs, rng = Runs(fork_server), random.Random(seed)
    chance = random.Random(time.time_ns())  # of the instants, which no seed decides
    expected = tmp_path_factory.mktemp("unbroken")
    runs.finish(expected, 1, 1, *FLAGS)
    print(f"\nseed {seed}; unbroken on 1 device: {result(expected)[0]}", flush=True)
    changes = 0
    while changes < 50:
        workdir, previous = tmp_path_factory.mktemp("broken"), None
        ended = False
        while not ended:
            topology, seconds = rng.choice(TOPOLOGIES), chance.uniform(0, 2)
            how = rng.choice(["one", "all", "signal"])
            changes += previous not in (None, topology)
            previous = topology
            print(f"{changes:3} devices x processes {topology}", end=" ", flush=True)
            ended = leg(runs, workdir, topology, how, rng.randrange(2), seconds)
        assert result(workdir) == result(expected)
        print(f"    bit-equal: {result(workdir)[0]}", flush=True)


def leg(runs, workdir, topology, how, which, seconds):
    """Goes on with a run for a while; says whether it came to its end."""
    processes = runs.start(workdir, *topology, *FLAGS, "--resume")
    first = steps(workdir)
    began = time.monotonic()
    # An instant after training has begun, or within the start-up.
    while steps(workdir) <= first and time.monotonic() - began < 300:
        if all(process.has_ended() for process in processes):
            break  # the leg before came as far as the end
        if which and time.monotonic() - began > 20 * seconds:
            break
        time.sleep(0.02)
    time.sleep(seconds)
    victims = processes if how == "all" else [processes[which % len(processes)]]
    for victim in victims:
        victim.kill(signal.SIGTERM if how == "signal" else signal.SIGKILL)
    killed = time.monotonic()
    done = [process.wait() for process in processes]
    took = time.monotonic() - killed
    codes = [each.returncode for each in done]
    lines = [(each.errors.splitlines() or [""])[-1] for each in done]
    print(f"{how} at step {first}+{seconds:.2f} s: {codes}, {took:.1f} s", flush=True)
    for code, line in zip(codes, lines, strict=True):
        assert code in (0, 1, 143, -signal.SIGKILL, -signal.SIGTERM), lines
        assert code != 1 or ROOT_CAUSE.match(line), lines
    return codes == [0] * len(codes)


def steps(workdir):
    found = (path.name for path in workdir.glob("checkpoints/[0-9]*"))
    return max((int(name) for name in found if name.isdigit()), default=-1)
