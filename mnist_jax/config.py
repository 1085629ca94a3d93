"""What a config may hold: its fields, their types and ranges; to JSON and back.

Configs are `ml_collections.ConfigDict`s made by `configs/*.py`. Every field must be
present: no default lives outside the config files.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mnist_jax.errors import ConfigError, suggest


class Field(NamedTuple):
    """Type, test and description of one config field."""

    type: type
    is_valid: Callable[[Any], bool]
    what: str  # completes "must be ..."
    default: Any = None  # of a config from before the field came; None if it has none


def _count_up_to(high: int, low: int = 0) -> Field:
    return Field(int, lambda v: low <= v <= high, f"a whole number, {low} to {high:,}")


def _up_to(high: float, unit: str = "") -> Field:
    return Field(float, lambda v: 0 <= v <= high, f"a number from 0 to {high}{unit}")


def _are_pairs(value: Any) -> bool:
    strength = (int, float)
    return all(
        isinstance(pair, tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], strength)
        for pair in value
    )


_NAME = Field(str, bool, "a name")
_TEXT = Field(str, lambda v: True, "a text")
_NOT_NEGATIVE = Field(float, lambda v: 0 <= v < float("inf"), "a number of 0 or more")
_RATE = Field(float, lambda v: 0 < v <= 1e6, "a number above 0, to 1e6")
_FRACTION = Field(float, lambda v: 0 <= v < 1, "a number from 0 to below 1")
_READ_WITH_WEIGHTS = (
    "test_time_shift",
    *("seed", "num_seeds", "dataset", "train_split", "test_split", "validation"),
    *("offline_dataset", "eval_batch_size"),
)
FREE_GROUPS = ("model.kwargs.", "optimizer.kwargs.", "augment.")

FIELDS: dict[str, Field] = {
    "seed": Field(int, lambda v: 0 <= v < 2**32, "a whole number from 0 to 2**32 - 1"),
    "num_seeds": Field(int, lambda v: 1 <= v <= 1000, "a whole number, 1 to 1000"),
    "num_shards": Field(int, lambda v: 1 <= v <= 4096, "a whole number, 1 to 4096"),
    "task": Field(str, bool, "a name", default="digits"),
    "dataset": _NAME,
    "train_split": _NAME,
    "test_split": _NAME,
    "validation": _count_up_to(100_000_000),
    "offline_dataset": _TEXT,
    "styled_digits": _count_up_to(1_000_000),
    "negatives": _count_up_to(1_000_000),
    "num_epochs": _count_up_to(1_000_000, low=1),
    "batch_size": Field(int, lambda v: 0 < v <= 2**20, "a whole number, 1 to 2**20"),
    "eval_batch_size": Field(
        int, lambda v: 0 < v <= 2**20, "a whole number, 1 to 2**20"
    ),
    "model.name": _NAME,
    "optimizer.name": _NAME,
    "optimizer.learning_rate": _RATE,
    "optimizer.schedule": _NAME,
    "optimizer.warmup_epochs": _NOT_NEGATIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.clip_norm": _NOT_NEGATIVE,
    "loss": Field(str, bool, "a name", default="cross_entropy"),
    "label_smoothing": _FRACTION,
    "ema_decay": _FRACTION,
    "test_time_shift": Field(int, lambda v: 0 <= v <= 8, "a whole number, 0 to 8"),
    "augment_with": Field(tuple, _are_pairs, "pairs of name and strength", default=()),
    "augment.shift": _up_to(28, " pixels"),
    "augment.rotation": _up_to(180, " degrees"),
    "augment.scale": _up_to(1),
    "augment.shear": _up_to(1),
    "augment.elastic": _up_to(28, " pixels"),
    "augment.thickness": _up_to(2, " pixels"),
    "augment.perspective": _up_to(0.4),
    "augment.gaps": _up_to(1),
    "augment.marks": _up_to(1),
    "augment.blur": _up_to(4, " pixels"),
    "augment.noise": _up_to(1),
    "augment.levels": _up_to(1),
    "checkpoint_every_epochs": _count_up_to(1_000_000, low=1),
    "max_to_keep": _count_up_to(1_000_000, low=2),
}


def check_field_names(names: Iterable[str]) -> None:
    """Checks the names of overrides such as `optimizer.learning_rate`.

    Raises:
      ConfigError: the first that is no field, with the nearest valid name.
    """
    for name in names:
        if name not in FIELDS and not name.startswith(FREE_GROUPS):
            hint = suggest(name, FIELDS)
            raise ConfigError(f"--config.{name}: no such field; {hint}")


def _check_field(name: str, value: Any) -> None:
    _check_value(name, FIELDS[name], value)


def _check_value(name: str, field: Field, value: Any) -> None:
    accepted = (int, float) if field.type is float else field.type
    right_type = isinstance(value, accepted) and not isinstance(value, bool)
    if not right_type or not field.is_valid(value):
        raise ConfigError(f"config.{name} must be {field.what}, got {value!r}")


def flatten_config(config: ConfigDict) -> dict[str, Any]:
    """Returns `{"seed": 0, "model.name": "cnn", "model.kwargs.dense": (128,), ...}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {
                f"{key}.{name}": item for name, item in flatten_config(value).items()
            }
        else:
            flat[key] = value
    return flat


def validate_config(config: ConfigDict) -> None:
    """Checks every field's name, type and range.

    Names of models, optimizers and schedules are checked where they are looked up.

    Raises:
      ConfigError: the first field that is unknown, missing or out of range.
    """
    for group in ("model", "optimizer"):
        owner = config.get(group)
        if isinstance(owner, ConfigDict) and not isinstance(
            owner.get("kwargs"), ConfigDict
        ):
            raise ConfigError(
                f"config.{group}.kwargs must be a ConfigDict of keyword arguments"
            )
    flat = flatten_config(config)
    for name in flat:
        if name not in FIELDS and not name.startswith(FREE_GROUPS):
            raise ConfigError(f"config.{name}: no such field; {suggest(name, FIELDS)}")
    for name, field in FIELDS.items():
        if name in flat:
            _check_field(name, flat[name])
        elif field.default is None:
            raise ConfigError(
                f"config.{name} is missing; start the file from default.get_config()"
            )
    for name in flat.keys() - FIELDS.keys():
        if name.startswith("augment."):  # one of a user's own
            _check_value(name, _NOT_NEGATIVE, flat[name])


def resolve_config(config: ConfigDict) -> ConfigDict:
    """Returns a checked config as it will be saved, with every field.

    Raises:
      ConfigError: see `validate_config`; or a value that JSON cannot hold.
    """
    validate_config(config)
    return with_defaults(config_from_dict(json.loads(config_to_json(config))))


def with_defaults(config: ConfigDict) -> ConfigDict:
    """Adds the fields that came after a config was written, with what held before."""
    complete = ConfigDict(config.to_dict())
    for name, field in FIELDS.items():
        if field.default is not None and name not in complete:
            complete[name] = field.default
    return complete.lock()


def check_stored_config(config: ConfigDict) -> None:
    """Checks the fields of a trained model's config that are read with its weights.

    Other fields may be of another version, or missing.

    Raises:
      ConfigError: a value that cannot be used.
    """
    for name in _READ_WITH_WEIGHTS:
        if name in config:
            _check_field(name, config[name])


def config_to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON text.

    Raises:
      ConfigError: a keyword argument is nothing that JSON can hold.
    """
    try:
        return json.dumps(config.to_dict(), indent=2) + "\n"
    except TypeError as error:
        raise ConfigError(f"config cannot be saved as JSON: {error}") from error


def config_from_dict(fields: dict[str, Any]) -> ConfigDict:
    """Makes a locked config of a dict that came from JSON.

    It is not validated: a config that was saved before a field came into being must
    still say what its weights are.
    """

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(item) for key, item in value.items()}
        if isinstance(value, list):  # JSON has no tuples; configs have no lists
            return tuple(restore(item) for item in value)
        return value

    return ConfigDict(restore(fields)).lock()
