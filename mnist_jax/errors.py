"""Errors that a user can cause and mend, and the look-up of names in a config.

An error's message says in one line what is wrong, where, and what to do about it.
Scripts print it without a traceback and exit with `exit_code` (see
`mnist_jax.commands.run_command`).
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FEW = 140  # characters of a list of names that a line may show


class UserError(Exception):
    """Base of all errors that are shown as one line."""

    exit_code = 1


class ConfigError(UserError):
    """A config or a flag that cannot be used."""

    exit_code = 2


class ArgumentError(UserError, ValueError):
    """An argument of a function that has another shape, type or range than it must."""

    exit_code = 2


class DataError(UserError):
    """A data set that is missing, damaged or cannot be fetched."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, foreign or cannot be written."""


class PictureError(UserError):
    """A picture file that cannot be read."""


class Interrupted(UserError):  # noqa: N818  because it is not an error
    """Training was asked to stop by a signal, and has saved."""

    def __init__(self, message: str, signum: int) -> None:
        """Sets the exit code that shells expect after signal `signum`."""
        super().__init__(message)
        self.exit_code = 128 + signum


def kind_of(value: object) -> str:
    """Returns "an int", "a str" or "a Tensor": the type of a value, for a message."""
    name = type(value).__name__
    with_an = name[0] in "AEIOaeio" or name == "ndarray"  # as in: a uint8
    return f"{'an' if with_an else 'a'} {name}"


def nearest(name: str, valid: Iterable[str]) -> list[str]:
    """Returns the valid names that a user may have meant, at most three.

    These are the names that end in `.NAME`; or else one that is spelled almost so; or
    else some that are spelled a little like it.
    """
    valid = sorted(valid)
    if inner := [other for other in valid if other.endswith(f".{name}")]:
        return inner[:3]
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.75)
    return near or difflib.get_close_matches(name, valid, n=3, cutoff=0.6)


def did_you_mean(names: Sequence[str], rest: str = "") -> str:
    """Returns "did you mean a, b or c? (rest)"; without names, or rest, the other."""
    if not names:
        return rest
    some = ", ".join(names[:-1])
    meant = f"did you mean {some}{' or ' if some else ''}{names[-1]}?"
    return f"{meant} ({rest})" if rest else meant


def suggest(name: str, valid: Iterable[str], where: str = "") -> str:
    """Returns the end of an error line: what may be meant, and all names, if few.

    Args:
      name: what is not valid.
      valid: the names that are.
      where: to read all names, if they are too many for a line.
    """
    valid = sorted(valid)
    near = nearest(name, valid)
    if len(", ".join(valid)) <= _FEW or not (where or near):
        rest = f"valid: {', '.join(valid)}"
    else:
        rest = f"{where} lists all {len(valid)}" if where else ""
    return did_you_mean([repr(other) for other in near], rest)


def lookup(name: str, table: Mapping[str, Any], field: str, what: str = "") -> Any:
    """Returns what a name in a config stands for.

    Args:
      name: a key of the table; or "my_package.module:name", which is imported, so that
        users can add to every table from a package of their own.
      table: the names that come with this project.
      field: where the name stands, such as "config.model.name", for the message.
      what: what to say of a name that is not there, such as " is no optimizer".

    Raises:
      ConfigError: the name is not in the table and cannot be imported.
    """
    if name in table:
        return table[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        hint = suggest(name, table)
        raise ConfigError(
            f"{field} = {name!r}{what}: {hint}, or 'my_package.module:name'"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module is the user's code and may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{field} = {name!r} cannot be imported: {reason[:200]}"
        ) from error
    if all(map(callable, table.values())) and table and not callable(found):
        kind = kind_of(found)
        raise ConfigError(f"{field} = {name!r} is {kind}, which cannot be called")
    return found
