import dataclasses
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import run_python

from mnist_jax.checkpoint.load import load_model
from mnist_jax.models import mlp
from mnist_jax.models.create import network_name
from mnist_jax.parallel.jax_options import read_option
from mnist_jax.run import saved_programs
from mnist_jax.run.config_files import PRETRAINED
from mnist_jax.run.saved_programs import SavedProgram, keep, recall


@pytest.fixture
def folder(tmp_path):
    """JAX's cache folder, where programs are kept."""
    before = read_option("jax_compilation_cache_dir")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def traced():
    return []


@pytest.fixture
def make(traced):
    """Makes a program, as a process does that starts anew."""

    def function(variables, array):
        traced.append(array.shape)
        return jnp.tanh(array @ variables["a"]), array.sum()

    variables = {"a": jnp.arange(6.0).reshape(3, 2) / 6}
    return lambda key="a net": SavedProgram(function, variables, key)


def kept(folder, ending="program"):
    return sorted(folder.glob(f"mnist_jax-*.{ending}"))


def test_a_later_process_traces_nothing(folder, make, traced):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    first = make()
    expected = jax.device_get(first(rows))
    assert jax.device_get(first(rows))[1] == expected[1] == rows.sum()
    assert traced == [(4, 3)]
    later = make()
    for _ in range(2):
        for found, right in zip(later(rows), expected, strict=True):
            np.testing.assert_array_equal(found, right)
    assert traced == [(4, 3)]
    make()(rows[:2])
    assert traced == [(4, 3), (2, 3)]
    assert len(kept(folder)) == 2


def test_what_the_program_depends_on_is_told_apart(folder, make, monkeypatch):
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    make("another net")(rows)
    make()(rows.astype(np.float16))
    assert len(kept(folder)) == 3
    monkeypatch.setattr(saved_programs, "_circumstances", lambda: "other code")
    make()(rows)
    assert len(kept(folder)) == 4


def test_other_code_and_no_folder_keep_nothing(folder, make):
    rows = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(make(None)(rows)[1], 6)
    keep(None, {"a": 1})
    jax.config.update("jax_compilation_cache_dir", None)
    np.testing.assert_allclose(make()(rows)[1], 6)
    keep("a net", {"a": 1})
    assert recall("a net") is None
    assert not kept(folder)
    assert not kept(folder, "notes")


def flip_a_bit(content):
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 1])
    return content[:middle] + flipped + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"no pickle", lambda c: c[:-500], flip_a_bit],
    ids=["empty", "text", "cut", "bit"],
)
def test_a_damaged_program_is_compiled_anew(folder, make, traced, damage):
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    (path,) = kept(folder)
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_allclose(make()(rows)[1], 6)
    assert len(traced) == 2
    make()(rows)  # it was mended
    assert len(traced) == 2


def test_a_program_of_another_user_is_not_loaded(folder, make, traced, monkeypatch):
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    np.testing.assert_allclose(make()(rows)[1], 6)
    assert len(traced) == 2


def test_a_program_that_jax_has_cached_is_kept_whole(folder, make, traced):
    """What XLA reads from JAX's cache, it cannot save again."""
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    (path,) = kept(folder)
    path.unlink()
    jax.clear_caches()
    make()(rows)
    np.testing.assert_allclose(make()(rows)[1], 6)
    assert len(traced) == 2


def test_a_program_under_the_name_of_another_is_not_loaded(folder, make, traced):
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    make("another net")(rows)
    first, second = kept(folder)
    second.write_bytes(first.read_bytes())
    make()(rows)
    make("another net")(rows)
    assert len(traced) == 3


def test_links_are_neither_read_nor_followed(folder, make, traced):
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    keep("a net", {"a": 1})
    paths = kept(folder) + kept(folder, "notes")
    for path in paths:
        path.rename(folder / f"own{path.suffix}")
        path.symlink_to(folder / f"own{path.suffix}")
    before = [path.read_bytes() for path in paths]
    make()(rows)
    assert len(traced) == 2
    assert recall("a net") is None
    keep("a net", {"a": 2})
    assert [path.read_bytes() for path in paths] == before


