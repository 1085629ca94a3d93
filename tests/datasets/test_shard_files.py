import struct

import numpy as np
import pytest
from mnist_fixture import encode_example, write_array_record, write_tfrecord

from mnist_jax.datasets import shard_files
from mnist_jax.errors import DataError

WRITERS = {"tfrecord": write_tfrecord, "array_record": write_array_record}


@pytest.fixture(params=WRITERS)
def file_format(request):
    return request.param


@pytest.fixture
def shard(file_format, tmp_path, made_splits):
    images, labels = made_splits["test"]
    examples = [encode_example(*pair) for pair in zip(images, labels, strict=True)]
    WRITERS[file_format](tmp_path / "shard", examples)
    return tmp_path / "shard"


def test_read_shard(shard, file_format, made_splits):
    images, labels = shard_files.read_shard(shard, file_format)
    np.testing.assert_array_equal(images, made_splits["test"].images)
    np.testing.assert_array_equal(labels, made_splits["test"].labels)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)


def test_no_flipped_bit_or_cut_gives_wrong_data(shard, file_format, made_splits):
    good = shard.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(len(good), size=25):
        bad = bytearray(good)
        bad[position] ^= 1 << rng.integers(8)
        for content in (bytes(bad), good[:position]):
            shard.write_bytes(content)
            message, loaded = read_or_message(shard, file_format)
            if loaded is None:
                assert message.startswith(f"{shard} cannot be read (")
                assert "\n" not in message
                refused += 1
            else:  # a flip in padding, or a cut between records: see test_cache.py
                for found, expected in zip(loaded, made_splits["test"], strict=True):
                    np.testing.assert_array_equal(found, expected[: len(found)])
    assert refused > 30  # array_record pads its files


def read_or_message(shard, file_format):
    try:
        return "", shard_files.read_shard(shard, file_format)
    except DataError as error:
        return str(error), None


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xff\xff",
        encode_example(np.zeros((32, 28, 1), np.uint8), 3),
        encode_example(np.zeros((28, 28, 1), np.uint8), 3).replace(b"IHDR", b"IHDX"),
        encode_example(np.zeros((28, 28, 1), np.uint8), 3).replace(b"label", b"lebal"),
    ],
    ids=["empty", "no protobuf", "another size", "no PNG", "no label"],
)
def test_a_record_that_is_no_example(tmp_path, made_splits, record):
    images, labels = made_splits["test"]
    write_tfrecord(tmp_path / "shard", [encode_example(images[0], labels[0]), record])
    with pytest.raises(DataError, match="record 1: "):
        shard_files.read_shard(tmp_path / "shard", "tfrecord")


def test_crc32c():
    """The check value of CRC-32C, and one that TensorFlow wrote."""
    blocks = [b"123456789", b"", b"a", b"123456789"]
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    found = shard_files._masked_crc32c(blocks)
    assert found[0] == found[3] == masked
    assert found[1] == 0xA282EAD8
    # From the first bytes of an events file, whose first record has 24 bytes.
    length = struct.pack("<Q", 24)
    assert shard_files._masked_crc32c([length])[0] == 0x224B7FA3


def test_an_empty_shard(tmp_path, file_format):
    WRITERS[file_format](tmp_path / "shard", [])
    images, labels = shard_files.read_shard(tmp_path / "shard", file_format)
    assert images.shape == (0, 28, 28, 1)
    assert labels.shape == (0,)
