import signal

from mnist_jax.errors import (
    ConfigError,
    DataError,
    Interrupted,
    UserError,
    suggest,
)


def test_suggest_names_the_nearest_and_all():
    assert suggest("adm", ["sgd", "adam"]) == "did you mean 'adam'? (valid: adam, sgd)"
    assert suggest("zzz", ["sgd", "adam"]) == "(valid: adam, sgd)"


def test_exit_codes():
    assert UserError("x").exit_code == DataError("x").exit_code == 1
    assert ConfigError("x").exit_code == 2
    assert Interrupted("x", signal.SIGTERM).exit_code == 143
