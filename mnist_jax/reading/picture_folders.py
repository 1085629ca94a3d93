"""Folders of pictures as a data set: `config.dataset = "folder"`, or "mnist+folder".

DIR/CLASS/*.png  ─►  28x28 images, prepared as predict.py does, and cached
                 ─►  train, validation and test, by the content of the files
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import mnist_jax
from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.datasets.arrays import Dataset, hold_out
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.cache_folder import cache_dir
from mnist_jax.datasets.sources import DatasetSource, resolve_dataset
from mnist_jax.errors import ConfigError, DataError, PictureError
from mnist_jax.local_files import local_path, split_folders
from mnist_jax.reading.file_pages import read_pages_or_images
from mnist_jax.reading.files import MAX_BYTES, open_regular_file, reasons
from mnist_jax.reading.number_arrays import white_on_black
from mnist_jax.reading.paths import (
    Others,
    describe_others,
    is_picture,
    natural_key,
    walk_folder,
)
from mnist_jax.reading.pictures import BlankError, prepare

_TEST, _VALIDATION = 0.2, 0.1  # shares of each class
# Images of the split "mixed", and those of them that are the person's own. With more
# of them, or slower steps, more of MNIST was forgotten, and no more was learned.
_MIXED, _OWN = 6400, 800
_CACHE_VERSION = f"2 of {mnist_jax.__version__}"  # of what `prepare` makes
_MOST_NAMED = 5  # new classes that a warning names
_DIGITS = tuple("0123456789")
_NOTHING = np.zeros((28, 28), np.uint8)


class Picture(NamedTuple):
    """A page of a file, or an image of an array, in the folder of a class.

    Attributes:
      path: of the file; of one of several pages, as in "scan.tif[1]", from 0.
      label: name of the class.
      sha: SHA-256 (hex) of the file's bytes; behind it, "+" and the page, if not 0.
      image: uint8 [28, 28].
      reason: why there is no image; else "".
    """

    path: str
    label: str
    sha: str
    image: np.ndarray
    reason: str


def load_folders(
    base: str, data_folder: str, validation: int, **where: Any
) -> DatasetSource:
    """Loads pictures in folders by class, alone or beside another data set.

    Each page of a file, and each image of an array, is a picture. Files of the same
    bytes count once. Each class is split by the SHA-256s of its files, so that names,
    order and machine do not matter: a fifth is for "test", a tenth for "validation",
    and the rest is for "train". Folders of digits alone make the ten digits, even if
    some are missing.

    With a base, classes of the same name are one. "train", "validation" and "test" have
    the images of both; if the base has no validation images, `validation` of them are
    held out of its "train". "own_train", "own_validation" and "own_test" have the
    pictures alone. "mixed" has 6,400 images to adapt a net with: 800 are pictures of
    "own_train", each several times, and the others are training images of the base.

    Args:
      base: name of the other data set; "" for none.
      data_folder: see `find_folders`.
      validation: from the config.
      where: other arguments of `resolve_dataset`, for the base.

    Raises:
      ConfigError: there is no such folder, or no such data set.
      DataError: the folder holds too few pictures.
    """
    folders = find_folders(data_folder)
    shown = ", ".join(map(str, folders))
    files, passed_over = _files(folders)
    pictures, left_out = _choose(_read(folders, files))
    counts = collections.Counter(picture.label for picture in pictures)
    names = sorted(counts, key=natural_key)
    if set(names) <= set(_DIGITS):
        names = list(_DIGITS)
    about = f"{len(pictures):,} picture{'s' * (len(pictures) != 1)} from {shown}"
    source = DatasetSource("folder", about, tuple(names), "arrays", {}, {})
    others = resolve_dataset(base, **where) if base else None
    if others is not None:
        known = others.class_names
        source = dataclasses.replace(
            others,
            name=f"{others.name}+folder",
            description=f"{about}; {others.description}",
            class_names=(*known, *(name for name in names if name not in known)),
            fallback_for=others.fallback_for and f"{others.fallback_for}+folder",
            file_format="arrays",
        )
    if not pictures or not 2 <= source.num_classes <= 1000:
        raise DataError(
            f"config.data_folder: folders with pictures in {shown}: {len(names)}; put "
            "pictures into two or more, one for each class, such as DIR/7/one.png"
        )
    arrays = _split(pictures, source.class_names)
    if others is not None:
        arrays = _mix(arrays, others, validation)
    for name, part in arrays.items():
        if not len(part.labels):
            raise DataError(
                f"config.data_folder: of {about}, none is left for {name}: put five or "
                "more of a class into its folder"
            )
    return dataclasses.replace(
        source,
        files=dict.fromkeys(arrays, ()),
        shard_lengths={name: (len(own.labels),) for name, own in arrays.items()},
        arrays=arrays,
        left_out=(*passed_over, *left_out),
        warnings=_warn_of_strays(counts, others, shown),
    )


def _warn_of_strays(
    counts: Mapping[str, int], others: DatasetSource | None, shown: str
) -> tuple[str, ...]:
    """Names the folders that become classes, and of which nobody may have thought.

    Beside another data set these are all classes that it lacks. Alone they are those
    that are no digits, unless they are more than the digits.
    """
    known = others.class_names if others else _DIGITS
    new = sorted(counts.keys() - set(known), key=natural_key)
    if not new or (others is None and 2 * len(new) > len(counts)):
        return ()
    some = [
        f"{name!r} ({counts[name]:,} picture{'s' * (counts[name] > 1)})"
        for name in new[:_MOST_NAMED]
    ]
    if more := len(new[_MOST_NAMED:]):
        some.append(f"{more:,} more")
    several = "es" * (len(new) > 1)
    beside = f"those of {others.name}" if others else "the digits"
    return (
        f"new class{several} {', '.join(some)} beside {beside}: if that is not meant, "
        f"move what is no class out of {shown}",
    )


def find_folders(text: str) -> list[Path]:
    """Returns the folders that `config.data_folder` names: see `split_folders`.

    Raises:
      ConfigError: it names none, or one that is not there.
    """
    names = split_folders(text)
    if not names:
        raise ConfigError(
            "config.data_folder is empty: name a folder that has pictures in a folder "
            "for each class, such as DIR/7/one.png"
        )
    folders = [Path(local_path(name, "config.data_folder")) for name in names]
    for folder in folders:
        if not os.path.isdir(folder):
            raise ConfigError(f"config.data_folder: no folder {str(folder)!r}")
    return [folder.absolute() for folder in folders]


def _read(folders: Sequence[Path], files: Sequence[tuple[str, str]]) -> list[Picture]:
    """Reads all pictures; files that were read before come from the cache."""
    where = hashlib.sha256("\n".join(map(str, folders)).encode()).hexdigest()[:12]
    cache = cache_dir() / f"folder-{where}.npz"
    known = _read_cache(cache)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        read = functools.partial(_read_file, known=known)
        found = workers.map(read, *zip(*files, strict=True))
        pictures = list(itertools.chain.from_iterable(found))
    if {picture.sha for picture in pictures} != known.keys():
        _write_cache(cache, pictures)
    return pictures


def _files(folders: Sequence[Path]) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns path and class of each picture, and counts what is none, in lines.

    Raises:
      DataError: there is no picture, or a folder cannot be read.
    """
    files: list[tuple[str, str]] = []
    passed_over = []
    for folder in folders:
        try:
            inside = [path for path in folder.iterdir() if path.name[0] != "."]
            inside.sort(key=lambda path: natural_key(path.name))
            classes = [path for path in inside if path.is_dir()]
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}") from error
        loose = [p.name for p in inside if p not in classes and is_picture(p.name)]
        if loose:
            names = ", ".join(loose[:3]) + ", ..." * (len(loose) > 3)
            passed_over.append(f"{folder}: {names}: not in the folder of a class")
        for own in classes:
            others = Others()
            found = list(walk_folder(str(own), True, others))
            if found and found[0].name == str(own):
                raise DataError(f"{own}: {found[0].error}: it would be left out")
            files += [(source.name, own.name) for source in found]
            if told := describe_others(others, with_hints=False):
                passed_over.append(f"{own}: {told}")
    if not files:
        besides = f" ({'; '.join(passed_over[:3])})" if passed_over else ""
        raise DataError(
            f"config.data_folder: no pictures in {', '.join(map(str, folders))}"
            f"{besides}: put them into a folder for each class, such as DIR/7/one.png"
        )
    return files, passed_over


