"""How the user calls the commands: by scripts of a checkout, or as installed."""

import sys
from pathlib import Path

_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def command_line(name: str) -> str:
    """Returns how to call a command, in the way in which this process was called.

    Args:
      name: such as "train".

    Returns:
      "mnist-jax train", or "python scripts/train.py".
    """
    launcher = Path(sys.argv[0] if sys.argv else "")
    is_installed = launcher.stem == "mnist-jax"
    is_module = launcher.name == "__main__.py" and launcher.parent.name == "mnist_jax"
    is_checkout = (_SCRIPTS / f"{name}.py").is_file()
    if is_installed or is_module or not is_checkout:
        return f"mnist-jax {name}"
    return f"python scripts/{name}.py"
