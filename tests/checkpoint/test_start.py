import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_page_config, make_tiny_config

from mnist_jax.checkpoint.export import export_model
from mnist_jax.checkpoint.format import flatten
from mnist_jax.checkpoint.load import load_model
from mnist_jax.checkpoint.save import Checkpointer
from mnist_jax.checkpoint.start import NO_START, load_start
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import ConfigError
from mnist_jax.reading.page_task import PAGES
from mnist_jax.run.compile_ahead import create_program
from mnist_jax.run.console import Console
from mnist_jax.run.stored_config import resolve_config
from mnist_jax.tasks import DIGITS
from mnist_jax.train import train_and_evaluate

SOURCE = resolve_dataset("digits")
LETTERS = dataclasses.replace(SOURCE, name="letters", class_names=tuple("abc"))


@pytest.fixture
def config(trained_workdir):
    config = make_tiny_config()
    config.init_from = str(trained_workdir)
    return config


def start_of(config, source=SOURCE, task=DIGITS, workdir="/none", resume=False):
    own = resolve_config(config)
    return load_start(own, Path(workdir), task, source, resume=resume)


def new_state(config, start, num_classes=10, task=DIGITS):
    program = create_program(config, 20, num_classes, task, initial=start.leaves)
    return program.create_state()


def leaves_of(variables):
    return {path: np.asarray(leaf) for path, leaf in flatten(variables).items()}


def test_all_weights_are_taken(config):
    start = start_of(config)
    state = new_state(config, start)
    wanted = leaves_of(load_model(config.init_from).variables)
    for variables in (state.variables, {"params": state.params, "batch_stats": {}}):
        found = leaves_of(variables)
        assert found.keys() == wanted.keys()
        for path, leaf in wanted.items():
            np.testing.assert_array_equal(found[path], leaf, path)
    assert int(state.step) == 0
    assert start.description == f"the weights of {config.init_from}, step 20"


def test_exported_weights_and_batch_statistics_are_taken_too(tmp_path):
    config = make_tiny_config()
    config.model.kwargs.batch_norm = True
    train_and_evaluate(config, tmp_path / "run")
    loaded = load_model(tmp_path / "run")
    export_model(loaded, tmp_path / "run", tmp_path / "small")
    config.init_from = str(tmp_path / "small")
    found = leaves_of(new_state(config, start_of(config)).variables)
    wanted = leaves_of(loaded.variables)
    assert any(path.startswith("batch_stats/") for path in wanted)
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-3, atol=1e-6)


def test_the_head_is_new_where_classes_differ(config):
    start = start_of(config, LETTERS)
    assert "the classes change from 10 to 3, so that the head is new" in (
        start.description
    )
    state = new_state(config, start, num_classes=3)
    found, wanted = (
        leaves_of(v) for v in (state.variables, load_model(config.init_from).variables)
    )
    head = {"params/Dense_1/kernel", "params/Dense_1/bias"}
    for path in found.keys() - head:
        np.testing.assert_array_equal(found[path], wanted[path], path)
    assert found["params/Dense_1/kernel"].shape == (16, 3)
    # As many classes of other names are other classes.
    fashion = dataclasses.replace(LETTERS, class_names=tuple("abcdefghij"))
    start = start_of(config, fashion)
    assert "from those of digits to letters's, so that the head" in start.description
    assert not head & start.leaves.keys()


@pytest.fixture(scope="module")
def page_workdir(tmp_path_factory):
    """A folder with the weights of a page net as they were created."""
    config, workdir = make_page_config(), tmp_path_factory.mktemp("pages")
    state = create_program(config, 20, 10, PAGES, is_stream=True).create_state()
    metadata = {"config": config.to_dict(), "dataset": SOURCE.to_dict()}
    with Checkpointer(workdir, max_to_keep=2) as checkpointer:
        checkpointer.save(state.replace(step=jnp.int32(7)), metadata=metadata)
    return workdir


@pytest.mark.parametrize("source", [SOURCE, LETTERS])
def test_a_page_net_is_taken_but_for_a_head_of_other_classes(page_workdir, source):
    config = make_page_config()
    config.init_from, config.seed = str(page_workdir), 1  # other weights without it
    start = start_of(config, source, PAGES)
    state = new_state(config, start, source.num_classes, PAGES)
    wanted = leaves_of(load_model(page_workdir).variables)
    found = leaves_of(state.variables)
    assert found.keys() == wanted.keys()
    head = {"params/Dense_4/kernel", "params/Dense_4/bias"}
    assert start.leaves.keys() == wanted.keys() - (head if source is LETTERS else set())
    for path in start.leaves:
        np.testing.assert_array_equal(found[path], wanted[path], path)


