import os
import signal
import subprocess
import sys
import threading

import pytest

from mnist_jax.run.signals import catch_signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
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
        "with catch_signals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('second')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "first\n", "")


def test_a_thread_gets_a_flag_that_stays_0():
    seen = []

    def work():
        with catch_signals() as stop:
            seen.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
