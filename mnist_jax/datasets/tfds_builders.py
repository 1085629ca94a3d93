"""Prepares MNIST and its siblings for tensorflow-datasets without TensorFlow.

The stock builder needs TensorFlow to unzip, to read and to encode PNG; here those
three are gzip, NumPy and Pillow. The result is a normal tfds directory, equal to what
TensorFlow's own preparation writes.
"""

import contextlib
import errno
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax.datasets.archives import (
    DATASETS,
    SPLIT_FILES,
    explain_failure,
    read_archives,
)
from mnist_jax.errors import DataError


def can_prepare() -> bool:
    """Returns whether array_record is installed, which Windows does not have."""
    return importlib.util.find_spec("array_record") is not None


def tfds_order(num_examples: int, split: str) -> np.ndarray:
    """Returns the order in which tfds writes examples 0..N-1: by MD5 of split and key.

    Data read straight from the archives and put in this order equals prepared data,
    so `train[:50000]` means the same images on every machine
    (`tensorflow_datasets.core.hashing`).
    """
    salt = hashlib.md5(split.encode(), usedforsecurity=False)
    digests = []
    for key in range(num_examples):
        md5 = salt.copy()
        md5.update(str(key).encode())
        digests.append(md5.digest())
    return np.array(sorted(range(num_examples), key=digests.__getitem__))


def prepare_tfds(name: str, archives: Path, data_dir: Path) -> None:
    """Writes checked archives as DATA_DIR/NAME/3.0.1, in array_record.

    It works in a temporary folder beside it and renames that when it is whole, so
    neither a kill, a full disk nor a second process leaves half a data set.

    Raises:
      DataError: an archive is damaged, or DATA_DIR is full or cannot be written.
    """
    print(f"preparing {name} in {data_dir} (once, under a minute)", file=sys.stderr)
    temporary = None
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for stale in data_dir.glob(".mnist_jax-*"):  # of a run that was killed
            if time.time() - stale.stat().st_mtime > 3600:
                shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=".mnist_jax-", dir=data_dir))
        with _quiet():
            builder = _make_builder(name, archives, temporary)
            builder.download_and_prepare(file_format="array_record")
        # array_record's writer does not report a full disk, so records are counted.
        for split in builder.info.splits.values():
            for path, length in zip(split.filepaths, split.shard_lengths, strict=True):
                if count_records(Path(path)) != length:
                    raise OSError(errno.EIO, "the records were not written in full")
        target = data_dir / name / str(builder.version)
        target.parent.mkdir(exist_ok=True)
        try:
            os.rename(builder.data_dir, target)
        except OSError:  # another process was faster, and its data set is as good
            if not (target / "dataset_info.json").is_file():
                raise
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError
        raise DataError(
            f"{name} could not be prepared in {data_dir}: {explain_failure(error)};"
            " name a folder with 60 MB free by --data_dir"
        ) from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def count_records(path: Path) -> int:
    """Returns the number of records that an array_record file says it holds."""
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def _make_builder(name: str, archives: Path, data_dir: Path) -> Any:
    """Returns a tfds builder of `name` that reads the four files in `archives`."""
    import PIL.Image
    import tensorflow_datasets as tfds

    stock = getattr(tfds.image_classification, DATASETS[name].builder)

    def split_generators(self: Any, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(split) for split in SPLIT_FILES}

    def generate_examples(self: Any, split: str) -> Iterator[tuple[int, Any]]:
        images, labels = read_archives(archives, split)
        for i, (image, label) in enumerate(zip(images[..., 0], labels, strict=True)):
            # tfds would encode an array with TensorFlow, but takes a picture as it is.
            yield i, {"image": PIL.Image.fromarray(image), "label": int(label)}

    with tfds.core.registered.skip_registration():
        builder = type(
            stock.__name__,
            (stock,),
            {
                "__module__": stock.__module__,  # recorded in dataset_info.json
                "_split_generators": split_generators,
                "_generate_examples": generate_examples,
            },
        )
    return builder(data_dir=data_dir)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what tfds prints, logs and draws while it prepares."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
