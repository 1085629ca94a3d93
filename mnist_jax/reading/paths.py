"""Finds the pictures that the arguments of a command line name."""

import collections
import glob
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from mnist_jax.errors import ConfigError, UserError
from mnist_jax.local_files import is_url
from mnist_jax.reading.files import MAX_BYTES, SUFFIXES
from mnist_jax.reading.unwrap import content_of

STDIN = "-"
_MAX_LIST = 2**26  # bytes that a list of paths may have
# Pictures and documents of formats that are not read. In a folder they are counted.
UNREAD_SUFFIXES = frozenset(
    {".ai", ".arw", ".cr2", ".cr3", ".djvu", ".dng", ".emf", ".eps", ".exr"}
    | {".ico", ".j2k", ".jp2", ".jpx", ".jxl", ".nef"}
    | {".orf", ".ps", ".psd", ".qoi", ".raf", ".rw2", ".svg", ".tga", ".wmf"}
    | {".xcf"}
)


class Source(NamedTuple):
    """A picture to be read, or the reason why it cannot be read.

    Attributes:
      name: its path, or "<stdin>".
      content: of the file, if it came from stdin; else None.
      error: why it cannot be read, if that is known already; else "".
    """

    name: str
    content: bytes | None = None
    error: str = ""

    @property
    def place(self) -> str | bytes:
        """Where its bytes are: its path, or its content."""
        return self.name if self.content is None else self.content


class FoundPictures(NamedTuple):
    """What a command line names.

    Attributes:
      sources: one or more for each argument.
      left_out: one line that counts what folders and patterns hold besides, and that is
        not read; "" if there is nothing.
    """

    sources: list[Source]
    left_out: str = ""


def find_pictures(
    arguments: Iterable[str], *, recursive: bool = False
) -> FoundPictures:
    """Finds pictures, in natural order: 2.png comes before 10.png.

    Args:
      arguments: each is a file; a folder, for all files in it with a picture's suffix;
        a pattern such as "*.png" that no shell has expanded; or "-", for a picture on
        stdin.
      recursive: whether to look into folders inside folders. Links to folders are not
        followed.
    """
    sources: list[Source] = []
    others: Others = collections.Counter()
    for argument in arguments:
        if argument == STDIN:
            used = any(source.name == "<stdin>" for source in sources)
            sources.append(_twice() if used else _read_stdin())
        else:
            sources += _find(argument, recursive, others)
    return FoundPictures(sources, describe_others(others))