def _read_file(
    path: str, label: str, known: Mapping[str, tuple[np.ndarray, str]]
) -> list[Picture]:
    """Reads and prepares the pages of a file, unless its content is known."""
    try:
        with reasons(), open_regular_file(path) as file:
            content = file.read(MAX_BYTES + 1)
    except PictureError as error:
        return [Picture(path, label, "", _NOTHING, str(error))]
    sha = hashlib.sha256(content).hexdigest()
    keys = (_page_key(sha, page) for page in itertools.count())
    pages = [known[key] for key in itertools.takewhile(known.__contains__, keys)]
    pages = pages or _prepare_pages(content)
    return [
        Picture(
            f"{path}[{page}]" if len(pages) > 1 else path,
            label,
            _page_key(sha, page),
            *prepared,
        )
        for page, prepared in enumerate(pages)
    ]


def _page_key(sha: str, page: int) -> str:
    return f"{sha}+{page:06}" if page else sha  # so that pages are in order


def _prepare_pages(content: bytes) -> list[tuple[np.ndarray, str]]:
    """Returns an image [28, 28] of each page of a file, and why there is none, or "".

    Frames of an animation that stands still are one picture.
    """
    pages: list[tuple[np.ndarray, str]] = []
    first: dict[bytes, int] = {}
    for number, page in enumerate(read_pages_or_images(content)):
        try:
            image, reason = _prepare(page), ""
        except BlankError:
            image, reason = _NOTHING, "is blank"
        except PictureError as error:
            image, reason = _NOTHING, str(error)
        same = first.setdefault(image.tobytes(), number)
        if same < number and not reason:
            reason = f"is the same as its page {same}"
        pages.append((image, reason))
    return pages


