import json
import shutil
import sys

import pytest

from mnist_jax.config import FIELDS, flatten_config
from mnist_jax.errors import ConfigError
from mnist_jax.run import config_files
from mnist_jax.run.config_files import (
    CONFIGS,
    PRETRAINED,
    PRETRAINED_PAGES,
    PRETRAINED_PROPOSALS,
    find_config,
    load_config,
)
from mnist_jax.run.stored_config import config_from_dict


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("x = 1", "has no attribute 'get_config'"),
        ("def get_config(): return {}", "must return an ml_collections.ConfigDict"),
        ("def get_config(): raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_bad_config_files_give_one_line(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.py") as caught:
        load_config(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_config_file_lists_its_neighbours():
    names = "best, cnn, default, emnist, ensemble, fashion, fast"
    with pytest.raises(ConfigError, match=f"no config file .*nope.py.*{names}"):
        load_config(CONFIGS / "nope.py")


@pytest.mark.parametrize("path", ["smoke", "smoke.py", "configs/smoke.py"])
def test_our_configs_are_found_from_any_folder(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert find_config(path) == CONFIGS / "smoke.py"
    with pytest.raises(ConfigError):
        find_config(f"elsewhere/{path}")


def test_a_config_file_imports_ours_and_leaves_the_name_free(tmp_path, monkeypatch):
    """The calling program may have a package `configs` of its own."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").touch()
    (tmp_path / "configs" / "default.py").write_text("OURS = False\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    (tmp_path / "mine.py").write_text(
        "from configs import default\n\n\n"
        "def get_config():\n"
        "    from configs import seed\n\n"
        "    assert seed.get_config().batch_size == 128\n"
        "    return default.get_config()\n"
    )
    assert load_config(tmp_path / "mine.py") == load_config("default")
    assert not {n for n in set(sys.modules) - before if n.startswith("configs")}
    from configs import default

    assert not default.OURS
    assert load_config(tmp_path / "mine.py") == load_config("default")
    assert sys.modules["configs.default"] is default
    for name in ("configs", "configs.default"):
        monkeypatch.delitem(sys.modules, name)


def test_the_folders_of_a_checkout():
    assert (CONFIGS.parent / "pyproject.toml").is_file()
    assert CONFIGS.parent / "checkpoints" / "pretrained" == PRETRAINED
    assert (PRETRAINED / "config.json").is_file()


# The fields that came after the weights in the repository, at what was done before.
LATER = {
    "pretrained": {
        "num_shards": 1,
        "test_time_shift": 0,
        "model.kwargs.even_contrast": False,
    },
}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("pretrained", PRETRAINED),
        ("page_reader", PRETRAINED_PAGES),
        ("page_proposals", PRETRAINED_PROPOSALS),
    ],
)
def test_configs_of_the_weights_that_come_along_are_those_of_their_runs(name, folder):
    (metadata,) = folder.glob("checkpoints/*/metadata/metadata")
    saved = json.loads(metadata.read_text())["config"]
    later = {n: f.default for n, f in FIELDS.items() if f.default is not None}
    expected = later | flatten_config(config_from_dict(saved)) | LATER.get(name, {})
    assert flatten_config(load_config(name)) == expected


@pytest.mark.parametrize(
    "name", ["pretrained", "page_reader", "page_proposals", "my_hand"]
)
def test_configs_of_the_weights_that_come_along_do_not_use_the_default(
    tmp_path, monkeypatch, name
):
    expected = load_config(name)
    shutil.copytree(CONFIGS, tmp_path / "configs")
    (tmp_path / "configs" / "default.py").write_text("raise AssertionError\n")
    monkeypatch.setattr(config_files, "CONFIGS", tmp_path / "configs")
    with pytest.raises(ConfigError, match="AssertionError"):
        load_config("smoke")
    assert load_config(name) == expected
