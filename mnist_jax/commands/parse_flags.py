"""Parses a command's flags; what is wrong with them is said in one line."""

import importlib.metadata
import math
import platform
import re
import textwrap
from collections.abc import Iterable, Sequence

from absl import flags

import mnist_jax
from mnist_jax.errors import ConfigError, UserError, did_you_mean, nearest
from mnist_jax.run.command_lines import command_line
from mnist_jax.run.config_files import (
    FIELD_NAMES,
    check_field_names,
    configs_importable,
    find_config,
    load_config,
)

_WIDTH = 80  # of --help


def parse_flags(command_flags: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Gives the flags the values of a command line.

    Args:
      command_flags: the command's own; absl's, such as --verbosity, are added to them.
      argv: the command line, with the command's name.

    Returns:
      The arguments that are not flags, without the command's name.

    Raises:
      ConfigError: a flag is unknown, or its value cannot be used.
    """
    argv = list(argv)
    if "config" in command_flags:
        argv = _prepare_config_flags(argv, str(command_flags["config"].default))
    try:
        command_flags.append_flag_values(flags.FLAGS)
        with configs_importable():
            rest = command_flags(argv)[1:]
        flags.FLAGS.mark_as_parsed()  # libraries read theirs there
        _check_values(command_flags)
        return rest
    except UserError:
        raise
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(_explain_unknown(error.flagname, command_flags)) from error
    except Exception as error:  # absl and ml_collections raise many kinds here
        raise ConfigError(_last_line(error)) from error


def forget_values(command_flags: flags.FlagValues, names: Iterable[str]) -> None:
    """Undoes `parse_flags`, so that the same command can be called again.

    Args:
      command_flags: of the command.
      names: of the flags that it had defined before.
    """
    command_flags.remove_flag_values(set(command_flags) - set(names))
    for name in names:
        command_flags[name].unparse()


def asked_text(
    argv: Sequence[str], doc: str | None, command_flags: flags.FlagValues
) -> str:
    """Returns what a command line asks for by --help or --version; "" for neither.

    Args:
      argv: the command line, with the command's name.
      doc: the command's docstring.
      command_flags: the command's own.
    """
    asked = set(_before_dashes(argv)[1:])
    if asked & {"--help", "-help", "-h", "--helpfull"}:
        described = command_flags.get_help(include_special_flags=False)
        lines = described.strip("\n").splitlines()[1:]  # the first is a module's name
        lines.append("  --version: Print the versions of mnist_jax, JAX and Python.")
        return "\n".join([_show_doc(doc or ""), "", "Flags:", *lines])
    if asked & {"--version", "-version"}:
        jax, python = importlib.metadata.version("jax"), platform.python_version()
        return f"mnist_jax {mnist_jax.__version__}, jax {jax}, Python {python}"
    return ""


def _show_doc(doc: str) -> str:
    """Returns a command's docstring as help: 80 columns wide, and with its own name.

    What is indented stays as it is, but for the way in which commands are called.
    """
    doc = re.sub(r"python scripts/(\w+)\.py", lambda m: command_line(m[1]), doc)
    shown = [
        part if "\n " in f"\n{part}" else textwrap.fill(part, _WIDTH)
        for part in doc.strip().split("\n\n")
    ]
    return "\n\n".join(shown)


def refuse_arguments(arguments: list[str]) -> None:
    """Raises an error if there are arguments: for commands that take only flags.

    Raises:
      ConfigError: there is an argument that is no flag.
    """
    if not arguments:
        return
    hint = "flags look like --name=value"
    name, equals, value = arguments[0].partition("=")
    if equals and name in FIELD_NAMES:
        hint = did_you_mean([f"--config.{FIELD_NAMES[name]}={value}"])
    elif name.endswith(".py"):
        hint = did_you_mean([f"--config={name}"])
    raise ConfigError(f"unexpected argument {arguments[0]!r}; {hint}")


# What the flags are called elsewhere.
_OTHER_NAMES = {
    "checkpoint_dir": "workdir",
    "ckpt_dir": "workdir",
    "log_dir": "workdir",
    "logdir": "workdir",
    "model": "workdir",
    "model_dir": "workdir",
    "output_dir": "workdir",
    "save_dir": "workdir",
    "weights": "workdir",
    "continue": "resume",
    "restore": "resume",
    "force": "overwrite",
    "accelerator": "device",
    "cuda": "device",
    "gpu": "device",
    "gpus": "device",
    "cpu": "device",
    "tpu": "device",
    "data_path": "data_dir",
    "data_root": "data_dir",
    "root": "data_dir",
}


def _explain_unknown(given: str, command_flags: flags.FlagValues) -> str:
    """Returns what to say of a flag that is not there."""
    name = given.replace("-", "_").lower()
    own = {flag: flag for flag in command_flags if "." not in flag}
    other_names = {other: flag for other, flag in _OTHER_NAMES.items() if flag in own}
    fields = {other: f"config.{field}" for other, field in FIELD_NAMES.items()}
    known = other_names | (fields if "config" in own else {}) | own
    if name in fields and name not in known:
        return f"unknown flag --{given}: train.py sets {fields[name]}"
    meant = [f"--{known[other]}" for other in nearest(name, known)]
    if "sweep" in own:  # where a field may have several values
        meant += [m.replace("config.", "sweep.") for m in meant if "config." in m]
    hint = did_you_mean([*dict.fromkeys(meant)], "--help lists all flags")
    return f"unknown flag --{given}: {hint}"


def _before_dashes(argv: Sequence[str]) -> Sequence[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _check_values(command_flags: flags.FlagValues) -> None:
    """Refuses empty texts and numbers that are not finite.

    No flag of a command can mean those. A text that is empty is most likely a variable
    of the shell that is not set. The fields of a config have ranges of their own.
    """
    for name, value in command_flags.flag_values_dict().items():
        if name.startswith("config.") or not command_flags[name].present:
            continue
        if value == "" or (isinstance(value, list) and "" in value):
            raise ConfigError(f"--{name} is empty: give it a value, or leave it out")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--{name}={value} must be a finite number")


def _prepare_config_flags(argv: list[str], default: str) -> list[str]:
    """Returns the command line with the full path of its config file.

    Checks the file and the names of fields first, as ml_collections would answer with
    a traceback.
    """
    is_given = False
    for i, arg in enumerate(_before_dashes(argv)):
        if match := re.fullmatch(r"--?config(=.*)?", arg):
            is_given = True
            at = i if match[1] else i + 1
            path = find_config(match[1][1:] if match[1] else "".join(argv[at : at + 1]))
            load_config(path)
            argv[at] = f"--config={path}" if match[1] else str(path)
        elif match := re.match(r"--?(?:no)?config\.([^=]+)", arg):
            check_field_names([match[1]])
    return argv if is_given else [argv[0], f"--config={default}", *argv[1:]]


def _last_line(error: Exception) -> str:
    """Returns the part of a many-line flag or config-file error that says why."""
    name = str(error).strip("'\"")
    if isinstance(error, KeyError) or (
        isinstance(error, AttributeError) and name.isidentifier()
    ):
        return f"--config: no such field: {name!r}; add it in a config file"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
