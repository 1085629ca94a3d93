import json
import os
import signal
import threading

import jsonschema
import pytest
from faults.client import FAIL_ON, KILL, TEAR, Fault
from PIL import Image, ImageDraw

from mnist_jax.errors import ConfigError, UserError
from mnist_jax.reading import answer_files, answers
from mnist_jax.reading.answer_files import RowFile
from mnist_jax.reading.paths import Source

RUN = {"pictures": "1", "labels": "2", "weights": "3", "settings": "4"}
FORMS = ["jsonl", "csv"]


def record(source, page=0, text="7", **others):
    digit = {"digit": 7, "confidence": 0.9, "box": [0, 0, 9, 9], "line": 0}
    digits = [digit | {"top_k": [{"digit": 7, "confidence": 0.9}]}]
    values = (source, page, "ok", text, 0.9, digits, None, None)
    return dict(zip(answers.COLUMNS, values, strict=True)) | others


RECORDS = [
    record("a.png"),
    record('b,"\n.png', text="12\n7", label="127"),
    record("c.png", status="error", text="", confidence=None, digits=[], error="no"),
    record("é\\udcff.png"),
]
SOURCES = [Source(r["source"]) for r in RECORDS]


def write(path, form, records, resume=False, run=RUN):
    with RowFile(str(path), form, run, resume=resume) as rows:
        earlier, start = list(rows.records), rows.resume_at()
        for row in records[start:]:
            rows.write(row)
    return earlier


def stop(path, form, records):
    """Leaves a file of rows as a run does that ends with an error."""

    def fail():
        with RowFile(str(path), form, RUN, resume=False) as rows:
            for row in records:
                rows.write(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()


def whole(tmp_path, form):
    write(tmp_path / "whole", form, RECORDS)
    return (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_file_grows_and_then_takes_its_name(tmp_path, form):
    path = tmp_path / "out"
    path.write_text("old")
    with RowFile(str(path), form, RUN, resume=False) as rows:
        size = 0
        for row in RECORDS:
            rows.write(row)
            assert (tmp_path / "out.partial").stat().st_size > size
            size = (tmp_path / "out.partial").stat().st_size
            assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]
    text = path.read_text()
    read = (
        answers.from_csv(text)
        if form == "csv"
        else map(json.loads, text.split("\n")[:-1])
    )
    assert list(read) == RECORDS


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_anywhere_is_gone_on_with(tmp_path, form):
    expected, path = whole(tmp_path, form), tmp_path / "out"
    heads = form == "csv"
    for size in range(0, len(expected) + 1, 7):
        stop(path, form, RECORDS)
        os.truncate(tmp_path / "out.partial", size)
        earlier = write(path, form, RECORDS, resume=True)
        assert earlier == RECORDS[: len(earlier)]
        text = expected[:size]
        assert len(earlier) >= text.count(b'"error": null}\n') * (not heads)
        assert path.read_bytes() == expected
        assert sorted(os.listdir(tmp_path)) == ["out", "whole"]
        path.unlink()


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_are_there_are_not_read_again(tmp_path, form):
    """But for the last file, as it may have more pages."""
    stop(tmp_path / "out", form, RECORDS[:3])
    with RowFile(str(tmp_path / "out"), form, RUN, resume=True) as rows:
        assert rows.resume_at() == 2
        assert rows.records == RECORDS[:2]
        for row in RECORDS[2:]:
            rows.write(row)
    assert (tmp_path / "out").read_bytes() == whole(tmp_path, form)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_pages_that_may_lack_some_is_read_again(tmp_path, form):
    rows_of = [record("x.png"), *(record("a.tif", page) for page in range(3))]
    for done in (2, 3, 4):
        stop(tmp_path / "out", form, rows_of[:done])
        with RowFile(str(tmp_path / "out"), form, RUN, resume=True) as rows:
            assert rows.resume_at() == 1
            assert rows.records == rows_of[:1]
            for row in [*rows_of[1:], record("y.png")]:
                rows.write(row)
        text = (tmp_path / "out").read_text()
        assert text.count("a.tif") == 3
        assert text.count("y.png") == 1


@pytest.mark.parametrize("changed", list(RUN))
def test_rows_of_another_run_are_not_mixed(tmp_path, changed):
    stop(tmp_path / "out", "jsonl", RECORDS[:2])
    before = (tmp_path / "out.partial").read_bytes()
    with pytest.raises(ConfigError, match=f"begun with other {changed}: give the same"):
        write(tmp_path / "out", "jsonl", RECORDS, True, RUN | {changed: "9"})
    assert (tmp_path / "out.partial").read_bytes() == before
    (tmp_path / "out.partial.run").unlink()
    with pytest.raises(ConfigError, match=r"partial.run' cannot be read"):
        write(tmp_path / "out", "jsonl", RECORDS, True)


def test_what_a_run_is_known_by(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"1")
    sources = [Source(str(picture)), Source("<stdin>", b"x"), Source("a\0b")]

    def describe(weights=(), sources=sources, labels=None, settings=(1,)):
        return answer_files.describe_run(weights, sources, labels or {}, settings)

    def different(**changes):
        now = describe(**changes)
        return [key for key in first if first[key] != now[key]]

    first = describe()
    assert different() == []
    assert different(weights=[{"leaves": {"w": "0"}}, None]) == ["weights"]
    assert different(labels={"a": "7"}) == ["labels"]
    assert different(settings=(2,)) == ["settings"]
    assert different(sources=sources[:2]) == ["pictures"]
    assert different(sources=[sources[0], Source("<stdin>", b"y"), sources[2]]) == [
        "pictures"
    ]
    os.utime(picture, ns=(1, 1))
    assert different() == ["pictures"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [b"[1]\n", b"\0\0\n", b"{}\n", b"\xff\n"])
def test_a_damaged_file_is_refused(tmp_path, form, content):
    stop(tmp_path / "out", form, RECORDS)
    (tmp_path / "out.partial").write_bytes(content)
    with pytest.raises(ConfigError, match="is damaged"):
        write(tmp_path / "out", form, RECORDS, resume=True)
    assert (tmp_path / "out.partial").read_bytes() == content


def test_two_processes_do_not_write_the_same_rows(tmp_path):
    with RowFile(str(tmp_path / "out"), "jsonl", RUN, resume=False) as rows:
        rows.write(RECORDS[0])
        with pytest.raises(ConfigError, match="another process is writing"):
            write(tmp_path / "out", "jsonl", RECORDS, resume=True)
        rows.write(RECORDS[1])
    assert (tmp_path / "out").read_text().count("\n") == 2


def test_what_a_stopped_run_left_is_not_lost(tmp_path):
    path = str(tmp_path / "out")
    answer_files.check_output(path, "csv", resume=False)
    answer_files.check_output(path, "csv", resume=True)  # there is nothing yet
    stop(path, "csv", RECORDS[:1])
    answer_files.check_output(path, "csv", resume=True)
    answer_files.check_output(path, "json", resume=False)
    with pytest.raises(ConfigError, match="--resume goes on with it; or delete it"):
        answer_files.check_output(path, "csv", resume=False)
    for target, form in [(None, "csv"), (path, "json"), ("/dev/null", "csv")]:
        with pytest.raises(ConfigError, match="name it by --output"):
            answer_files.check_output(target, form, resume=True)


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path):
    stop(tmp_path / "out", "csv", [])
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError, match=r"No such file or directory$"):
        write(tmp_path / "none" / "out", "csv", RECORDS)


