"""A small run for tests of faults, and what it must have left behind in the end."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from faults.client import COUNT, Done, Fault, Server

from mnist_jax.checkpoint.read import checkpoints_folder, read_intact, saved_steps

# These runs have all that could be lost: random steps (dropout), Adam's state, averaged
# weights and a best step. They train an MLP, which traces twice as fast as a CNN.
_FLAGS = (
    "--config=configs/mlp.py",
    "--config.dataset=digits",
    "--config.offline_dataset=",
    "--config.train_split=train[:600]",
    "--config.test_split=test[:200]",
    "--config.validation=100",
    "--config.batch_size=64",
    "--config.ema_decay=.9",
    "--config.optimizer.warmup_epochs=.5",
    "--config.model.kwargs.dense=(16,)",
    *(f"--config.augment.{name}=0" for name in ("shift", "rotation", "scale", "shear")),
    "--config.model.kwargs.dropout=.1",
)
STEPS_PER_EPOCH = 10


class Left(NamedTuple):
    """What a run leaves behind, apart from TensorBoard's events, which hold times."""

    steps: dict[int, str]  # SHA-256 of each step's metadata, which holds the leaves'
    files: set[str]
    metrics: bytes
    config: bytes


class Run(NamedTuple):
    """A run that can be started in `workdir`."""

    server: Server
    workdir: Path
    num_epochs: int = 3

    def command(self, *flags: str) -> tuple[str, ...]:
        epochs = f"--config.num_epochs={self.num_epochs}"
        return ("train.py", *_FLAGS, epochs, f"--workdir={self.workdir}", *flags)

    def resume(self, fault: Fault | None = None, **options: Any) -> Done:
        """Starts or resumes the run, and checks that it begins at the newest step."""
        step = self.newest_step()
        done = self.server.run(*self.command("--resume"), fault=fault, **options)
        if "images/s\n" in done.output or done.returncode == 0:
            resumed = re.search(r"^resume   at step (\d+) of", done.output, re.M)
            assert int(resumed[1] if resumed else 0) == step, done
        return done

    def operations(self, log: Path) -> list[str]:
        """Resumes the run and returns its file operations, such as "mkdir checkpoints".

        The number of an operation, as `Fault` counts, is its place in the list, from 1.
        """
        assert self.resume(Fault(self.workdir, mode=COUNT, log=log)).returncode == 0
        return read_log(log, self.workdir)

    def newest_step(self) -> int:
        """Returns the newest complete step, or 0 if there is none."""
        return max(saved_steps(checkpoints_folder(self.workdir)), default=0)

    def left(self) -> Left:
        """Returns what the run left; reads every step and checks its SHA-256s."""
        directory = checkpoints_folder(self.workdir)
        digests = {}
        for step in saved_steps(directory):
            metadata, _, _ = read_intact(
                self.workdir, [step], lambda metadata: metadata["leaves"]
            )
            digests[step] = metadata["sha256"]
        return Left(
            steps=digests,
            files={p.name for d in (self.workdir, directory) for p in d.iterdir()},
            metrics=(self.workdir / "metrics.jsonl").read_bytes(),
            config=(self.workdir / "config.json").read_bytes(),
        )


def read_log(log: Path, workdir: Path) -> list[str]:
    """Returns the operations of a shim's log, with paths relative to `workdir`."""
    text = log.read_text() if log.exists() else ""
    lines = [line.split(" ", 2) for line in text.splitlines()]
    return [f"{name} {path[len(str(workdir)) + 1 :]}" for _, name, path in lines]
