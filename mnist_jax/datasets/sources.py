"""Finds a data set: in a tfds folder, in archives, on the network, or in a package.

The JSON of a tfds folder is read here without tfds, whose import is slow.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_jax.datasets import archives, offline_digits, shard_files, tfds_builders
from mnist_jax.datasets.array_dataset import load_arrays
from mnist_jax.datasets.arrays import Dataset
from mnist_jax.datasets.cache_folder import cache_dir
from mnist_jax.errors import ConfigError, DataError, lookup, suggest
from mnist_jax.local_files import local_path

DIGITS = "digits"  # the data set embedded with scikit-learn
DEFAULT_DATA_DIR = "~/tensorflow_datasets"  # as in tfds

# What comes from a higher level, by its name: "folder" alone, or behind another data
# set, as in "mnist+folder". Each is a function like `picture_folders.load_folders`.
LOADERS = {"folder": "mnist_jax.reading.picture_folders:load_folders"}


@dataclasses.dataclass(frozen=True)
class DatasetSource:
    """A data set that is at hand, and what it needs to be loaded.

    Attributes:
      name: its name; after a fallback, not the name that was asked for.
      description: one line: what it is and where it came from.
      class_names: the name of each label.
      file_format: "array_record", "tfrecord", "idx" (the archives), "digits", or
        "arrays" of a user's own package.
      files: {split: the files it is read from}.
      shard_lengths: {split: the number of images in each of its shards}.
      fallback_for: the data set that could not be had, or "".
      fallback_reason: why not, in one line, or "".
      left_out: the files that could not be used, each with the reason.
      warnings: what the user may not have meant, a line each.
      arrays: {split: its images and labels}, of a user's own package or folder.
    """

    name: str
    description: str
    class_names: tuple[str, ...]
    file_format: str
    files: dict[str, tuple[str, ...]]
    shard_lengths: dict[str, tuple[int, ...]]
    fallback_for: str = ""
    fallback_reason: str = ""
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    arrays: Mapping[str, Dataset] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def num_classes(self) -> int:
        """The number of labels."""
        return len(self.class_names)

    @property
    def splits(self) -> dict[str, int]:
        """{split: the number of its images}."""
        return {split: sum(lengths) for split, lengths in self.shard_lengths.items()}

    def to_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint says about the data, which JSON can hold."""
        return {
            "name": self.name,
            "description": self.description,
            "fallback_for": self.fallback_for,
            "fallback_reason": self.fallback_reason,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "splits": self.splits,
        }


