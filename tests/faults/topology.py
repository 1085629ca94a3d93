"""Starts the same run with any numbers of devices and processes."""

import socket

from mnist_jax.checkpoint.format import tree_digest
from mnist_jax.checkpoint.load import load_model
from mnist_jax.run.config_files import CONFIGS

FLAGS = (
    f"--config={CONFIGS / 'smoke.py'}",
    "--config.num_shards=8",
    "--config.batch_size=300",  # 8 does not divide it, and its sums are long
    "--config.augment.scale=0",
    "--config.augment.rotation=0",
    "--config.augment.shear=0",
    "--config.augment.shift=0",
    "--config.model.kwargs.features=(4, 8)",
    "--config.model.kwargs.dropout=0.2",
)

# These flags train a net that compiles fast, for tests that do not look at its result.
LIGHT = (
    f"--config={CONFIGS / 'mlp.py'}",
    "--config.dataset=digits",
    "--config.offline_dataset=",
    "--config.num_shards=2",
    "--config.batch_size=256",
    "--config.model.kwargs.dense=(8,)",
    "--config.augment.scale=0",
    "--config.augment.rotation=0",
    "--config.augment.shear=0",
    "--config.augment.shift=0",
    "--config.ema_decay=0",
)


class Runs:
    """Starts runs of one command with any numbers of devices and processes."""

    def __init__(self, server):
        self.server = server
        self.port = 0  # port of the coordinator that was started last

    def start(self, workdir, num_devices, num_processes=1, *flags):
        """Starts the processes of a run, with `num_devices` each, and returns them."""
        flags = (*FLAGS, f"--workdir={workdir}", "--data_dir=/none", *flags)
        return self.start_script("train.py", num_devices, num_processes, *flags)

    def start_script(self, script, num_devices, num_processes, *flags, own=None):
        if num_devices:
            flags = (f"--num_cpu_devices={num_devices}", *flags)
        if num_processes == 1:
            return [self.server.start(script, *flags)]
        return [
            self.server.start(script, *flags, *place, *(own or {}).get(i, ()))
            for i, place in enumerate(self.meeting(num_processes))
        ]

    def meeting(self, num_processes):
        """Returns the flags for each process by which they find each other."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        where = f"--coordinator_address=127.0.0.1:{self.port}"
        flags = (where, f"--num_processes={num_processes}")
        return [(*flags, f"--process_id={i}") for i in range(num_processes)]

    def finish(self, *arguments):
        """Runs `start` and checks that all succeed; returns what the first printed."""
        done = [process.wait() for process in self.start(*arguments)]
        assert [each.returncode for each in done] == [0] * len(done), done
        for other in done[1:]:  # only the first has anything to say
            assert (other.output, other.errors) == ("", "")
        assert "[Gloo]" not in done[0].output
        return done[0].output


def result(workdir):
    """Returns what a run has made: digest of the weights, log, and metadata."""
    loaded = load_model(workdir)
    facts = [loaded.metadata[name] for name in ("step", "metrics", "temperature")]
    log = (workdir / "metrics.jsonl").read_bytes()
    return tree_digest(loaded.variables), log, facts
