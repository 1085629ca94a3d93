import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_page_config
from mnist_fixture import make_dataset

from mnist_jax import evaluate
from mnist_jax.analysis import splits
from mnist_jax.checkpoint.load import Loaded, load_model
from mnist_jax.config import ConfigDict
from mnist_jax.data import load_splits
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.models.ensemble import Ensemble
from mnist_jax.models.mlp import MLP
from mnist_jax.reading import page_task


def test_split_of_a_run(trained_workdir):
    loaded = load_model(trained_workdir)
    split = splits.load_split(loaded)
    assert split.name == "digits/test"
    assert len(split.dataset.labels) == 400
    assert splits.load_split(loaded, split="test[:10]").name == "digits/test[:10]"
    assert splits.fallback_note(loaded) == ""


def test_a_fallback_is_said(trained_workdir):
    loaded = load_model(trained_workdir)
    loaded.metadata["dataset"]["fallback_for"] = "mnist"
    assert "NOT trained on mnist" in splits.fallback_note(loaded)


def test_data_of_other_classes_is_refused(trained_workdir):
    loaded = load_model(trained_workdir)
    loaded.metadata["dataset"]["num_classes"] = 26
    with pytest.raises(DataError, match="has 10 classes, but the model knows the 26"):
        splits.load_split(loaded, "digits")


def test_held_out_images_are_those_of_the_run(trained_workdir, tiny_config):
    loaded = load_model(trained_workdir)
    held_out = splits.load_held_out(loaded)
    expected = load_splits(tiny_config, None, None).validation
    np.testing.assert_array_equal(held_out.images, expected.images)
    config = ConfigDict({**tiny_config.to_dict(), "validation": 0})
    with pytest.raises(ConfigError, match="held no images out"):
        splits.load_held_out(loaded._replace(config=config))


def test_validation_is_what_the_run_held_out(trained_workdir, monkeypatch):
    loaded = load_model(trained_workdir)
    resolve = splits.resolve_dataset

    def without_validation(*args, **kwargs):
        source = resolve(*args, **kwargs)
        splits = {k: v for k, v in source.shard_lengths.items() if k != "validation"}
        return dataclasses.replace(source, shard_lengths=splits)

    held_out = splits.load_held_out(loaded)
    monkeypatch.setattr(splits, "resolve_dataset", without_validation)
    split = splits.load_split(loaded, split="validation")
    assert split.name == "digits/validation"
    np.testing.assert_array_equal(split.dataset.images, held_out.images)


def test_members_of_an_ensemble_by_themselves():
    model, dataset = (
        MLP(num_classes=10, dense=(8,), dropout=0.5),
        make_dataset(103, seed=0),
    )
    variables = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    other = jax.tree.map(lambda leaf: leaf + 0.05, variables)
    each = [
        evaluate.evaluate(evaluate.make_eval_step(model), v, dataset, 50)["accuracy"]
        for v in (variables, other)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), variables, other)
    config = ConfigDict({"eval_batch_size": 50, "num_seeds": 2})
    loaded = Loaded(config, Ensemble(model), stacked, {}, 1)
    got = splits.evaluate_members(loaded, dataset)
    assert got["num_seeds"] == 2
    assert got["accuracy"] == pytest.approx(np.mean(each))
    assert got["accuracy_sd"] == pytest.approx(np.std(each, ddof=1))
    assert splits.evaluate_members(loaded._replace(model=model), dataset) == {}


@pytest.fixture
def page_net(monkeypatch):
    """A page net without weights, which no split needs."""
    monkeypatch.setattr(page_task, "HELD_OUT_PAGES", 5)
    dataset = {"name": "digits", "num_classes": 10, "fallback_for": ""}
    metadata = {"dataset": dataset}
    return Loaded(make_page_config(), None, {}, metadata, 0, page_task.PAGES)


@pytest.mark.parametrize("split", [None, "test", "validation"])
def test_a_page_net_has_the_pages_it_was_measured_on(split, page_net):
    loaded = splits.load_split(page_net, None, split)
    own = page_task.load_pages(page_net.config, None, None)
    expected = own.validation if split == "validation" else own.test
    np.testing.assert_array_equal(loaded.dataset.images, expected.images)
    np.testing.assert_array_equal(loaded.dataset.labels, expected.labels)
    assert len(loaded.conditions) == 5
    assert loaded.name == f"pages of digits/{split or 'test'}"


@pytest.mark.parametrize(
    ("dataset", "split", "changes", "says"),
    [
        ("mnist", None, {}, "leave out --dataset"),
        (None, "train", {}, "--split=train: a page net is evaluated on pages"),
        (None, "validation", {"validation": 0}, "held no images out"),
        (
            None,
            "test",
            {"train_split": "train[:600]+test"},
            "no test figure is given: .*; --split=validation has pages",
        ),
    ],
)
def test_a_page_net_has_no_other_pages(dataset, split, changes, says, page_net):
    page_net.config.update(changes)
    with pytest.raises(ConfigError, match=says) as caught:
        splits.load_split(page_net, dataset, split)
    assert "\n" not in str(caught.value)
