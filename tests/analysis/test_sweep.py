import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import make_tiny_config
from scipy import stats

from mnist_jax import train
from mnist_jax.analysis import sweep
from mnist_jax.errors import ConfigError, Interrupted
from mnist_jax.run.config_files import CONFIGS
from mnist_jax.run.metric_writer import read_metrics


def tiny(num_seeds=2):
    config = make_tiny_config()
    config.num_seeds = num_seeds
    return config


GRID = sweep.parse_grid(["learning_rate=1e-5,1e-2"])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweep")
    cells = sweep.make_cells({"": tiny()}, GRID)
    results = [sweep.run_cell(cell, workdir, None, None) for cell in cells]
    return workdir, cells, results


def test_a_sweep_finds_the_better_cell_and_never_reads_test(swept):
    workdir, cells, results = swept
    assert [c.name for c in cells] == ["learning_rate=1e-05", "learning_rate=0.01"]
    assert sweep.find_best(results) == 1
    for cell, result in zip(cells, results, strict=True):
        records = read_metrics(workdir / cell.name)
        assert not any(key.startswith("test/") for r in records for key in r)
        each = [records[-1][f"validation/accuracy/seed_{s}"] for s in result.seeds]
        np.testing.assert_array_equal(result.accuracy, each)
        assert "epoch" in (workdir / cell.name / "log.txt").read_text()


def test_what_is_finished_is_not_done_again(swept, monkeypatch):
    workdir, cells, results = swept
    monkeypatch.setattr(train, "train_and_evaluate", None)  # cannot be called
    again = sweep.run_cell(cells[0], workdir, None, None)
    np.testing.assert_array_equal(again.accuracy, results[0].accuracy)
    other = tiny()
    other.batch_size = 32
    cell = sweep.make_cells({"": other}, GRID)[0]
    with pytest.raises(ConfigError, match=r"config\.batch_size is 32"):
        sweep.run_cell(cell, workdir, None, None)


def test_an_interrupted_cell_goes_on(swept, tmp_path, monkeypatch):
    _, cells, results = swept
    real, calls = train.train_epoch, []

    def stop_once(program, state, dataset, totals, stop, steps_done):
        state, totals = real(program, state, dataset, totals, stop, steps_done)
        calls.append(1)
        if len(calls) == 1:
            stop.signum = 15
        return state, totals

    monkeypatch.setattr(train, "train_epoch", stop_once)
    with pytest.raises(Interrupted):
        sweep.run_cell(cells[1], tmp_path, None, None)
    assert not (tmp_path / cells[1].name / "result.json").exists()
    result = sweep.run_cell(cells[1], tmp_path, None, None)
    np.testing.assert_array_equal(result.accuracy, results[1].accuracy)
    np.testing.assert_array_equal(result.loss, results[1].loss)


def made(name, accuracy, loss=0.1):
    accuracy = np.array(accuracy)
    return sweep.Result(
        name, list(range(len(accuracy))), accuracy, np.full(len(accuracy), loss)
    )


def test_the_comparison_is_a_paired_t_test():
    a, b = made("a", [0.97, 0.98, 0.99, 0.95]), made("b", [0.975, 0.99, 0.991, 0.957])
    paired = sweep.compare_paired(b, a)
    expected = stats.ttest_rel(b.accuracy, a.accuracy)
    assert paired.p_value == pytest.approx(expected.pvalue)
    assert paired.difference == pytest.approx(0.00575)
    assert paired.standard_error == pytest.approx(0.00575 / expected.statistic)
    assert math.isnan(sweep.compare_paired(made("c", [0.9]), made("d", [0.8])).p_value)
    assert math.isnan(sweep.compare_paired(a, a).p_value)


def test_equal_accuracies_are_ranked_by_loss():
    assert sweep.find_best([made("a", [0.9], 0.3), made("b", [0.9], 0.2)]) == 1


def test_the_tables_fit_a_terminal(tmp_path):
    results = [made("x" * 60, [0.97, 0.98]), made("y", [0.98, 0.985])]
    lines = sweep.format_sweep(results).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1] == "x" * 60
    assert lines[2].split() == ["2", "97.500", "0.707", "0.500", "(baseline)"]
    assert lines[3].split()[:4] == ["y", "2", "98.250", "0.354"]
    assert lines[3].split()[5:8] == ["+0.750", "±", "0.250"]
    assert lines[3].endswith("*")
    sweep.write_results(results, tmp_path)
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert rows[3] == "y,0,0.98,0.1"
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["best"] == "y"
    accuracy = saved["cells"][1]["against_baseline"]["accuracy"]
    assert accuracy["difference"] == pytest.approx(0.0075)
    assert saved["cells"][1]["against_baseline"]["loss"]["p_value"] is None


