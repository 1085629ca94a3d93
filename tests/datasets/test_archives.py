"""Archives: the mirrors against a server that refuses, stalls, lies and truncates."""

import http.server
import re
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
from mnist_fixture import write_emnist

from mnist_jax.datasets import archives
from mnist_jax.errors import DataError

IMAGES = "t10k-images-idx3-ubyte.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /BEHAVIOUR/FILE; also as a proxy, by whatever host it is asked for."""

    def do_GET(self):
        path = re.sub("^http://[^/]*", "", self.path)
        behaviour, filename = path.strip("/").split("/")
        self.server.requests.append(self.path)
        content = (self.server.folder / filename).read_bytes()
        if behaviour == "missing":
            self.send_error(404)
        elif behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/good/{filename}")
            self.end_headers()
        elif behaviour == "silent":
            self.server.stop.wait(30)
        else:
            self.send_response(200)
            if behaviour != "endless":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if behaviour == "lies":
                content = content[:-1] + bytes([content[-1] ^ 1])
            elif behaviour == "truncates":
                content = content[: len(content) // 2]
            elif behaviour == "endless":
                content = content + bytes(1 << 20)
            elif behaviour in ("stalls", "trickles"):
                self.wfile.write(content[:10])
                while behaviour == "trickles" and not self.server.stop.wait(0.05):
                    self.wfile.write(b"x")
                self.server.stop.wait(30)
                return
            self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up early is what these tests are about."""


@pytest.fixture
def server(made_archives, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Handler)
    server.folder, server.requests, server.stop = made_archives, [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def set_mirrors(monkeypatch):
    def set_(*mirrors):
        made = archives.DATASETS["mnist"]._replace(mirrors=mirrors)
        monkeypatch.setitem(archives.DATASETS, "mnist", made)

    return set_


def refusing_mirror():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


def test_the_published_checksums_are_those_of_tfds():
    import tensorflow_datasets as tfds

    for name, published in archives.DATASETS.items():
        builder = getattr(tfds.image_classification, published.builder)
        assert builder.name == name.split("/")[0]
        infos = {i.filename: (i.size, i.checksum) for i in builder.url_infos.values()}
        assert infos == published.files
        if archives.is_zipped(name):
            config = builder.builder_configs[name.split("/")[1]]
            unused = 11 if name == "emnist/letters" else 0  # of its 37 labels
            assert len(published.class_names) == config.class_number - unused
            size = 28 * 28 * config.train_examples + 16
            assert size <= archives.MAX_CONTENT
            continue
        assert list(published.files) == [f for s in archives.SPLIT_FILES.values() for f in s]  # noqa: E501 # fmt: skip
        assert len(published.mirrors) >= 2
        assert len(published.class_names) == 10


def test_download(server, set_mirrors, tmp_path, capfd):
    set_mirrors(f"{server.url}/good/")
    archives.download_archives("mnist", tmp_path / "new" / "folder")
    assert archives.check_archives("mnist", tmp_path / "new" / "folder") == {}
    assert len(server.requests) == 4
    out, err = capfd.readouterr()
    assert out == ""  # kept for a script's own answer, which may be JSON
    assert err.count("\n") == 1
    assert err.startswith("downloading mnist (0.2 MB) to ")


def test_only_what_is_missing_or_wrong_is_downloaded(server, set_mirrors, tmp_path):
    set_mirrors(f"{server.url}/good/")
    archives.download_archives("mnist", tmp_path)
    (tmp_path / IMAGES).write_bytes(b"altered")
    archives.download_archives("mnist", tmp_path)
    assert server.requests[4:] == [f"/good/{IMAGES}"]
    assert archives.check_archives("mnist", tmp_path) == {}


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("missing", "HTTP 404"),
        ("lies", "wrong SHA-256"),
        ("truncates", "bytes instead of"),
        ("endless", "sent more bytes instead of"),
        ("silent", "no answer in time"),
        ("stalls", "no answer in time"),
        ("trickles", "no answer in time"),
    ],
)
def test_a_bad_mirror_is_left_for_the_next(
    server, set_mirrors, tmp_path, monkeypatch, capfd, behaviour, why
):
    monkeypatch.setattr(archives, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(archives, "MIN_RATE", 1e9)
    set_mirrors(f"{server.url}/{behaviour}/", f"{server.url}/redirect/")
    start = time.monotonic()
    archives.download_archives("mnist", tmp_path / "folder")
    assert time.monotonic() - start < 5
    assert archives.check_archives("mnist", tmp_path / "folder") == {}
    assert sum(behaviour in request for request in server.requests) == 1
    assert why in capfd.readouterr().err


def test_no_mirror_answers(server, set_mirrors, tmp_path):
    set_mirrors(
        refusing_mirror(), "http://no.such.host.invalid/", f"{server.url}/lies/"
    )
    with pytest.raises(archives.DownloadError) as caught:
        archives.download_archives("mnist", tmp_path / "folder")
    assert re.search("refused.*; http://no.such.host.invalid: .*SHA", str(caught.value))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "folder").exists()


def test_a_dead_name_server_costs_one_time_out(set_mirrors, tmp_path, monkeypatch):
    """All mirrors are tried at once; looking up a name knows no time-out."""
    awake = threading.Event()
    monkeypatch.setattr(archives, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(socket, "create_connection", lambda *args: awake.wait(30))
    set_mirrors("http://one.invalid/", "http://two.invalid/", "http://three.invalid/")
    start = time.monotonic()
    with pytest.raises(archives.DownloadError, match=r"one.*two.*three.*in time"):
        archives.download_archives("mnist", tmp_path)
    awake.set()
    assert time.monotonic() - start < 2


def test_a_proxy_is_honoured(server, set_mirrors, tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers proxies
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server.url)
    set_mirrors("http://no.such.host.invalid/good/")
    archives.download_archives("mnist", tmp_path)
    assert archives.check_archives("mnist", tmp_path) == {}


def test_a_terminal_sees_percent(server, set_mirrors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    set_mirrors(f"{server.url}/good/")
    archives.download_archives("mnist", tmp_path)
    assert f"\r  {server.url} 100 %" in capsys.readouterr().err


def test_a_full_disk(server, set_mirrors, tmp_path, monkeypatch):
    def no_space(source, target):
        raise OSError(28, "No space left on device")

    set_mirrors(f"{server.url}/good/")
    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(DataError, match="gz: No space left on device") as caught:
        archives.download_archives("mnist", tmp_path / "folder")
    assert not isinstance(caught.value, archives.DownloadError)  # no fallback then
    assert list((tmp_path / "folder").iterdir()) == []


def test_read_archives(made_archives, made_splits):
    for split, (images, labels) in made_splits.items():
        read_images, read_labels = archives.read_archives(made_archives, split)
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)
        assert (read_images.dtype, read_labels.dtype) == (np.uint8, np.int32)
        assert archives.count_examples(made_archives, split) == len(labels)


def test_a_damaged_archive(made_archives):
    path = made_archives / IMAGES
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    for bad in (good[:-9], bytes(flipped), b"", b"not gzip", good[:5]):
        path.write_bytes(bad)
        assert "test" not in archives.check_archives("mnist", made_archives)
        assert list(archives.check_archives("mnist", made_archives)) == [IMAGES]
        with pytest.raises(DataError, match=IMAGES):
            archives.read_archives(made_archives, "test")
    path.write_bytes((made_archives / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(DataError, match="not an IDX file of 3 dimensions"):
        archives.read_archives(made_archives, "test")
    path.write_bytes((made_archives / "train-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(DataError, match=r"\(300, 28, 28\) do not fit labels \(100,\)"):
        archives.read_archives(made_archives, "test")


NAMES = [file for files in archives.SPLIT_FILES.values() for file in files]


@pytest.mark.parametrize("name", ["emnist/letters", "emnist/balanced"])
def test_unzip(name, tmp_path, made_splits):
    """What the zip file holds besides is neither read nor written anywhere."""
    extra = {"../../evil": b"x", "gzip/mapping.txt": b"x"}
    write_emnist(tmp_path / "zip", name, made_splits, extra)
    archives.unzip(name, tmp_path / "zip", tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(NAMES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "zip"]
    for split, (images, labels) in made_splits.items():
        read_images, read_labels = archives.read_archives(tmp_path / "out", split)
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)


def test_a_bad_zip_file(tmp_path, made_splits, monkeypatch):
    def unzip():
        archives.unzip("emnist/digits", tmp_path, tmp_path / "out")

    write_emnist(tmp_path, "emnist/letters", made_splits, {})
    with pytest.raises(DataError, match=r"no item named.*emnist-digits-train-images"):
        unzip()
    write_emnist(tmp_path, "emnist/digits", made_splits, {})
    good = (tmp_path / "gzip.zip").read_bytes()
    for bad in (good[:-30], b"", good[:5000] + b"?" + good[5001:]):
        (tmp_path / "gzip.zip").write_bytes(bad)
        with pytest.raises(DataError, match="damaged archive") as caught:
            unzip()
        assert "\n" not in str(caught.value)
    (tmp_path / "gzip.zip").write_bytes(good)
    monkeypatch.setattr(archives, "MAX_CONTENT", 10_000)  # a bomb is read so far only
    with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
        unzip()
    assert not (tmp_path / "out").exists()
