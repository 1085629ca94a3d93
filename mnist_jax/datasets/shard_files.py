"""Reads examples from the files that tfds prepares: array_record and TFRecord.

TFRecord, which TensorFlow leaves by default, is read here without TensorFlow.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mnist_jax.datasets.archives import as_mnist, explain_failure
from mnist_jax.errors import DataError

MEND = "remove the data set's folder to have it made anew"


def read_shard(path: Path, file_format: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads every example of one file.

    Args:
      path: a shard of a prepared data set.
      file_format: "array_record" or "tfrecord".

    Returns:
      images uint8 [N, 28, 28, 1] and labels int32 [N], in MNIST's convention.

    Raises:
      DataError: it cannot be read, is damaged, or holds other pictures than 28x28.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        records = READERS[file_format](path)
    except Exception as error:  # array_record raises many kinds
        raise DataError(
            f"{path} cannot be read ({explain_failure(error)}); {MEND}"
        ) from error
    images = np.empty((len(records), 28, 28, 1), np.uint8)
    labels = np.empty(len(records), np.int32)
    for i, record in enumerate(records):
        try:
            feature = tf_example_pb2.Example.FromString(record).features.feature
            images[i, ..., 0] = _decode_image(feature["image"].bytes_list.value[0])
            labels[i] = feature["label"].int64_list.value[0]
        except Exception as error:  # protobuf and Pillow raise many kinds
            why = f"record {i}: {explain_failure(error)}"
            raise DataError(f"{path} cannot be read ({why}); {MEND}") from error
    # EMNIST (DATA_DIR/emnist/letters/3.1.0/emnist-train...) is stored as published.
    name = "/".join(path.parts[-4:-2]) if path.name.startswith("emnist-") else ""
    return as_mnist(name, images, labels)


def _decode_image(encoded: bytes) -> np.ndarray:
    """Decodes a picture that must be 28x28 grey; uint8 [28, 28]."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        if image.mode != "L" or image.size != (28, 28):
            raise ValueError(f"{image.size} {image.mode} is not 28x28 grey")
        return np.asarray(image)


def read_array_record(path: Path) -> list[bytes]:
    """Returns the records of an array_record file, which checks its own hashes."""
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return reader.read_all() if reader.num_records() else []
    finally:
        reader.close()


def read_tfrecord(path: Path) -> list[bytes]:
    """Returns the records of a TFRecord file, after checking both of their checksums.

    Each is a length (uint64), its CRC, the record and its CRC, little-endian
    (https://www.tensorflow.org/tutorials/load_data/tfrecord).

    Raises:
      ValueError: the file is cut short or damaged.
    """
    content = path.read_bytes()
    lengths: list[bytes] = []
    records: list[bytes] = []
    checksums: list[bytes] = []
    start = 0
    while start < len(content):
        if start + 12 > len(content):
            raise ValueError(f"cut short after record {len(records)}")
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length
        if end + 4 > len(content):
            raise ValueError(f"cut short or damaged after record {len(records)}")
        lengths.append(content[start : start + 8])
        records.append(content[start + 12 : end])
        checksums.append(content[start + 8 : start + 12] + content[end : end + 4])
        start = end + 4
    expected = np.frombuffer(b"".join(checksums), "<u4").reshape(-1, 2)
    found = np.stack([_masked_crc32c(lengths), _masked_crc32c(records)], axis=1)
    if len(bad := np.flatnonzero((expected != found).any(axis=1))):
        raise ValueError(f"record {bad[0]} is damaged (wrong CRC)")
    return records


def _masked_crc32c(blocks: list[bytes]) -> np.ndarray:
    """Returns the masked CRC-32C (Castagnoli) of TFRecord for each block, uint32 [N].

    It goes through all blocks at once, byte by byte. The loop is as long as the longest
    block, so 60,000 records take a fraction of a second.
    """
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    lengths = np.array([len(block) for block in blocks], np.int64)
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(-lengths, kind="stable")  # the longest first: see `active`
    content = np.frombuffer(b"".join(blocks), np.uint8)
    crc = np.full(len(blocks), 0xFFFFFFFF, np.uint32)  # in the order of `order`
    for position in range(lengths.max(initial=0)):
        active = np.searchsorted(-lengths[order], -position, side="left")
        byte = content[starts[order[:active]] + position]
        crc[:active] = table[(crc[:active] ^ byte) & 0xFF] ^ (crc[:active] >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    masked = np.empty_like(crc)
    masked[order] = ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
    return masked


READERS: dict[str, Callable[[Path], list[bytes]]] = {
    "array_record": read_array_record,
    "tfrecord": read_tfrecord,
}
