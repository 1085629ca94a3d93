"""What docs/reliability-and-security.md says under "Security", sentence by sentence."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mnist_jax.analysis.splits import load_split
from mnist_jax.checkpoint.format import seal
from mnist_jax.checkpoint.load import load_model
from mnist_jax.errors import CheckpointError, ConfigError, PictureError
from mnist_jax.models.create import MODELS, create_model
from mnist_jax.reading.files import FORMATS, read_picture

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [p for d in ("mnist_jax", "scripts", "configs") for p in (ROOT / d).rglob("*.py")]  # noqa: E501 # fmt: skip
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}  # noqa: E501 # fmt: skip


# Each claim of the section, and the tests that it is true.
CLAIMS = {
    "Nothing is unpickled, and no text is run": [
        "test_security.py::test_nothing_is_unpickled_and_no_text_is_run"
    ],
    "Config files are Python, so they run code": [
        "test_security.py::test_nothing_is_unpickled_and_no_text_is_run"
    ],
    "Archives are checked against their published size and SHA-256": [
        "test_archives.py::test_the_published_checksums_are_those_of_tfds",
        "test_archives.py::test_a_bad_mirror_is_left_for_the_next",
        "test_bad_inputs.py::test_bad_input_is_one_line_and_loses_nothing",
    ],
    "only known members are read, up to a limit": [
        "test_archives.py::test_unzip",
        "test_archives.py::test_a_bad_zip_file",
    ],
    "A name in a config is looked up in a fixed table": [
        "test_security.py::test_a_strangers_model_name_and_arguments_run_nothing"
    ],
    "It is imported only with `--trust_code`": [
        "test_security.py::"
        "test_code_that_a_stranger_names_is_imported_only_if_it_is_trusted",
        "test_tasks.py::test_code_that_a_checkpoint_names_is_not_imported_unasked",
    ],
    "is refused before it is called": [
        "test_security.py::test_what_a_stranger_names_is_not_called"
    ],
    "A checkpoint whose metadata does not match its digest is refused": [
        "test_security.py::test_an_altered_checkpoint_is_refused_and_leaves_no_file",
        "test_mutations.py::test_300_mutations_are_never_loaded",
    ],
    "Pictures are decoded by a list of allowed formats only": [
        "test_security.py::test_pictures_of_other_formats_are_not_decoded"
    ],
    "up to 64 million pixels": [
        "test_files.py::test_bombs_are_refused_from_the_header"
    ],
    "`draw.py` listens on 127.0.0.1 alone": [
        "test_draw.py::test_it_listens_on_this_machine_alone"
    ],
    "opens it to others; then a warning says so": [
        "test_draw.py::test_it_says_loudly_that_others_can_use_it"
    ],
    "It answers only to its own names": [
        "test_guard.py::test_only_this_server_s_own_names_are_served"
    ],
    "and to no page of another site": [
        "test_guard.py::test_pages_of_other_sites_are_turned_away",
        "test_server.py::test_other_sites_are_turned_away",
    ],
    "Its page loads nothing from elsewhere": [
        "test_server.py::test_the_page_has_no_address_of_elsewhere_and_no_code_in_it",
        "test_guard.py::test_what_is_turned_away_has_the_same_headers",
    ],
    "the number of requests at once are bounded": [
        "test_guard.py::test_a_body_is_bounded_in_size_and_time",
        "test_guard.py::test_too_many_at_once_are_sent_away",
        "test_guard.py::test_what_takes_too_long_keeps_its_place_until_it_ends",
        "test_server.py::test_too_large_a_body_is_refused_by_its_length",
    ],
    "Nothing is stored without `--corrections`": [
        "test_server.py::test_nothing_is_kept_unasked"
    ],
    "Training opens no network connection but to download": [
        "test_security.py::test_training_opens_no_listening_socket"
    ],
    "listens only if `--coordinator_address` asks for it, on that address": [
        "test_shards.py::test_the_coordinator_listens_on_its_own_address_alone"
    ],
}


def test_each_claim_has_its_tests():
    page = (ROOT / "docs" / "reliability-and-security.md").read_text("utf-8")
    section = " ".join(re.split(r"\n## ", page.split("\n## Security\n")[1])[0].split())
    for claim, tests in CLAIMS.items():
        assert claim in section
        for test in tests:
            file, name = test.split("::")
            (path,) = (ROOT / "tests").rglob(file)
            assert f"def {name}(" in path.read_text("utf-8")


def test_nothing_is_unpickled_and_no_text_is_run():
    assert len(SOURCES) > 40
    runs_code = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            else:
                names = set()
            assert not names & UNPICKLERS, f"{path}:{node.lineno}"
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle" or (
                    isinstance(node.value, ast.Constant) and node.value.value is False
                ), f"{path}:{node.value.lineno}"
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                bare = isinstance(node.func, ast.Name)
                assert not (bare and name in {"eval", "exec", "compile"}), path
                if name == "exec_module":
                    runs_code.add(path.name)
    assert runs_code == {"config_files.py"}  # config files are Python


def test_a_strangers_model_name_and_arguments_run_nothing(default_config):
    model = default_config.model
    for name in ("os.system", "__import__", "../cnn", "nn.Module"):
        assert name not in MODELS
        model.name = name
        with pytest.raises(ConfigError, match=r"config.model.name") as caught:
            create_model(model, 10)
        assert "\n" not in str(caught.value)
    model.name = "cnn"
    model.kwargs["__class__"] = "os.system"
    with pytest.raises(ConfigError, match="__class__ is unknown"):
        create_model(model, 10)


# Where a checkpoint's metadata may name code.
PLACES = {
    "model": ("config", "model", "name"),
    "task": ("config", "task"),
    "data set": ("dataset", "name"),
    "offline data set": ("config", "offline_dataset"),
}


def name_code(workdir, place, name):
    """Names code in all checkpoints of a run, and seals them again, as anyone can."""
    for path in workdir.glob("checkpoints/*/metadata/metadata"):
        metadata = json.loads(path.read_text())
        del metadata["sha256"]
        *groups, key = PLACES[place]
        owner = metadata
        for group in groups:
            owner = owner[group]
        owner[key] = name
        path.write_text(json.dumps(seal(metadata)))


@pytest.fixture
def strange_code(tmp_path, monkeypatch):
    """A module that can be imported, and says when it is, or when `thing` is called."""
    (tmp_path / "strange_code.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('imported').touch()\n"
        "def thing(*args, **kwargs):\n"
        "    Path(__file__).with_name('called').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("strange_code", None)


@pytest.mark.parametrize("place", PLACES)
def test_code_that_a_stranger_names_is_imported_only_if_it_is_trusted(
    place, trained_workdir, strange_code
):
    name_code(trained_workdir, place, "strange_code:thing")
    with pytest.raises(CheckpointError, match="--trust_code") as caught:
        load_model(trained_workdir)
    assert "\n" not in str(caught.value)
    assert not (strange_code / "imported").exists()
    if place == "offline data set":  # which is loaded if the other cannot be had
        return
    with pytest.raises((CheckpointError, ConfigError), match=r"strange_code:thing"):
        load_split(load_model(trained_workdir, trust_code=True))
    assert (strange_code / "imported").exists()
    assert not (strange_code / "called").exists()


@pytest.mark.parametrize("trust_code", [False, True])
@pytest.mark.parametrize("place", ["model", "task", "data set"])
@pytest.mark.parametrize("name", ["os:system", "subprocess:call"])
def test_what_a_stranger_names_is_not_called(
    name, place, trust_code, trained_workdir, monkeypatch
):
    def called(*args, **kwargs):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(name.replace(":", "."), called)
    name_code(trained_workdir, place, name)
    with pytest.raises((CheckpointError, ConfigError), match=name) as caught:
        load_split(load_model(trained_workdir, trust_code=trust_code))
    assert "was called" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["model", "task"])
def test_code_of_this_package_needs_no_trust(place, trained_workdir):
    """And is told from a package whose name begins alike."""
    name_code(trained_workdir, place, "mnist_jax.no_such_file:thing")
    with pytest.raises(CheckpointError, match="cannot be imported: No module named"):
        load_model(trained_workdir)
    for stranger in ("mnist_jax_strange.net:thing", "mnist_jax2:thing"):
        name_code(trained_workdir, place, stranger)
        with pytest.raises(CheckpointError, match="--trust_code"):
            load_model(trained_workdir)


def test_an_altered_checkpoint_is_refused_and_leaves_no_file(trained_workdir):
    for path in trained_workdir.glob("checkpoints/*/metadata/metadata"):
        metadata = json.loads(path.read_text())
        metadata["leaves"]["params/../../../evil"] = metadata["leaves"]["step"]
        path.write_text(json.dumps(metadata))
    before = sorted(trained_workdir.parent.rglob("*"))
    with pytest.raises(CheckpointError) as caught:
        load_model(trained_workdir)
    assert "\n" not in str(caught.value)
    assert sorted(trained_workdir.parent.rglob("*")) == before


def test_pictures_of_other_formats_are_not_decoded(tmp_path):
    assert not {"EPS", "PDF", "WMF", "PSD"} & set(FORMATS)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png", "EPS")
    with pytest.raises(PictureError, match="not a BMP"):
        read_picture(tmp_path / "a.png")


def test_training_opens_no_listening_socket(tmp_path):
    """Nor does it look for a data set that is at hand on the network."""
    program = """
import socket, sys
def refused(*args):
    raise AssertionError("a socket was opened")
for name in ("bind", "listen", "connect", "connect_ex"):
    setattr(socket.socket, name, refused)
socket.create_connection = socket.getaddrinfo = refused
from pathlib import Path
from mnist_jax.run.config_files import load_config
from mnist_jax.train import train_and_evaluate
config = load_config("smoke").unlock()
config.optimizer.warmup_epochs = 0.0
config.model.kwargs.features = (4,)
for name in config.augment:
    config.augment[name] = 0.0
train_and_evaluate(config, Path(sys.argv[1]))
tables = [Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")]
inodes = {
    row.split()[9]
    for table in tables if table.exists()
    for row in table.read_text().splitlines()[1:] if row.split()[3] == "0A"
}
import os
own = set()
for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
    try:
        own.add(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
assert not own & {f"socket:[{inode}]" for inode in inodes}
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")], cwd=ROOT, check=True
    )