def _prepare(page: Image.Image | PictureError) -> np.ndarray:
    """Returns uint8 [28, 28]; a picture of 28x28 stays as it is, with light ink."""
    if isinstance(page, PictureError):
        raise page
    if page.info["full_size"] != (28, 28):
        return prepare(page)
    image = np.asarray(page.convert("L"))
    if image.min() == image.max():
        raise BlankError
    return white_on_black(image[None, ..., None])[0, ..., 0]


def _choose(pictures: Sequence[Picture]) -> tuple[list[Picture], tuple[str, ...]]:
    """Leaves out what cannot be used, and says of each file why."""
    labels = collections.defaultdict(set)
    for picture in pictures:
        labels[picture.sha].add(picture.label)
    kept: dict[str, Picture] = {}
    left_out = []
    for picture in pictures:
        both = sorted(labels[picture.sha], key=natural_key)
        if picture.reason:
            left_out.append(f"{picture.path}: {picture.reason}")
        elif len(both) > 1:
            left_out.append(f"{picture.path}: is in {' and in '.join(both)}")
        elif picture.sha in kept:
            left_out.append(f"{picture.path}: is the same as {kept[picture.sha].path}")
        else:
            kept[picture.sha] = picture
    return [kept[sha] for sha in sorted(kept)], tuple(left_out)


def _split(
    pictures: Sequence[Picture], class_names: Sequence[str]
) -> dict[str, Dataset]:
    """Splits pictures, which are in the order of their SHA-256s, class by class."""
    parts: dict[str, list[Picture]] = {"train": [], "validation": [], "test": []}
    for name in class_names:
        own = [picture for picture in pictures if picture.label == name]
        # Of two pictures, one is for test; of four, one is for validation.
        num_test = max(round(_TEST * len(own)), len(own) > 1)
        num_validation = max(round(_VALIDATION * len(own)), len(own) > 3)
        parts["test"] += own[:num_test]
        parts["validation"] += own[num_test : num_test + num_validation]
        parts["train"] += own[num_test + num_validation :]
    arrays = {}
    for split, chosen in parts.items():
        images = [p.image[..., None] for p in chosen]
        labels = [class_names.index(p.label) for p in chosen]
        arrays[split] = Dataset(
            np.array(images, np.uint8).reshape(-1, 28, 28, 1),
            np.array(labels, np.int32),
        )
    return arrays


def _mix(
    own: Mapping[str, Dataset], others: DatasetSource, validation: int
) -> dict[str, Dataset]:
    """Puts pictures beside the images of another data set: see `load_folders`."""
    splits = ("train", "validation", "test")
    base = {
        split: load_dataset(others, split) for split in splits if split in others.splits
    }
    if "validation" not in base:
        base["train"], base["validation"] = hold_out(base["train"], validation, seed=0)
    arrays = {split: _join(own[split], base[split]) for split in splits}
    arrays |= {f"own_{split}": own[split] for split in splits}
    rng = np.random.default_rng(0)
    drawn = _draw(rng, own["train"], _OWN), _draw(rng, base["train"], _MIXED - _OWN)
    return arrays | {"mixed": _join(*drawn)}


def _draw(rng: np.random.Generator, dataset: Dataset, count: int) -> Dataset:
    """Draws images so that each is there equally often, but for once more or less."""
    total = len(dataset.labels)
    rounds = [rng.permutation(total) for _ in range(-(-count // total))]
    order = np.concatenate(rounds)[:count]
    return Dataset(dataset.images[order], dataset.labels[order])


def _join(*parts: Dataset) -> Dataset:
    return Dataset(*map(np.concatenate, zip(*parts, strict=True)))


def _read_cache(path: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Returns {SHA-256 of a file: its image, or why it has none}."""
    try:
        with open(path, "rb") as npz, np.load(npz) as cached:
            if str(cached["version"]) == _CACHE_VERSION:
                shas, reasons = cached["shas"].tolist(), cached["reasons"].tolist()
                images = cached["images"]
                pairs = zip(images, reasons, strict=True)
                return dict(zip(shas, pairs, strict=True))
    except Exception:  # missing, or damaged in one of many ways: it is made anew
        pass
    return {}


def _write_cache(path: Path, pictures: Sequence[Picture]) -> None:
    every = {picture.sha: picture for picture in pictures}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            np.savez(
                file,
                version=_CACHE_VERSION,
                shas=np.array(list(every)),
                reasons=np.array([picture.reason for picture in every.values()]),
                images=np.stack([picture.image for picture in every.values()]),
            )
    except OSError:
        pass  # no room or no permission: go on without a cache
