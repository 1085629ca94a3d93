import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mnist_fixture import make_dataset

from mnist_jax import evaluate
from mnist_jax.data import Dataset, normalize
from mnist_jax.models.mlp import MLP
from mnist_jax.run import inference
from mnist_jax.run.config_files import CONFIGS

SCRIPT = CONFIGS.parent / "scripts" / "evaluate.py"


@pytest.fixture(scope="module")
def model():
    return MLP(num_classes=10, dense=(8,), dropout=0.5)


@pytest.fixture(scope="module")
def variables(model):
    return model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(103, seed=0)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 102, 103, 104, 1000])
def test_every_example_counts_for_any_batch_size(model, variables, dataset, batch_size):
    got = evaluate.evaluate(
        evaluate.make_eval_step(model), variables, dataset, batch_size
    )
    logits = model.apply(variables, normalize(dataset.images))
    losses = -jax.nn.log_softmax(logits)[np.arange(103), dataset.labels]
    right = int((logits.argmax(-1) == dataset.labels).sum())
    assert got["count"] == 103
    assert got["correct"] == right
    assert got["accuracy"] == right / 103
    assert got["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 50, 103, 1000])
def test_logits_of_every_image(model, variables, dataset, batch_size):
    got = inference.predict_logits(model, variables, dataset.images, batch_size)
    assert got.dtype == np.float32
    expected = model.apply(variables, normalize(dataset.images))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_no_images_and_no_batch_size_are_errors(model, variables, dataset):
    with pytest.raises(ValueError, match="of 0 images"):
        inference.predict_logits(model, variables, dataset.images[:0], 10)
    with pytest.raises(ValueError, match="batches of 0"):
        inference.predict_logits(model, variables, dataset.images, 0)


def test_each_batch_size_compiles_once(model, variables, dataset):
    step = evaluate.make_eval_step(model)
    evaluate.evaluate(step, variables, dataset, 20)
    before = evaluate._eval_step._cache_size()
    evaluate.evaluate(step, variables, dataset, 20)
    again = evaluate.make_eval_step(MLP(num_classes=10, dense=(8,), dropout=0.5))
    evaluate.evaluate(again, variables, Dataset(*(a[:33] for a in dataset)), 20)
    assert evaluate._eval_step._cache_size() == before


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True
    )


def test_script_prints_a_table_and_draws_figures(trained_workdir):
    done = run(f"--workdir={trained_workdir}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("accuracy", "calibration", "precision", "confidence", "figures"):
        assert word in done.stdout
    figures = {path.name for path in (trained_workdir / "figures").iterdir()}
    names = ["learning_curves", "confusion_matrix", "mistakes", "reliability"]
    assert figures == {f"{name}.png" for name in names}


def test_images_that_were_trained_on_are_named_in_every_form(trained_workdir):
    flags = (f"--workdir={trained_workdir}", "--nofigures", "--split=train[:700]")
    table = run(*flags, "--report")
    assert table.returncode == 0
    warned = " ".join(table.stdout.split())
    assert "WARNING 600 of these images are in config.train_split" in warned
    assert json.loads(run(*flags, "--json").stdout)["note"].startswith("600 of these")
    assert "600 of these images" in (trained_workdir / "report.html").read_text()


def test_script_prints_json(trained_workdir):
    arguments = ("--json", "--nofigures", "--split=test[:30]", "--checkpoint=best")
    done = run(f"--workdir={trained_workdir}", *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["count"] == 30
    assert report["evaluated_on"] == "digits/test[:30]"
    assert not (trained_workdir / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--workdir=nothing/here"], 1, "error: "),
        (["--checkpoint=first"], 2, "error: "),
        (["model.png"], 2, "unexpected argument 'model.png'"),
        (
            ["--workdir=a", "--workdir=b", "--split=test"],
            2,
            "several runs are ranked by validation only",
        ),
    ],
)
def test_script_says_what_is_wrong_in_one_line(arguments, code, message):
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help():
    done = run("--help")
    assert done.returncode == 0
    assert "python scripts/evaluate.py" in done.stdout
    assert "--[no]figures" in done.stdout


def test_made_pictures_are_read_by_condition(trained_workdir):
    command = [sys.executable, str(SCRIPT), f"--workdir={trained_workdir}"]
    done = subprocess.run([*command, "--pictures=1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["model", "pictures"]
    assert any(line.startswith("condition ") for line in lines)
    assert lines[-2].startswith("all digits")
    assert all(len(line) <= 80 for line in lines[1:])  # the first has a path


def test_script_ranks_and_writes_a_page(trained_workdir):
    twice = [f"--workdir={trained_workdir}"] * 2
    done = run(*twice, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ranked_by"] == "validation"
    done = run(twice[0], "--report", "--nofigures")
    assert done.returncode == 0, done.stderr
    assert f"report       {trained_workdir}/report.html" in done.stdout
    page = (trained_workdir / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert not (trained_workdir / "figures").exists()
