"""Makes a trained model small: see mnist_jax/commands/export.py."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of half-done imports

from mnist_jax.commands import export

if __name__ == "__main__":
    export.run()
