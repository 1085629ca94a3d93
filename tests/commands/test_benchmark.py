import dataclasses
import sys

import pytest
from helpers import make_terminal

from mnist_jax.benchmark import measure
from mnist_jax.commands import benchmark


@dataclasses.dataclass
class Made:
    """A measurement that takes no time."""

    speed: float = 1.0


# ml_collections loads config files so.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def parsed(parse_flags_of):
    return parse_flags_of(benchmark, "seed.py")


def test_a_terminal_shows_how_far_it_is(parsed, monkeypatch, capsys):
    def first(workload):
        assert "median" in capsys.readouterr().out  # the head of the table
        assert "measuring:   0%|" in sys.stderr.getvalue()
        return Made()

    def second(workload):
        assert capsys.readouterr().out.startswith("first\n  speed ")
        return Made()

    terminal = make_terminal(monkeypatch)
    made = {"first": first, "second": second}
    monkeypatch.setattr(measure, "MEASUREMENTS", made)
    benchmark.main([])
    printed = capsys.readouterr().out
    assert printed.startswith("second\n  speed ")
    assert "\r" not in printed
    assert "second" not in terminal.getvalue()
