"""Loads pictures ahead of the nets that read them, several at once, in order."""

import collections
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnist_jax.errors import PictureError
from mnist_jax.reading.paths import Source

if TYPE_CHECKING:
    from PIL import Image

_WORKERS = min(8, os.cpu_count() or 1)
_AHEAD = 4 * _WORKERS  # at most so many sources are loaded and not yet taken
BATCH = 16  # pages that are read at once, at most
_BATCH_PIXELS = 2**24  # of the pages of a batch after the first


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

    Which pages make a batch depends on the pages alone, and so do the answers to the
    last bit.

    Args:
      sources: from `paths.find_pictures`.
      labels: as for `Reader.read_files`.
      start: how many of the sources are left out.
      for_page_net: whether pages get a `grey`.
    """
    batch: list[LoadedPage] = []
    pixels = 0
    for page in _load_in_threads(sources, labels, start, for_page_net):
        size = page.picture.width * page.picture.height if page.picture else 0
        if len(batch) == BATCH or (batch and pixels + size > _BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(page)
        pixels += size
    if batch:
        yield batch


def _load_in_threads(
    sources: Iterable[Source],
    labels: Mapping[str, str],
    start: int,
    for_page_net: bool,
) -> Iterator[LoadedPage]:
    pool = ThreadPoolExecutor(_WORKERS)
    waiting: collections.deque[Future[Iterator[LoadedPage]]] = collections.deque()
    try:
        left = itertools.islice(sources, start, None)
        for number, source in enumerate(left, start + 1):
            first = LoadedPage(source, number, labels.get(source.name))
            waiting.append(pool.submit(_load, first, for_page_net))
            if len(waiting) == _AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
