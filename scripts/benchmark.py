"""Measures how fast all of it is: see mnist_jax/commands/benchmark.py."""

import signal
import sys

if not hasattr(sys, "ps1"):  # IPython keeps its own
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import benchmark

if __name__ == "__main__":
    benchmark.run()
