import csv
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from mnist_jax.analysis import splits
from mnist_jax.checkpoint.load import load_model
from mnist_jax.errors import ArgumentError, ConfigError, UserError
from mnist_jax.reading import load_ahead, page_passes, reader
from mnist_jax.reading.page_reader import PageReader
from mnist_jax.reading.paths import Source
from mnist_jax.reading.predictions import Digit, Guess, Prediction
from mnist_jax.reading.reader import Reader
from mnist_jax.run.config_files import CONFIGS

SCRIPT = CONFIGS.parent / "scripts" / "predict.py"
STATUSES = {"ok", "unsure"}


@pytest.fixture(scope="module")
def workdir(_trained):
    """The folder of a finished run. Only to be read."""
    return _trained


@pytest.fixture(scope="module")
def loaded(workdir):
    return load_model(workdir)


@pytest.fixture(scope="module")
def image(loaded):
    """The first test image, uint8 [28, 28]."""
    return splits.load_split(loaded).dataset.images[0, ..., 0]


@pytest.fixture
def picture(tmp_path, image):
    """A picture file of that image, black on white and ten times as large."""
    path = tmp_path / "digit.png"
    Image.fromarray(255 - image).resize((280, 280)).save(path)
    return path


def read(loaded, *names, labels=None, **options):
    sources = [Source(str(name)) for name in names]
    return list(Reader(loaded, **options).read_files(sources, labels))


def with_temperature(loaded, temperature):
    return loaded._replace(metadata=loaded.metadata | {"temperature": temperature})


def test_probabilities(loaded):
    images = splits.load_split(loaded).dataset.images[:5]
    probabilities = reader.predict(loaded, images)
    assert probabilities.shape == (5, 10)
    np.testing.assert_allclose(probabilities.sum(-1), 1)
    one = reader.predict(loaded, images[:1])
    np.testing.assert_allclose(one, probabilities[:1], rtol=1e-4)
    assert reader.predict(loaded, images[:0]).shape == (0, 10)
    np.testing.assert_array_equal(
        Reader(loaded).classify(images[..., 0]), probabilities
    )


def test_images_of_another_scale_or_shape_are_the_same_images(loaded):
    images = splits.load_split(loaded).dataset.images[:60]
    expected = reader.predict(loaded, images)
    for same in (
        images / 255.0,
        (images / 255).astype(np.float32),
        images.astype(np.int64),
        images.reshape(-1, 784),
        images[..., 0],
        images.transpose(0, 3, 1, 2),
    ):
        np.testing.assert_array_equal(reader.predict(loaded, same), expected)
        np.testing.assert_array_equal(Reader(loaded).classify(same), expected)
    binary = images > 127
    np.testing.assert_array_equal(
        reader.predict(loaded, binary), reader.predict(loaded, np.uint8(255 * binary))
    )
    one = Reader(loaded).classify(images[0, ..., 0])
    np.testing.assert_allclose(one, expected[:1], rtol=1e-4)


def test_what_cannot_be_classified_is_said(loaded):
    images = np.zeros((3, 28, 28), np.float32)
    for wrong, says in [
        (np.zeros((56, 56), np.uint8), r"got uint8 \[56, 56\]"),
        (images - 0.4, "numbers from 0 to 255, or from 0 to 1"),
        (images + np.inf, "from inf to inf"),
    ]:
        for call in (Reader(loaded).classify, lambda x: reader.predict(loaded, x)):
            with pytest.raises(ArgumentError, match=says):
                call(wrong)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"read": "foo"}, "read='foo': .*valid: auto, digit, number"),
        ({"read": "numbr"}, "did you mean 'number'"),
        ({"read": None}, "read=None"),
        ({"top_k": 0}, "top_k=0"),
        ({"min_confidence": 1.5}, "min_confidence=1.5"),
        ({"min_confidence": float("nan")}, "min_confidence=nan"),
    ],
)
def test_options_of_a_reader_are_checked(loaded, options, says):
    with pytest.raises(ArgumentError, match=says):
        Reader(loaded, **options)


