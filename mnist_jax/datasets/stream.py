"""Makes training data in worker processes, a little ahead of the training loop.

A batch is a pure function of seed and step. So a run that was killed and resumed sees
the same batches as an unbroken run, with any number of workers.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple, NoReturn

import numpy as np

from mnist_jax.errors import DataError, UserError

Batch = dict[str, np.ndarray]
# SIGHUP, which Windows lacks, says that the terminal is gone.
_STOP = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]


class Stream(NamedTuple):
    """A data set of batches that are made as they are needed.

    Attributes:
      make_batch: maps (seed, step, batch_size) to arrays with a leading axis
        [batch_size]: `image`, `label`, `mask` and so on, of the same shapes and dtypes
        at every step. It must be pure, and workers must be able to import it.
      num_examples: number of examples in an epoch.
      num_workers: number of processes that make batches; None for one per core.
    """

    make_batch: Callable[[int, int, int], Batch]
    num_examples: int
    num_workers: int | None = None

    def first(self, count: int) -> "Stream":
        """Returns this stream with epochs of at most `count` examples."""
        return self._replace(num_examples=min(count, self.num_examples))


class OpenStream:
    """A stream whose workers make the next batches; see `open_stream`."""

    def __init__(
        self,
        stream: Stream,
        seed: int,
        batch_size: int,
        last_step: int,
        pool: ProcessPoolExecutor,
    ) -> None:
        self._stream, self._pool, self._last_step = stream, pool, last_step
        self._arguments = (seed, batch_size)
        self._next = 0  # the first step that the workers were not asked for yet
        self._waiting: deque[tuple[int, Future[Batch]]] = deque()
        self._example: Batch | None = None
        # So many batches keep all workers busy, and bound the memory.
        self._ahead = 2 * _count_workers(stream)

    def batches(self, first: int, count: int) -> Batch:
        """Returns the batches of steps `first`, `first + 1` ... as [count, B, ...].

        Waits for the workers to make them, and asks for the batches that come next.

        Raises:
          UserError: a batch could not be made, or a worker was killed.
        """
        if not self._waiting or self._waiting[0][0] != first:
            self._restart(first)
        # As many as a call takes are made while the device is busy with that call.
        self._ask(first + count + max(count, self._ahead))
        made = [self._wait(*self._waiting.popleft()) for _ in range(count)]
        shapes = [{k: (v.shape, v.dtype) for k, v in each.items()} for each in made]
        if any(each != shapes[0] for each in shapes):
            raise DataError(
                f"the batches of steps {first} to {first + count - 1} differ in names, "
                "shapes or dtypes: a stream must make them alike"
            )
        return {name: np.stack([each[name] for each in made]) for name in made[0]}

    def zeros(self, count: int) -> Batch:
        """Returns zeros in the shapes of `batches`, to compile with."""
        if self._example is None:
            if not self._waiting:
                self._ask(self._next + 1)
            self._example = self._wait(*self._waiting[0])
        return {
            name: np.zeros((count, *array.shape), array.dtype)
            for name, array in self._example.items()
        }

    def _ask(self, end: int) -> None:
        seed, batch_size = self._arguments
        with _broken_pool_as_error():
            for step in range(self._next, min(end, self._last_step)):
                # A worker that starts here must not be stopped half-way: the others
                # would wait for it. It begins with these signals blocked.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
                try:
                    future = self._pool.submit(
                        self._stream.make_batch, seed, step, batch_size
                    )
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                self._waiting.append((step, future))
        self._next = max(self._next, min(end, self._last_step))

    def _restart(self, first: int) -> None:
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._next = first

    def _wait(self, step: int, future: Future[Batch]) -> Batch:
        with _broken_pool_as_error():
            try:
                return future.result()
            except (UserError, BrokenProcessPool):
                raise
            except Exception as error:  # `make_batch` may raise anything
                reason = " ".join(str(error).split())[:200]
                raise DataError(
                    f"the batch of step {step} could not be made: "
                    f"{type(error).__name__}: {reason}"
                ) from error


@contextlib.contextmanager
def open_stream(
    stream: Stream, seed: int, batch_size: int, last_step: int
) -> Iterator[OpenStream]:
    """Starts the workers of a stream, and ends them with the block.

    Args:
      stream: says which batches to make.
      seed: the run's seed.
      batch_size: examples in a batch.
      last_step: the number of steps of the run; no batch is made beyond it.
    """
    # Workers are spawned, because a process with threads, like JAX's, must not fork.
    pool = ProcessPoolExecutor(
        _count_workers(stream), multiprocessing.get_context("spawn"), _start_worker
    )
    try:
        yield OpenStream(stream, seed, batch_size, last_step, pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _count_workers(stream: Stream) -> int:
    if stream.num_workers is not None:
        return max(1, stream.num_workers)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _broken_pool_as_error() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            "a process that makes batches was killed: it may need more memory; lower "
            "config.batch_size"
        ) from error


def _start_worker() -> None:
    # Ctrl-C reaches all processes of a group. The training process saves and then ends
    # the workers, so that these leave the group and drop what has reached them already.
    os.setpgid(0, 0)
    for signum in _STOP:
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the pool ends its workers by it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
    end_with_parent()


def end_with_parent() -> None:
    """Ends this process when the one that has spawned it ends, however it ends.

    Otherwise a worker would wait for work for ever if its parent is killed.
    """
    threading.Thread(target=_wait_and_exit, daemon=True).start()


def _wait_and_exit() -> NoReturn:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
