"""What a config may hold: its fields, their types and ranges.

Configs are `ml_collections.ConfigDict`s made by `configs/*.py`. A config must set every
field, but for those that came later, which have a default here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mnist_jax.errors import ConfigError, suggest


class Field(NamedTuple):
    """Type, test and description of one config field."""

    type: type
    is_valid: Callable[[Any], bool]
    what: str  # completes "must be ..."
    default: Any = None  # for configs older than the field; None makes it required


def _count_up_to(high: int, low: int = 0) -> Field:
    return Field(int, lambda v: low <= v <= high, f"a whole number, {low} to {high:,}")


def _up_to(high: float, unit: str = "") -> Field:
    return Field(float, lambda v: 0 <= v <= high, f"a number from 0 to {high}{unit}")


def _are_pairs(values: Any) -> bool:
    pairs = values if isinstance(values, tuple) else (None,)
    types = [tuple(map(type, v)) if isinstance(v, tuple) else None for v in pairs]
    return all(pair in ((str, float), (str, int)) for pair in types)


_NAME = Field(str, bool, "a name")
_NOT_NEGATIVE = Field(float, lambda v: 0 <= v < float("inf"), "a number of 0 or more")
_RATE = Field(float, lambda v: 0 < v <= 1e6, "a number above 0, to 1e6")
_BATCH = Field(int, lambda v: 0 < v <= 2**20, "a whole number, 1 to 2**20")
_FRACTION = Field(float, lambda v: 0 <= v < 1, "a number from 0 to below 1")
_DTYPES = ("float32", "bfloat16")
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
    "offline_dataset": Field(str, lambda v: True, "a text"),
    "data_folder": Field(str, lambda v: True, "a text", default=""),
    "init_from": Field(str, lambda v: True, "a text", default=""),
    "styled_digits": _count_up_to(1_000_000),
    "negatives": _count_up_to(1_000_000),
    "num_epochs": _count_up_to(1_000_000, low=1),
    "batch_size": _BATCH,
    "eval_batch_size": _BATCH,
    "model.name": _NAME,
    "optimizer.name": _NAME,
    "optimizer.learning_rate": _RATE,
    "optimizer.schedule": _NAME,
    "optimizer.warmup_epochs": _NOT_NEGATIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.clip_norm": _NOT_NEGATIVE,
    "compute_dtype": Field(str, _DTYPES.__contains__, " or ".join(_DTYPES), _DTYPES[0]),
    "loss": Field(str, bool, "a name", default="cross_entropy"),
    "label_smoothing": _FRACTION,
    "ema_decay": _FRACTION,
    "test_time_shift": Field(int, lambda v: 0 <= v <= 8, "a whole number, 0 to 8"),
    "page_weight": Field(float, lambda v: 0 <= v <= 1, "from 0 to 1", default=1.0),
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


def check_field(name: str, field: Field, value: Any) -> None:
    """Raises a `ConfigError` if the value has the wrong type or is out of range."""
    accepted = (int, float) if field.type is float else field.type
    right_type = isinstance(value, accepted) and not isinstance(value, bool)
    if not right_type or not field.is_valid(value):
        raise ConfigError(f"config.{name} must be {field.what}, got {value!r}")


def flatten_config(config: ConfigDict) -> dict[str, Any]:
    """Returns `{"seed": 0, "model.name": "cnn", "model.kwargs.dense": (128,), ...}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            inner = flatten_config(value)
            flat |= {f"{key}.{name}": item for name, item in inner.items()}
        else:
            flat[key] = value
    return flat


def validate_config(config: ConfigDict) -> None:
    """Checks every field's name, type and range.

    Names of models, optimizers and schedules are checked where they are looked up.

    Raises:
      ConfigError: a field is unknown, missing or out of range; it names the first one.
    """
    for group in ("model", "optimizer"):
        own = config.get(group)
        if isinstance(own, ConfigDict) and not isinstance(
            own.get("kwargs"), ConfigDict
        ):
            raise ConfigError(f"config.{group}.kwargs must be a ConfigDict")
    flat = flatten_config(config)
    for name in flat:
        if name not in FIELDS and not name.startswith(FREE_GROUPS):
            hint = suggest(name, FIELDS, "configs/default.py")
            raise ConfigError(f"config.{name}: no such field; {hint}")
    for name, field in FIELDS.items():
        if name in flat:
            check_field(name, field, flat[name])
        elif field.default is None:
            raise ConfigError(
                f"config.{name} is missing; start the file from default.get_config()"
            )
    for name in flat.keys() - FIELDS.keys():
        if name.startswith("augment."):  # the strength of a user's own augmentation
            check_field(name, _NOT_NEGATIVE, flat[name])
