"""Says of `python -m mnist_jax.NAME` that it is no command, if it is none."""

import sys
from collections.abc import Sequence

COMMANDS = ("benchmark", "draw", "evaluate", "export", "predict", "sweep", "train")

_RUNNABLE = (
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
            say = f"python -m mnist_jax.commands.{meant}"
            print(f"error: {name} is no command: say {say}", file=sys.stderr)
            sys.exit(2)
