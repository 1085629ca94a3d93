"""Trains on handwritten digits, and reads them in pictures.

  mnist-jax predict photo.jpg scan.png
  mnist-jax train --config=fast --workdir=checkpoints/mine
  mnist-jax predict --workdir=checkpoints/mine photo.jpg
  mnist-jax train --help

`python -m mnist_jax` is the same, and so is scripts/NAME.py of a checkout. What a
command saves is put below the folder that you are in, unless --workdir names another.
"""

import importlib
import shlex
import signal
import sys
from typing import NoReturn

from absl import flags

from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.run_module import COMMANDS
from mnist_jax.errors import ConfigError, suggest

_WIDTH = max(map(len, COMMANDS))
_LIST = [f"  {name:{_WIDTH}}  {what}" for name, what in COMMANDS.items()]
__doc__ = "\n".join([(__doc__ or "").rstrip(), "", "Commands:", *_LIST])

_FLAGS = flags.FlagValues()


def main(arguments: list[str]) -> NoReturn:
    """Says what is wrong with a command line that begins with no command.

    Raises:
      ConfigError: always.
    """
    if not arguments:
        raise ConfigError(f"name a command: {', '.join(COMMANDS)}")
    if named := _named(arguments):
        others = [word for word in arguments if word != named]
        hint = f"mnist-jax {shlex.join([named, *others])}"
        raise ConfigError(f"name the command first: {hint}")
    raise ConfigError(f"no command {arguments[0]!r}: {suggest(arguments[0], COMMANDS)}")


def _named(words: list[str]) -> str:
    return next((word for word in words if word in COMMANDS), "")


def run() -> NoReturn:
    """Runs the command that the first argument names, as its script does."""
    if not hasattr(sys, "ps1"):  # IPython keeps its own
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the scripts do
    if named := _named(sys.argv[1:]):
        if named == sys.argv[1]:
            del sys.argv[1]
            importlib.import_module(f"mnist_jax.commands.{named}").run()
        sys.argv.insert(1, "--")  # so that the flags before it are arguments of `main`
    run_command(main, _FLAGS)


if __name__ == "__main__":
    run()
