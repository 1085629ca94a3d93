"""Runs a command as a process: its errors as one line, and its exit code."""

import atexit
import contextlib
import gc
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from absl import flags

from mnist_jax.commands import standard_streams
from mnist_jax.commands.parse_flags import asked_text, forget_values, parse_flags
from mnist_jax.errors import Interrupted, UserError
from mnist_jax.local_files import explain_os_error

Main = Callable[[list[str]], int | None]

_FIRST_COLLECTION = 500_000  # objects, about 100 MB


def run_command(
    main: Main,
    command_flags: flags.FlagValues,
    needs_stdout: Callable[[], bool] = lambda: False,
) -> NoReturn:
    """Parses the flags, calls `main(arguments)` and ends with its exit code.

    A `UserError` becomes one line on stderr. `--help` prints the docstring of main's
    module and the command's flags, `--version` prints the versions, and both exit with
    0. Ctrl-C ends the process at once and without a word, until training catches it; in
    IPython it is IPython's.

    A single process ends by SystemExit alone, and leaves flags, streams and signals as
    they were, so that a host such as IPython lives on and can run the command again.
    One of several processes may have to end at once, where another one has ended.

    Args:
      main: takes the arguments that are not flags, without the command's name; returns
        the exit code, or None for 0.
      command_flags: the flags that the command has defined.
      needs_stdout: says, when the flags are parsed, whether the result goes to stdout:
        then there is nothing to do without it. Else all is done, whatever becomes of
        stdout.
    """
    names = list(command_flags)
    with (
        _collect_late(),
        _ctrl_c_ends_at_once(),
        standard_streams.open_streams() as streams,
    ):
        try:
            code = _call(main, command_flags, streams, needs_stdout)
        finally:
            forget_values(command_flags, names)
    # Otherwise Python would free all modules of JAX one by one: a third of a second.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    sys.exit(code)


def _call(
    main: Main,
    command_flags: flags.FlagValues,
    streams: standard_streams.Streams,
    needs_stdout: Callable[[], bool],
) -> int:
    """Returns the exit code; what has gone wrong is on stderr then."""
    try:
        doc = sys.modules[main.__module__].__doc__
        if text := asked_text(sys.argv, doc, command_flags):
            print(text)
            code = 0
        else:
            arguments = parse_flags(command_flags, sys.argv)
            if needs_stdout():
                streams.need_stdout()
            code = main(arguments) or 0
        sys.stdout.flush()  # here, where an error can be caught
        _leave_others()
        return _of_stdout(streams.stdout_error) or code
    except UserError as error:
        if isinstance(error, Interrupted):
            is_first = _leave_others()
            if is_first:
                print(f"stopped: {error}", file=sys.stderr)
            return error.exit_code
        return _fail(error, str(error), error.exit_code)
    except MemoryError as error:
        return _fail(error, f"out of memory: {error or 'ask for less at once'}", 1)
    except OSError as error:  # stdout on a full disk, a path that is too long ...
        if error is not streams.stdout_error:
            return _fail(error, _describe(error), 1)
        if joined := _joined():
            joined.fail(error, standard_streams.describe_stdout_error(error), 1)
        return _of_stdout(error)
    except Exception as error:
        if variable := _refused_option(error):
            return _fail(error, variable, 1)
        if not _joined():
            raise
        reason = " ".join(str(error).split())[:200]
        return _fail(error, f"{type(error).__name__}: {reason}", 1)


def _describe(error: OSError) -> str:
    """Says what could not be read or written, and why."""
    reason = explain_os_error(error)
    return reason if error.filename is None else f"{str(error.filename)!r}: {reason}"


@contextlib.contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """Lets Ctrl-C end this process at once within the block, but no IPython.

    Python's own handler waits until a compilation has ended.
    """
    before = None
    if not hasattr(sys, "ps1"):
        with contextlib.suppress(ValueError):  # not the main thread
            before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _collect_late() -> Iterator[None]:
    """Lets Python's collector of cyclic garbage run late for the first time.

    JAX, Flax and Optax make 200,000 objects while they are imported. By default the
    collector would look through them 270 times, and find nothing: that takes a seventh
    of the time of the imports.
    """
    before = gc.get_threshold()
    if before[0] in (0, _FIRST_COLLECTION):  # it is off, or late already
        yield
        return
    lives_on = hasattr(sys, "ps1")  # as IPython does

    def restore(phase: str = "stop", _: Mapping[str, int] | None = None) -> None:
        if phase == "stop" and restore in gc.callbacks:
            gc.callbacks.remove(restore)
            gc.set_threshold(*before)
            if not lives_on:
                gc.freeze()  # what was imported stays

    gc.callbacks.append(restore)
    gc.set_threshold(_FIRST_COLLECTION, *before[1:])
    try:
        yield
    finally:
        if lives_on:
            restore()


def _of_stdout(error: OSError | None) -> int:
    """Returns the exit code that an error of stdout asks for, and says what it was."""
    if error is None:
        return 0
    if standard_streams.is_reader_gone(error):  # such as `head`, which has seen enough
        return 141
    print(f"error: {standard_streams.describe_stdout_error(error)}", file=sys.stderr)
    return 1


def _refused_option(error: Exception) -> str | None:
    """Returns the error line if JAX has refused a variable of the environment."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    names = {frame.f_globals.get("__name__") for frame in frames}
    if isinstance(error, ValueError) and "jax._src.config" in names:
        reason = " ".join(str(error).split())[:200]
        return f"JAX refuses a variable of the environment, mend or unset it: {reason}"
    return None


def _fail(error: Exception, message: str, code: int) -> int:
    if joined := _joined():
        joined.fail(error, message, code)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


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
