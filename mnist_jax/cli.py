"""What all scripts share: flags, errors as one line, and the exit code."""

import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from absl import flags

from mnist_jax.config import check_field_names, find_config, load_config
from mnist_jax.errors import ConfigError, Interrupted, UserError

# The flags defined below belong to the script that asks for them, and to its --help.
flags.disclaim_key_flags()


def define_device_flag() -> flags.FlagHolder[str | None]:
    """Defines `--device`."""
    return flags.DEFINE_enum(
        "device", None, ["cpu", "gpu", "tpu"], "What to run on; by default the best."
    )


def define_data_dir_flags() -> tuple[
    flags.FlagHolder[str | None], flags.FlagHolder[str | None]
]:
    """Defines `--data_dir` and `--manual_dir`."""
    data_dir = flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of tfds data sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
    )
    manual_dir = flags.DEFINE_string(
        "manual_dir",
        None,
        "Folder with the data set's original archives, if you have them.",
    )
    return data_dir, manual_dir


def run(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Parses the flags, calls `main(arguments)` and exits with its exit code.

    A `UserError` becomes one line on stderr; Ctrl-C exits with 130. `--help` prints
    the script's docstring and its own flags, and exits with 0.

    Args:
      main: takes the arguments that are not flags, without the script's name.
    """
    # Until training catches it itself. JAX's import would swallow an exception.
    signal.signal(signal.SIGINT, _leave)
    try:
        code = main(_parse_flags(sys.argv))
        sys.stdout.flush()  # here, where a reader that has left can be caught
        sys.exit(code)
    except UserError as error:
        label = "stopped" if isinstance(error, Interrupted) else "error"
        _fail(f"{label}: {error}", error.exit_code)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # stdout on a full disk, a path that is too long ...
        _fail(f"error: {error}", 1)
    except Exception as error:
        if not _is_distributed():
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        _fail(f"error: stopped, most likely as another process has: {reason}", 1)


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    if _is_distributed():
        # An exit in order would wait for processes that wait for this one.
        os._exit(code)
    sys.exit(code)


def _is_distributed() -> bool:
    if "jax" not in sys.modules:
        return False
    from mnist_jax.devices import is_distributed

    return is_distributed()


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


def refuse_arguments(arguments: list[str]) -> None:
    """For scripts that take flags alone.

    Raises:
      ConfigError: there is an argument that is no flag.
    """
    if arguments:
        raise ConfigError(
            f"unexpected argument {arguments[0]!r}; flags look like --name=value"
        )


def _parse_flags(argv: list[str]) -> list[str]:
    given = argv[: argv.index("--")] if "--" in argv else argv
    if {"--help", "-help", "-h", "--helpfull"} & set(given[1:]):
        print(_help_text())
        sys.exit(0)
    if "config" in flags.FLAGS:
        _check_config_flags(given)
    try:
        return flags.FLAGS(argv)[1:]
    except UserError:
        raise
    except Exception as error:  # absl and ml_collections raise many kinds here
        raise ConfigError(_last_line(error)) from error


def _check_config_flags(argv: list[str]) -> None:
    """Says in one line what ml_collections would say in a traceback.

    Puts the place where a config file was found into `argv`.
    """
    for i, arg in enumerate(argv):
        if match := re.fullmatch(r"--?config(=.*)?", arg):
            at = i if match[1] else i + 1
            path = find_config(match[1][1:] if match[1] else "".join(argv[at : at + 1]))
            load_config(path)
            argv[at] = f"--config={path}" if match[1] else str(path)
        elif match := re.match(r"--?(?:no)?config\.([^=]+)", arg):
            check_field_names([match[1]])


def _last_line(error: Exception) -> str:
    """Returns the part of a many-line flag or config-file error that says why."""
    if isinstance(error, KeyError):
        return f"--config: no such field: {error}; add it in a config file"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _help_text() -> str:
    main_module = sys.modules["__main__"]
    doc = (main_module.__doc__ or "").strip()
    return f"{doc}\n\nFlags:{flags.FLAGS.main_module_help()}"