def resolve_dataset(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    offline_dataset: str = "",
    data_folder: str = "",
    validation: int = 0,
) -> DatasetSource:
    """Finds a data set, or prepares it from its archives, or downloads these first.

    Args:
      name: "mnist", "fashion_mnist", "kmnist", "emnist/balanced" (or another of
        EMNIST's), "digits", the name of any data set of 28x28 grey images that tfds has
        prepared in `data_dir`, or "my_package.data:DATASET", an `ArrayDataset`; or
        "folder", pictures in `data_folder`, or one of the others and these, as in
        "mnist+folder".
      data_dir: tfds's folder; else $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      manual_dir: a folder with the original archives; else
        DATA_DIR/downloads/manual/NAME, which is also where they are downloaded to.
      offline_dataset: what to use if `name` can neither be found nor downloaded.
        Data that is found and damaged is always an error.
      data_folder: folders of pictures, for "folder": see `local_files.split_folders`.
      validation: `config.validation`, for "mnist+folder" and the like.

    Raises:
      ConfigError: a name that is no data set.
      DataError: the data set cannot be found or downloaded, or is damaged.
    """
    base, _, last = name.rpartition("+")
    if last in LOADERS:
        load = lookup(LOADERS[last], {}, "config.dataset")
        where = {"data_dir": data_dir, "manual_dir": manual_dir}
        found: DatasetSource = load(
            base, data_folder, validation, offline_dataset=offline_dataset, **where
        )
        return found
    if ":" in name:
        return _arrays_source(name)
    if name == DIGITS:
        return _digits_source()
    root = _data_dir(data_dir)
    if source := _find_prepared(name, root):
        return source
    if name not in archives.DATASETS:
        valid = suggest(name, [*archives.DATASETS, DIGITS, *LOADERS])
        raise ConfigError(f"no data set {name!r} in {_short(root)}: {valid}")
    try:
        folder = _find_or_download_archives(name, root, manual_dir)
    except archives.DownloadError as error:
        why = f"{name} is not in {_short(root)} and cannot be downloaded ({error})"
        if offline_dataset:
            fallback = resolve_dataset(offline_dataset, data_dir=root)
            return dataclasses.replace(fallback, fallback_for=name, fallback_reason=why)
        urls = " or ".join(archives.DATASETS[name].mirrors)
        files = ", ".join(archives.DATASETS[name].files)
        manual = _manual_dir(name, root)
        raise DataError(f"{why}: put {files} from {urls} into {manual}") from error
    if archives.is_zipped(name):  # tfds would keep the images lying on their side
        unzipped = cache_dir() / "archives" / name.replace("/", "-")
        archives.unzip(name, folder, unzipped)
        return _archives_source(name, unzipped, f"out of {_short(folder)}")
    if not _writable(root):
        return _archives_source(name, folder, f"{_short(root)} cannot be written")
    if not tfds_builders.can_prepare():
        return _archives_source(name, folder, "array_record is not installed")
    tfds_builders.prepare_tfds(name, folder, root)
    source = _find_prepared(name, root)
    assert source is not None  # prepare_tfds raises if it did not put it there
    return source


def _data_dir(given: str | os.PathLike[str] | None) -> Path:
    """Returns tfds's folder: the given one, else $TFDS_DATA_DIR, else its default."""
    variable = "TFDS_DATA_DIR"
    if given or not (folder := os.environ.get(variable)):
        return Path(local_path(given or DEFAULT_DATA_DIR)).absolute()
    return Path(local_path(folder, variable)).absolute()


