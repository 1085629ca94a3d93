import pytest
from absl.testing import flagsaver

from mnist_jax.parallel import devices
from mnist_jax.run.config_files import CONFIGS, configs_importable


@pytest.fixture
def parse_flags_of(monkeypatch):
    """Parses a command's flags with one of `configs/`; forgets them after the test.

    The command finds its devices chosen already.
    """
    monkeypatch.setattr(devices, "set_up", lambda *args, **kwargs: None)
    parsed = []

    def parse(command, config):
        with configs_importable():
            command._FLAGS(["command", f"--config={CONFIGS / config}"])
        parsed.append((command._FLAGS, flagsaver.save_flag_values(command._FLAGS)))
        return command._FLAGS

    yield parse
    for command_flags, saved in parsed:
        flagsaver.restore_flag_values(saved, command_flags)
        command_flags.unparse_flags()
