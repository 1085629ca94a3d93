import pytest

from mnist_jax.run.config_files import load_config
from mnist_jax.run.longer_runs import explain_longer


@pytest.fixture
def saved():
    return load_config("cnn").unlock()


def explain(saved, num_epochs, step, **optimizer):
    saved.optimizer.update(optimizer)
    config = saved.copy_and_resolve_references()
    config.num_epochs = num_epochs
    return explain_longer(saved.to_dict(), config, step, 100)


def test_a_run_of_the_same_length_has_nothing_to_explain(saved):
    assert explain(saved, 5, 200) == ""


def test_a_constant_rate_is_that_of_the_longer_run(saved):
    expected = "5 epochs become 20: this is the run that it would be, had it been so "
    assert explain(saved, 20, 500, schedule="constant").startswith(expected)


@pytest.mark.parametrize(
    ("schedule", "before", "after"),
    [
        ("cosine", "0", "0.0018"),
        ("linear", "0", "0.0016"),
        ("one_cycle", "8e-09", "0.0"),
    ],
)
def test_a_rate_that_had_fallen_rises_again(saved, schedule, before, after):
    told = explain(saved, 20, 500, schedule=schedule, warmup_epochs=1.0)
    assert f"({schedule}) was {before} at this step and is now {after}" in told
    assert told.endswith("not that of 20 epochs at once")


def test_rates_that_are_alike_up_to_now_make_the_same_run(saved):
    """During the warm-up no rate depends on the length of the run."""
    told = explain(saved, 20, 50, schedule="linear", warmup_epochs=1.0)
    assert "had it been so long at once" in told


def test_a_warm_up_that_was_cut_makes_another_run(saved):
    saved.num_epochs = 1
    told = explain(saved, 5, 100, schedule="constant", warmup_epochs=2.0)
    assert "was 0.002 at this step and is now 0.001" in told
