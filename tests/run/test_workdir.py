import pytest

from mnist_jax.errors import CheckpointError, ConfigError
from mnist_jax.run.workdir import (
    check_resumable,
    clear_run,
    has_run,
    lock_workdir,
    write_config,
)


def save(workdir, *steps):
    for step in steps:
        folder = workdir / "checkpoints" / str(step)
        for item in ("state", "metadata"):
            (folder / item).mkdir(parents=True)
            (folder / item / "data").write_text("")
    return workdir


def test_clear_run_deletes_a_run_and_nothing_else(tmp_path):
    workdir = tmp_path / "run"
    assert not has_run(workdir)
    save(workdir, 1, 2)
    assert has_run(workdir)
    ours = [
        "config.json",
        "metrics.jsonl",
        "tensorboard/events.out.tfevents.1",
        "figures/learning_curves.png",
        "checkpoints/3.orbax-checkpoint-tmp/state",
    ]
    foreign = ["notes.txt", "figures/mine.svg", "checkpoints/other_run/config.json"]
    for name in ours + foreign:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text("")
    clear_run(workdir)
    left = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file()}
    assert left == set(foreign)
    assert not (workdir / "tensorboard").exists()
    assert not has_run(workdir)
    clear_run(workdir)


def test_clear_run_refuses_what_is_not_the_runs(tmp_path):
    run = save(tmp_path / "1" / "checkpoints" / "100", 1)  # as with --workdir=.../1
    with pytest.raises(CheckpointError, match="100' is not this run's"):
        clear_run(tmp_path / "1")
    link = tmp_path / "link"
    link.mkdir()
    (link / "checkpoints").symlink_to(run / "checkpoints")
    with pytest.raises(CheckpointError, match="is not this run's"):
        clear_run(link)
    assert has_run(run)


def test_the_same_config_may_go_on(tiny_config, tmp_path):
    check_resumable(tmp_path, tiny_config)
    write_config(tmp_path, tiny_config)
    tiny_config.max_to_keep = 7
    check_resumable(tmp_path, tiny_config)
    with tiny_config.ignore_type():  # JSON does not tell lists from tuples
        tiny_config.model.kwargs.features = list(tiny_config.model.kwargs.features)
    check_resumable(tmp_path, tiny_config)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("features", (9, 9)), ("dropout", 0.25), ("dense", ())],
)
def test_another_config_may_not(tiny_config, tmp_path, name, value):
    write_config(tmp_path, tiny_config)
    tiny_config.model.kwargs[name] = value
    with pytest.raises(ConfigError, match=rf"config.model.kwargs.{name} is .* has"):
        check_resumable(tmp_path, tiny_config)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_damaged_config_is_one_line(tiny_config, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config.json' cannot be read") as caught:
        check_resumable(tmp_path, tiny_config)
    assert "\n" not in str(caught.value)


def test_a_field_that_only_one_version_has_is_named(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0}')
    with pytest.raises(ConfigError, match=r"is in only one of this config"):
        check_resumable(tmp_path, tiny_config)


def test_one_run_at_a_time(tmp_path):
    with lock_workdir(tmp_path / "new" / "run"):
        with (
            pytest.raises(CheckpointError, match="another run is under way"),
            lock_workdir(tmp_path / "new" / "run"),
        ):
            pass
        with lock_workdir(tmp_path / "other"):
            pass
    with lock_workdir(tmp_path / "new" / "run"):
        pass
