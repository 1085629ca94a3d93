import numpy as np
import pytest
from helpers import make_tiny_config
from PIL import Image

from mnist_jax.analysis.before_and_after import (
    Change,
    compare_models,
    compare_with_start,
    describe_changes,
)
from mnist_jax.checkpoint.load import load_model
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.run.inference import predict_loaded
from mnist_jax.train import train_and_evaluate


@pytest.fixture
def config(trained_workdir, tmp_path):
    """A run that starts from another, and learns rings and crosses beside digits."""
    for label, number in np.ndindex(2, 8):
        image = np.zeros((28, 28), np.uint8)
        image[6:22, 6 + number : 10 + number] = 255
        image[6 + 3 * label : 10 + 3 * label, 6:24] = 255
        path = tmp_path / "my" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    config = make_tiny_config()
    config.init_from = str(trained_workdir)
    config.dataset, config.data_folder = "digits+folder", str(tmp_path / "my")
    config.train_split, config.test_split = "mixed", "own_test"
    config.num_epochs = 1
    return config


def test_a_run_is_compared_with_what_it_started_from(config, tmp_path):
    train_and_evaluate(config, tmp_path / "run")
    own, others = compare_with_start(config, tmp_path / "run")
    assert (own.name, own.number) == ("own_test", 4)
    assert (others.name, others.number) == ("digits test", 400)
    assert own.accuracy[0] < own.accuracy[1] == 1
    assert own.loss[1] < own.loss[0]
    test = load_dataset(resolve_dataset("digits"), "test")
    for place, folder in enumerate((config.init_from, tmp_path / "run")):
        logits = predict_loaded(load_model(folder), test.images)
        expected = np.mean(logits.argmax(1) == test.labels)
        assert others.accuracy[place] == pytest.approx(expected)


def test_a_model_is_as_good_as_itself(trained_workdir):
    loaded = load_model(trained_workdir)
    test = load_dataset(resolve_dataset("digits"), "test")
    parts = {"all": test, "some": test.first(30)}
    for change in compare_models(loaded, loaded, parts):
        assert change.accuracy[0] == change.accuracy[1]
        assert change.loss[0] == change.loss[1]


@pytest.mark.parametrize(
    "change", [{"init_from": ""}, {"dataset": "digits"}, {"task": "pages"}]
)
def test_other_runs_have_nothing_to_compare(config, tmp_path, change):
    config.update(change)
    assert compare_with_start(config, tmp_path / "none") == []


def test_the_table_has_a_row_for_each_part():
    changes = [
        Change("own_test", 40, (0.85, 0.975), (0.5, 0.1)),
        Change("mnist test", 10_000, (0.9966, 0.9961), (0.0111, 0.0123)),
    ]
    assert describe_changes(changes).splitlines() == [
        "right              before    after   loss before and after",
        "own_test           85.00%   97.50%   0.5000  0.1000  of 40 images",
        "mnist test         99.66%   99.61%   0.0111  0.0123  of 10,000 images",
    ]
    assert describe_changes([]) == ""
