"""Looks models up by name: the table `MODELS`, and `create_model`."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mnist_jax.errors import ConfigError, lookup
from mnist_jax.models.cnn import CNN
from mnist_jax.models.ensemble import Ensemble, MovedViews
from mnist_jax.models.mlp import MLP
from mnist_jax.models.sprint import Sprint
from mnist_jax.models.tiny import TinyCNN
from mnist_jax.models.vgg import VGG

_MAX_PARAMETERS = 10**11  # 400 GB

Model = nn.Module | MovedViews | Ensemble  # what can predict

MODELS: dict[str, type[nn.Module]] = {
    "cnn": CNN,
    "vgg": VGG,
    "sprint": Sprint,
    "mlp": MLP,
    "tiny": TinyCNN,
}


def create_model(
    model_config: ConfigDict,
    num_classes: int,
    image_shape: tuple[int, int, int] = (28, 28, 1),
) -> nn.Module:
    """Builds `config.model`.

    Args:
      model_config: `name`, a key of `MODELS` or "my_package.net:Net", a linen class
        with a field `num_classes`; and `kwargs`, its other fields.
      num_classes: number of logits.
      image_shape: height, width and channels of the images.

    Raises:
      ConfigError: no such linen class, keyword arguments that it does not take, or
        that make no working model (a kernel larger than the image, say).
    """
    name, kwargs = model_config.name, model_config.kwargs.to_dict()
    cls = _find_class(name)
    _check_kwargs(name, cls, kwargs)
    try:
        model = cls(num_classes=num_classes, **kwargs)
        _check_parameters(init_shapes(model, image_shape))
    except Exception as error:  # whatever a wrong argument makes linen or lax raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"config.model.kwargs make no working {name!r}: {why[:200]}"
        ) from error
    return model


def _find_class(name: str) -> Any:
    """Looks up a linen class, and calls nothing, as a stranger may have named it."""
    found = lookup(name, MODELS, "config.model.name")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"config.model.name = {name!r} is no class of linen modules")
    if "num_classes" not in found.__dataclass_fields__:
        raise ConfigError(f"config.model.name = {name!r} has no field num_classes")
    return found


def _check_kwargs(name: str, cls: Any, kwargs: dict[str, Any]) -> None:
    """Checks that a class takes exactly these keyword arguments."""
    fields = {
        key: field
        for key, field in cls.__dataclass_fields__.items()
        if field.init and key not in ("parent", "name", "num_classes")
    }
    required = {
        key
        for key, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING
    }
    for key in sorted((kwargs.keys() - fields) | (required - kwargs.keys())):
        problem = "missing" if key in fields else "unknown"
        raise ConfigError(
            f"config.model.kwargs.{key} is {problem} for {name!r}; "
            f"it takes: {', '.join(sorted(fields))} (set in a config file, as in "
            "configs/mlp.py)"
        )
    dropout = kwargs.get("dropout", 0.0)
    if isinstance(dropout, int | float) and not 0 <= dropout < 1:
        raise ConfigError("config.model.kwargs.dropout must be from 0 to below 1")


def _check_parameters(variables: Any) -> None:
    """Raises ValueError if a parameter is empty, or if they are far too many."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    if empty := [path for path, leaf in leaves if not leaf.size]:
        raise ValueError(f"{jax.tree_util.keystr(empty[0])} would be empty")
    if (count := sum(leaf.size for _, leaf in leaves)) > _MAX_PARAMETERS:
        raise ValueError(f"{count:.0e} parameters are more than a memory holds")


# What an earlier process has traced, by `network_name`.
KNOWN_SHAPES: dict[str, Any] = {}


def init_shapes(
    model: nn.Module, image_shape: tuple[int, ...], num_seeds: int = 1
) -> Any:
    """Returns what `model.init` returns, with shapes and dtypes in place of arrays.

    To trace a large network takes a quarter of a second, so equal ones are traced once,
    and those of `KNOWN_SHAPES` not at all.

    Args:
      model: maps float32 [B, *image_shape] and `train` to outputs.
      image_shape: height, width and channels of the images.
      num_seeds: S; above 1, all shapes have a leading axis [S].
    """
    try:
        known = KNOWN_SHAPES.get(network_name(model, image_shape))
        shapes = _traced(model, image_shape) if known is None else known
    except TypeError:  # a field that has no hash; or what the model itself raises
        shapes = _traced.__wrapped__(model, image_shape)
    if num_seeds == 1:
        return shapes
    return jax.tree.map(
        lambda one: jax.ShapeDtypeStruct((num_seeds, *one.shape), one.dtype), shapes
    )


def network_name(model: nn.Module, image_shape: tuple[int, ...]) -> str:
    """Returns what tells a network from others of the same code."""
    return f"{image_shape} {type(model).__module__} {model!r}"


@functools.lru_cache(8)
def _traced(model: nn.Module, image_shape: tuple[int, ...]) -> Any:
    return jax.eval_shape(functools.partial(_init_for_training, model, image_shape))


def _init_for_training(model: nn.Module, image_shape: tuple[int, ...]) -> Any:
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return model.init(rngs, jnp.zeros((1, *image_shape)), train=True)
