"""Fetches, checks and reads the original archives of MNIST and its siblings.

Several mirrors are asked in turn, with time-outs. Files are compared with the sizes and
SHA-256 that tensorflow-datasets publishes for them.
"""

import contextlib
import gzip
import hashlib
import http.client
import os
import socket
import stat
import string
import struct
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.errors import DataError

CONNECT_TIMEOUT = 5.0  # seconds, for all mirrors together, as they are tried at once
READ_TIMEOUT = 15.0  # seconds without a byte
MIN_RATE = 20_000.0  # bytes/s; a mirror that is slower on average has stalled
MAX_CONTENT = 28 * 28 * 700_000 + 16  # bytes unpacked; the largest is EMNIST ByClass

SPLIT_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class Archives(NamedTuple):
    """The published archives of a data set: four files, or one zip file for EMNIST.

    `files` maps a file's name to its bytes and SHA-256, as in tfds's url_checksums;
    `builder` is the class in `tensorflow_datasets.image_classification`.
    """

    builder: str
    class_names: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: dict[str, tuple[int, str]]


# fmt: off
DATASETS = {
    "mnist": Archives(
        builder="MNIST",
        class_names=tuple("0123456789"),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        files={
            "train-images-idx3-ubyte.gz": (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),  # noqa: E501
            "train-labels-idx1-ubyte.gz": (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),  # noqa: E501
            "t10k-images-idx3-ubyte.gz": (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),  # noqa: E501
            "t10k-labels-idx1-ubyte.gz": (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),  # noqa: E501
        },
    ),
    "fashion_mnist": Archives(
        builder="FashionMNIST",
        class_names=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        files={
            "train-images-idx3-ubyte.gz": (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),  # noqa: E501
            "train-labels-idx1-ubyte.gz": (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),  # noqa: E501
            "t10k-images-idx3-ubyte.gz": (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),  # noqa: E501
            "t10k-labels-idx1-ubyte.gz": (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),  # noqa: E501
        },
    ),
    "kmnist": Archives(
        builder="KMNIST",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        files={
            "train-images-idx3-ubyte.gz": (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),  # noqa: E501
            "train-labels-idx1-ubyte.gz": (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),  # noqa: E501
            "t10k-images-idx3-ubyte.gz": (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),  # noqa: E501
            "t10k-labels-idx1-ubyte.gz": (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),  # noqa: E501
        },
    ),
}
# fmt: on

# All six are in one zip file. Labels are as in its mapping files; those of letters
# start at 1. Balanced and ByMerge join letters that look alike, such as c and C.
_LETTERS, _MERGED = string.ascii_uppercase, string.digits + string.ascii_uppercase
for _name, _classes in {
    "balanced": _MERGED + "abdefghnqrt",
    "byclass": _MERGED + string.ascii_lowercase,
    "bymerge": _MERGED + "abdefghnqrt",
    "digits": string.digits,
    "letters": _LETTERS,
    "mnist": string.digits,
}.items():
    DATASETS[f"emnist/{_name}"] = Archives(
        builder="EMNIST",
        class_names=tuple(_classes),
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
        files={
            "gzip.zip": (
                561_753_746,
                "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
            )
        },
    )


class DownloadError(DataError):
    """No mirror gave the archives; nothing is wrong with what is on this machine."""


