"""Writes the config of a run as JSON, with every field, and reads it back."""

import json
from typing import Any

from ml_collections import ConfigDict

from mnist_jax.config import FIELDS, check_field, validate_config
from mnist_jax.errors import ConfigError
from mnist_jax.parallel.jax_options import check_options

_READ_WITH_WEIGHTS = (
    *("test_time_shift", "page_weight"),
    *("seed", "num_seeds", "dataset", "train_split", "test_split", "validation"),
    *("offline_dataset", "eval_batch_size"),
)


def resolve_config(config: ConfigDict) -> ConfigDict:
    """Checks a config and returns it as it will be saved, with every field.

    Raises:
      ConfigError: see `validate_config`; or JSON cannot hold a value; or an option of
        JAX, which would change what the config stands for: see `check_options`.
    """
    check_options(random=True)
    validate_config(config)
    return with_defaults(config_from_dict(json.loads(config_to_json(config))))


def with_defaults(config: ConfigDict) -> ConfigDict:
    """Adds the fields that an older config lacks, with values that change nothing."""
    complete = ConfigDict(config.to_dict())
    for name, field in FIELDS.items():
        if field.default is not None and name not in complete:
            complete[name] = field.default
    return complete.lock()


def check_stored_config(config: ConfigDict) -> None:
    """Checks the fields of a trained model's config that are read with its weights.

    Other fields may come from another version, or be missing.

    Raises:
      ConfigError: a value cannot be used.
    """
    for name in _READ_WITH_WEIGHTS:
        if name in config:
            check_field(name, FIELDS[name], config[name])


def config_to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON text.

    Raises:
      ConfigError: JSON cannot hold a value.
    """
    try:
        return json.dumps(config.to_dict(), indent=2) + "\n"
    except TypeError as error:
        raise ConfigError(f"config cannot be saved as JSON: {error}") from error


def config_from_dict(fields: dict[str, Any]) -> ConfigDict:
    """Makes a locked config from a dict that came from JSON.

    It is not validated, so that older configs, which lack some fields, can be read.
    """

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(item) for key, item in value.items()}
        if isinstance(value, list):  # JSON has no tuples; configs have no lists
            return tuple(restore(item) for item in value)
        return value

    return ConfigDict(restore(fields)).lock()
