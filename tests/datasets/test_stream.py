import contextlib
import os
import signal
import time

import numpy as np
import pytest
from dots_task import exit_at_once, make_batch, make_growing_batch

from mnist_jax.datasets.stream import Stream, open_stream
from mnist_jax.errors import DataError, UserError


def test_batches_are_those_of_the_function_in_any_order_of_asking():
    with open_stream(Stream(make_batch, 100, num_workers=2), 5, 4, 100) as opened:
        for first, count in [(0, 3), (3, 1), (4, 2), (90, 2), (1, 1)]:
            got = opened.batches(first, count)
            for i in range(count):
                expected = make_batch(5, first + i, 4)
                assert got.keys() == expected.keys()
                for name in expected:
                    np.testing.assert_array_equal(got[name][i], expected[name])


def test_workers_stay_ahead_but_not_far(tmp_path, monkeypatch):
    """Memory is bounded, however slowly batches are taken."""
    monkeypatch.setenv("DOTS_FOLDER", str(tmp_path))
    with open_stream(Stream(make_batch, 100, num_workers=2), 0, 4, 100) as opened:
        opened.batches(0, 3)
        deadline = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) < 3 + 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        assert sorted(int(p.name) for p in tmp_path.iterdir()) == list(range(3 + 4))


def test_nothing_is_made_beyond_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setenv("DOTS_FOLDER", str(tmp_path))
    with open_stream(Stream(make_batch, 100, num_workers=2), 0, 4, 5) as opened:
        opened.batches(0, 5)
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == list(range(5))


def test_batches_that_differ_are_one_line():
    stream = Stream(make_growing_batch, 100, num_workers=1)
    with (
        open_stream(stream, 0, 4, 100) as opened,
        pytest.raises(
            DataError, match="steps 0 to 1 differ in names, shapes or dtypes"
        ),
    ):
        opened.batches(0, 2)


def test_zeros_have_the_shapes_of_batches():
    with open_stream(Stream(make_batch, 100, num_workers=1), 0, 4, 100) as opened:
        zeros = opened.zeros(3)
        batches = opened.batches(0, 3)
    assert {k: (v.shape, v.dtype) for k, v in zeros.items()} == {
        k: (v.shape, v.dtype) for k, v in batches.items()
    }
    assert not any(v.any() for v in zeros.values())


def test_one_of_several_workers_that_is_killed_is_one_line():
    """The others end too: the pool would wait for them for ever."""

    def take_all(opened):
        for step in range(2000):
            opened.batches(step, 1)
            workers = list(opened._pool._processes)
            if step >= 50 and len(workers) == 2:
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    os.kill(workers[0], signal.SIGKILL)

    stream = Stream(make_batch, 10_000, num_workers=2)
    with (
        open_stream(stream, 0, 4, 2000) as opened,
        pytest.raises(UserError, match="was killed: it may need more memory"),
    ):
        take_all(opened)


def test_a_worker_that_is_killed_is_one_line():
    stream = Stream(exit_at_once, 100, num_workers=1)
    with (
        open_stream(stream, 0, 4, 100) as opened,
        pytest.raises(UserError, match="was killed: it may need more memory"),
    ):
        opened.batches(0, 1)
