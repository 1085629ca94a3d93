"""Writes answers into a file: row by row, or whole.

Rows (JSON lines and CSV) go into NAME.partial as they come, and that takes the name
when all are there. If the run is killed, the next one goes on behind the last whole
row. NAME.partial.run says what the rows depend on, so that rows of another model or of
other pictures are never mixed.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import mnist_jax
from mnist_jax.checkpoint.atomic import atomic_file, replace_text
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.local_files import explain_os_error, is_stream, take_lock
from mnist_jax.reading import answers
from mnist_jax.reading.answers import Record
from mnist_jax.reading.paths import Source
from mnist_jax.reading.predictions import Prediction

_MANY = 20  # with more pictures than these, a progress bar is shown
ROW_FORMS = ("jsonl", "csv")


def head_of(form: str) -> str | None:
    """Returns the line that comes before all rows; None for JSON lines."""
    return answers.csv_head() if form == "csv" else None


def row_of(record: Record, form: str) -> str:
    """Returns an answer as a row of a form, without its end."""
    return answers.to_csv_line(record) if form == "csv" else json.dumps(record)


def with_progress(
    predictions: Iterable[Prediction], count: int, start: int
) -> Iterable[Prediction]:
    """Shows a bar on a terminal while pictures are read, if there are many.

    Args:
      predictions: as they come.
      count: number of all pictures.
      start: how many of them an earlier run has read.
    """
    if count - start <= _MANY or not sys.stderr.isatty():
        return predictions
    from tqdm import tqdm

    progress: Iterable[Prediction] = tqdm(
        predictions, "reading", count, leave=False, unit="picture", initial=start
    )
    return progress


def check_output(path: str | None, form: str, *, resume: bool) -> None:
    """Checks, before anything is read, that rows can be written or gone on with.

    Args:
      path: of the file; None for stdout.
      form: "text", "json" or one of `ROW_FORMS`.
      resume: whether to go on with the rows of an earlier run.

    Raises:
      ConfigError: there can be nothing to go on with, or there is and `resume` is
        false, so that it would be lost.
    """
    if not path or form not in ROW_FORMS or is_stream(path):
        if resume:
            raise ConfigError(
                "--resume goes on with a file: name it by --output, with "
                "--format=jsonl or --format=csv"
            )
    elif resume and os.path.exists(path) and not os.path.lexists(_partial(path)):
        raise ConfigError(
            f"{path!r} is whole already: there is nothing to go on with; leave "
            "--resume out to read all again"
        )
    elif not resume and os.path.lexists(_partial(path)):
        raise ConfigError(
            f"{_partial(path)!r} holds the answers of a run that was stopped: --resume "
            "goes on with it; or delete it"
        )


def describe_run(
    weights: Sequence[Any],
    sources: Sequence[Source],
    labels: Mapping[str, str],
    settings: Sequence[Any],
) -> dict[str, str]:
    """Returns digests of all that rows depend on, by a name for people.

    Args:
      weights: the metadata of each checkpoint, with the digest of each array.
      sources: the pictures. A file is known by its name, size and time of change.
      labels: from `find_labels`.
      settings: of the reader and of the form.
    """

    def digest(parts: Iterable[Any]) -> str:
        whole = hashlib.sha256()
        for part in parts:
            whole.update(json.dumps(part, sort_keys=True, default=str).encode())
        return whole.hexdigest()

    def identify(source: Source) -> list[Any]:
        if source.content is not None:
            return [source.name, hashlib.sha256(source.content).hexdigest()]
        try:
            known = os.stat(source.name)
        except (OSError, ValueError):  # no such file, or no such name
            return [source.name, source.error]
        return [source.name, source.error, known.st_size, known.st_mtime_ns]

    return {
        "pictures": digest(map(identify, sources)),
        "labels": digest(labels.items()),
        "weights": digest(weights),
        "settings": digest([mnist_jax.__version__, *settings]),
    }


class Rows:
    """Takes answers one by one; this one writes nothing.

    Attributes:
      records: rows that an earlier run had written.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def resume_at(self) -> int:
        """Returns how many sources, from the first on, have all their rows already."""
        return 0

    def write(self, record: Record) -> None:
        """Adds an answer."""


