import signal

import numpy as np
import pytest

from mnist_jax.errors import (
    ConfigError,
    DataError,
    Interrupted,
    UserError,
    did_you_mean,
    kind_of,
    suggest,
)


def test_suggest_names_the_nearest_and_all():
    assert suggest("adm", ["sgd", "adam"]) == "did you mean 'adam'? (valid: adam, sgd)"
    assert suggest("zzz", ["sgd", "adam"]) == "valid: adam, sgd"


def test_suggest_shows_a_few_of_many():
    many = [
        "model.name",
        "model.size",
        "model.width",
        "model.widths",
        *"abcdefghij" * 4,
    ]
    assert suggest("width", many, "a.py") == (
        "did you mean 'model.width'? (a.py lists all 44)"
    )
    assert suggest("model.widht", many).startswith("did you mean 'model.width'?")
    assert suggest("model.siz", many, "a.py").startswith("did you mean 'model.size'? (")
    assert suggest("model_nam_", many).count("'") == 2
    assert suggest("zzz", many, "a.py") == "a.py lists all 44"
    assert len(suggest("zzz", many)) > 100  # nothing else says what is valid


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (7, "an int"),
        ("7", "a str"),
        (ValueError(), "a ValueError"),
        (np.zeros(3), "an ndarray"),
        (np.uint8(3), "a uint8"),
        (OSError(), "an OSError"),
    ],
)
def test_a_type_has_its_article(value, kind):
    assert kind_of(value) == kind


def test_what_may_be_meant_is_joined_as_a_sentence():
    assert did_you_mean([]) == ""
    assert did_you_mean(["a"]) == "did you mean a?"
    assert did_you_mean(["a", "b"]) == "did you mean a or b?"
    assert did_you_mean(["a", "b", "c"]) == "did you mean a, b or c?"


def test_exit_codes():
    assert UserError("x").exit_code == DataError("x").exit_code == 1
    assert ConfigError("x").exit_code == 2
    assert Interrupted("x", signal.SIGTERM).exit_code == 143