def take_part(sources: Sequence[Source], shard: str) -> list[Source]:
    """Returns one of several parts of pictures, which are cut where they stand.

    The parts, one behind another, are all pictures in their order. Their sizes differ
    by one at most.

    Args:
      sources: all pictures.
      shard: "K/N", for part K, from 0, of N.

    Raises:
      ConfigError: `shard` is something else.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
    part, count = map(int, found.groups()) if found else (0, 0)
    if part >= count:
        raise ConfigError(
            f"--shard={shard}: give K/N with K from 0 to N - 1, as in 0/4"
        )
    total = len(sources)
    return list(sources[total * part // count : total * (part + 1) // count])


def read_paths(path: str) -> list[str]:
    """Reads a list of paths, one on each line or separated by nulls (`find -print0`).

    Args:
      path: of the list; "-" for stdin.

    Raises:
      UserError: the list cannot be read, or is empty.
    """
    shown = "stdin" if path == STDIN else repr(path)
    try:
        if path == STDIN:
            content = _stdin().read(_MAX_LIST + 1) or b""
        else:
            _check_list(path)
            with open(path, "rb") as file:
                content = file.read(_MAX_LIST + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read --paths_from={path}: {reason}") from error
    if len(content) > _MAX_LIST:
        raise UserError(f"--paths_from: {shown} is too long for a list of pictures")
    if b"\0" in content:
        lines = content.split(b"\0")
    else:
        text = content.removeprefix(b"\xef\xbb\xbf")  # Windows' byte order mark
        lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    paths = [os.fsdecode(line) for line in lines if line.strip()]
    if not paths:
        raise UserError(f"--paths_from: {shown} names no picture")
    return paths


def _check_list(path: str) -> None:
    """Refuses pipes and devices, which may never end, except a shell's <(command)."""
    mode = os.stat(path).st_mode
    of_a_shell = path.startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/"))
    if not (stat.S_ISREG(mode) or of_a_shell):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UserError(f"--paths_from={path} is {kind}: name a file of paths")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Returns a key for sorting names, with the numbers in them by their value."""
    parts = re.split(r"([0-9]+)", name)
    # Case is ignored; of equal numbers, the one with fewer leading zeros is first.
    key = [
        (0, int(part[:4000]), part) if i % 2 else (1, 0, part.casefold())
        for i, part in enumerate(parts)
    ]
    return [*key, (1, 0, name)]


# How many, by the suffix of a format that is not read, or by one of the words below.
Others = collections.Counter[str]
_FOLDER, _LINK, _FILE = "folder", "link", "file"
# A table is read, or named in a warning of its own; Windows leaves the other two.
_SILENT = ("labels.csv", "thumbs.db", "desktop.ini")


def source_of_url(text: str) -> Source | None:
    """Returns the picture of a data URL, or that other URLs are not read; else None."""
    if content := content_of(text):
        return Source("<data URL>", content)
    if is_url(text):
        return Source(text, error="is a URL: download the picture first")
    return None


def _find(argument: str, recursive: bool, others: Others) -> Sequence[Source]:
    if not os.path.lexists(argument):
        if by_url := source_of_url(argument):
            return [by_url]
        argument = os.path.expanduser(argument)  # a list's ~ has been in no shell
    if os.path.isdir(argument):
        inside: Others = collections.Counter()
        if found := list(walk_folder(argument, recursive, inside)):
            others += inside
            return found
        error = "is a folder with no picture in it"
        if hint := describe_others(inside):
            error += f", but {hint}"
        return [Source(argument, error=error)]
    if os.path.lexists(argument) or not glob.has_magic(argument):
        return [Source(argument)]
    return _expand(argument, recursive, others) or [
        Source(argument, error="no such file, and as a pattern it matches none")
    ]


def _expand(pattern: str, recursive: bool, others: Others) -> list[Source]:
    """Finds the files that a pattern matches and, if `recursive`, the folders."""
    sources: list[Source] = []
    for path in sorted(glob.iglob(pattern), key=natural_key):
        if not os.path.isdir(path) or is_picture(path):
            sources.append(Source(path))
        elif recursive:
            sources += walk_folder(path, recursive, others)
        else:
            others[_FOLDER] += 1
    return sources


def walk_folder(folder: str, recursive: bool, others: Others) -> Iterator[Source]:
    """Finds the pictures of a folder, then those of the folders inside it.

    Args:
      folder: its path.
      recursive: as for `find_pictures`.
      others: to count in what else might be meant: pictures of other formats, files
        without a suffix, folders that it does not look into. See `describe_others`.

    Yields:
      A picture, or a folder that cannot be read, with the error.
    """
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: natural_key(entry.name))
        except OSError as error:
            yield Source(folder, error=(error.strerror or str(error)).lower())
            continue
        folders = []
        for entry in found:
            if entry.name.startswith("."):  # hidden, or metadata of macOS
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            if recursive and entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif is_picture(entry.name):
                yield Source(entry.path)
            elif entry.is_dir():
                others[_LINK if recursive else _FOLDER] += 1
            else:
                known = suffix in UNREAD_SUFFIXES or entry.name.lower() in _SILENT
                others[suffix if known else _FILE] += 1
        waiting += reversed(folders)


def describe_others(others: Others, *, with_hints: bool = True) -> str:
    """Counts in a line what a folder holds besides pictures; "" if that is nothing.

    Args:
      others: from `walk_folder`.
      with_hints: whether to say how `predict.py` reads them.

    Returns:
      Such as "3 files of other formats (2 .psd, 1 .svg: save as PNG or JPEG)".
    """

    def say(count: int, one: str) -> str:
        return f"{count:,} {one}{'' if count == 1 else 's'}"

    def hint(text: str) -> str:
        return f" ({text})" if with_hints else ""

    suffixes = {s: n for s, n in sorted(others.items()) if s in UNREAD_SUFFIXES}
    parts = []
    if suffixes:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.items())
        files = say(sum(suffixes.values()), "file")
        parts.append(f"{files} of other formats ({kinds}: save as PNG or JPEG)")
    if others[_FILE]:
        files = f"{say(others[_FILE], 'file')} without a picture's suffix"
        parts.append(files + hint("name them to read them"))
    if others[_FOLDER]:
        parts.append(say(others[_FOLDER], "folder") + hint("read with --recursive"))
    if others[_LINK]:
        links = f"{say(others[_LINK], 'link')} to folders"
        parts.append(links + hint("name the folders"))
    return " and ".join(parts)


def is_picture(name: str) -> bool:
    """Whether a file's name has the suffix of a picture that is read."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _twice() -> Source:
    return Source("<stdin>", error="stdin was read already")


def _read_stdin() -> Source:
    try:
        content = _stdin().read(MAX_BYTES + 1) or b""
    except OSError as error:
        return Source("<stdin>", error=error.strerror or str(error))
    return Source("<stdin>", content)


def _stdin() -> IO[bytes]:
    """Returns stdin, unless it would wait for a person to type a picture.

    Raises:
      ConfigError: stdin is closed, or is a terminal.
    """
    if sys.stdin is None:
        raise ConfigError("stdin is closed: '-' reads a picture from it")
    if sys.stdin.isatty():
        raise ConfigError(
            "stdin is a terminal: redirect a file to it, as in '- < FILE'"
        )
    return sys.stdin.buffer