class PrintedRows(Rows):
    """Prints each answer at once."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form
        if head := head_of(form):
            print(head, flush=True)

    def write(self, record: Record) -> None:
        """Prints a row."""
        print(row_of(record, self._form), flush=True)


class RowFile(Rows):
    """A file of rows, as a context: it takes its name at the end, without an error.

    Args:
      path: of the file, which is replaced at the end. A pipe or a device gets the rows
        at once.
      form: one of `ROW_FORMS`.
      run: what the rows depend on: {"pictures": digest ...}.
      resume: go on with the rows of an earlier run, if there are any.

    Attributes:
      records: the rows that the earlier run had written.

    Raises:
      ConfigError: the rows depend on something else, or another process writes them.
      UserError: the file cannot be read or written.
    """

    def __init__(
        self, path: str, form: str, run: Mapping[str, str], *, resume: bool
    ) -> None:
        super().__init__()
        self._path, self._form, self._run = path, form, dict(run)
        self._resume = resume
        self._is_new = self._has_rows = False
        self._ends: list[int] = []
        self._growing = not is_stream(path)
        self._partial = _partial(path)
        self._file: IO[bytes] = io.BytesIO()  # until it is open

    def __enter__(self) -> "RowFile":
        try:
            with self._errors():
                if not self._growing:
                    self._file = open(self._path, "ab")
                elif self._resume and os.path.lexists(self._partial):
                    self._go_on()
                else:
                    self._begin()
            if not self.records and (head := head_of(self._form)):
                self._put(head)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def write(self, record: Record) -> None:
        """Adds a row, and hands it to the operating system.

        Raises:
          UserError: it cannot be written, such as on a full disk.
        """
        self._put(row_of(record, self._form))
        self._has_rows = True

    def resume_at(self) -> int:
        """As `Rows.resume_at`.

        The rows of the last source are removed, because it may have pages whose rows
        are missing.
        """
        starts = [i for i, record in enumerate(self.records) if not record["page"]]
        if starts:
            last = starts.pop()
            with self._errors():
                self._file.truncate(self._ends[last])
                self._file.seek(0, os.SEEK_END)
            del self.records[last:]
        return len(starts)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error:
            # Closing tries again to write what could not be written.
            with contextlib.suppress(OSError):
                self._file.close()
        with self._errors():
            self._file.close()
            if not self._growing or (error and (self._has_rows or not self._is_new)):
                return
            if error:
                os.unlink(self._partial)
            else:
                os.replace(self._partial, os.path.realpath(self._path))
            os.unlink(f"{self._partial}.run")

    def _put(self, line: str) -> None:
        with self._errors():
            self._file.write(f"{line}\n".encode("utf-8", "backslashreplace"))
            self._file.flush()

    def _begin(self) -> None:
        replace_text(Path(f"{self._partial}.run"), json.dumps(self._run))
        self._file = open(self._partial, "xb")  # noqa: SIM115  __exit__ closes it
        self._is_new = True
        _lock(self._file, self._partial)

    def _go_on(self) -> None:
        """Opens the file behind its last whole row."""
        self._check_run()
        self._file = open(self._partial, "r+b")  # noqa: SIM115  __exit__ closes it
        _lock(self._file, self._partial)
        content = self._file.read()
        head = head_of(self._form)
        ends = _ends_of_rows(content, quoted=self._form == "csv")
        content = content[: ends[-1] if ends else 0]
        try:
            if self._form == "csv":
                self.records = answers.from_csv(content.decode()) if ends else []
            else:
                self.records = [_parse(line) for line in content.splitlines()]
        except ValueError as error:
            raise ConfigError(
                f"{self._partial!r} is damaged ({error}): delete it to begin again"
            ) from error
        self._has_rows = bool(self.records)
        # Where each row begins, and where the next one will.
        self._ends = ends if head else [0, *ends]
        self._file.truncate(self._ends[-1] if self.records else 0)
        self._file.seek(0, os.SEEK_END)

    def _check_run(self) -> None:
        """Compares what the rows depend on with what this run would write."""
        try:
            before = json.loads(Path(f"{self._partial}.run").read_bytes())
            different = [key for key in self._run if before[key] != self._run[key]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"--resume: {self._partial + '.run'!r} cannot be read, which says what "
                f"the answers depend on: delete {self._partial!r} to begin again"
            ) from error
        if different:
            raise ConfigError(
                f"--resume: {self._partial!r} was begun with other "
                f"{' and other '.join(different)}: give the same, or delete it to "
                "begin again"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            hint = ""
            if self._growing and self._has_rows:
                hint = f" ({self._partial!r} holds the answers so far, for --resume)"
            reason = explain_os_error(error)
            raise UserError(f"cannot write {self._path!r}: {reason}{hint}") from error


def _partial(path: str) -> str:
    return f"{os.path.realpath(path)}.partial"


def _lock(file: IO[bytes], name: str) -> None:
    """Keeps other processes from writing the same rows."""
    if not take_lock(file.fileno()):
        raise ConfigError(
            f"another process is writing {name!r}: wait for it, or name another "
            "--output"
        )


def _parse(line: bytes) -> Record:
    record: Any = json.loads(line)
    if not isinstance(record, dict) or tuple(record) != answers.COLUMNS:
        raise ValueError("it has rows of another kind")
    return record


def _ends_of_rows(content: bytes, *, quoted: bool) -> list[int]:
    """Returns where each whole row ends; a quoted cell may have line breaks in it."""
    ends, start, quotes = [], 0, 0
    while (end := content.find(b"\n", start) + 1) > 0:
        quotes += content.count(b'"', start, end)
        if not (quoted and quotes % 2):
            ends.append(end)
        start = end
    return ends


def write_file(path: str, text: str) -> None:
    """Writes a text file; if that fails, the old one is left as it was.

    Into a pipe or a device, such as /dev/stderr, the text is added.

    Raises:
      OSError: it cannot be written.
    """
    content = text.encode("utf-8", "backslashreplace")
    if is_stream(path):
        with open(path, "ab") as stream:
            stream.write(content)
        return
    with atomic_file(Path(path)) as file:
        file.write(content)
