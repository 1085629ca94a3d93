import types

import numpy as np
import pytest

from mnist_jax.datasets import offline_digits
from mnist_jax.drawing import glyphs, unseen_styles
from mnist_jax.run import inference
from mnist_jax.simulation import simulator


@pytest.fixture(scope="module")
def digits():
    images, labels = offline_digits.load_digits()
    return images[:40, :, :, 0], labels[:40]


@pytest.fixture(scope="module")
def made(digits):
    return list(simulator.samples(*digits, per_condition=1, seed=3))


def test_every_condition_style_and_negative_is_made(made):
    names = [sample.condition for sample in made]
    assert names == [
        *simulator.CONDITIONS,
        *unseen_styles.UNSEEN_STYLES,
        *simulator.NEGATIVES,
    ]
    for sample in made:
        assert (sample.label is None) == (sample.condition in simulator.NEGATIVES)
        if sample.condition in unseen_styles.UNSEEN_STYLES:
            assert sample.label == unseen_styles.UNSEEN_STYLES[sample.condition][0]
        assert sample.picture.mode in ("RGB", "RGBA")
        assert 8 <= max(sample.picture.size) <= 2000


def test_the_same_seed_gives_the_same_pictures(digits, made):
    again = simulator.samples(*digits, per_condition=1, seed=3)
    others = simulator.samples(*digits, per_condition=1, seed=4)
    for first, same, other in zip(made, again, others, strict=True):
        assert first.picture.tobytes() == same.picture.tobytes()
        assert first.picture.tobytes() != other.picture.tobytes()


def test_more_pictures_leave_the_first_as_they_are(digits, made):
    more = simulator.samples(*digits, per_condition=2, seed=3)
    firsts = [sample for index, sample in enumerate(more) if index % 2 == 0]
    assert [s.picture.tobytes() for s in firsts] == [s.picture.tobytes() for s in made]


def test_most_pictures_of_digits_come_back_as_the_digit(digits):
    """Ink in common with the image that the picture was made of."""
    images, _ = digits
    shares = {}
    for name in ("clean scan", "uneven light", "ruled paper", "paper on a table"):
        rng = np.random.default_rng(0)
        pictures = [
            simulator.CONDITIONS[name](rng, glyphs.from_image(image))
            for image in images[:10]
        ]
        prepared, inked = simulator.prepare_all(pictures)
        assert inked.all()
        pairs = zip(prepared[..., 0], images, strict=False)
        shares[name] = np.median(
            [np.minimum(a, b).sum() / max(a.sum(), b.sum()) for a, b in pairs]
        )
    # Strokes of another width have less in common than half.
    assert min(shares.values()) > 0.4, shares


def test_measure(monkeypatch, digits):
    """A model that always says 7, and is sure."""

    def predict_logits(model, variables, images, batch_size, num_shards, task):
        logits = np.zeros((len(images), 10), np.float32)
        logits[:, 7] = 10
        return logits

    monkeypatch.setattr(inference, "predict_logits", predict_logits)
    kept = ("clean scan", "light on dark")
    conditions = {name: simulator.CONDITIONS[name] for name in kept}
    negatives = {
        name: simulator.NEGATIVES[name] for name in ("blank, plain", "scribble")
    }
    styles = {
        name: unseen_styles.UNSEEN_STYLES[name] for name in ("barred 7", "plain 1")
    }
    monkeypatch.setattr(simulator, "CONDITIONS", conditions)
    monkeypatch.setattr(simulator, "NEGATIVES", negatives)
    monkeypatch.setattr(unseen_styles, "UNSEEN_STYLES", styles)
    loaded = types.SimpleNamespace(
        model=None, variables=None, temperature=1.0, task=None
    )
    scores = {s.condition: s for s in simulator.measure_conditions(loaded, *digits, 4)}
    assert list(scores) == [*conditions, *styles, *negatives]
    assert scores["barred 7"].accuracy == 1
    assert scores["barred 7"].wrong_and_sure == 0
    assert scores["plain 1"].accuracy == 0
    assert scores["plain 1"].wrong_and_sure == 1
    assert scores["plain 1"].unsure == 0
    assert scores["scribble"].accuracy is None
    assert scores["scribble"].wrong_and_sure == 1
    assert scores["blank, plain"].blank == 1
    assert scores["blank, plain"].wrong_and_sure == 0

    text = simulator.format_conditions(list(scores.values()))
    assert len(text.splitlines()) == 1 + 6 + 2
    last = text.splitlines()[-1]
    assert last.startswith("all others")
    assert last.split()[2] == "8"
