"""A peer's process: reads commands, a line each, and answers each with a line of JSON.

    train SECONDS            images a second
    predict COUNT SECONDS    images a second, COUNT in each call
    loss                     mean loss on the first images, in nats

It sends one line unasked, about itself, when its first training step is done. It ends
when its input ends, so that no peer outlives the process that compares.
"""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_jax.benchmark.peers import Peer, Work, mean_cross_entropy, rate

_LOSS_IMAGES = 10_000


def main(module: str, folder: str) -> None:
    """Serves the peer of that module."""
    # Stdout is for answers; what libraries print goes to stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(**fields: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            print(json.dumps(fields), file=answers, flush=True)

    try:
        peers = importlib.import_module(module)
    except ModuleNotFoundError as error:
        answer(missing=error.name)
        return
    try:
        _serve(peers, Work.load(Path(folder)), answer)
    except Exception as error:
        answer(error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _serve(peers: Any, work: Work, answer: Callable[..., None]) -> None:
    peer, loss = peers.create(work), getattr(peers, "loss", mean_cross_entropy)
    peer.first_step()
    answer(version=peer.version, num_parameters=peer.num_parameters)
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "train":
            value = peer.train(float(numbers[0]))
        elif command == "predict":
            value = rate(_predictions(peer, int(numbers[0])), float(numbers[1]))
        else:
            count = min(_LOSS_IMAGES, len(work.labels))
            value = loss(peer.predict(count), work.labels[:count])
        answer(value=value)


def _predictions(peer: Peer, count: int) -> Iterator[int]:
    while True:
        yield len(peer.predict(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