def test_pipes_and_devices_get_rows_at_once(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write(pipe, "csv", RECORDS)
    reader.join()
    assert got[0].encode() == whole(tmp_path, "csv")
    write("/dev/null", "csv", RECORDS)
    with pytest.raises(UserError, match="No space left"):
        write("/dev/full", "csv", RECORDS)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to("far/real")
    write(tmp_path / "out", "csv", RECORDS)
    assert (tmp_path / "out").is_symlink()
    assert os.listdir(tmp_path / "far") == ["real"]


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    answer_files.write_file(str(path), "été\udcff\n")
    assert path.read_bytes() == "été\\udcff\n".encode()

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            answer_files.write_file(str(path), "new")
    assert path.read_bytes() == "été\\udcff\n".encode()
    assert os.listdir(tmp_path) == ["out.json"]
    (tmp_path / "link").symlink_to(path)
    answer_files.write_file(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"


def test_devices_are_written_to_and_not_replaced(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    answer_files.write_file(str(link), "text")
    assert not os.path.isfile("/dev/null")
    with pytest.raises(FileNotFoundError):
        answer_files.write_file(str(tmp_path / "none" / "x"), "text")


def test_a_whole_file_is_not_gone_on_with(tmp_path):
    """Its rows may be of other pictures, and they would be lost."""
    path = str(tmp_path / "out")
    for form in FORMS:
        answer_files.check_output(path, form, resume=True)  # a first run may say so
    write(path, "csv", RECORDS)
    before = (tmp_path / "out").read_bytes()
    with pytest.raises(ConfigError, match="is whole already"):
        answer_files.check_output(path, "csv", resume=True)
    answer_files.check_output(path, "csv", resume=False)
    assert (tmp_path / "out").read_bytes() == before


# --------------------------------------------------------------------- as a process


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of 30 pictures, of which one is damaged and one is blank."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(30):
        picture = Image.new("L", (28, 28), 255)
        ImageDraw.Draw(picture).line((8 + k % 9, 4, 16, 24), 0, 3)
        picture.save(folder / f"{k}.png")
    (folder / "3.png").write_bytes(b"no picture")
    Image.new("L", (28, 28), 255).save(folder / "4.png")
    (folder / "labels.csv").write_text("".join(f"{k}.png,1\n" for k in range(30)))
    return folder


@pytest.fixture(scope="module")
def predict(fork_server, folder):
    """Runs predict.py on the folder."""
    if not fork_server.has_shim:
        pytest.skip("faults need Linux and a C compiler")

    def run(*flags, fault=None):
        command = ("predict.py", "--read=digit", *flags, str(folder))
        return fork_server.run(*command, fault=fault)

    return run


@pytest.fixture(scope="module")
def unbroken(predict, tmp_path_factory):
    """What an uninterrupted run writes, by form, and what it prints to stderr."""
    written = {}
    for form in FORMS:
        path = tmp_path_factory.mktemp("unbroken") / "out"
        done = predict(f"--format={form}", f"--output={path}")
        assert done.returncode == 1, done.errors  # for the damaged picture
        written[form] = (path.read_bytes(), done.errors)
    return written


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("row", "mode"), [(1, KILL), (12, KILL), (20, TEAR), (30, TEAR)]
)
def test_a_killed_run_goes_on_to_the_same_result(
    predict, unbroken, tmp_path, form, row, mode
):
    path, partial = tmp_path / "out", tmp_path / "out.partial"
    flags = (f"--format={form}", f"--output={path}")
    fault = Fault(tmp_path, row, mode, operation="write *out.partial")
    done = predict(*flags, fault=fault)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    expected, errors = unbroken[form]
    left = partial.read_bytes()
    assert expected.startswith(left)
    assert len(left) < len(expected)
    if row > 1:
        done = predict(*flags)  # no row is lost by a run that knows nothing of it
        assert "--resume goes on with it" in done.errors
        assert partial.read_bytes() == left
    done = predict(*flags, "--resume")
    assert (done.returncode, done.errors) == (1, errors)
    assert path.read_bytes() == expected
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_keeps_the_rows(predict, unbroken, tmp_path):
    path = tmp_path / "out"
    flags = ("--format=jsonl", f"--output={path}")
    fault = Fault(tmp_path, 9, FAIL_ON, 28, operation="write *out.partial")
    done = predict(*flags, fault=fault)
    assert done.returncode == 1
    last = done.errors.splitlines()[-1]
    assert last.startswith("error: cannot write")
    assert "No space left" in last
    assert "out.partial' holds the answers so far" in last
    assert predict(*flags, "--resume").returncode == 1
    assert path.read_bytes() == unbroken["jsonl"][0]


def test_other_pictures_or_weights_are_not_mixed(predict, folder, tmp_path):
    flags = ("--format=jsonl", f"--output={tmp_path / 'out'}")
    predict(*flags, fault=Fault(tmp_path, 9, KILL, operation="write *out.partial"))
    left = (tmp_path / "out.partial").read_bytes()
    done = predict(*flags, "--resume", "--top_k=2")
    assert (done.returncode, done.errors.count("\n")) == (2, 1)
    assert "begun with other settings" in done.errors
    (folder / "new.png").write_bytes((folder / "0.png").read_bytes())
    done = predict(*flags, "--resume")
    (folder / "new.png").unlink()
    assert done.returncode == 2
    assert "begun with other pictures" in done.errors.splitlines()[-1]
    assert (tmp_path / "out.partial").read_bytes() == left


def test_json_is_whole_or_absent(predict, tmp_path):
    path = tmp_path / "out"
    flags = ("--format=json", f"--output={path}")
    done = predict(*flags, fault=Fault(tmp_path, 1, TEAR, operation="write *"))
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert predict(*flags).returncode == 1
    jsonschema.validate(json.loads(path.read_text()), _schema())
    assert len(json.loads(path.read_text())["answers"]) == 30


def _schema():
    path = os.path.join(os.path.dirname(answers.__file__), "answers.schema.json")
    with open(path) as file:
        return json.load(file)


def test_an_answer_is_added_to_what_a_pipe_or_stderr_has(tmp_path, capfd):
    """stderr may be a file, as in 2>> log: what was there stays."""
    answer_files.write_file("/dev/stderr", "text\n")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    answer_files.write_file(str(tmp_path / "pipe"), "text")
    assert os.read(reader, 99) == b"text"
    os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.write(log, b"before\n")
    answer_files.write_file(f"/dev/fd/{log}", "text")
    os.close(log)
    assert (tmp_path / "log").read_text() == "before\ntext"
    assert capfd.readouterr().err == "text\n"
