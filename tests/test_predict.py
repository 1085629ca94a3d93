import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mnist_jax import evaluate, predict
from mnist_jax.checkpoint import load_model
from mnist_jax.config import CONFIGS
from mnist_jax.predict import Guess, Prediction

SCRIPT = CONFIGS.parent / "scripts" / "predict.py"
DIGITS = list("0123456789")
ROWS = [
    Prediction("a.png", "ok", (Guess(7, "7", 0.9876), Guess(1, "1", 0.01))),
    Prediction('b,"\n\x1b[1m\udcff.png', "error", error="is empty"),
]


@pytest.fixture
def loaded(trained_workdir):
    return load_model(trained_workdir)


@pytest.fixture
def picture(tmp_path, loaded):
    """A picture file of the first test image, black on white and ten times as large."""
    image = evaluate.load_split(loaded).dataset.images[0, ..., 0]
    path = tmp_path / "digit.png"
    Image.fromarray(255 - image).resize((280, 280)).save(path)
    return path


def test_probabilities(loaded):
    images = evaluate.load_split(loaded).dataset.images[:5]
    probabilities = predict.predict(loaded, images)
    assert probabilities.shape == (5, 10)
    np.testing.assert_allclose(probabilities.sum(-1), 1)
    one = predict.predict(loaded, images[:1])
    np.testing.assert_allclose(one, probabilities[:1], rtol=1e-4)
    assert predict.predict(loaded, images[:0]).shape == (0, 10)


def test_files_that_fail_do_not_keep_others_from_it(loaded, picture, tmp_path):
    (tmp_path / "empty.png").touch()
    paths = [tmp_path / "empty.png", picture, tmp_path, picture]
    rows = predict.predict_files(loaded, paths, top_k=3)
    assert [row.status for row in rows] == ["error", "ok", "error", "ok"]
    assert [row.source for row in rows] == [str(path) for path in paths]
    assert rows[0].error == "is empty"
    assert rows[0].digit is rows[0].confidence is rows[0].image is None
    assert rows[1].guesses == rows[3].guesses
    assert len(rows[1].guesses) == 3
    assert rows[1].digit == rows[1].guesses[0].digit
    assert rows[1].confidence >= rows[1].guesses[1].confidence
    assert rows[1].image.shape == (28, 28, 1)


def test_only_files_that_fail(loaded, tmp_path):
    (row,) = predict.predict_files(loaded, [tmp_path / "none.png"])
    assert row.status == "error"


def test_a_file_is_read_as_the_image_it_shows(loaded, picture):
    image = evaluate.load_split(loaded).dataset.images[:1]
    probabilities = predict.predict(loaded, image)[0]
    (row,) = predict.predict_files(loaded, [picture])
    assert row.digit == probabilities.argmax()
    assert row.confidence == pytest.approx(probabilities.max(), abs=0.1)


def test_samples_are_fixed_by_the_seed(loaded):
    split = evaluate.load_split(loaded, split="test[:20]")
    first = predict.predict_samples(loaded, split, 6, seed=1)
    again = predict.predict_samples(loaded, split, 6, seed=1)
    other = predict.predict_samples(loaded, split, 6, seed=2)
    sources = [[row.source for row in rows] for rows in (first, again, other)]
    assert sources[0] == sources[1] != sources[2]
    index = int(first[0].source.split("[")[-1].rstrip("]"))
    assert first[0].label == split.dataset.labels[index]
    assert len(predict.predict_samples(loaded, split, 99, seed=0)) == 20


def test_text():
    lines = predict.to_text(ROWS, DIGITS).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["a.png", "7", "98.76%", "then", "1", "1.00%"]
    assert lines[2].endswith("error: is empty")
    assert r"\n\x1b[1m\udcff.png" in lines[2]


def test_text_of_samples_shows_labels():
    guess = (Guess(0, "Shirt", 0.5),)
    rows = [Prediction(f"test[{k}]", "ok", guess, label=k) for k in (0, 1)]
    right, wrong, last = predict.to_text(rows, ["Shirt", "Ankle boot"]).splitlines()[1:]
    assert right.split() == ["test[0]", "Shirt", "50.00%", "Shirt"]
    assert wrong.endswith("wrong")
    assert last == "1 of 2 right"


def test_json():
    good, bad = json.loads(predict.to_json(ROWS, DIGITS))
    assert good == {
        "source": "a.png",
        "status": "ok",
        "digit": 7,
        "confidence": 0.9876,
        "top_k": [
            {"digit": 7, "confidence": 0.9876},
            {"digit": 1, "confidence": 0.01},
        ],
        "error": None,
    }
    assert bad["status"] == "error"
    assert bad["error"] == "is empty"
    assert bad["digit"] is None
    assert bad["source"] == 'b,"\n\x1b[1m\\udcff.png'


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1]])
def test_csv(rows):
    text = predict.to_csv(rows, DIGITS)
    text.encode("utf-8")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    by_status = {row["status"]: row for row in read}
    good, bad = by_status["ok"], by_status["error"]
    assert (good["digit"], good["confidence"]) == ("7", "0.9876")
    assert (good["digit_2"], good["confidence_2"]) == ("1", "0.01")
    assert (bad["digit"], bad["error"]) == ("", "is empty")
    assert bad["source"].startswith('b,"\n')


def test_classes_that_are_no_digits_are_named():
    rows = [Prediction("a.png", "ok", (Guess(1, "Bag", 0.9),))]
    (row,) = json.loads(predict.to_json(rows, ["Shirt", "Bag"]))
    assert (row["digit"], row["name"]) == (1, "Bag")
    assert "source,status,digit,name," in predict.to_csv(rows, ["Shirt", "Bag"])


def run(*arguments, code=None):
    program = [SCRIPT] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True
    )


def test_script_reads_samples_and_draws_them(trained_workdir, tmp_path):
    plot = tmp_path / "new" / "answers.png"
    done = run(f"--workdir={trained_workdir}", "--num_samples=5", f"--plot={plot}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("digits/test[") == 5
    with Image.open(plot) as image:
        assert min(image.size) > 200


def test_script_goes_on_after_a_bad_file(trained_workdir, picture, tmp_path):
    bad = os.fsencode(tmp_path) + b"/\xff,\n.png"
    arguments = (f"--workdir={trained_workdir}", "--format=json", "--top_k=2")
    done = run(*arguments, "--", bad, picture, "-x.png")
    assert done.returncode == 1
    assert done.stderr == "warning: 2 of 3 pictures could not be read\n"
    rows = json.loads(done.stdout)
    assert [row["status"] for row in rows] == ["error", "ok", "error"]
    assert len(rows[1]["top_k"]) == 2


# Start-up time is what a person waits for: what is not needed must not be imported.
_LIST_MODULES = """
import runpy, sys, atexit
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_script_imports_only_what_it_needs(trained_workdir, picture):
    done = run(SCRIPT, f"--workdir={trained_workdir}", picture, code=_LIST_MODULES)
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "mnist_jax.pictures" in modules
    unwanted = {"matplotlib", "tensorflow", "tensorflow_datasets", "tensorboardX"}
    assert not modules & (unwanted | {"sklearn", "pandas", "mnist_jax.train"})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--workdir=nothing/here", "a.png"], 1),
        (["--top_k=0"], 2),
        (["--format=xml"], 2),
    ],
)
def test_script_says_what_is_wrong_in_one_line(arguments, code):
    done = run(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help():
    done = run("--help")
    assert done.returncode == 0
    assert "python scripts/predict.py" in done.stdout
    assert "--top_k" in done.stdout
