import json

import jax
import numpy as np
import pytest
from jax import lax

from mnist_jax.checkpoint.load import load_model
from mnist_jax.errors import ConfigError
from mnist_jax.models.page_net import STRIDES
from mnist_jax.portable.network import decode_places, make_portable
from mnist_jax.reading.page_points import find_points
from mnist_jax.reading.reader import predict
from mnist_jax.run.config_files import PRETRAINED_PAGES


def test_a_classifier_gives_calibrated_probabilities(trained_workdir):
    loaded = load_model(trained_workdir)
    assert loaded.temperature != 1
    network = make_portable(loaded)
    one, many = network.examples
    assert (one.shape, len(many)) == ((1, 28, 28, 1), 199)
    found = network.function(many)["probabilities"]
    np.testing.assert_allclose(found, predict(loaded, many), atol=1e-5)
    assert network.input_shape == "batch, 28, 28, 1"
    assert network.metadata["temperature"] == repr(loaded.temperature)
    assert json.loads(network.metadata["classes"]) == list("0123456789")
    assert network.metadata["input"] == "images: uint8 [batch, 28, 28, 1]"
    assert all(isinstance(text, str) for text in network.metadata.values())


def test_other_classes_are_told_what_they_were_trained_on(trained_workdir):
    loaded = load_model(trained_workdir)
    dataset = {**loaded.metadata["dataset"], "class_names": list("abcdefghij")}
    dataset["name"] = "my_letters"
    other = loaded._replace(metadata={**loaded.metadata, "dataset": dataset})
    metadata = make_portable(other).metadata
    assert "my_letters" in metadata["preparation"]
    assert json.loads(metadata["classes"])[0] == "a"


def test_a_task_whose_outputs_are_unknown_is_refused(trained_workdir):
    from dataclasses import replace

    loaded = load_model(trained_workdir)
    loaded = loaded._replace(task=replace(loaded.task, fit_temperature=None))
    with pytest.raises(ConfigError, match=r"config.task = 'digits' can be .*weights"):
        make_portable(loaded)


def test_places_are_those_of_the_reader():
    """A peak of `decode_places` is a point of `find_points`, with its box."""
    outputs = jax.random.normal(jax.random.key(0), (2, 16, 32, 15))
    found = {name: np.asarray(x) for name, x in decode_places(outputs).items()}
    points = find_points(outputs, 20)
    for page in range(2):
        score = found["score"][page].ravel()
        order = np.argsort(-score, kind="stable")[:20]
        np.testing.assert_allclose(score[order], points.score[page], rtol=1e-5)
        left, top, right, bottom = found["box"][page].reshape(-1, 4)[order].T
        middle = np.stack(
            [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1
        )
        np.testing.assert_allclose(middle, points.box[page], rtol=1e-4, atol=1e-3)
        classes = found["classes"][page].reshape(-1, 10)[order]
        np.testing.assert_allclose(classes, points.classes[page], rtol=1e-4)


def test_a_page_net_finds_the_digits_of_its_examples():
    network = make_portable(load_model(PRETRAINED_PAGES))
    assert network.input_shape == "batch, 16*rows, 16*columns, 1"
    page = network.examples[0]
    found = {k: np.asarray(v) for k, v in jax.jit(network.function)(page).items()}
    height, width = (n // s for n, s in zip(page.shape[1:3], STRIDES, strict=True))
    assert found["score"].shape == (1, height, width)
    is_read = found["score"][0] > 0.36
    left, top, right, bottom = found["box"][0][is_read].T
    centres = np.stack([(left + right) / 2, (top + bottom) / 2], -1)
    digits = [(x + 14, y + 14) for y in (2, 32) for x in range(2, 100, 30)]
    near = [np.abs(centres - digit).max(1).min() < 5 for digit in digits]
    assert sum(near) >= len(digits) - 1
    assert is_read.sum() <= len(digits) + 1
    assert lax.max(*map(float, (found["classes"].max(), 0.0))) <= 1