def test_jaxs_cache_keeps_no_copy(tmp_path):
    done = run_python(
        "import numpy as np\n"
        "from mnist_jax.parallel import devices\n"
        "from mnist_jax.run.saved_programs import SavedProgram\n"
        "devices.set_up('cpu')\n"
        "program = SavedProgram(lambda one, array: one + array, np.ones(2), 'a net')\n"
        "print(program(np.ones(2)))\n",
        60,
        JAX_COMPILATION_CACHE_DIR=str(tmp_path),
    )
    assert (done.stdout, done.returncode) == ("[2. 2.]\n", 0), done.stderr
    (path,) = kept(tmp_path)
    assert [path] == list(tmp_path.iterdir())


def test_the_files_that_were_written_last_stay(folder, make, traced, monkeypatch):
    monkeypatch.setattr(saved_programs, "_MOST_FILES", 3)
    rows = np.ones((2, 3), np.float32)
    for number in range(5):
        make(f"net {number}")(rows)
        for path in kept(folder):  # as if it were long ago
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
    assert len(kept(folder)) == 3
    for number in (4, 3, 2):
        make(f"net {number}")(rows)
    assert len(traced) == 5
    make("net 1")(rows)
    assert len(traced) == 6


def test_a_new_file_stays_whatever_the_clock_says(folder, make, traced, monkeypatch):
    monkeypatch.setattr(saved_programs, "_MOST_FILES", 3)
    rows = np.ones((2, 3), np.float32)
    for number in range(5):
        make(f"net {number}")(rows)
        for path in kept(folder):  # as if it were of the future
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 100))
    (folder / "mnist_jax-a.program").symlink_to(folder / "gone")
    make("net 5")(rows)
    make("net 5")(rows)
    assert len(traced) == 6
    assert len(kept(folder)) == 3 + 1
    assert (folder / "mnist_jax-a.program").is_symlink()


def test_a_pipe_does_not_stop_it(folder, make):
    keep("a net", {"a": 1})
    (path,) = kept(folder, "notes")
    path.unlink()
    os.mkfifo(path)
    assert recall("a net") is None
    keep("a net", {"a": 1})


def test_nothing_is_kept_where_jax_is_to_keep_nothing(folder, make):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        make()(np.ones((2, 3), np.float32))
        keep("a net", {"a": 1})
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not kept(folder)
    assert not kept(folder, "notes")


def test_options_of_jax_count_when_a_program_is_looked_for(folder, make, traced):
    rows = np.ones((2, 3), np.float32)
    make()(rows)
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        make()(rows)
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    assert len(kept(folder)) == len(traced) == 2


def test_a_network_that_the_caller_replaced_has_no_key():
    loaded = load_model(PRETRAINED)
    assert loaded.program_key

    class Mine(nn.Module):
        num_classes: int = 10

    assert loaded._replace(model=Mine()).program_key is None
    fewer = loaded._replace(model=loaded.model.member)
    assert fewer.program_key != loaded.program_key
    other_task = dataclasses.replace(loaded.task)
    assert loaded._replace(task=other_task).program_key is None


def test_classes_of_one_name_are_told_apart():
    class MLP(mlp.MLP):
        pass

    ours, other = mlp.MLP(10, (8,), 0.0), MLP(10, (8,), 0.0)
    assert repr(ours) == repr(other)
    assert network_name(ours, (28, 28, 1)) != network_name(other, (28, 28, 1))


def test_notes_are_kept_until_they_are_damaged(folder):
    assert recall("a net") is None
    keep("a net", {"shape": [3, 4]})
    assert recall("a net") == {"shape": [3, 4]}
    assert recall("another") is None
    (path,) = kept(folder, "notes")
    whole = path.read_bytes()
    for damaged in (b"", b"{}", whole[:-1], whole.replace(b"3", b"5")):
        path.write_bytes(damaged)
        assert recall("a net") is None


def test_a_folder_that_cannot_be_written_only_costs_time(folder, make):
    (folder / "file").touch()
    jax.config.update("jax_compilation_cache_dir", str(folder / "file"))
    np.testing.assert_allclose(make()(np.ones((2, 3), np.float32))[1], 6)
    keep("a net", {})
    assert recall("a net") is None
