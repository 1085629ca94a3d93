import errno
import os
import sys
from pathlib import Path

import pytest

from mnist_jax import local_files
from mnist_jax.checkpoint.load import load_model
from mnist_jax.config import ConfigDict
from mnist_jax.datasets.cache_folder import cache_dir
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import ConfigError, DataError, UserError
from mnist_jax.run.workdir import check_run


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_the_home_folder_takes_the_place_of_its_sign(home):
    assert local_files.local_path("~") == str(home)
    assert local_files.local_path("~/runs/a") == f"{home}/runs/a"
    assert local_files.local_path(Path("~/runs/a")) == f"{home}/runs/a"
    root = os.path.expanduser("~root")
    assert local_files.local_path("~root/runs") == f"{root}/runs"


@pytest.mark.parametrize(
    "path",
    [
        "runs/a",
        "./runs/a",
        "/runs/~a",
        "a~",
        "a/~/b",
        "-",
        "",
        "..",
        "C:/a",
        "a:b",
        "1:/",
    ],
)
def test_other_paths_stay_as_they_are(path):
    assert local_files.local_path(path) == path


def test_a_name_may_begin_with_the_sign_of_the_home_folder(tmp_path):
    """It stays so, however often it is asked and even where `Path` drops the ./"""
    path = local_files.local_path("./~nobody")
    assert path == str(tmp_path / "~nobody")
    assert local_files.local_path(Path(path)) == path


@pytest.mark.parametrize(
    "path",
    [
        "gs://bucket/run",
        "s3://bucket/run",
        "S3://bucket/run",
        "hdfs://host/run",
        "https://host/run",
        "abfss://container@account.dfs.core.windows.net/run",
        "file:///home/run",
        Path("gs://bucket/run"),
    ],
    ids=str,
)
def test_a_url_is_refused(path):
    with pytest.raises(ConfigError, match=r"^--workdir=.* is a URL: name a place on a"):
        local_files.local_path(path, "--workdir")
    with pytest.raises(ConfigError, match=r"^'.*' is a URL"):
        local_files.local_path(path)


def test_a_user_who_is_not_there_is_named():
    with pytest.raises(ConfigError, match="--workdir=~nobody_x/a: there is no user"):
        local_files.local_path("~nobody_x/a", "--workdir")


def test_the_variables_of_the_environment_are_paths_too(home, monkeypatch):
    for variable, value, folder in [
        ("XDG_CACHE_HOME", "~/caches", home / "caches" / "mnist_jax"),
        ("MNIST_JAX_CACHE_DIR", "~/ours", home / "ours"),
    ]:
        monkeypatch.setenv("MNIST_JAX_CACHE_DIR", "")
        monkeypatch.setenv(variable, value)
        assert cache_dir() == folder
        monkeypatch.setenv(variable, "gs://bucket/cache")
        with pytest.raises(ConfigError, match=f"{variable}=gs://bucket/cache is a URL"):
            cache_dir()
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://tfds-data")
    with pytest.raises(ConfigError, match="TFDS_DATA_DIR=gs://tfds-data is a URL"):
        resolve_dataset("mnist")
    with pytest.raises(ConfigError, match="'gs://a' is a URL"):
        resolve_dataset("mnist", data_dir="gs://a")
    monkeypatch.setenv("MNIST_JAX_CACHE_DIR", str(home))
    with pytest.raises(DataError, match=f"{home}/files/train-images"):
        resolve_dataset("mnist", data_dir="~/data", manual_dir="~/files")


def test_the_functions_of_the_library_take_paths_of_users_too(home):
    given = {"resume": False, "overwrite": False, "dry_run": False}
    for path in ("s3://bucket/run", Path("s3://bucket/run")):
        with pytest.raises(ConfigError, match="is a URL"):
            check_run(path, ConfigDict(), **given)
        with pytest.raises(ConfigError, match="is a URL"):
            load_model(path)
    (home / "run").mkdir(parents=True)
    (home / "run" / "config.json").touch()
    with pytest.raises(ConfigError, match="holds a run"):
        check_run(Path("~/run"), ConfigDict(), **given)
    with pytest.raises(UserError, match="'~/run' holds no run"):
        load_model("~/run")
    assert not Path("~").exists()


def test_streams_are_told_from_files(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    streams = ["-", "/dev/stdout", "/dev/stderr", "/dev/fd/7", "pipe", "null"]
    assert [path for path in streams if not local_files.is_stream(path)] == []
    files = ["file", "new", "none/new", ".", "dev/stdout"]
    assert [path for path in files if local_files.is_stream(path)] == []
    assert [p for p in streams if local_files.is_stdout(p)] == ["-", "/dev/stdout"]


@pytest.mark.parametrize(
    ("number", "what_to_do"),
    [
        (errno.ENOSPC, "; make room there, or name another place"),
        (errno.EDQUOT, "; make room there, or name another place"),
        (errno.EROFS, "; name a place that you may write to"),
        (errno.EACCES, "; name a place that you may write to"),
        (errno.EIO, ""),
        (errno.ENAMETOOLONG, ""),
    ],
)
def test_an_error_says_what_where_and_what_to_do(number, what_to_do):
    reason = os.strerror(number)
    with (
        pytest.raises(UserError, match=f"^cannot write --output=a: {reason}.*; help$"),
        local_files.writing("--output=a", "help"),
    ):
        raise OSError(number, reason, "a")
    assert local_files.explain_os_error(OSError(number, reason)) == reason + what_to_do


def test_nobody_who_reads_is_no_error_of_a_file():
    with pytest.raises(BrokenPipeError), local_files.writing("--output=a"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    local_files.check_can_write(tmp_path / "new" / "folder", "a")
    assert os.listdir(tmp_path) == ["file"]  # it makes nothing
    for path in ("file", "file/run", tmp_path / "file" / "run" / "figures"):
        with pytest.raises(UserError, match="cannot write a: Not a directory; help"):
            local_files.check_can_write(path, "a", "help")
    # As root may write everywhere, the system's answer is made.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match="cannot write a: Permission denied; name a"):
        local_files.make_folder("new/folder", "a")
    assert os.listdir(tmp_path) == ["file"]
    monkeypatch.setattr(local_files, "_why_not", lambda folder: errno.EROFS)
    with pytest.raises(UserError, match="cannot write a: Read-only file system; name"):
        local_files.check_can_write(tmp_path, "a")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such lock")
def test_the_lock_of_a_run_is_seen(tmp_path):
    from mnist_jax.run.workdir import lock_workdir

    assert not local_files.is_locked(tmp_path / "none")
    with lock_workdir(tmp_path / "run"):
        assert local_files.is_locked(tmp_path / "run")
        with pytest.raises(UserError, match="is under way and has saved no checkpoint"):
            load_model(tmp_path / "run")
        (tmp_path / "run" / "checkpoints").mkdir()
        with pytest.raises(UserError, match="is under way and has saved no checkpoint"):
            load_model(tmp_path / "run")
    assert not local_files.is_locked(tmp_path / "run")
    with pytest.raises(
        UserError, match=r"ended before its first; go on with train\.py"
    ):
        load_model(tmp_path / "run")