def check_archives(name: str, folder: Path) -> dict[str, str]:
    """Compares the archives in `folder` with the published sizes and SHA-256.

    Returns:
      {file name: what is wrong with it}; empty when all are as published.
    """
    problems = {}
    for filename, (size, sha256) in DATASETS[name].files.items():
        try:
            if not stat.S_ISREG(os.stat(folder / filename).st_mode):
                problems[filename] = "is not a file"  # a pipe would hang
                continue
            with open(folder / filename, "rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    problems[filename] = f"has {found:,} bytes instead of {size:,}"
                elif hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    problems[filename] = "has the wrong SHA-256"
        except (FileNotFoundError, NotADirectoryError):
            problems[filename] = "is missing"
        except OSError as error:
            problems[filename] = f"cannot be read ({explain_failure(error)})"
    return problems


def download_archives(name: str, folder: Path) -> None:
    """Puts the archives that are missing or wrong in `folder` there, from the mirrors.

    A mirror that refuses, stalls or lies is not asked again. Proxies are taken from
    the environment. A file appears under its name only when it is whole and checked.

    Raises:
      DownloadError: no mirror gave a file. DataError: it could not be written.
    """
    archives = DATASETS[name]
    wanted = {f: archives.files[f] for f in check_archives(name, folder)}
    megabytes = sum(size for size, _ in wanted.values()) / 1e6
    print(f"downloading {name} ({megabytes:.1f} MB) to {folder}", file=sys.stderr)
    deadline = time.monotonic() + CONNECT_TIMEOUT
    probes = {mirror: _probe(mirror) for mirror in archives.mirrors}
    failures: dict[str, str] = {}
    for filename, (size, sha256) in wanted.items():
        for mirror in archives.mirrors:
            if mirror in failures:
                continue
            try:
                probes[mirror].result(max(0.0, deadline - time.monotonic()))
                content = _fetch(mirror + filename, size, sha256)
                break
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures[mirror] = explain_failure(error)
                print(f"  {_host(mirror)}: {failures[mirror]}", file=sys.stderr)
        else:
            raise DownloadError(
                "; ".join(f"{_host(mirror)}: {why}" for mirror, why in failures.items())
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(folder / filename) as file:
                file.write(content)
        except OSError as error:
            raise DataError(f"{folder / filename}: {explain_failure(error)}") from error


def _host(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))


def _probe(mirror: str) -> Future[None]:
    """Starts to connect to `mirror`, or to the proxy that leads there.

    In a thread, because looking up a name has no time-out of its own and with a dead
    name server takes half a minute; a daemon, so that it does not delay the exit.
    """
    future: Future[None] = Future()

    def connect() -> None:
        try:
            url = urllib.parse.urlsplit(mirror)
            proxy = urllib.request.getproxies().get(url.scheme)
            if proxy and not urllib.request.proxy_bypass(url.netloc):
                url = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
            port = url.port or (443 if url.scheme == "https" else 80)
            socket.create_connection((url.hostname, port), CONNECT_TIMEOUT).close()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    return future


def _fetch(url: str, size: int, sha256: str) -> bytearray:
    """Returns what `url` serves if it has this size and SHA-256.

    Raises:
      OSError, ValueError or HTTPException that says what went wrong.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "mnist_jax"})
    deadline = time.monotonic() + READ_TIMEOUT + size / MIN_RATE
    content = bytearray()
    try:
        with urllib.request.urlopen(request, timeout=READ_TIMEOUT) as response:
            # read1 returns after each packet, unlike read, so a trickle is noticed.
            while len(content) <= size and (chunk := response.read1(1 << 16)):
                content += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError
                if sys.stderr.isatty():
                    percent = min(100 * len(content) // size, 100)
                    line = f"\r  {_host(url)} {percent:3d} %"
                    print(line, end="", file=sys.stderr, flush=True)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP {error.code}") from None
    finally:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content):,}"
        raise ValueError(f"sent {found} bytes instead of {size:,}")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("sent a file with the wrong SHA-256")
    return content


def explain_failure(error: BaseException) -> str:
    """Says in a few words, on one line, what an exception means."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return explain_failure(error.reason)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    # This keeps what went wrong and drops the trail of who reported it on the way up.
    return text.strip().split("\n")[0].split(";")[0] or type(error).__name__


def read_archives(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads one split of the archives, in their own order.

    Returns:
      images uint8 [N, 28, 28, 1] and labels int32 [N].

    Raises:
      DataError: an archive is missing, damaged, or of another shape or count.
    """
    images_file, labels_file = SPLIT_FILES[split]
    images = _read_idx(folder / images_file, ndim=3)
    labels = _read_idx(folder / labels_file, ndim=1)
    return _checked(images, labels, folder, split)


def _checked(
    images: np.ndarray, labels: np.ndarray, where: Path, split: str
) -> tuple[np.ndarray, np.ndarray]:
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise DataError(
            f"{where}: {split} images {images.shape} do not fit labels {labels.shape}"
        )
    return images[..., None], labels.astype(np.int32)


def is_zipped(name: str) -> bool:
    """Whether a data set is one of several in a zip file, as EMNIST's are."""
    return name.startswith("emnist/")


def as_mnist(
    name: str, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Brings stored images and labels into MNIST's convention.

    EMNIST's archives, and tfds's copy of them, hold each image with its rows and
    columns exchanged, and count letters from 1 (arXiv:1702.05373); all else is left.

    Args:
      name: as in `DATASETS`, or any other.
      images: [N, 28, 28, 1].
      labels: [N].

    Returns:
      Both, upright and counted from 0.
    """
    if is_zipped(name):
        images = np.ascontiguousarray(images.swapaxes(1, 2))
    return images, labels - 1 if name == "emnist/letters" else labels


def unzip(name: str, folder: Path, target: Path) -> None:
    """Writes one data set of a checked zip file as MNIST's four archives.

    Images are upright and labels counted from 0, see `as_mnist`. Only four members
    are read, by name and up to `MAX_CONTENT` bytes; no name out of the zip file is
    ever a file's. Files that are in `target` already are kept.

    Raises:
      DataError: the zip file is damaged, or `target` cannot be written.
    """
    if all((target / f).is_file() for files in SPLIT_FILES.values() for f in files):
        return
    path = folder / next(iter(DATASETS[name].files))
    prefix = "gzip/" + name.replace("/", "-")
    for split, filenames in SPLIT_FILES.items():
        images = _read_idx(path, 3, f"{prefix}-{split}-images-idx3-ubyte.gz")
        labels = _read_idx(path, 1, f"{prefix}-{split}-labels-idx1-ubyte.gz")
        arrays = as_mnist(name, *_checked(images, labels, path, split))
        try:
            target.mkdir(parents=True, exist_ok=True)
            for filename, array in zip(filenames, arrays, strict=True):
                array = array.reshape(array.shape[:3]).astype(np.uint8)
                header = struct.pack(
                    f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape
                )
                with atomic_file(target / filename) as file:
                    content = header + array.tobytes()
                    file.write(gzip.compress(content, compresslevel=1, mtime=0))
        except OSError as error:
            raise DataError(f"{target}: {explain_failure(error)}") from error


def _read_idx(path: Path, ndim: int, member: str = "") -> np.ndarray:
    """Reads a gzipped IDX file (http://yann.lecun.com/exdb/mnist/) of uint8.

    Args:
      path: the file, or a zip file that has it as `member`.
      ndim: how many dimensions it must have.
      member: its name in the zip file.
    """
    try:
        with contextlib.ExitStack() as stack:
            raw: Any = stack.enter_context(open(path, "rb"))
            if member:
                zipped = stack.enter_context(zipfile.ZipFile(raw))
                raw = stack.enter_context(zipped.open(member))
                path = path / member  # for messages
            content = stack.enter_context(gzip.open(raw)).read(MAX_CONTENT + 1)
    except Exception as error:  # gzip and zipfile raise many kinds
        raise DataError(
            f"{path}: damaged archive ({explain_failure(error)})"
        ) from error
    if len(content) > MAX_CONTENT:
        raise DataError(f"{path}: unpacks to more than {MAX_CONTENT:,} bytes")
    start = 4 + 4 * ndim  # magic 0, 0, 8 (uint8), ndim; then each dimension
    shape = tuple(np.frombuffer(content[4:start], ">u4")) if len(content) > 4 else ()
    count = int(np.prod(shape, dtype=np.int64))
    if content[:4] != bytes([0, 0, 8, ndim]) or len(content) != start + count:
        raise DataError(f"{path}: not an IDX file of {ndim} dimensions")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def count_examples(folder: Path, split: str) -> int:
    """Returns the number of examples that a split's label archive says it holds.

    Raises:
      DataError: it is missing or damaged.
    """
    path = folder / SPLIT_FILES[split][1]
    try:
        with gzip.open(path, "rb") as file:
            return int.from_bytes(file.read(8)[4:], "big")
    except Exception as error:
        raise DataError(
            f"{path}: damaged archive ({explain_failure(error)})"
        ) from error
