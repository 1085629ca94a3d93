"""Trains a digit recogniser and saves it: see mnist_jax/commands/train.py."""

import signal
import sys

if not hasattr(sys, "ps1"):  # IPython keeps its own
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import train

if __name__ == "__main__":
    train.run()
