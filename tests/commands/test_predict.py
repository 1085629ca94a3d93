import json
import shutil

import pytest
from helpers import STORED
from mnist_fixture import make_dataset
from PIL import Image


@pytest.fixture
def home(tmp_path):
    """A home folder with a run and a picture."""
    shutil.copytree(STORED / "0.1.0" / "run", tmp_path / "home" / "run")
    picture = Image.fromarray(make_dataset(1, 0).images[0, ..., 0])
    picture.save(tmp_path / "home" / "digit.png")
    (tmp_path / "list.txt").write_text("~/digit.png\n")
    return tmp_path / "home"


def test_the_home_folder_may_be_meant_by_every_path(home, fork_server):
    done = fork_server.run(
        "predict.py",
        "--workdir=~/run",
        "--paths_from=list.txt",
        "--format=csv",
        "--output=~/new/answers.csv",
        "--draw=~/boxes.png",
        "--plot=~/plot.svg",
        "--save_preprocessed=~/stages",
        cwd=home.parent,
        env={"HOME": str(home)},
    )
    assert (done.returncode, done.errors) == (0, "")
    assert sorted(path.name for path in home.parent.iterdir()) == ["home", "list.txt"]
    assert f"{home}/digit.png" in (home / "new" / "answers.csv").read_text()
    assert {path.name for path in home.iterdir()} == {
        *("run", "digit.png", "new", "boxes.png", "plot.svg", "stages")
    }


@pytest.mark.parametrize("format_", ["json", "jsonl", "text"])
def test_stdout_may_be_named_as_the_output(home, fork_server, format_):
    start = ("predict.py", f"--workdir={home}/run", f"--format={format_}")
    picture = f"{home}/digit.png"
    usual = fork_server.run(*start, picture)
    for name in ("-", "/dev/stdout"):
        named = fork_server.run(*start, f"--output={name}", picture)
        assert (named.returncode, named.errors) == (0, "")
        assert named.output == usual.output
    errors = fork_server.run(*start, "--output=/dev/stderr", picture)
    assert (errors.output, errors.errors) == ("", usual.output)
    if format_ == "json":
        json.loads(errors.errors)