def _find_prepared(name: str, root: Path) -> DatasetSource | None:
    """Returns the newest version that tfds has prepared, or None."""
    try:
        infos = [p / "dataset_info.json" for p in (root / name).iterdir()]
        infos = [path for path in infos if path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{root / name}: {archives.explain_failure(error)}") from error
    versions = {}
    for path in infos:  # and not the unfinished folders of tfds
        if all(part.isdigit() for part in path.parent.name.split(".")):
            versions[tuple(map(int, path.parent.name.split(".")))] = path.parent
    if not versions:
        return None
    folder = versions[max(versions)]
    try:
        info = json.loads((folder / "dataset_info.json").read_text("utf-8"))
        file_format = info.get("fileFormat", "tfrecord")  # older tfds left it out
        files, lengths = {}, {}
        for split in info["splits"]:
            if not split.get("shardLengths"):  # JSON leaves out an empty list
                continue
            lengths[split["name"]] = tuple(map(int, split["shardLengths"]))
            files[split["name"]] = _shard_files(
                folder, info["name"], split, file_format
            )
        class_names = _class_names(name, folder)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = archives.explain_failure(error)
        why = f"not a tfds data set of images and labels ({reason})"
        raise DataError(f"{folder}: {why}; {shard_files.MEND}") from error
    if file_format not in shard_files.READERS:
        valid = " or ".join(shard_files.READERS)
        raise DataError(f"{folder}: is {file_format}, but only {valid} can be read")
    where = f"{name} {folder.name} from {_short(root)} ({file_format})"
    return DatasetSource(name, where, class_names, file_format, files, lengths)


def _shard_files(
    folder: Path, dataset: str, split: dict[str, Any], file_format: str
) -> tuple[str, ...]:
    """Returns the files of a split, as tfds names them."""
    template = split.get("filepathTemplate") or (
        "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    )
    count = len(split["shardLengths"])
    files = []
    for i in range(count):
        fields = {
            "DATASET": dataset,
            "SPLIT": split["name"],
            "FILEFORMAT": file_format,
            "SHARD_INDEX": f"{i:05d}",
            "NUM_SHARDS": f"{count:05d}",
            "SHARD_X_OF_Y": f"{i:05d}-of-{count:05d}",
        }
        # str.format would let a stranger's file use widths and attributes.
        names = re.split(r"\{(\w+)\}", template)
        names[1::2] = [fields[name] for name in names[1::2]]
        files.append(str(folder / "".join(names)))
    return tuple(files)


def _class_names(name: str, folder: Path) -> tuple[str, ...]:
    if name in archives.DATASETS:
        return archives.DATASETS[name].class_names
    labels = folder / "label.labels.txt"
    if labels.is_file():
        return tuple(labels.read_text("utf-8").split("\n")[:-1])
    features = json.loads((folder / "features.json").read_text("utf-8"))
    label = features["featuresDict"]["features"]["label"]["classLabel"]
    return tuple(map(str, range(int(label["numClasses"]))))


def _manual_dir(name: str, root: Path) -> Path:
    """Returns where tfds looks for archives. Each has a folder, as names collide."""
    return root / "downloads" / "manual" / name.split("/")[0]


def _find_or_download_archives(
    name: str, root: Path, manual_dir: str | os.PathLike[str] | None
) -> Path:
    """Returns the folder of the archives, which have been checked."""
    if manual_dir:  # named by the user, so no other place is tried
        folder = Path(local_path(manual_dir)).absolute()
        problems = archives.check_archives(name, folder)
        for filename, problem in problems.items():
            files = ", ".join(archives.DATASETS[name].files)
            raise DataError(f"{folder / filename} {problem}: {name} needs {files}")
        return folder
    folder = _manual_dir(name, root)
    cached = cache_dir() / "archives" / folder.name
    for place in (folder, cached):
        if not archives.check_archives(name, place):
            return place
    place = folder if _writable(root) else cached
    archives.download_archives(name, place)
    return place


def _writable(folder: Path) -> bool:
    """Returns whether `folder` can be written, or made if it is not there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _archives_source(name: str, folder: Path, why: str) -> DatasetSource:
    """Returns a source that reads the archives as they are."""
    files = {
        split: tuple(str(folder / f) for f in filenames)
        for split, filenames in archives.SPLIT_FILES.items()
    }
    lengths: dict[str, tuple[int, ...]]
    lengths = {split: (archives.count_examples(folder, split),) for split in files}
    description = f"{name} from its archives in {_short(folder)} ({why})"
    class_names = archives.DATASETS[name].class_names
    return DatasetSource(name, description, class_names, "idx", files, lengths)


def _arrays_source(name: str) -> DatasetSource:
    """Returns a source that a user's own package provides."""
    class_names, arrays = load_arrays(name)
    return DatasetSource(
        name=name,
        description=f"arrays of {name}",
        class_names=class_names,
        file_format="arrays",
        files=dict.fromkeys(arrays, ()),
        shard_lengths={split: (len(own.labels),) for split, own in arrays.items()},
        arrays=arrays,
    )


def _digits_source() -> DatasetSource:
    count = sum(offline_digits.SPLITS.values())
    return DatasetSource(
        name=DIGITS,
        description=f"{count:,} digits embedded with scikit-learn"
        " (8x8 scans brought to 28x28; not MNIST)",
        class_names=offline_digits.CLASS_NAMES,
        file_format=DIGITS,
        files=dict.fromkeys(offline_digits.SPLITS, ()),
        shard_lengths={split: (n,) for split, n in offline_digits.SPLITS.items()},
    )


def _short(path: Path) -> str:
    """Returns the path with ~ for the home folder."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if text.startswith(home + os.sep) else text
