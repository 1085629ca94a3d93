"""Finds and runs config files, both this project's and a user's own."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from mnist_jax.config import FIELDS, FREE_GROUPS, flatten_config
from mnist_jax.errors import ConfigError, did_you_mean, nearest
from mnist_jax.local_files import local_path

PACKAGE = Path(__file__).resolve().parents[1]


def _find_folder(installed: str, in_checkout: str) -> Path:
    """Returns a folder of the installed package, or else that of the checkout."""
    folder = PACKAGE / installed
    return folder if folder.is_dir() else PACKAGE.parent / in_checkout


CONFIGS = _find_folder("configs", "configs")
PRETRAINED = _find_folder("pretrained", "checkpoints/pretrained")
PRETRAINED_PAGES = PRETRAINED / "page_reader"
PRETRAINED_PROPOSALS = PRETRAINED / "page_proposals"


def find_config(path: str | Path) -> Path:
    """Returns `path` if it is a file, else the file of that name in `configs/`.

    Args:
      path: a file; or a config of this project, as "smoke" or "configs/smoke.py".

    Raises:
      ConfigError: there is no such file.
    """
    path = local_path(path)
    if Path(path).is_file():
        return Path(path)
    name = Path(path).stem
    ours = CONFIGS / f"{name}.py"
    if str(path) in (name, f"{name}.py", f"configs/{name}.py") and ours.is_file():
        return ours
    known = sorted(file.stem for file in CONFIGS.glob("[!_]*.py"))
    raise ConfigError(f"no config file {str(path)!r}; configs/ has: {', '.join(known)}")


def find_start(folder: str) -> Path:
    """Returns the folder of the run that `config.init_from` names.

    Args:
      folder: of a run; or "pretrained" or "pretrained/page_reader", wherever the
        weights that come along are installed.

    Raises:
      ConfigError: see `local_path`.
    """
    path = Path(local_path(folder, "config.init_from"))
    if path.parts[:1] == ("pretrained",) and not path.is_dir():
        return PRETRAINED.joinpath(*path.parts[1:])
    return path


def load_config(path: str | Path) -> ConfigDict:
    """Runs `get_config()` of a Python config file and returns its locked config.

    >>> config = load_config("smoke")
    >>> config.batch_size
    64
    >>> config.num_epochs = 20  # fields can be set; a field that is not there cannot

    Args:
      path: see `find_config`.

    Raises:
      ConfigError: the file does not exist, cannot be run, or has no `get_config`.
    """
    path = find_config(path)
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config file {str(path)!r} must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        with configs_importable():
            spec.loader.exec_module(module)
            config = module.get_config()
        if isinstance(config, ConfigDict):
            # Fails here, as a RecursionError, if the config contains itself.
            flatten_config(config)
    except ConfigError:
        raise
    except BaseException as error:  # a user's own code may raise anything
        raise ConfigError(
            f"config file {str(path)!r} failed: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config() in {str(path)!r} must return an ml_collections.ConfigDict"
        )
    return config.lock()


@contextlib.contextmanager
def configs_importable() -> Iterator[None]:
    """Makes `from configs import default` import this project's configs in its block.

    Config files in any folder use this import. Outside of the block the name `configs`
    is left to the calling program, which may have a package of that name.
    """
    others = _forget_configs()
    spec = importlib.util.spec_from_file_location(
        "configs", CONFIGS / "__init__.py", submodule_search_locations=[str(CONFIGS)]
    )
    assert spec is not None
    # Its __init__.py is not run, because all it does is to set this entry.
    sys.modules["configs"] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        _forget_configs()
        sys.modules.update(others)


def _forget_configs() -> dict[str, ModuleType]:
    """Removes the package `configs` and its modules from `sys.modules`."""
    names = [name for name in sys.modules if name.partition(".")[0] == "configs"]
    return {name: sys.modules.pop(name) for name in names}


# What a user may call a field, and the field. The first are what they are called here.
FIELD_NAMES = dict(zip(FIELDS, FIELDS, strict=True)) | {
    "arch": "model.name",
    "model": "model.name",
    "net": "model.name",
    "network": "model.name",
    "dropout": "model.kwargs.dropout",
    "opt": "optimizer.name",
    "optim": "optimizer.name",
    "optimizer": "optimizer.name",
    "lr": "optimizer.learning_rate",
    "step_size": "optimizer.learning_rate",
    "lr_scheduler": "optimizer.schedule",
    "lr_schedule": "optimizer.schedule",
    "scheduler": "optimizer.schedule",
    "warmup": "optimizer.warmup_epochs",
    "warmup_steps": "optimizer.warmup_epochs",
    "l2": "optimizer.weight_decay",
    "wd": "optimizer.weight_decay",
    "grad_clip": "optimizer.clip_norm",
    "max_grad_norm": "optimizer.clip_norm",
    "epoch": "num_epochs",
    "epochs": "num_epochs",
    "max_epochs": "num_epochs",
    "n_epochs": "num_epochs",
    "num_train_epochs": "num_epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "test_batch_size": "eval_batch_size",
    "val_batch_size": "eval_batch_size",
    "criterion": "loss",
    "ema": "ema_decay",
    "n_seeds": "num_seeds",
    "seeds": "num_seeds",
    "random_seed": "seed",
    "random_state": "seed",
    "smoothing": "label_smoothing",
    "save_every": "checkpoint_every_epochs",
    "val_size": "validation",
    "validation_size": "validation",
    "validation_split": "validation",
}


def check_field_names(names: Iterable[str]) -> None:
    """Checks the names of overrides such as `optimizer.learning_rate`.

    Raises:
      ConfigError: a name is not a field; the error shows the nearest valid names.
    """
    for name in names:
        if name not in FIELDS and not name.startswith(FREE_GROUPS):
            near = nearest(name.replace("-", "_"), FIELD_NAMES)
            meant = dict.fromkeys(repr(FIELD_NAMES[other]) for other in near)
            hint = did_you_mean([*meant], "configs/default.py lists all fields")
            raise ConfigError(f"--config.{name}: no such field; {hint}")


def find_field(name: str) -> str:
    """Returns a field's full name: `optimizer.learning_rate` for `learning_rate`.

    Raises:
      ConfigError: the name is not a field, and not the last part of exactly one.
    """
    known = [field for field in FIELDS if field.endswith(f".{name}")]
    if name in FIELDS or name.startswith(FREE_GROUPS) or len(known) != 1:
        if len(known) > 1 and name not in FIELDS:
            raise ConfigError(f"--sweep.{name}: which one of {', '.join(known)}?")
        check_field_names([name])
        return name
    return known[0]
