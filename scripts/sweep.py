"""Trains configs with several seeds and compares them: see commands/sweep.py."""

import signal
import sys

if not hasattr(sys, "ps1"):  # IPython keeps its own
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import sweep

if __name__ == "__main__":
    sweep.run()
