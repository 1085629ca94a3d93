import json

import pytest

from mnist_jax.augment import AUGMENTATIONS
from mnist_jax.config import FIELDS, validate_config
from mnist_jax.errors import ConfigError
from mnist_jax.run.config_files import CONFIGS, check_field_names, load_config
from mnist_jax.run.stored_config import config_from_dict, config_to_json

FILES = sorted(CONFIGS.glob("[!_]*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_file_is_valid_and_locked(path):
    config = load_config(path)
    validate_config(config)
    assert config.is_locked


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_json_round_trip(path):
    config = load_config(path)
    again = config_from_dict(json.loads(config_to_json(config)))
    assert again.to_dict() == config.to_dict()
    assert again.is_locked


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "config.batch_size must be a whole number, 1 to"),
        ("batch_size", 12.5, "got 12.5"),
        ("batch_size", True, "got True"),
        ("seed", -1, "config.seed must be"),
        ("dataset", "", "config.dataset must be a name, got ''"),
        ("label_smoothing", 1.0, "from 0 to below 1"),
        ("label_smoothing", float("nan"), "got nan"),
        ("ema_decay", "x", "got 'x'"),
        ("model", 3, "config.model: no such field"),
    ],
)
def test_bad_values_are_named(default_config, name, value, message):
    with default_config.ignore_type():
        default_config[name] = value
    with pytest.raises(ConfigError, match=message):
        validate_config(default_config)


def test_unknown_field_names_the_nearest(default_config):
    default_config.optimizer.learning_rat = 0.1
    with pytest.raises(ConfigError, match=r"mean 'optimizer\.learning_rate'"):
        validate_config(default_config)


def test_missing_field_is_named(default_config):
    del default_config.optimizer.clip_norm
    with pytest.raises(ConfigError, match=r"config.optimizer.clip_norm is missing"):
        validate_config(default_config)


def test_whole_numbers_do_for_fractions(default_config):
    with default_config.ignore_type():
        default_config.optimizer.learning_rate = 1
    validate_config(default_config)


def test_override_names():
    check_field_names([*FIELDS, "model.kwargs.anything"])
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        check_field_names(["batchsize"])


@pytest.mark.parametrize("group", ["model", "optimizer"])
def test_keyword_arguments_must_be_a_group(default_config, group):
    del default_config[group].kwargs
    with pytest.raises(
        ConfigError, match=f"config.{group}.kwargs must be a ConfigDict"
    ):
        validate_config(default_config)


def test_every_augmentation_is_a_field_and_no_other():
    fields = {name for name in FIELDS if name.startswith("augment.")}
    assert fields == {f"augment.{name}" for name in AUGMENTATIONS}


def test_what_json_cannot_hold_is_refused(default_config):
    default_config.model.kwargs.activation = print
    with pytest.raises(ConfigError, match="cannot be saved as JSON"):
        config_to_json(default_config)
