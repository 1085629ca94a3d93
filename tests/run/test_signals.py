import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mnist_jax.run.signals import catch_signals


@pytest.fixture(autouse=True)
def _usual_handlers():
    """A shell that runs tests in the background may have some signals ignored."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {signum: signal.signal(signum, how) for signum, how in usual.items()}
    yield
    for signum, how in before.items():
        signal.signal(signum, how)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_sets_the_flag(signum):
    before = signal.getsignal(signum)
    with catch_signals() as stop:
        assert stop.signum == 0
        os.kill(os.getpid(), signum)
        assert stop.signum == signum
    assert signal.getsignal(signum) is before


def test_a_second_signal_leaves_at_once():
    program = (
        "import os, signal\n"
        "from mnist_jax.run.signals import catch_signals\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # as commands do
        "with catch_signals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('second')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-2, "first\n", "")


def test_a_second_signal_is_that_of_the_host():
    """Python's own handler, as in a notebook, which lives on."""

    def interrupt_twice():
        with catch_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signum == signal.SIGTERM
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nohup_is_obeyed():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signum == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_gets_a_flag_that_stays_0():
    seen = []

    def work():
        with catch_signals() as stop:
            seen.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
