"""What public functions say of arrays and options that are not what they take.

Each would otherwise answer nonsense without a word, or end in an error of NumPy, XLA or
Flax that does not say what is wanted.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mnist_fixture import make_dataset
from model_configs import model_config
from PIL import Image

from mnist_jax import calibration
from mnist_jax.analysis import classification, corruptions
from mnist_jax.checkpoint.load import load_model
from mnist_jax.data import Dataset
from mnist_jax.datasets.geometry import to_mnist
from mnist_jax.drawing.hand_styles import make_styled_digits
from mnist_jax.drawing.negatives import make_negatives
from mnist_jax.errors import ArgumentError, UserError
from mnist_jax.evaluate import evaluate, make_eval_step
from mnist_jax.models.create import MODELS, create_model
from mnist_jax.reading import pictures
from mnist_jax.reading.files import read_picture
from mnist_jax.run import inference
from mnist_jax.simulation import simulator

IMAGES, LABELS = make_dataset(6, seed=0)
UNIT = IMAGES / 255
LOGITS = np.random.default_rng(0).normal(0, 1, (6, 10))
NAMES = list("0123456789")
INK = np.zeros((30, 20))
INK[5:20, 8:11] = 1


def corrupt(images=IMAGES, name="fog", severity=3):
    return corruptions.corrupt(images, name, severity)


def score(logits=LOGITS, labels=LABELS, names=NAMES):
    return classification.score_answers(logits, labels, names)


def fit(logits=LOGITS, labels=LABELS):
    return calibration.fit_temperature(logits, labels)


def make_samples(images=IMAGES, labels=LABELS, count=1):
    return next(simulator.samples(images, labels, count))


CALLS = [
    (lambda: corrupt(UNIT), r"must be uint8, from 0 to 255: got float64 \[6, 28"),
    (lambda: corrupt(IMAGES > 9), "must be uint8, from 0 to 255: got bool"),
    (lambda: corrupt(IMAGES[..., 0]), r"must be \[N, 28, 28, 1\]: got \[6, 28, 28\]"),
    (lambda: corrupt(name="blurr"), "no corruption 'blurr'"),
    (lambda: corrupt(severity=0), "severity=0 is not a whole number, 1 to 5"),
    (lambda: corrupt(severity=-1), "severity=-1"),
    (lambda: corrupt(severity=6), "severity=6"),
    (lambda: score(LOGITS[:5]), r"labels must be integers \[5\]: got int32 \[6\]"),
    (lambda: score(LOGITS[:, 0]), r"logits must be floats \[N, C\]"),
    (lambda: score(LOGITS > 0), r"logits must be floats \[N, C\]: got bool"),
    (lambda: score(LOGITS * np.nan), "some are infinite or NaN"),
    (lambda: score(names=NAMES[:9]), r"logits must be \[N, 9\]"),
    (lambda: score(LOGITS[:0], LABELS[:0]), r"got float64 \[0, 10\]"),
    (lambda: score(labels=LABELS / 1), "labels must be integers"),
    (lambda: score(labels=LABELS - 1 - LABELS.min()), "labels must be 0 to 9: got -1"),
    (lambda: score(labels=LABELS + 10), "labels must be 0 to 9"),
    (lambda: fit(labels=np.eye(10)[LABELS]), r"labels must be integers \[6\]"),
    (lambda: fit(labels=LABELS + 10), "labels must be 0 to 9"),
    (lambda: calibration.wilson_interval(3, 2), "3 of 2 is no share"),
    (lambda: calibration.wilson_interval(0, 0), "0 of 0 is no share"),
    (lambda: to_mnist(INK * 0), "more for ink: got 0 to 0"),
    (lambda: to_mnist(INK - 1), "got -1 to 0"),
    (lambda: to_mnist(INK * np.nan), "got nan to nan"),
    (lambda: to_mnist(INK[None]), r"\[H, W\]: got float64 \[1, 30, 20\]"),
    (lambda: to_mnist(INK[:0]), r"\[H, W\]: got float64 \[0, 20\]"),
    (lambda: pictures.find_ink(Image.new("L", (40, 40))), "must be RGB.*mode=L"),
    (lambda: pictures.prepare(Image.new("RGBA", (40, 40))), "must be RGB"),
    (lambda: read_picture(IMAGES[0]), "a path or bytes: got an ndarray"),
    (lambda: read_picture(Image.new("RGB", (9, 9))), "a path or bytes: got an Image"),
    (lambda: load_model("none", "lates"), "which='lates' is neither 'latest' nor"),
    (lambda: make_styled_digits(-1, 0), "count=-1 is below 0"),
    (lambda: make_negatives(-1, 0), "count=-1 is below 0"),
    (lambda: make_negatives(1, 0, UNIT), "must be uint8"),
    (lambda: make_samples(UNIT), "must be uint8"),
    (lambda: make_samples(labels=LABELS[:3]), "a label for each.*got 6, 3 and 1"),
    (lambda: make_samples(IMAGES[:0], LABELS[:0]), "got 0, 0 and 1"),
    (lambda: make_samples(count=0), "got 6, 6 and 0"),
]


@pytest.mark.parametrize(("call", "says"), CALLS)
def test_what_came_and_what_is_wanted_is_said(call, says):
    with pytest.raises(ArgumentError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_is_right_is_taken():
    for call in (corrupt, score, fit, make_samples):
        call()


def test_errors_of_arguments_are_value_errors_and_shown_as_one_line():
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentError, UserError)


@pytest.fixture(scope="module")
def model():
    model = create_model(model_config("mlp"), 10)
    return model, model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (UNIT, "must be uint8, from 0 to 255: got float"),
        (IMAGES > 127, "must be uint8, from 0 to 255: got bool"),
        (IMAGES[..., 0], r"must be \[N, 28, 28, 1\]: got \[6, 28, 28\]"),
        (IMAGES.reshape(6, 784), r"must be \[N, 28, 28, 1\]: got \[6, 784\]"),
        (np.zeros((6, 56, 56, 1), np.uint8), r"got \[6, 56, 56, 1\]"),
    ],
)
def test_a_model_is_run_on_images_as_they_are_stored(model, images, says):
    with pytest.raises(ArgumentError, match=says):
        inference.predict_logits(*model, images, 6)


@pytest.mark.parametrize("images", [UNIT, IMAGES > 127])
def test_a_model_is_evaluated_on_images_as_they_are_stored(model, images):
    net, variables = model
    with pytest.raises(ArgumentError, match="must be uint8"):
        evaluate(make_eval_step(net), variables, Dataset(images, LABELS), 6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("even_contrast", [True, False])
def test_a_model_takes_no_bytes(name, even_contrast):
    """Of those without a check, a convolution says which dtypes it was given."""
    config = model_config(name)
    if name in ("cnn", "vgg", "sprint"):
        config.kwargs.even_contrast = even_contrast
    net = create_model(config, 10)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for images in (IMAGES, IMAGES > 127):
        with pytest.raises((ArgumentError, TypeError), match=r"uint8|bool"):
            jax.eval_shape(net.apply, shapes, images)
