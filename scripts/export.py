"""Makes a trained model small: see mnist_jax/commands/export.py."""

import signal
import sys

if not hasattr(sys, "ps1"):  # IPython keeps its own
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import export

if __name__ == "__main__":
    export.run()
