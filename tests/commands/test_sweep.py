import sys

import pytest
from helpers import make_terminal

from mnist_jax.analysis import sweep as sweep_cells
from mnist_jax.commands import sweep
from mnist_jax.errors import UserError

# ml_collections loads config files so.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def parsed(parse_flags_of):
    return parse_flags_of(sweep, "smoke.py")


def test_the_cells_are_announced_before_the_first(
    parsed, tmp_path, monkeypatch, capsys
):
    def run_cell(cell, *arguments):
        assert capsys.readouterr().out.startswith("sweep    2 cells, with 1 seed")
        assert "cells:   0%|" in sys.stderr.getvalue()
        assert " 0/2 [" in sys.stderr.getvalue()
        raise OSError(28, "No space left on device")

    make_terminal(monkeypatch)
    monkeypatch.setattr(sweep_cells, "run_cell", run_cell)
    parsed["sweep"].value = ["batch_size=64,128"]
    parsed["workdir"].value = str(tmp_path)
    reason = "No space left on device; make room there, or name another place"
    with pytest.raises(
        UserError, match=f"^cannot write --workdir={tmp_path}: {reason}"
    ):
        sweep.main([])
