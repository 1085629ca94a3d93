"""What predict.py writes, as a program would read it."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from faults.client import KILL, Fault
from helpers import STORED
from mnist_fixture import make_dataset
from PIL import Image, ImageDraw

from mnist_jax.reading import answers
from mnist_jax.run.config_files import CONFIGS

SCHEMA = json.loads(Path(answers.__file__).with_name("answers.schema.json").read_text())
WHOLE = jsonschema.Draft202012Validator(SCHEMA)
SCRIPTS = CONFIGS.parent / "scripts"
FORMS = ["json", "jsonl", "csv"]


def draw(lines=1, digits=1):
    """Black strokes on white, like ones."""
    picture = Image.new("RGB", (60 * digits + 40, 90 * lines + 20), "white")
    canvas = ImageDraw.Draw(picture)
    for line in range(lines):
        for k in range(digits):
            left, top = 40 + 60 * k, 20 + 90 * line
            canvas.line((left, top, left - 4, top + 60), "black", 7)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of many kinds, and what is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    draw().save(folder / "one.png")
    draw(3, 3).save(folder / "many.jfif", "JPEG")
    draw().save(folder / "-x.png")
    draw(1, 2).save(folder / "pages.tif", save_all=True, append_images=[draw()] * 4)
    blank = Image.new("RGB", (100, 110), "white")
    blank.save(folder / "moves.gif", save_all=True, append_images=[draw(), blank])
    blank.save(folder / "blank.png")
    (folder / "damaged.png").write_bytes(b"no picture")
    np.save(folder / "array.npy", 255 - np.asarray(draw().convert("L")))
    for name in ("a.svg", "b.SVG", "c.psd"):
        (folder / name).touch()
    (folder / "labels.csv").write_text(
        "file,label\nONE,1\n.\\blank.png,1\nmany.jfif,\nnone.png,7\n"
    )
    return folder


def read(done, form):
    """The records that were printed; they are checked against the schema."""
    if form == "json":
        whole = json.loads(done.output)
        rows = whole["answers"]
    elif form == "jsonl":
        rows = [json.loads(line) for line in done.output.splitlines()]
        whole = {"version": 1, "answers": rows, "score": None}
    else:
        rows = answers.from_csv(done.output)
        whole = {"version": 1, "answers": rows, "score": None}
        head = next(csv.reader(io.StringIO(done.output)))
        assert head == list(answers.COLUMNS)
    WHOLE.validate(whole)
    return rows


@pytest.mark.parametrize("mode", ["auto", "digit", "number"])
def test_all_forms_hold_the_same_records_in_every_mode(fork_server, folder, mode):
    told = []
    for form in FORMS:
        flags = [f"--format={form}", f"--read={mode}", "--top_k=2"]
        done = fork_server.run("predict.py", *flags, "none.png", ".", cwd=folder)
        assert done.returncode == 1
        told.append(read(done, form))
    first, *others = told
    assert all(rows == first for rows in others)
    pages = [(Path(row["source"]).name, row["page"]) for row in first]
    assert len(set(pages)) == len(pages) == 9 + 4 + 2
    assert [page for name, page in pages if name == "pages.tif"] == [0, 1, 2, 3, 4]
    by_name = {Path(row["source"]).name: row for row in first if not row["page"]}
    assert len(by_name) == 9
    assert by_name["none.png"]["error"] == "no such file or directory"
    assert by_name["blank.png"]["status"] == "blank"
    assert (by_name["one.png"]["label"], by_name["blank.png"]["label"]) == ("1", "1")
    for row in first:
        assert len(row["text"].replace("\n", "")) == len(row["digits"])
        for digit in row["digits"]:
            left, top, right, bottom = digit["box"]
            assert left < right
            assert top < bottom
            assert len(digit["top_k"]) == 2
            assert type(digit["digit"]) is int
    if mode == "number":
        many = by_name["many.jfif"]
        assert [len(line) for line in many["text"].split("\n")] == [3, 3, 3]
        lines = [digit["line"] for digit in many["digits"]]
        assert lines == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_left_out_is_counted_on_stderr(fork_server, folder, form):
    done = fork_server.run("predict.py", f"--format={form}", ".", cwd=folder)
    rows = read(done, form)
    moves = [row["status"] for row in rows if row["source"] == "./moves.gif"]
    assert (len(rows), moves[0], moves[2]) == (8 + 4 + 2, "blank", "blank")
    assert moves[1] in ("ok", "unsure")
    lines = [line for line in done.errors.splitlines() if line.startswith("warning: ")]
    others, labels, failed = lines
    assert "not read: 3 files of other formats (1 .psd, 2 .svg: " in others
    assert "1 row has no usable label: row 4 of" in labels
    assert "1 label matches no picture: 'none.png'" in labels
    assert "6 pictures have no label" in labels
    assert "1 of 14 pictures could not be read" in failed
    if form != "json":  # every row there is an answer, so that the score is here
        assert "2 right" not in done.output
        assert " of 2 right" in done.errors


def test_a_label_of_several_pages_is_not_used(fork_server, folder, tmp_path):
    (tmp_path / "7").mkdir()
    for name in ("pages.tif", "one.png"):
        shutil.copy(folder / name, tmp_path / "7" / name)
    images = np.zeros((3, 28, 28), np.uint8)
    np.save(tmp_path / "7" / "stack.npy", images)
    done = fork_server.run("predict.py", "--format=jsonl", "7", cwd=tmp_path)
    labels = {(row["source"], row["label"]) for row in read(done, "jsonl")}
    assert labels == {
        *(("7/one.png", "7"), ("7/pages.tif", None), ("7/stack.npy", "7"))
    }
    assert done.errors.count("warning: ") == 1
    assert "that of a file with several pages is not used" in done.errors
    assert "'7/pages.tif'" in done.errors


def test_drawing_shows_the_first_page_and_says_so(fork_server, folder, tmp_path):
    shutil.copy(folder / "pages.tif", tmp_path)  # away from labels.csv
    flags = ("--format=csv", f"--draw={tmp_path / 'drawn.png'}")
    done = fork_server.run("predict.py", *flags, "pages.tif", cwd=tmp_path)
    line = "warning: --draw shows the first of the 5 pages of 'pages.tif'\n"
    assert (done.returncode, done.errors) == (0, line)
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.width > drawn.height  # as the first page, and no other


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_parts_one_behind_another_are_the_whole(fork_server, folder, form):
    def run(*flags):
        done = fork_server.run(
            "predict.py", f"--format={form}", *flags, ".", cwd=folder
        )
        return done, done.output.splitlines()

    _, whole = run()
    head = whole[:1] if form == "csv" else []
    joined = []
    for part in range(3):
        done, lines = run(f"--shard={part}/3")
        assert lines[: len(head)] == head
        assert len(lines) > len(head) + 1
        joined += lines[len(head) :]
        assert done.returncode == (
            '"status": "error"' in done.output or ",error," in done.output
        )
    assert head + joined == whole


@pytest.mark.parametrize("form", ["text", *FORMS])
def test_an_empty_part_ends_well(fork_server, folder, tmp_path, form):
    output = tmp_path / "out"
    flags = (f"--format={form}", "--shard=0/2", f"--output={output}")
    shutil.copy(folder / "one.png", tmp_path)  # away from labels.csv
    done = fork_server.run("predict.py", *flags, "one.png", cwd=tmp_path)
    line = "warning: --shard=0/2: none of the 1 pictures is in it\n"
    assert (done.returncode, done.errors, done.output) == (0, line, "")
    text = output.read_text()
    if form == "json":
        assert json.loads(text) == {"version": 1, "answers": [], "score": None}
    elif form == "text":
        assert text.split() == ["image", "digit", "confidence"]
    else:
        assert text.splitlines() == [",".join(answers.COLUMNS)] * (form == "csv")


def test_a_part_is_gone_on_with_as_the_same_part(fork_server, folder, tmp_path):
    if not fork_server.has_shim:
        pytest.skip("faults need Linux and a C compiler")

    def run(output, *flags, fault=None):
        flags = ("--format=jsonl", f"--output={tmp_path / output}", *flags)
        return fork_server.run("predict.py", *flags, ".", cwd=folder, fault=fault)

    run("whole", "--shard=1/2")
    whole = (tmp_path / "whole").read_bytes()
    assert whole.count(b"pages.tif") == 5
    # A run that is killed between two pages leaves some of them.
    run(
        "out",
        "--shard=1/2",
        fault=Fault(tmp_path, 8, KILL, operation="write *.partial"),
    )
    left = (tmp_path / "out.partial").read_bytes()
    assert whole.startswith(left)
    assert 0 < left.count(b"pages.tif") < 5
    done = run("out", "--shard=0/2", "--resume")
    assert "begun with other pictures and other settings" in done.errors
    run("out", "--shard=1/2", "--resume")
    assert (tmp_path / "out").read_bytes() == whole


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--shard=4/4", "x.png"], "--shard=4/4: give K/N"),
        (["--shard=a/b", "x.png"], "--shard=a/b: give K/N"),
        (["--shard=0/0", "x.png"], "--shard=0/0: give K/N"),
        (["--shard=", "x.png"], "--shard is empty: give it a value"),
        (["--shard=0/2"], "name all of them"),
    ],
)
def test_what_is_no_part_is_one_line(fork_server, tmp_path, flags, reason):
    done = fork_server.run("predict.py", *flags, cwd=tmp_path)
    assert (done.returncode, done.output) == (2, "")
    assert done.errors.startswith("error: ")
    assert reason in done.errors
    assert done.errors.count("\n") == 1


@pytest.mark.parametrize("form", FORMS)
def test_stdin_and_samples(fork_server, folder, trained_workdir, form):
    command = ("predict.py", f"--format={form}", f"--workdir={trained_workdir}")
    done = fork_server.run(*command, "-", input=folder / "one.png")
    (row,) = read(done, form)
    assert (row["source"], row["page"]) == ("<stdin>", 0)
    done = fork_server.run(*command, "--num_samples=3")
    rows = read(done, form)
    assert done.returncode == 0
    assert all(row["source"].startswith("digits/test[") for row in rows)
    assert all(row["label"] and row["digits"][0]["box"] is None for row in rows)
    if form == "json":
        assert json.loads(done.output)["score"]["count"] == 3


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--resume", "x.png"], "--resume goes on with a file"),
        (["--resume", "--output=o", "x.png"], "with --format=jsonl or --format=csv"),
        (["--resume", "--output=o", "--format=json", "x.png"], "--format=jsonl or"),
        (["--resume", "--output=o", "--format=csv"], "name the same ones"),
        (
            ["--resume", "--output=o", "--format=csv", "--plot=p.png", "x.png"],
            "read without --resume",
        ),
        (
            ["--resume", "--output=o", "--format=csv", "--draw=p.png", "x.png"],
            "read without --resume",
        ),
    ],
)
def test_what_cannot_be_resumed_is_one_line(fork_server, tmp_path, flags, reason):
    done = fork_server.run("predict.py", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert done.errors.startswith("error: ")
    assert reason in done.errors
    assert done.errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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


def test_a_name_that_ends_as_a_folder_is_refused_before_the_work(home, fork_server):
    for flag in ("output", "draw", "plot", "save_preprocessed"):
        flags = ("--format=csv", f"--{flag}=new/", f"--workdir={home}/run")
        done = fork_server.run("predict.py", *flags, f"{home}/digit.png", cwd=home)
        if flag == "save_preprocessed":  # it is a folder
            assert done.returncode == 0
        else:
            assert done.returncode == 2
            assert done.errors == f"error: --{flag}=new/ is a folder: name a file\n"
            assert not (home / "new").exists()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_closed_stdout_that_is_named_is_missed(home, name):
    command = f"predict.py --format=csv --workdir=run --output={name} digit.png >&-"
    shell = f"{sys.executable} {SCRIPTS}/{command}"
    done = subprocess.run(shell, shell=True, cwd=home, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: stdout is closed: redirect it to a file\n"


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
