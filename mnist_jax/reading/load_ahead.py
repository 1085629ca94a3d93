"""Loads pictures ahead of the nets that read them, several at once, in order."""

import collections
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from mnist_jax.errors import PictureError
from mnist_jax.reading.paths import Source

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORKERS = min(8, os.cpu_count() or 1)
_AHEAD = 4 * _WORKERS  # at most so many sources are loaded and not yet taken
BATCH = 64  # pages that are read at once, at most
_BATCH_PIXELS = 2**23  # of the pages of a batch after the first


class LoadedPage(NamedTuple):
    """A page of a source, or the images of an array, or why there is neither.

    Attributes:
      source: what was loaded.
      number: of the source, from 1.
      label: its right answer, if that is known.
      page: number of the page, from 0.
      picture: RGB, or None.
      grey: uint8 [H, W], the picture for a page net; None if that was not asked for.
      stack: images of an array, as `files.read_stack` returns them, or None.
      error: why nothing was loaded, or "".
    """

    source: Source
    number: int
    label: str | None = None
    page: int = 0
    picture: "Image.Image | None" = None
    grey: np.ndarray | None = None
    stack: np.ndarray | None = None
    error: str = ""

    @property
    def scale(self) -> float:
        """How many pixels of the file make one of the picture, which may be reduced."""
        assert self.picture is not None
        width: float = self.picture.info["full_size"][0]
        return width / self.picture.width


def load_batches(
    sources: Iterable[Source],
    labels: Mapping[str, str],
    start: int,
    for_page_net: bool,
) -> Iterator[list[LoadedPage]]:
    """Loads sources in threads; yields their pages in order, in batches.

    A batch decides the last bits of its answers. So that they are the same wherever
    reading starts, a batch ends with every source whose number is a multiple of
    `BATCH`, and the first batch has sources before `start` that belong to it.

    Args:
      sources: from `paths.find_pictures`.
      labels: as for `Reader.read_files`.
      start: how many of the sources were read before.
      for_page_net: whether pages get a `grey`.
    """
    first = start // BATCH * BATCH
    left = itertools.islice(sources, first, None)
    first_pages = (
        LoadedPage(source, number, labels.get(source.name))
        for number, source in enumerate(left, first + 1)
    )
    load = functools.partial(_load, for_page_net=for_page_net)
    loaded = in_threads(load, first_pages, _WORKERS, _AHEAD)
    batch: list[LoadedPage] = []
    pixels = 0
    errors: list[Exception] = []
    for page in _until_error(itertools.chain.from_iterable(loaded), errors):
        size = page.picture.width * page.picture.height if page.picture else 0
        is_full = len(batch) == BATCH or pixels + size > _BATCH_PIXELS
        ends = batch and page.number > batch[-1].number and page.number % BATCH == 1
        if batch and (is_full or ends):
            yield batch
            batch, pixels = [], 0
        batch.append(page)
        pixels += size
    if batch:
        yield batch
    for error in errors:
        raise error


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Iterator[Result]:
    """Calls a function on items in threads; yields the results in order.

    Args:
      function: that threads may call.
      items: taken one by one, as results are taken. What they raise is raised after
        the results of the items before.
      workers: how many threads.
      ahead: at most so many items are taken whose results are not.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: collections.deque[Future[Result]] = collections.deque()
    errors: list[Exception] = []
    try:
        for item in _until_error(items, errors):
            waiting.append(pool.submit(function, item))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        for error in errors:
            raise error
    finally:
        pool.shutdown(cancel_futures=True)


def _until_error(items: Iterable[Item], errors: list[Exception]) -> Iterator[Item]:
    """Yields items; appends what they raise to `errors`, and ends."""
    try:
        yield from items
    except Exception as error:
        errors.append(error)


def _load(page: LoadedPage, for_page_net: bool) -> Iterator[LoadedPage]:
    """Loads the first two pages of a source; the others when they are asked for.

    So a thread decodes what most files have, and a file of many pages has but two of
    them in memory.
    """
    from mnist_jax.reading.files import read_stack

    try:
        stack = None if page.source.error else read_stack(page.source.place)
    except PictureError as error:
        return iter([page._replace(error=str(error))])
    if stack is not None:
        return iter([page._replace(stack=stack)])
    pages = (
        prepare_page(page._replace(page=place), picture, for_page_net)
        for place, picture in enumerate(load_each_page(page.source))
    )
    first = list(itertools.islice(pages, 2))
    if len(first) < 2:
        return iter(first)
    # One label cannot be that of several pages.
    return (each._replace(label=None) for each in itertools.chain(first, pages))


def prepare_page(
    page: LoadedPage, picture: "Image.Image | PictureError", for_page_net: bool
) -> LoadedPage:
    """Puts a picture, or why there is none, into the record of its page."""
    from mnist_jax.reading.page_reader import to_grey

    if isinstance(picture, PictureError):
        return page._replace(error=str(picture))
    try:
        grey = to_grey(picture) if for_page_net else None
    except Exception as error:  # the other pictures are read nevertheless
        return page._replace(error=unforeseen(error))
    return page._replace(picture=picture, grey=grey)


def load_each_page(source: Source) -> "Iterator[Image.Image | PictureError]":
    """Loads the pages of a source one by one; yields what `read_pages` does."""
    from mnist_jax.reading.file_pages import read_pages

    if source.error:
        return iter([PictureError(source.error)])
    return read_pages(source.place)


def unforeseen(error: Exception) -> str:
    """Says in one line that a picture cannot be read, for no reason that is known."""
    reason = f"{type(error).__name__}: {error}"
    return f"cannot be read ({' '.join(reason.split())[:100]})"
