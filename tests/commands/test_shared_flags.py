import importlib

import pytest
from absl import flags

from mnist_jax.commands.shared_flags import define_path_flag, define_paths_flag
from mnist_jax.errors import ConfigError
from mnist_jax.run.config_files import CONFIGS

COMMANDS = sorted(path.stem for path in (CONFIGS.parent / "scripts").glob("*.py"))

# The flags that are texts and no paths.
TEXTS = {
    *("config.*", "coordinator_address", "dataset", "split"),
    *("compare", "host", "only", "shard", "sweep"),
    *("baseline", "config", "configs"),  # config files, which `find_config` reads
}


def flags_of(command):
    """A copy of a command's flags, so that the test leaves the command's alone."""
    module = importlib.import_module(f"mnist_jax.commands.{command}")
    (own,) = [v for v in vars(module).values() if isinstance(v, flags.FlagValues)]
    return {name: own[name] for name in own}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_flag_that_takes_a_path_reads_it_as_users_write_it(command, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    paths = set()
    for name, flag in flags_of(command).items():
        if flag.flag_type() in ("path", "multi path"):
            paths.add(name)
            assert flag.parser.parse("~/a") == "/home/someone/a"
            with pytest.raises(ConfigError, match=f"^--{name}=gs://a is a URL"):
                flag.parser.parse("gs://a")
        else:
            is_text = flag.flag_type() not in ("bool", "int", "float", "string enum")
            assert not is_text or name in TEXTS, f"is --{name} a path?"
    assert paths


def test_a_url_is_refused_on_the_command_line():
    own = flags.FlagValues()
    one = define_path_flag(own, "one", None, "")
    many = define_paths_flag(own, "many", ["a"], "")
    own(["command", "--one=./~a/b", "--many=a", "--many", "~root/b"])
    assert one.value.endswith("/~a/b")
    assert many.value[0] == "a"
    assert not many.value[1].startswith("~")
    with pytest.raises(ConfigError, match="--many=s3://b is a URL"):
        own(["command", "--many=a", "--many=s3://b"])
