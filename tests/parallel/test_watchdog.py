import subprocess
import sys


def test_its_line_comes_before_an_abort_and_is_the_last():
    """JAX aborts in a thread of its own when process 0 is gone, and talks of it."""
    program = (
        "import ctypes, os, socket, threading, time\n"
        "from mnist_jax.parallel.watchdog import Watchdog\n"
        "def talk():\n"
        "    while not time.sleep(0.001):\n"
        "        os.write(2, b'Polled an error\\n\\n')\n"
        "here, there = socket.socketpair()\n"
        "Watchdog(1, {0: here})\n"
        "threading.Thread(target=talk, daemon=True).start()\n"
        "threading.Timer(0.5, there.close).start()\n"
        "ctypes.CDLL(None).abort()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: process 0 has ended without a word: ")


def test_a_process_without_stderr_ends_too():
    program = (
        "import os, socket, time\n"
        "from mnist_jax.parallel.watchdog import Watchdog\n"
        "here, there = socket.socketpair()\n"
        "Watchdog(1, {0: here})\n"
        "os.close(2)\n"
        "there.close()\n"
        "time.sleep(50)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=40)
    assert done.returncode == 1
