"""Errors that a user can cause and mend, and the look-up of names in a config.

An error's message says in one line what is wrong, where, and what to do about it.
Scripts print it without a traceback and exit with `exit_code` (see
`mnist_jax.commands.run_command`).
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any


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


def suggest(name: str, valid: Iterable[str]) -> str:
    """Returns the end of an error line: the nearest valid name, then all valid ones."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}(valid: {', '.join(valid)})"


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
        kind = type(found).__name__
        raise ConfigError(f"{field} = {name!r} is a {kind}, which cannot be called")
    return found
