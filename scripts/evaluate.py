"""Measures a trained model, and draws figures: see mnist_jax/commands/evaluate.py."""

import signal
import sys

if not hasattr(sys, "ps1"):  # IPython keeps its own
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import evaluate

if __name__ == "__main__":
    evaluate.run()
