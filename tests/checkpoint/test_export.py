import numpy as np
import pytest
from helpers import full_disk

from mnist_jax.analysis import splits
from mnist_jax.checkpoint.export import export_model
from mnist_jax.checkpoint.load import load_model
from mnist_jax.errors import CheckpointError, ConfigError
from mnist_jax.run import inference
from mnist_jax.run.workdir import has_run
from mnist_jax.train import train_and_evaluate


def test_an_exported_model_answers_alike_and_is_small(trained_workdir, tmp_path):
    loaded = load_model(trained_workdir)
    export_model(loaded, trained_workdir, tmp_path / "small")
    small = load_model(tmp_path / "small")
    assert small.config == loaded.config
    assert small.temperature == loaded.temperature != 1
    assert small.step == loaded.step
    images = splits.load_split(loaded).dataset.images
    ours, theirs = (
        inference.predict_logits(m.model, m.variables, images, 100)
        for m in (small, loaded)
    )
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    sizes = [
        sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*"))
        for folder in (tmp_path / "small", trained_workdir)
    ]
    assert sizes[0] < sizes[1] / 2
    for file in ("config.json", "metrics.jsonl"):
        text = (trained_workdir / file).read_text()
        assert (tmp_path / "small" / file).read_text() == text


def test_no_path_of_the_machine_goes_along(trained_workdir, tmp_path):
    loaded = load_model(trained_workdir)
    dataset = {**loaded.metadata["dataset"], "description": "mnist from /my/own/folder"}
    config = loaded.config.unlock()
    config.init_from = "/my/own/start"
    config.data_folder = f"{tmp_path}/mine, /my/own/hers"
    loaded = loaded._replace(
        config=config, metadata={**loaded.metadata, "dataset": dataset}
    )
    export_model(loaded, trained_workdir, tmp_path / "small")
    for file in (tmp_path / "small").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"/my/own" not in data, file
            assert str(tmp_path).encode() not in data, file
    small = load_model(tmp_path / "small").config
    assert (small.init_from, small.data_folder) == ("start", "mine,hers")


def test_what_else_is_in_the_folder_is_left_alone(trained_workdir, tmp_path):
    """Such as another run in `checkpoints`, whose note has the same name."""
    folder = tmp_path / "out"
    other = folder / "checkpoints" / "mine" / "commit_success.txt"
    other.parent.mkdir(parents=True)
    other.write_text("other")
    (folder / "notes.txt").write_text("mine")
    written = export_model(load_model(trained_workdir), trained_workdir, folder)
    assert other.read_text() == "other"
    found = {path.resolve() for path in folder.rglob("*") if path.is_file()}
    told = {path.resolve() for path in written}
    assert len(written) == len(told)
    assert found - told == {other.resolve(), (folder / "notes.txt").resolve()}


def test_no_run_is_written_over(trained_workdir):
    loaded = load_model(trained_workdir)
    with pytest.raises(ConfigError, match="holds a run"):
        export_model(loaded, trained_workdir, trained_workdir)


def test_an_exported_model_is_no_run_to_resume(trained_workdir, tmp_path, tiny_config):
    export_model(load_model(trained_workdir), trained_workdir, tmp_path / "small")
    with pytest.raises(CheckpointError, match=r"weights alone.*no run to resume"):
        train_and_evaluate(tiny_config, tmp_path / "small", resume=True)


def test_a_flipped_bit_in_an_exported_model_is_found(trained_workdir, tmp_path):
    loaded = load_model(trained_workdir)
    export_model(loaded, trained_workdir, tmp_path / "small")
    assert has_run(tmp_path / "small")
    weights = max(
        (tmp_path / "small" / "checkpoints").rglob("*"),
        key=lambda file: file.stat().st_size * file.is_file(),
    )
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        load_model(tmp_path / "small")


# Orbax may still call its event loop, which is closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_export_that_fails_leaves_nothing_and_can_be_repeated(
    trained_workdir, tmp_path
):
    loaded = load_model(trained_workdir)
    small = tmp_path / "small"
    with full_disk(), pytest.raises((CheckpointError, OSError)):
        export_model(loaded, trained_workdir, small)
    assert not [path for path in small.rglob("*") if path.is_file()]
    export_model(loaded, trained_workdir, small)
    assert load_model(small).step == loaded.step
