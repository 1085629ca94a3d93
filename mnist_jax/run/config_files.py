"""Finds and runs config files, both this project's and a user's own."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from mnist_jax.config import FIELDS, FREE_GROUPS, flatten_config
from mnist_jax.errors import ConfigError, suggest
from mnist_jax.local_files import local_path

PACKAGE = Path(__file__).resolve().parents[1]


def _find_folder(installed: str, in_checkout: str) -> Path:
    """Returns a folder of the installed package, or else that of the checkout."""
    folder = PACKAGE / installed
    return folder if folder.is_dir() else PACKAGE.parent / in_checkout


CONFIGS = _find_folder("configs", "configs")
PRETRAINED = _find_folder("pretrained", "checkpoints/pretrained")


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


def load_config(path: str | Path) -> ConfigDict:
    """Runs `get_config()` of a Python config file and returns its locked config.

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


def check_field_names(names: Iterable[str]) -> None:
    """Checks the names of overrides such as `optimizer.learning_rate`.

    Raises:
      ConfigError: a name is not a field; the error shows the nearest valid name.
    """
    for name in names:
        if name not in FIELDS and not name.startswith(FREE_GROUPS):
            hint = suggest(name, FIELDS)
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