def test_each_seed_gets_the_weights_of_one_model(config):
    one = load_model(config.init_from)
    config.num_seeds = 2
    start = start_of(config)
    assert start.description.endswith("step 20, for each of 2 seeds")
    state = new_state(config, start)
    for path, leaf in leaves_of(state.variables).items():
        for own in leaf:
            np.testing.assert_array_equal(own, leaves_of(one.variables)[path])


def test_a_part_of_several_seeds_can_be_taken(config, tmp_path):
    config.num_seeds = 3
    state = new_state(config, start_of(config))
    moved = jax.tree.map(
        lambda leaf: leaf + jnp.arange(3).reshape(3, *[1] * (leaf.ndim - 1)),
        state.variables,
    )
    metadata = {"config": config.to_dict(), "dataset": SOURCE.to_dict()}
    with Checkpointer(tmp_path / "three", max_to_keep=2) as checkpointer:
        checkpointer.save({"step": jnp.int32(5), **moved}, metadata=metadata)
    config.init_from = str(tmp_path / "three")
    bias = np.asarray(moved["params"]["Dense_1"]["bias"])
    for num_seeds, expected in [(1, bias[0]), (2, bias[:2]), (3, bias)]:
        config.num_seeds = num_seeds
        start = start_of(config)
        np.testing.assert_array_equal(start.leaves["params/Dense_1/bias"], expected)
    config.num_seeds = 1
    assert start_of(config).description.endswith("the first 1 of its 3 seeds")
    config.num_seeds = 4
    with pytest.raises(ConfigError, match=r"has 3 seeds, and this one 4: set config"):
        start_of(config)


def test_without_a_folder_or_with_a_run_to_resume_nothing_is_taken(config, tmp_path):
    assert start_of(make_tiny_config()) is NO_START
    assert start_of(config, workdir=config.init_from, resume=True) is NO_START
    (tmp_path / "new").mkdir()
    assert start_of(config, workdir=tmp_path / "new", resume=True).leaves


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense": (8,)}, r"config.model.kwargs.dense is \(8,\) and was \(16,\) there"),
        ({"kernel_size": 5}, "config.model.kwargs.kernel_size is 5 and was 3 there"),
    ],
)
def test_another_model_is_refused_by_the_field_that_differs(config, change, message):
    config.model.kwargs.update(change)
    with pytest.raises(ConfigError, match=f"config.init_from: {message}: give the "):
        start_of(config)


def test_another_family_or_task_of_models_is_refused(config, page_workdir):
    config.init_from = str(page_workdir)
    with pytest.raises(ConfigError, match=r"learned config.task = 'pages'"):
        start_of(config)
    config = make_page_config()
    config.init_from = str(page_workdir)
    config.model.name = "vgg"
    with pytest.raises(ConfigError, match=r"config.model.name is 'vgg' and was"):
        start_of(config, task=PAGES)


def test_what_differs_and_fits_is_told(config):
    config.model.kwargs.dropout = 0.25
    told = "config.model.kwargs.dropout is 0.25 and was 0.0 there"
    assert start_of(config).description.endswith(told)


def test_a_damaged_checkpoint_is_one_line(config):
    (step,) = (Path(config.init_from) / "checkpoints").glob("20")
    shutil.rmtree(step / "state")
    for other in (Path(config.init_from) / "checkpoints").glob("10"):
        shutil.rmtree(other)
    with pytest.raises(ConfigError, match=r"config.init_from: no intact checkpoint"):
        start_of(config)


def test_a_run_starts_better_and_resumes_without_the_other(config, tmp_path, capsys):
    shutil.move(config.init_from, config.init_from + "_kept")
    config.init_from += "_kept"
    first = train_and_evaluate(config, tmp_path / "new", console=Console())
    told = " ".join(capsys.readouterr().out.split())
    assert f"start from the weights of {config.init_from}, step 20 model" in told
    alone = train_and_evaluate(make_tiny_config(), tmp_path / "alone")
    assert first["loss"] < alone["loss"]
    shutil.rmtree(config.init_from)
    again = train_and_evaluate(config, tmp_path / "new", resume=True, console=Console())
    assert again == first
    assert "start " not in capsys.readouterr().out


def test_a_missing_run_is_told_before_data_is_loaded(config, tmp_path):
    config.init_from, config.dataset = str(tmp_path / "none"), "not_there"
    with pytest.raises(ConfigError, match=r"config.init_from: no folder '.*none'"):
        train_and_evaluate(config, tmp_path / "run")
    config.init_from = str(tmp_path)
    with pytest.raises(ConfigError, match=r"config.init_from: .* holds no run"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_start_from_its_own_folder(config):
    with pytest.raises(ConfigError, match="is the folder of this run itself"):
        train_and_evaluate(config, config.init_from, overwrite=True)
