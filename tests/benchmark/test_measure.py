import dataclasses
import json
import subprocess
import sys

import jax
import pytest

from mnist_jax.benchmark import measure
from mnist_jax.benchmark.workloads import Spread, Workload, synthetic_dataset, train_for
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.run.config_files import CONFIGS

SCRIPT = CONFIGS.parent / "scripts" / "benchmark.py"
PAGES = f"--config={CONFIGS / 'page_reader.py'}"


@pytest.fixture
def workload(seed_config, monkeypatch):
    """All measurements of this take a moment."""
    monkeypatch.setattr(measure, "_MATMUL_SIZE", 32)
    seed_config.model.name = "mlp"  # compiles the fastest
    seed_config.model.kwargs = ConfigDict({"dense": (16,), "dropout": 0.0})
    dataset = synthetic_dataset(50)
    return Workload(seed_config, dataset, 10, repeats=1, seconds=0.01)


def run_script(*flags):
    command = [sys.executable, str(SCRIPT), "--device=cpu", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_every_measurement(workload, monkeypatch):
    monkeypatch.setattr(measure, "_process_seconds", lambda *_: Spread.of([1]))
    cache_dir = jax.config.values["jax_compilation_cache_dir"]
    results = dict(measure.run_measurements(workload, list(measure.MEASUREMENTS)))
    assert list(results) == list(measure.MEASUREMENTS)
    for name, result in results.items():
        for value in dataclasses.asdict(result).values():
            if isinstance(value, dict):
                order = ["min", "lower_quartile", "median", "upper_quartile", "max"]
                assert 0 < value["min"] <= value["max"] < float("inf")
                assert [value[k] for k in order] == sorted(value[k] for k in order)
            else:
                assert value > 0
        json.dumps(dataclasses.asdict(result), allow_nan=False)
        lines = measure.format_result(name, result).splitlines()
        assert lines[0] == name
        assert all(len(line) <= 80 for line in lines)
    assert results["training"].images_per_second.repeats == 1
    assert results["training"].matmul_gflops_per_second.repeats == 2  # before and after
    assert jax.config.values["jax_compilation_cache_dir"] == cache_dir


def test_utilisation_is_flops_over_the_peak_around_them(workload, monkeypatch):
    peaks = iter([0.0, 1e6, 3e6, 5e6])  # warm-up, then before and after each repeat
    monkeypatch.setattr(
        measure, "_seconds_per_call", lambda *_: 2 * 32**3 / (next(peaks) or 1)
    )
    monkeypatch.setattr(measure, "train_for", lambda p, state, *_: (state, 7.0, 0.5))
    training = measure.measure_training(dataclasses.replace(workload, repeats=2))
    flops = measure.model_flops_of(workload).training_flops_per_image
    assert training.utilisation.max == pytest.approx(flops * 7 / 2e6)
    assert training.utilisation.min == pytest.approx(flops * 7 / 4e6)
    assert training.matmul_gflops_per_second.median == pytest.approx(3e-3)
    assert training.milliseconds_per_step.median == 500


def test_padding_is_no_image(workload):
    assert len(workload.dataset.labels) < workload.config.batch_size  # step is epoch
    program = workload.create_program()
    state, dataset = program.create_state(), jax.device_put(workload.dataset)
    state, rate, step_time = train_for(program, state, dataset, 0.01)
    assert int(state.step) >= 1
    assert rate * step_time == pytest.approx(50)


def test_calls_at_least_once():
    calls = []
    assert measure._seconds_per_call(lambda: calls.append(1), 0.0) > 0
    assert calls == [1]


def test_startup_is_that_of_whole_processes(workload):
    startup = measure.measure_startup(workload)
    assert startup.predict_one_picture_seconds.min > 0
    assert startup.import_train_seconds.repeats == 1


def test_a_process_that_fails_is_one_line():
    command = [sys.executable, "-c", "import mnist_jax.nothing"]
    with pytest.raises(UserError, match=r"No module named 'mnist_jax\.nothing'"):
        measure._process_seconds(command, repeats=1)


def test_profile(workload, tmp_path):
    traced = dataclasses.replace(workload, profile_dir=str(tmp_path))
    measure.measure_training(traced)
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_an_unknown_measurement_is_said_before_any_is_made(workload):
    with pytest.raises(ConfigError, match="did you mean 'training'"):
        measure.run_measurements(workload, ["model", "trainin"])


def test_script_prints_json_of_the_configs_own_data():
    smoke = SCRIPT.parent.parent / "configs" / "smoke.py"
    flags = ("--config.train_split=train[:640]", "--config.batch_size=32")
    flags += ("--data=config", "--only=model", "--json")
    process = run_script(f"--config={smoke}", *flags)
    assert process.returncode == 0, process.stderr
    printed = json.loads(process.stdout)
    assert printed["data"] == "config"
    assert printed["num_images"] == 640
    assert printed["config"]["batch_size"] == 32
    assert printed["versions"]["jax"] == jax.__version__
    assert printed["machine"]["platform"] == "cpu"
    assert printed["results"]["model"]["forward_flops_per_image"] > 0


def test_script_prints_a_table():
    process = run_script("--only=model")
    assert process.returncode == 0, process.stderr
    assert "5,262,080" in process.stdout
    assert all(len(line) <= 80 for line in process.stdout.splitlines())


def test_help_is_for_people():
    process = run_script("--help")
    assert process.returncode == 0
    assert "python scripts/benchmark.py" in process.stdout
    lines = [line for line in process.stdout.splitlines() if "default:" not in line]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--repeats=0"], "repeats"),
        (["--only=model", "--profile_dir=trace"], "--profile_dir"),
        (["--profile_dir=" + str(SCRIPT)], "cannot write"),
        (["--config.batch_size=0"], "config.batch_size"),
        (["fast"], "unexpected argument 'fast'"),
        (["--compare=kera"], "did you mean 'keras'"),
        (["--compare=keras", "--config.batch_size=64"], "config.batch_size"),
        (["--compare=torch", "--config.compute_dtype=bfloat16"], "compute_dtype"),
        ([PAGES, "--growth=growth.png"], "--growth is of digits"),
        ([PAGES, "--data=config"], "--data=config is of digits"),
        ([PAGES, "--only=startup"], "no measurement 'startup'"),
        (["--config.task=dots"], "only digits and pages are measured"),
    ],
)
def test_script_refuses_in_one_line(flags, message):
    process = run_script(*flags)
    assert process.returncode == (1 if message == "cannot write" else 2)
    assert message in process.stderr
    assert process.stderr.startswith("error: ")
    assert len(process.stderr.splitlines()) == 1