def test_a_sweep_that_trains_on_test_images_says_so(tmp_path):
    config = tiny(1)
    config.train_split, config.num_epochs = "train[:200]+test", 1
    config.optimizer.warmup_epochs = 0.0
    (cell, other) = sweep.make_cells({"": config}, GRID)
    result = sweep.run_cell(cell, tmp_path, None, None)
    again = sweep.run_cell(cell, tmp_path, None, None)  # from its file
    why = "400 of the 400 images of config.test_split = 'test'"
    assert result.no_test_figure.startswith(why)
    assert again.no_test_figure == result.no_test_figure
    results = [result, result._replace(name=other.name)]
    table = " ".join(sweep.format_sweep(results).split())
    assert f"No test figure can be given: {why}" in table
    assert "was not looked at" not in table
    sweep.write_results(results, tmp_path)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["no_test_figure"] == result.no_test_figure


def test_a_grid_is_read():
    given = ["learning_rate=1e-3,3", "model.kwargs.dense=(64,),(8, 8)", "name=a, b"]
    assert sweep.parse_grid(given[:2]) == {
        "optimizer.learning_rate": [0.001, 3],
        "model.kwargs.dense": [(64,), (8, 8)],
    }
    assert sweep.parse_values("adam, lion") == ["adam", "lion"]
    with pytest.raises(ConfigError, match=r"which one of model\.name, optimizer\.name"):
        sweep.parse_grid(given)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ([], "nothing to sweep"),
        (["batch_size=64"], "nothing to sweep"),
        (["batch_sise=1,2"], "batch_sise: no such field"),
        (["batch_size="], "give values"),
        (["batch_size"], "give values"),
        (["learning_rate=1,2", "optimizer.learning_rate=3"], "given twice"),
        (["batch_size=64,0"], "cell batch_size=0: .*batch_size must be"),
        (["batch_size=64,64"], "are the same"),
        (["seed=1,2"], "must be the same in all cells"),
        (["optimizer.name=adam,madam"], "madam"),
        (["num_shards=1,2"], "cannot both be above 1"),
        (["model.kwargs.dense=(16,),(0,)"], "cell dense=.0.*no working 'cnn'"),
        (["model.kwargs.depth=1,2"], "depth is unknown"),
    ],
)
def test_bad_grids_are_refused_before_anything_is_trained(grid, says):
    with pytest.raises(ConfigError, match=says):
        sweep.make_cells({"": tiny()}, sweep.parse_grid(grid))


def test_config_files_are_cells(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from configs import smoke\n"
        "def get_config():\n"
        "    config = smoke.get_config()\n"
        "    config.batch_size = 16\n"
        "    return config\n"
    )
    mine, same = str(tmp_path / "mine.py"), {"num_seeds": 3}
    configs = sweep.configs_to_compare([mine, "fast"], same | {"validation": 5000})
    assert [c.num_seeds for c in configs.values()] == [3, 3]
    grid = sweep.parse_grid(["ema_decay=0,0.9"])
    before = sweep.configs_to_compare(["smoke"], same)
    with pytest.raises(ConfigError, match=r"config\.dataset must be the same"):
        sweep.make_cells(configs, grid, before)
    del configs["fast"]
    cells = sweep.make_cells(configs, grid, before)
    assert [c.name for c in cells] == [
        "smoke",
        "mine,ema_decay=0",
        "mine,ema_decay=0.9",
    ]
    assert [c.config.batch_size for c in cells] == [64, 16, 16]
    assert (
        sweep.find_cell(cells, "mine,ema_decay=0") == sweep.find_cell(cells, "2") == 1
    )
    with pytest.raises(ConfigError, match="from 1 to 3"):
        sweep.find_cell(cells, "4")
    with pytest.raises(ConfigError, match="two config files"):
        sweep.configs_to_compare([mine, mine], {})
    with pytest.raises(ConfigError, match=r"modell\.x: no such field"):
        sweep.configs_to_compare([mine], {"modell.x": 1})


def run_script(*arguments):
    script = CONFIGS.parent / "scripts" / "sweep.py"
    return subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_the_script_says_in_one_line_what_is_wrong(tmp_path):
    found = run_script("--sweep.batch_sise=1", f"--workdir={tmp_path / 'w'}")
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert "batch_size" in line
    assert not (tmp_path / "w").exists()


def test_the_script_prints_tables(tmp_path, swept):
    """Of two cells that are finished, so that nothing is trained."""
    config = tmp_path / "tiny.py"
    config.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from helpers import make_tiny_config as get_config\n"
    )
    found = run_script(
        *(f"--config={config}", "--num_seeds=2", "--sweep.learning_rate=1e-5,1e-2"),
        *("--baseline=learning_rate=0.01", f"--workdir={swept[0]}"),
    )
    assert found.returncode == 0, found.stderr
    assert "learning_rate=1e-05  " in found.stdout
    assert found.stdout.count("(baseline)") == 2
    assert json.loads((swept[0] / "results.json").read_text())["best"]