def test_samples_need_a_count(loaded):
    dataset = splits.load_split(loaded).dataset
    for count, seed in ((0, 0), (-1, 0), (1, -1)):
        with pytest.raises(ArgumentError, match="too small"):
            Reader(loaded).read_samples("mnist/test", dataset, count, seed)


def test_an_array_of_many_images_is_as_many_answers(loaded, picture, tmp_path):
    images = splits.load_split(loaded).dataset.images
    count = 30
    flat = images[:count].reshape(count, 784).astype(np.int64)
    flat[7] = 0
    np.save(tmp_path / "flat.npy", flat)
    path = str(tmp_path / "flat.npy")
    rows = read(loaded, picture, path, picture, labels={path: "3"})
    assert len(rows) == count + 2
    assert rows[0] == rows[-1]
    answers = rows[1:-1]
    expected = reader.predict(loaded, images[:count])
    for i, answer in enumerate(answers):
        assert (answer.source, answer.page) == (path, i)
        assert answer.label == "3"
        if i == 7:
            assert answer.status == "blank"
            assert answer.digits == ()
            continue
        (digit,) = answer.digits
        assert answer.text == str(expected[i].argmax())
        np.testing.assert_allclose(digit.confidence, expected[i].max(), rtol=1e-4)
        np.testing.assert_array_equal(digit.image, images[i])
    # Damage in one file keeps no other from being read.
    whole = (tmp_path / "flat.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-9])
    bad, good = read(loaded, tmp_path / "short.npy", picture)
    assert bad.error == "damaged (it ends too early)"
    assert good == rows[0]


@pytest.mark.parametrize("size", [(8000, 20), (20, 8000), (4000, 28), (60_000, 64)])
def test_a_strip_with_a_digit_is_not_blank(loaded, image, tmp_path, size):
    side = min(size)
    strip = Image.new("L", size, 255)
    digit = Image.fromarray(255 - image).resize((side, side))
    strip.paste(digit, tuple((length - side) // 3 for length in size))
    strip.save(tmp_path / "strip.png")
    (row,) = read(loaded, tmp_path / "strip.png")
    assert row.status in STATUSES
    (seen,) = row.digits
    left, top, right, bottom = seen.box
    assert max(right - left, bottom - top) <= side + 2
    assert left >= (size[0] - side) // 3
    assert np.corrcoef(seen.image.ravel(), image.ravel())[0, 1] > 0.7


def test_a_temperature_calibrates_and_changes_no_answer(loaded):
    images = splits.load_split(loaded).dataset.images[:20]
    plain = reader.predict(with_temperature(loaded, 1.0), images)
    cooled = reader.predict(with_temperature(loaded, 2.0), images)
    expected = plain**0.5 / (plain**0.5).sum(-1, keepdims=True)
    np.testing.assert_allclose(cooled, expected, rtol=1e-6)


def test_files_that_fail_do_not_keep_others_from_it(loaded, picture, tmp_path):
    (tmp_path / "empty.png").touch()
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    paths = [tmp_path / "empty.png", picture, tmp_path / "blank.png", tmp_path, picture]
    rows = read(loaded, *paths, top_k=3, min_confidence=0.0)
    assert [row.status for row in rows] == ["error", "ok", "blank", "error", "ok"]
    assert [row.source for row in rows] == [str(path) for path in paths]
    assert rows[0].error == "is empty"
    assert rows[0].digits == rows[2].digits == ()
    assert rows[0].confidence is None
    assert rows[1].digits == rows[4].digits
    (digit,) = rows[1].digits
    assert len(digit.guesses) == 3
    assert digit.confidence >= digit.guesses[1].confidence
    assert digit.image.shape == (28, 28, 1)


def test_what_breaks_on_a_picture_breaks_no_other(loaded, picture, monkeypatch):
    at_scale, calls = page_passes._at_scale, []

    def fail_once(grey, scale, *known, **others):
        calls.append(scale)
        if len(calls) == 1:
            raise RuntimeError("of no kind\nthat was thought of")
        return at_scale(grey, scale, *known, **others)

    monkeypatch.setattr(page_passes, "_at_scale", fail_once)
    bad, good = read(loaded, picture, picture)
    assert bad.error == "cannot be read (RuntimeError: of no kind that was thought of)"
    assert good.digits


def test_what_breaks_in_a_batch_breaks_no_other_batch(loaded, picture, monkeypatch):
    read_pages, calls = PageReader.read, []

    def fail_once(self, greys):
        calls.append(len(greys))
        if len(calls) == 1:
            raise RuntimeError("no memory")
        return read_pages(self, greys)

    monkeypatch.setattr(load_ahead, "BATCH", 2)
    monkeypatch.setattr(PageReader, "read", fail_once)
    missing = picture.parent / "none.png"
    *bad, good = read(loaded, picture, missing, picture)
    assert [row.error for row in bad] == [
        "cannot be read (RuntimeError: no memory)",
        "no such file or directory",
    ]
    assert good.digits
    assert calls == [1, 1]


def test_a_source_may_be_content_or_an_error(loaded, picture):
    sources = [
        Source("<stdin>", picture.read_bytes()),
        Source("none", error="is a folder with no picture in it"),
        Source("<stdin>", b""),
    ]
    good, missing, empty = Reader(loaded).read_files(sources)
    assert good.digits
    assert (missing.status, missing.error) == ("error", sources[1].error)
    assert empty.error == "is empty"


def test_what_was_read_comes_before_an_error_of_the_sources(loaded, picture):
    def sources():
        for _ in range(3):
            yield Source("<stdin>", picture.read_bytes())
        raise OSError("the disk is gone")

    predictions = Reader(loaded).read_files(sources())
    read = list(itertools.islice(predictions, 3))
    assert all(prediction.digits for prediction in read)
    with pytest.raises(OSError, match="disk is gone"):
        next(predictions)


def test_rows_keep_their_order_and_few_pictures_are_held(loaded, picture, monkeypatch):
    monkeypatch.setattr(load_ahead, "_AHEAD", 4)
    monkeypatch.setattr(load_ahead, "BATCH", 3)
    held, most, lock = 0, 0, threading.Lock()
    load = load_ahead.load_each_page

    def count(source):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return load(source)

    monkeypatch.setattr(load_ahead, "load_each_page", count)
    rows = []
    Image.open(picture).resize((40, 40)).save(picture)
    names = [f"{picture.parent}/./{'./' * i}digit.png" for i in range(60)]
    sources = map(Source, names)
    for row in Reader(loaded, read="digit").read_files(sources):
        rows.append(row.source)
        with lock:
            held -= 1
    assert rows == names
    assert 1 < most <= 4 + 3 * 3  # loaded, and two batches beside the one that is read


def test_answers_do_not_depend_on_where_reading_starts(loaded, picture, monkeypatch):
    monkeypatch.setattr(load_ahead, "BATCH", 4)
    rng, sources, batches = np.random.default_rng(0), [], []
    for i in range(10):
        noisy = np.asarray(Image.open(picture).convert("L"))
        noisy = np.clip(noisy + rng.normal(0, 20, noisy.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(picture.parent / f"{i}.png")
        sources.append(Source(str(picture.parent / f"{i}.png")))
    read_pages = PageReader.read

    def count(self, greys):
        batches.append(len(greys))
        return read_pages(self, greys)

    monkeypatch.setattr(PageReader, "read", count)
    whole = list(Reader(loaded).read_files(sources))
    assert sorted(batches) == [2, 4, 4]
    for start in (1, 4, 6, 10):
        batches.clear()
        assert list(Reader(loaded).read_files(sources, start=start)) == whole[start:]
        assert set(batches) <= {2, 4}


def test_a_file_is_read_as_the_image_it_shows(loaded, picture, image):
    (row,) = read(loaded, picture, read="digit")
    shown = row.digits[0].image
    difference = np.abs(shown[..., 0].astype(float) - image).sum()
    assert difference < image.sum()  # twice that, if no ink were where it was
    probabilities = reader.predict(loaded, shown[None])[0]
    assert row.text == str(probabilities.argmax())
    assert row.confidence == pytest.approx(probabilities.max())
    (row,) = read(loaded, picture)
    difference = np.abs(row.digits[0].image[..., 0].astype(float) - image).sum()
    assert difference < image.sum()


def test_min_confidence_parts_ok_from_unsure(loaded, picture):
    (row,) = read(loaded, picture, read="digit")
    sure = row.confidence
    statuses = [
        read(loaded, picture, read="digit", min_confidence=given)[0].status
        for given in (0.0, sure - 1e-6, sure + 1e-6, 1.0)
    ]
    assert statuses == ["ok", "ok", "unsure", "unsure"]


def test_boxes_are_in_the_pixels_of_the_file(loaded, tmp_path):
    page = np.full((1600, 2400), 255, np.uint8)
    page[600:1000, 1500:1540] = 0  # a 1
    Image.fromarray(page).save(tmp_path / "page.png")
    (row,) = read(loaded, tmp_path / "page.png", read="digit")
    assert np.abs(np.subtract(row.digits[0].box, (1500, 600, 1540, 1000))).max() < 20


def test_several_digits(loaded, tmp_path, image):
    """Four digits far apart are four, whatever each is taken for."""
    digit = Image.fromarray(255 - image).resize((140, 140))
    page = Image.new("L", (900, 200), 255)
    for k in range(4):
        page.paste(digit, (50 + 210 * k, 30))
    page.save(tmp_path / "number.png")
    (row,) = read(loaded, tmp_path / "number.png", read="number", min_confidence=0.0)
    assert len(row.text) == len(row.digits) == 4
    lefts = [digit.box[0] for digit in row.digits]
    assert np.abs(np.diff(lefts) - 210).max() < 12
    # What may be overlooked beside them costs a little.
    together = np.prod([digit.confidence for digit in row.digits])
    assert 0.97 * together < row.confidence < together
    (row,) = read(loaded, tmp_path / "number.png", read="digit")
    assert len(row.digits) == 1


def test_a_number_of_sure_digits_may_be_unsure(loaded):
    """What is "ok" has a confidence of at least one half, as a whole."""
    reader = Reader(loaded)
    digits = [reader._digit(np.array([0.9, 0.1]), np.zeros((28, 28, 1)))] * 7
    assert reader._answer("a.png", digits[:6], None).status == "ok"  # 0.53
    whole = reader._answer("a.png", digits, None)
    assert (whole.status, whole.digits[0].status) == ("unsure", "ok")  # 0.48


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png"])
def test_each_page_is_an_answer(loaded, picture, tmp_path, name):
    # Of grey frames, Pillow 13 writes a GIF that it reads otherwise.
    page, path = Image.open(picture).convert("RGB"), str(tmp_path / name)
    blank = Image.new("RGB", page.size, (255, 255, 255))
    page.save(path, save_all=True, append_images=[blank, page.rotate(180)])
    page.rotate(180).save(tmp_path / "turned.png")
    (tmp_path / "stages").mkdir()
    names = [picture, path, tmp_path / "turned.png"]
    rows = read(
        loaded, *names, labels={path: "3"}, stages_dir=tmp_path / "stages", top_k=2
    )
    assert [row.source for row in rows] == [str(names[k]) for k in (0, 1, 1, 1, 2)]
    assert [row.page for row in rows] == [0, 0, 1, 2, 0]
    assert rows[1].digits == rows[0].digits
    assert (rows[2].status, rows[2].error) == ("blank", "")
    assert rows[3].digits == rows[4].digits
    assert rows[3].digits != rows[1].digits
    assert {row.label for row in rows} == {None}
    strips = ["00001_digit.png", "00002_a.png", "00002_a_1.png", "00002_a_2.png"]
    assert sorted(os.listdir(tmp_path / "stages")) == [*strips, "00003_turned.png"]
    page.save(path)
    (row,) = read(loaded, path, labels={path: "3"})
    assert row.label == "3"


def test_a_damaged_page_is_an_answer_of_its_own(loaded, picture, tmp_path):
    page, path = Image.open(picture), tmp_path / "a.tif"
    pages = [page, page, page]
    page.save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    with Image.open(path) as tiff:
        tiff.seek(1)
        place = tiff.tag_v2[273][0]  # where its pixels are
    content = bytearray(path.read_bytes())
    content[place : place + 20] = b"\xff" * 20
    path.write_bytes(content)
    good, bad, last = read(loaded, path)
    assert (bad.page, bad.error) == (1, "damaged (its pixels cannot be decoded)")
    assert (bad.status, bad.digits) == ("error", ())
    assert (last.page, last.digits) == (2, good.digits)


def test_reading_may_begin_behind_some_sources(loaded, picture, tmp_path):
    sources = [Source("none")] * 3 + [Source(str(picture))]
    folder = tmp_path / "stages"
    folder.mkdir()
    (row,) = Reader(loaded, stages_dir=folder).read_files(sources, start=3)
    assert row.source == str(picture)
    assert os.listdir(folder) == ["00004_digit.png"]


def test_a_number_is_as_unsure_as_its_digits():
    sure = Digit("ok", (Guess(4, "4", 0.9),), np.zeros(1), line=0)
    other = Digit("unsure", (Guess(2, "2", 0.4),), np.zeros(1), line=1)
    row = Prediction("a", "unsure", (sure, sure, other), label="442")
    assert row.text == "44\n2"
    assert row.is_right
    assert row.confidence == pytest.approx(0.9 * 0.9 * 0.4)
    assert not Prediction("a", "ok", (sure,)).is_right


def test_models_of_other_things_read_no_numbers(loaded, picture):
    names = {"class_names": ["Shirt", "Bag", *"01234567"], "name": "fashion_mnist"}
    dataset = loaded.metadata["dataset"] | names
    fashion = loaded._replace(metadata=loaded.metadata | {"dataset": dataset})
    with pytest.raises(ConfigError, match="fashion_mnist has no digits"):
        Reader(fashion, read="number")
    (row,) = read(fashion, picture)
    assert len(row.digits) == 1


def test_samples_are_fixed_by_the_seed(loaded):
    split = splits.load_split(loaded, split="test[:20]")
    reader = Reader(loaded)
    first = reader.read_samples(split.name, split.dataset, 6, seed=1)
    again = reader.read_samples(split.name, split.dataset, 6, seed=1)
    other = reader.read_samples(split.name, split.dataset, 6, seed=2)
    sources = [[row.source for row in rows] for rows in (first, again, other)]
    assert sources[0] == sources[1] != sources[2]
    index = int(first[0].source.split("[")[-1].rstrip("]"))
    assert first[0].label == str(split.dataset.labels[index])
    assert len(reader.read_samples(split.name, split.dataset, 99, seed=0)) == 20


def test_stages_are_saved_for_each_picture(loaded, picture, tmp_path):
    odd = tmp_path / "\n=ü" / "\udcff,.png"
    odd.parent.mkdir()
    shutil.copy(picture, odd)
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    folder = tmp_path / "stages"
    folder.mkdir()
    names = [picture, odd, tmp_path / "blank.png", tmp_path / "none.png"]
    read(loaded, *names, stages_dir=folder)
    assert sorted(os.listdir(folder)) == [
        "00001_digit.png",
        "00002___.png",
        "00003_blank.png",
    ]
    for name in os.listdir(folder):
        with Image.open(folder / name) as strip:
            strip.load()
    with pytest.raises(UserError, match="cannot write"):
        read(loaded, picture, stages_dir=folder / "none")


def run(*arguments, code=None, **options):
    program = [SCRIPT] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        timeout=100,
        **({"text": True} | options),
    )


def test_script_reads_samples_and_draws_them(workdir, tmp_path):
    plot = tmp_path / "new" / "answers.png"
    done = run(f"--workdir={workdir}", "--num_samples=5", f"--plot={plot}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("digits/test[") == 5
    assert done.stdout.endswith(" of 5 right\n")
    with Image.open(plot) as figure:
        assert min(figure.size) > 200


@pytest.fixture
def hostile(tmp_path, picture):
    """A folder of what is no good picture, and its good one under odd names."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    whole = picture.read_bytes()
    names = [" a b.png", "a\nb.png", "'\"`.png", "a,b;.png", "-x.png", "--top_k=9.png"]
    names += ["=1+1.png", "a[1].png", "[!a].png", "*.png", "\udcff.png", "\x1b[1m.png"]
    for name in names:
        (folder / name).write_bytes(whole)
    (folder / "empty.png").touch()
    (folder / "short.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture")
    np.save(folder / "nan.npy", np.full((28, 28), np.nan))
    np.save(folder / "batch.npy", np.zeros((4, 20, 30)))
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        cwd = os.getcwd()
        os.chdir(folder)
        server.bind("socket.png")
        os.chdir(cwd)
    bad = {"empty", "short", "text", "nan", "batch", "pipe", "device", "loop"}
    return folder, names, bad | {"folder", "socket"}


@pytest.mark.parametrize(
    ("form", "how"),
    [("json", "folder"), ("csv", "*"), ("text", "list")],
)
def test_script_reads_hostile_folders(workdir, hostile, form, how):
    folder, names, bad = hostile
    flags = [f"--workdir={workdir}", f"--format={form}", "--read=digit"]
    given = {
        "folder": ["."],
        "*": sorted(os.listdir(folder)),  # as a shell gives them, -x.png included
        "list": ["--paths_from=-"],
    }[how]
    listed = b"\0".join(map(os.fsencode, sorted(os.listdir(folder))))
    done = run(*flags, *given, cwd=folder, input=listed, text=False)
    assert done.returncode == 1
    count = len(names) + len(bad)
    error = f"warning: {len(bad)} of {count} pictures could not be read, the first: "
    assert done.stderr.decode().startswith(error)
    assert done.stderr.count(b"\n") == 1
    text = done.stdout.decode()
    if form == "text":
        assert text.count("error:") == len(bad)
        assert "\x1b" not in text
        return
    if form == "json":
        rows = json.loads(text)["answers"]
    else:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == count
    read = {os.path.normpath(r["source"]) for r in rows if r["status"] in STATUSES}
    assert read == {name.replace("\udcff", "\\udcff") for name in names}
    failed = {os.path.splitext(r["source"])[0] for r in rows if r["status"] == "error"}
    assert {os.path.normpath(name) for name in failed} == bad
    assert all(row["error"] for row in rows if row["status"] == "error")


def test_script_counts_what_is_right(workdir, picture, tmp_path, image):
    for label in "17":
        (tmp_path / "mine" / label).mkdir(parents=True)
        shutil.copy(picture, tmp_path / "mine" / label / "a.png")
    flags = [f"--workdir={workdir}", "--recursive", "--format=json", "--read=digit"]
    output, plot = tmp_path / "new" / "answers.json", tmp_path / "plot.png"
    done = run(*flags, f"--output={output}", f"--plot={plot}", tmp_path / "mine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    whole = json.loads(output.read_text())
    assert [row["label"] for row in whole["answers"]] == ["1", "7"]
    right = sum(row["text"] == row["label"] for row in whole["answers"])
    assert whole["score"]["count"] == 2
    assert whole["score"]["correct"] == right
    assert plot.stat().st_size > 1000
    table = tmp_path / "table.csv"
    table.write_text("digit.png,3\n")
    done = run(f"--workdir={workdir}", f"--labels={table}", "--format=csv", picture)
    assert done.stderr.startswith("accuracy ")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["label"] == "3"


def test_script_reads_stdin(workdir, picture):
    flags = [f"--workdir={workdir}", "--format=jsonl", "--read=digit"]
    done = run(*flags, "-", "-", input=picture.read_bytes(), text=False)
    assert done.returncode == 1
    good, again = map(json.loads, done.stdout.splitlines())
    assert (good["source"], good["status"] in STATUSES) == ("<stdin>", True)
    assert again["error"] == "stdin was read already"


def test_script_draws_answers(workdir, picture, tmp_path):
    drawn = tmp_path / "drawn.png"
    done = run(f"--workdir={workdir}", f"--draw={drawn}", picture)
    assert done.returncode == 0, done.stderr
    with Image.open(drawn) as shown, Image.open(picture) as given:
        assert shown.convert("RGB").tobytes() != given.convert("RGB").tobytes()


def test_script_with_no_pictures_and_no_data(workdir, tmp_path):
    """Not a word on archives first: a person with a picture needs none."""
    copy = tmp_path / "kmnist_run"
    shutil.copytree(workdir, copy)
    code = (
        "import runpy, sys; from mnist_jax import errors\n"
        "from mnist_jax.analysis import splits\n"
        "def fail(*a, **k): raise errors.DataError('kmnist is not there')\n"
        "splits.load_split = fail; sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = run(SCRIPT, f"--workdir={copy}", code=code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: name a picture, as in: python scripts/predict"
    )
    assert done.stderr.endswith("kmnist is not there)\n")
    assert done.stderr.count("\n") == 1


# Start-up time is what a person waits for: what is not needed must not be imported.
_LIST_MODULES = """
import runpy, sys, atexit
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_script_imports_only_what_it_needs(workdir, picture):
    done = run(SCRIPT, f"--workdir={workdir}", picture, code=_LIST_MODULES)
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "mnist_jax.reading.page_passes" in modules
    unwanted = {"matplotlib", "tensorflow", "tensorflow_datasets", "tensorboardX"}
    unwanted |= {
        "sklearn",
        "scipy.ndimage",
        "pandas",
        "tqdm",
        "mnist_jax.train",
        "mnist_jax.analysis.plots",
    }
    assert not modules & unwanted


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--workdir=nothing/here", "a.png"], 1, "nothing/here"),
        (["--top_k=0"], 2, "top_k"),
        (["--format=xml"], 2, "format"),
        (["--min_confidence=2"], 2, "min_confidence"),
        (["--min_confidence=-1"], 2, "min_confidence"),
        (["--plot=a.xyz", "a.png"], 2, "end it with .png"),
        (["--draw=a.png", "b.png", "c.png"], 2, "--draw takes one picture, and 2"),
        (["--draw=a.png"], 2, "--draw takes one picture"),
        (["--draw=a.txt", "b.png"], 2, "end the name with .png"),
        (["--output=/", "a.png"], 2, "is a folder"),
        (["--save_preprocessed=/dev/null/x", "a.png"], 1, "Not a directory"),
        (["--paths_from=/none"], 1, "/none"),
        (["--paths_from=/dev/null"], 1, "is a pipe or a device"),
        (["--paths_from=-", "-"], 2, "not both"),
    ],
)
def test_script_says_what_is_wrong_in_one_line(tmp_path, arguments, code, reason):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not os.listdir(tmp_path)


def test_script_does_not_draw_over_the_picture(picture):
    before = picture.read_bytes()
    done = run(f"--draw={picture}", picture)
    assert done.returncode == 2
    assert "is the picture to be read" in done.stderr
    assert picture.read_bytes() == before


def test_help():
    done = run("--help")
    assert done.returncode == 0
    assert "python scripts/predict.py" in done.stdout
    assert "--top_k" in done.stdout
