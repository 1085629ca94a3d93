"""Measures how fast all of it is: see mnist_jax/commands/benchmark.py."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import benchmark

if __name__ == "__main__":
    benchmark.run()
