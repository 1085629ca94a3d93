"""What all scripts share: flags, errors as one line, and the exit code."""

import atexit
import contextlib
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from absl import flags

from mnist_jax.config import ConfigDict, check_field_names
from mnist_jax.errors import ConfigError, Interrupted, UserError
from mnist_jax.run.config_files import (
    CONFIGS,
    configs_importable,
    find_config,
    load_config,
)

# The flags defined below belong to the script that asks for them, and to its --help.
flags.disclaim_key_flags()


def define_config_flag(default: str, what: str) -> flags.FlagHolder[ConfigDict]:
    """Defines `--config`, by default a file in `configs/`.

    Unless the command line names another, ml_collections reads that file here, with
    the fields that the command line sets: what is wrong with them is told here too.
    """
    from ml_collections import config_flags

    try:
        with configs_importable():
            holder: flags.FlagHolder[ConfigDict] = config_flags.DEFINE_config_file(
                "config", str(CONFIGS / default), what
            )
    except Exception as error:
        refused = _refused(sys.argv, error)
        _fail(refused, str(refused), refused.exit_code)
    return holder


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


def define_process_flags() -> None:
    """Defines what `join_processes` and `num_cpu_devices` read."""
    flags.DEFINE_integer(
        "num_cpu_devices",
        None,
        "Make so many devices of the CPU's cores.",
        lower_bound=1,
        upper_bound=256,
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "Join the processes that SLURM, Open MPI, Kubernetes or a TPU pod has started.",
    )
    flags.DEFINE_string(
        "coordinator_address", None, "Without those: HOST:PORT of the first process."
    )
    flags.DEFINE_integer(
        "num_processes", None, "How many processes there are.", lower_bound=1
    )
    flags.DEFINE_integer(
        "process_id", None, "Which of them this one is, from 0.", lower_bound=0
    )


def num_cpu_devices() -> int | None:
    """The flag `--num_cpu_devices`."""
    number: int | None = flags.FLAGS.num_cpu_devices
    return number


def join_processes(same: Mapping[str, Any]) -> int:
    """Joins the other processes of a run, if the flags say that there are any.

    Args:
      same: name and value of what must be the same in all of them, beside versions.

    Returns:
      How many processes there are.

    Raises:
      UserError: see `processes.join`.
    """
    values = flags.FLAGS
    given = (values.coordinator_address, values.num_processes, values.process_id)
    num_given = sum(value is not None for value in given)
    if num_given not in (0, 3) or (num_given and values.distributed):
        raise ConfigError(
            "give --coordinator_address, --num_processes and --process_id, all three; "
            "or --distributed alone, where a cluster names them"
        )
    if num_given or values.distributed:
        from mnist_jax.parallel import processes

        versions = processes.versions()
        return processes.join(processes.Processes(*given), {**versions, **same})
    return 1


Main = Callable[[list[str]], int | None]


def run(main: Main) -> NoReturn:
    """Parses the flags, calls `main(arguments)` and exits with its exit code.

    A `UserError` becomes one line on stderr. `--help` prints the docstring of main's
    module and its flags, and exits with 0. Ctrl-C ends the process at once and without
    a word, until training catches it.

    Args:
      main: takes the arguments that are not flags, without the script's name.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = main(_parse_flags(main, sys.argv))
        sys.stdout.flush()  # here, where a reader that has left can be caught
        _leave_others()
        _exit_fast(code or 0)
    except UserError as error:
        if isinstance(error, Interrupted):
            is_first = _leave_others()
            if is_first:
                print(f"stopped: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        _fail(error, str(error), error.exit_code)
    except BrokenPipeError as error:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if _joined():
            _fail(error, "nobody reads what process 0 prints", 141)
        sys.exit(141)
    except MemoryError as error:
        _fail(error, f"out of memory: {error or 'ask for less at once'}", 1)
    except OSError as error:  # stdout on a full disk, a path that is too long ...
        _fail(error, str(error), 1)
    except Exception as error:
        if not _joined():
            raise
        reason = " ".join(str(error).split())[:200]
        _fail(error, f"{type(error).__name__}: {reason}", 1)


def _exit_fast(code: int) -> NoReturn:
    """Exits once all is done, and leaves the memory to the operating system.

    To take the interpreter apart, with all the modules of JAX, takes a third of a
    second. Threads and exit handlers come first, as always.
    """

    def leave() -> None:
        atexit.unregister(leave)
        # All the others. Nothing public runs them; an exit in order after `gc.freeze()`
        # would need nothing private, and take 40 ms of processor time more.
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)  # the last to register is the first to be called
    sys.exit(code)


def _fail(error: Exception, message: str, code: int) -> NoReturn:
    if joined := _joined():
        joined.fail(error, message, code)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr, flush=True)
    # An exit in order would wait for threads that write what can no longer be written.
    os._exit(code)


def _leave_others() -> bool:
    """Waits for the other processes, if there are any; says if this is the first."""
    if not (joined := _joined()):
        return True
    import jax

    is_first = jax.process_index() == 0
    joined.leave()
    return is_first


def _joined() -> Any:
    """The module `processes`, where this process is one of several."""
    processes = sys.modules.get("mnist_jax.parallel.processes")
    return processes if processes and processes.is_joined() else None


def refuse_arguments(arguments: list[str]) -> None:
    """For scripts that take flags alone.

    Raises:
      ConfigError: there is an argument that is no flag.
    """
    if arguments:
        raise ConfigError(
            f"unexpected argument {arguments[0]!r}; flags look like --name=value"
        )


def _parse_flags(main: Main, argv: list[str]) -> list[str]:
    given = _before_dashes(argv)
    if {"--help", "-help", "-h", "--helpfull"} & set(given[1:]):
        print(_help_text(main))
        sys.exit(0)
    if "config" in flags.FLAGS:
        _check_config_flags(given)
    try:
        with configs_importable():
            rest = flags.FLAGS(argv)[1:]
        _check_values()
        return rest
    except UserError:
        raise
    except Exception as error:  # absl and ml_collections raise many kinds here
        raise ConfigError(_last_line(error)) from error


def _before_dashes(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _refused(argv: list[str], error: Exception) -> ConfigError:
    """What to say where `--config` cannot be defined."""
    try:
        _check_config_flags(_before_dashes(argv))
    except ConfigError as known:
        return known
    return ConfigError(_last_line(error))


def _check_values() -> None:
    """Refuses what no flag of a script can mean; a config's fields have their ranges.

    A text that is empty is most likely a variable of the shell that is not set.
    """
    for name, flag in flags.FLAGS.flag_values_dict().items():
        if name.startswith("config.") or not flags.FLAGS[name].present:
            continue
        if flag == "" or (isinstance(flag, list) and "" in flag):
            raise ConfigError(f"--{name} is empty: give it a value, or leave it out")
        if isinstance(flag, float) and not math.isfinite(flag):
            raise ConfigError(f"--{name}={flag} must be a finite number")


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
    name = str(error).strip("'\"")
    if isinstance(error, KeyError) or (
        isinstance(error, AttributeError) and name.isidentifier()
    ):
        return f"--config: no such field: {name!r}; add it in a config file"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _help_text(main: Main) -> str:
    name = main.__module__
    doc = (sys.modules[name].__doc__ or "").strip()
    own = flags.FLAGS.module_help(sys.argv[0] if name == "__main__" else name)
    return f"{doc}\n\nFlags:{own}"
