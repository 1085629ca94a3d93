"""Made data in the shapes of MNIST: archives, and folders as tfds prepares them.

The images are simple enough to be learnt in seconds: each class is a bright bar at
its own angle, moved a little, on a noisy ground.
"""

import gzip
import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_jax.data import Dataset
from mnist_jax.datasets import archives, shard_files

NUM_TRAIN, NUM_TEST = 300, 100


def make_dataset(num_images: int, seed: int) -> Dataset:
    """Balanced, shuffled classes 0..9."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_images) % 10).astype(np.int32)
    angle = labels * np.pi / 10 + rng.normal(0, 0.03, num_images)
    centre = 13.5 + rng.normal(0, 1, (2, num_images, 1, 1))
    y, x = np.mgrid[:28, :28][:, None] - centre  # [N, 28, 28] each
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    bar = np.clip(2.5 - np.abs(across), 0, 1) * np.clip(10 - np.abs(along), 0, 1)
    images = 235 * bar + rng.uniform(0, 20, bar.shape)
    return Dataset(images.astype(np.uint8)[..., None], labels)


def make_splits() -> dict[str, Dataset]:
    return {"train": make_dataset(NUM_TRAIN, 0), "test": make_dataset(NUM_TEST, 1)}


def write_archives(folder: Path, splits: dict[str, Dataset]) -> dict:
    """Writes the four files; returns {name: (bytes, SHA-256)} as in `Archives`."""
    folder.mkdir(parents=True, exist_ok=True)
    published = {}
    for split, (images_file, labels_file) in archives.SPLIT_FILES.items():
        images, labels = splits[split]
        for filename, header, array in (
            (images_file, struct.pack(">4I", 0x803, len(images), 28, 28), images),
            (labels_file, struct.pack(">2I", 0x801, len(labels)), labels),
        ):
            raw = header + array.astype(np.uint8).tobytes()
            content = gzip.compress(raw, mtime=0)
            (folder / filename).write_bytes(content)
            published[filename] = (len(content), hashlib.sha256(content).hexdigest())
    return published


def write_emnist(
    folder: Path, name: str, splits: dict[str, Dataset], extra: dict[str, bytes]
) -> dict:
    """Writes gzip.zip with one of EMNIST's data sets, stored as EMNIST stores it."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "gzip.zip", "w") as file:
        for split, (images, labels) in as_emnist(name, splits).items():
            for kind, header, array in (
                ("images-idx3", struct.pack(">4I", 0x803, len(images), 28, 28), images),
                ("labels-idx1", struct.pack(">2I", 0x801, len(labels)), labels),
            ):
                raw = header + array.astype(np.uint8).tobytes()
                member = f"gzip/{name.replace('/', '-')}-{split}-{kind}-ubyte.gz"
                file.writestr(member, gzip.compress(raw, mtime=0))
        for member, content in extra.items():
            file.writestr(member, content)
    content = (folder / "gzip.zip").read_bytes()
    return {"gzip.zip": (len(content), hashlib.sha256(content).hexdigest())}


def as_emnist(name: str, splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Each image with rows and columns exchanged, and letters counted from 1."""
    first = 1 if name == "emnist/letters" else 0
    return {
        split: Dataset(images.transpose(0, 2, 1, 3), labels + np.int32(first))
        for split, (images, labels) in splits.items()
    }


def encode_example(image: np.ndarray, label: int) -> bytes:
    """One record as tfds writes it: a tf.train.Example with a PNG."""
    from tensorflow_datasets.proto import tf_example_pb2

    png = io.BytesIO()
    Image.fromarray(image[..., 0]).save(png, "PNG")
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(png.getvalue())
    example.features.feature["label"].int64_list.value.append(int(label))
    return example.SerializeToString()


def write_tfrecord(path: Path, examples: list[bytes]) -> None:
    lengths = [struct.pack("<Q", len(example)) for example in examples]
    length_crcs = shard_files._masked_crc32c(lengths)
    crcs = shard_files._masked_crc32c(examples)
    with open(path, "wb") as file:
        for length, length_crc, example, crc in zip(
            lengths, length_crcs, examples, crcs, strict=True
        ):
            file.write(length + struct.pack("<I", length_crc))
            file.write(example + struct.pack("<I", crc))


def write_array_record(path: Path, examples: list[bytes]) -> None:
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for example in examples:
        writer.write(example)
    writer.close()


def write_prepared(
    data_dir: Path,
    splits: dict[str, Dataset],
    *,
    name: str = "mnist",
    file_format: str = "array_record",
    num_shards: int = 1,
) -> Path:
    """Writes DATA_DIR/NAME/3.0.1 as tfds would; returns that folder."""
    dataset = name.split("/")[0]  # the rest is tfds's "config"
    folder = data_dir / name / "3.0.1"
    folder.mkdir(parents=True)
    write = {"tfrecord": write_tfrecord, "array_record": write_array_record}
    split_infos = []
    for split, (images, labels) in splits.items():
        examples = [encode_example(*pair) for pair in zip(images, labels, strict=True)]
        shards = np.array_split(np.arange(len(examples)), num_shards)
        for i, shard in enumerate(shards):
            shard_name = f"{dataset}-{split}.{file_format}-{i:05d}-of-{num_shards:05d}"
            write[file_format](folder / shard_name, [examples[k] for k in shard])
        split_infos.append({
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "numBytes": str(sum(map(len, examples))),
            "shardLengths": [str(len(shard)) for shard in shards],
        })  # fmt: skip
    info = {
        "fileFormat": file_format,
        "moduleName": "tensorflow_datasets.image_classification.mnist",
        "name": dataset,
        "splits": split_infos,
        "version": "3.0.1",
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    package = "tensorflow_datasets.core.features"
    features = {
        "image": {
            "image": {
                "dtype": "uint8",
                "shape": {"dimensions": ["28", "28", "1"]},
            },
            "pythonClassName": f"{package}.image_feature.Image",
        },
        "label": {
            "classLabel": {"numClasses": "10"},
            "pythonClassName": f"{package}.class_label_feature.ClassLabel",
        },
    }
    (folder / "features.json").write_text(
        json.dumps({
            "featuresDict": {"features": features},
            "pythonClassName": f"{package}.features_dict.FeaturesDict",
        })
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def made_splits() -> dict[str, Dataset]:
    """300 training and 100 test images, made."""
    return make_splits()


@pytest.fixture(scope="session")
def mnist_data_dir(tmp_path_factory, made_splits) -> Path:
    """A tfds data dir with the made images as mnist/3.0.1. Only to be read."""
    data_dir = tmp_path_factory.mktemp("tensorflow_datasets")
    write_prepared(data_dir, made_splits)
    return data_dir


@pytest.fixture
def cache_dir(tmp_path, monkeypatch) -> Path:
    """An empty cache of decoded arrays, and no data dir but what a test gives."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MNIST_JAX_CACHE_DIR", str(folder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_data_dir"))
    return folder


@pytest.fixture
def made_archives(tmp_path, monkeypatch, made_splits) -> Path:
    """A folder of made archives that count as mnist's published ones."""
    folder = tmp_path / "archives"
    published = write_archives(folder, made_splits)
    made = archives.DATASETS["mnist"]._replace(mirrors=(), files=published)
    monkeypatch.setitem(archives.DATASETS, "mnist", made)
    return folder


def assert_datasets_equal(a, b):
    """Checks that two data sets have the same images and labels."""
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
