import os

import pytest

from mnist_jax.commands import evaluate
from mnist_jax.errors import UserError


@pytest.fixture
def parsed():
    """The command's flags as they are without any."""
    evaluate._FLAGS(["evaluate.py"])
    yield evaluate._FLAGS
    evaluate._FLAGS.unparse_flags()


def test_a_run_that_cannot_be_written_names_the_flag_that_helps(
    parsed, tmp_path, monkeypatch
):
    evaluate._check_targets(str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"cannot write figures into .* --nofigures"):
        evaluate._check_targets(str(tmp_path))
    parsed["figures"].value = False
    evaluate._check_targets(str(tmp_path))
    parsed["report"].value = True
    with pytest.raises(UserError, match=r"cannot write report.html into --workdir"):
        evaluate._check_targets(str(tmp_path))
