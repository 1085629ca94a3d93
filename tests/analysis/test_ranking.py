import numpy as np
import pytest

from mnist_jax.analysis import ranking
from mnist_jax.checkpoint.load import load_model
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError


@pytest.fixture
def loaded(trained_workdir):
    return load_model(trained_workdir)


def test_better_on_validation_comes_first(loaded):
    def zeroed(tree):
        return {k: zeroed(v) if isinstance(v, dict) else 0 * v for k, v in tree.items()}

    params = zeroed(loaded.variables["params"])
    worse = loaded._replace(variables={**loaded.variables, "params": params})
    ranked = ranking.rank([("worse", worse), ("a", loaded), ("same", loaded)])
    assert [run.workdir for run in ranked] == ["a", "same", "worse"]
    assert len(ranked[0].right) == 200
    assert ranking.gap_to_best(ranked[1], ranked[0]) == (0, 0)
    gap, error = ranking.gap_to_best(ranked[2], ranked[0])
    assert gap == pytest.approx(ranked[0].accuracy - ranked[2].accuracy)
    assert 0 < error < 0.05
    text = ranking.format_ranking(ranked)
    assert "ranked by 200 images that all held out of training; test is not" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    found = ranking.ranking_to_dict(ranked)
    assert found["ranked_by"] == "validation"
    assert found["runs"][2]["behind_the_first"] == gap


def test_runs_that_cannot_be_ranked(loaded):
    config = ConfigDict({**loaded.config.to_dict(), "validation": 0})
    trained_on_all = loaded._replace(config=config)
    with pytest.raises(ConfigError, match="'all' cannot be ranked: the run held no"):
        ranking.rank([("a", loaded), ("all", trained_on_all)])


def test_runs_with_other_held_out_images(loaded, monkeypatch):
    images = iter([np.zeros((4, 28, 28, 1), np.uint8), np.ones((4, 28, 28, 1), "u1")])
    monkeypatch.setattr(
        ranking.splits, "load_held_out", lambda *_: (next(images), np.zeros(4, int))
    )
    with pytest.raises(ConfigError, match="'b' cannot be ranked with 'a'"):
        ranking.rank([("a", loaded), ("b", loaded)])
