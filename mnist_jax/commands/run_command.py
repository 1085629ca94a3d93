"""Runs a command as a process: its errors as one line, and its exit code."""

import atexit
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import flags

from mnist_jax.commands.parse_flags import asked_text, parse_flags
from mnist_jax.errors import Interrupted, UserError
from mnist_jax.local_files import explain_os_error

Main = Callable[[list[str]], int | None]


def run_command(main: Main, command_flags: flags.FlagValues) -> NoReturn:
    """Parses the flags, calls `main(arguments)` and ends the process.

    A `UserError` becomes one line on stderr. `--help` prints the docstring of main's
    module and the command's flags, `--version` prints the versions, and both exit with
    0. Ctrl-C ends the process at once and without a word, until training catches it.

    Args:
      main: takes the arguments that are not flags, without the command's name; returns
        the exit code, or None for 0.
      command_flags: the flags that the command has defined.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        doc = sys.modules[main.__module__].__doc__
        if text := asked_text(sys.argv, doc, command_flags):
            print(text)
            sys.stdout.flush()
            sys.exit(0)
        code = main(parse_flags(command_flags, sys.argv))
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
    except BrokenPipeError as error:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if _joined():
            _fail(error, "nobody reads what process 0 prints", 141)
        sys.exit(141)
    except MemoryError as error:
        _fail(error, f"out of memory: {error or 'ask for less at once'}", 1)
    except OSError as error:  # stdout on a full disk, a path that is too long ...
        _fail(error, _describe(error), 1)
    except Exception as error:
        if not _joined():
            raise
        reason = " ".join(str(error).split())[:200]
        _fail(error, f"{type(error).__name__}: {reason}", 1)


def _describe(error: OSError) -> str:
    """Says what could not be read or written, and why."""
    reason = explain_os_error(error)
    if error.filename is not None:
        return f"{str(error.filename)!r}: {reason}"
    # Commands write files under `writing`, so only a stream is left that has no name.
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return f"cannot write to stdout: {reason}" if is_full else reason


def _exit_fast(code: int) -> NoReturn:
    """Runs the exit handlers, and lets the operating system free the memory.

    Python's own way to free all modules of JAX takes a third of a second. Threads and
    exit handlers come first, as always.
    """

    def leave() -> None:
        atexit.unregister(leave)
        # Runs all other handlers. Nothing public does that. An ordinary exit after
        # `gc.freeze()` would need nothing private, and takes 40 ms longer.
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
    # An ordinary exit would wait for threads whose writing can no longer succeed.
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
