"""Opens a page to draw digits on: see mnist_jax/commands/draw.py."""

import signal
import sys

if not hasattr(sys, "ps1"):  # IPython keeps its own
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import draw

if __name__ == "__main__":
    draw.run()
