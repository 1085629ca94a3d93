"""The table of commands, and what `python -m mnist_jax.NAME` says if NAME is none.

`mnist_jax/__main__.py` runs the commands by these names.
"""

import sys
from collections.abc import Sequence

# What each does, in a line of the list that `mnist-jax --help` prints. A command's name
# is that of its file in this folder, and of its script in scripts/.
COMMANDS = {
    "train": "train a model and save it",
    "evaluate": "measure a trained model on a whole split, with figures",
    "predict": "read the digits in pictures",
    "draw": "open a page to draw on, which reads digits",
    "sweep": "compare settings, with several seeds each",
    "benchmark": "measure speed",
    "export": "make a trained model small, to pass it on",
}

_RUNNABLE = (
    "mnist_jax",
    *(f"mnist_jax.commands.{name}" for name in COMMANDS),
    "mnist_jax.benchmark.peers",  # benchmark.py --compare starts it
)


def refuse_other_modules(argv: Sequence[str]) -> None:
    """Ends the process with one line if a module is to be run that is no command.

    Args:
      argv: the command line of the interpreter: `sys.orig_argv`.
    """
    words = [word.removeprefix("-m") for word in argv[1:]]
    for name in [word for word in words if word.split(".")[0] == "mnist_jax"][:1]:
        if name not in _RUNNABLE:
            last = name.rpartition(".")[2]
            meant = last if last in COMMANDS else f"NAME, of {', '.join(COMMANDS)}"
            say = f"python -m mnist_jax {meant}"
            print(f"error: {name} is no command: say {say}", file=sys.stderr)
            sys.exit(2)
