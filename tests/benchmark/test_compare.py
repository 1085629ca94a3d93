import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

from mnist_jax.benchmark import compare
from mnist_jax.benchmark.compare import Comparison, Contestant
from mnist_jax.benchmark.peers import Work, flax_peer, ours, rate
from mnist_jax.benchmark.workloads import (
    Spread,
    Workload,
    synthetic_dataset,
    synthetic_pages,
)
from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.run.config_files import CONFIGS, load_config

PEER = """
import os, sys, time
import numpy as np
{imports}

class Peer:
    version, num_parameters, trained = "1.0", {parameters}, 0

    def __init__(self, work):
        self.labels = work.labels

    def first_step(self):
        print("chatter")  # goes to stderr: it would be no JSON

    def train(self, seconds):
        {train}
        self.trained += 1
        return {rate}

    def predict(self, count):
        return self.trained * {learns} * np.eye(10)[self.labels[:count]]

create = Peer
"""


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """Fake contestants: `peers(name, ...)` adds one, and "mnist_jax" is there."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    modules = {}
    monkeypatch.setattr(compare, "MODULES", {"digits": modules})

    def add(
        name, imports="", parameters=7, train="pass", rate=100.0, learns=1, of="fake"
    ):
        source = PEER.format(
            imports=imports,
            parameters=parameters,
            train=train,
            rate=rate,
            learns=learns,
        )
        (tmp_path / f"{of}_{name}.py").write_text(source)
        modules[name] = f"{of}_{name}"

    add("mnist_jax", rate=300.0)
    return add


@pytest.fixture
def workload(seed_config):
    dataset = synthetic_dataset(20)
    return Workload(seed_config, dataset, 10, repeats=2, seconds=0.01)


def test_ratios_and_what_is_skipped(peers, workload):
    peers("slow", rate=60.0)
    peers("absent", imports="import nothing_like_it")
    comparison = compare.compare_with_peers(workload, ["slow", "absent", "slow"])
    assert list(comparison.contestants) == ["mnist_jax", "slow"]
    assert comparison.ratios["slow"]["training"] == Spread.of([5.0, 5.0])
    assert comparison.skipped == {
        "absent": "no module 'nothing_like_it'; pip install -e '.[peers]'"
    }
    slow = comparison.contestants["slow"]
    assert slow.training_images_per_second == Spread.of([60.0, 60.0])
    assert slow.milliseconds_for_one_image.min > 0
    assert slow.start_to_first_step_seconds > 0
    assert slow.loss_before == pytest.approx(np.log(10))
    assert slow.loss_after < slow.loss_before
    json.dumps(dataclasses.asdict(comparison), allow_nan=False)


def test_repeats_take_turns_and_the_first_round_is_not_timed(peers, workload, tmp_path):
    log = tmp_path / "log"
    note = f"open({str(log)!r}, 'a').write(__name__[5] + ' ')"
    for name, first in (("mnist_jax", 900.0), ("keras", 100.0)):
        peers(name, train=note, rate=f"{first} if self.trained == 1 else {first / 10}")
    comparison = compare.compare_with_peers(workload, ["keras"])
    assert log.read_text() == "m k m k m k "
    keras = comparison.contestants["keras"]
    assert keras.training_images_per_second == Spread.of([10.0, 10.0])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"train": "raise OSError('no GPU')"}, "bad failed: OSError: no GPU"),
        ({"train": "os._exit(3)"}, "exit code 3"),
        ({"train": "time.sleep(60)"}, "no answer to 'train 0.01' within 3 s"),
        ({"imports": "os._exit(4)"}, "exit code 4: no reason given"),
        ({"parameters": 8}, "bad has 8 parameters and mnist_jax 7"),
        ({"learns": 0}, "bad does not learn"),
        ({"learns": "float('nan')"}, "bad does not learn"),
    ],
)
def test_a_peer_that_fails_is_one_line(peers, workload, monkeypatch, fault, message):
    monkeypatch.setattr(compare, "TIMEOUT_SECONDS", 3.0)
    peers("bad", **fault)
    with pytest.raises(UserError) as error:
        compare.compare_with_peers(workload, ["bad"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_peer_at_all(peers, workload):
    peers("absent", imports="import nothing_like_it")
    with pytest.raises(UserError, match="no peer is installed"):
        compare.compare_with_peers(workload, ["absent"])


def test_an_interpreter_that_is_not_there(peers, workload):
    peers("keras")
    with pytest.raises(UserError, match="--peer_python=/no/python"):
        compare.compare_with_peers(workload, ["keras"], "/no/python")


def test_peers_of_another_interpreter(peers, workload):
    peers("keras", imports="print(sys.executable)", rate="float(sys.executable != '')")
    comparison = compare.compare_with_peers(workload, ["keras"], sys.executable)
    assert comparison.contestants["keras"].training_images_per_second.median == 1


def test_ratio_is_the_median_of_the_rounds_own():
    rates = {
        "mnist_jax": np.array([10.0, 40.0, 90.0]),
        "keras": np.array([5.0, 10.0, 30.0]),
    }
    found = compare.ratios({"training": rates})
    assert found == {"keras": {"training": Spread.of([2.0, 4.0, 3.0])}}


def test_table_fits_80_columns():
    row = Contestant(
        "3.15.1 on tensorflow 2.21.0",
        *(225_034, 12.34, 2.345, 0.5678),
        *(Spread.of([123_456.7] * 2),) * 3,
    )
    ratio = dict.fromkeys(
        ("training", "inference", "one_image"), Spread.of([10, 12.346])
    )
    names = ("mnist_jax", "keras", "torch", "flax")
    comparison = Comparison(
        dict.fromkeys(names[:3], row),
        dict.fromkeys(names[1:3], ratio),
        {"flax": "no module 'tensorflow'; pip install -e '.[peers]'"},
    )
    table = compare.format_comparison(comparison)
    assert max(map(len, table.splitlines())) <= 80
    assert table.count("11.17 x as fast (10.00-12.35)") == 6
    assert "123,457" in table
    assert "flax          skipped" in table


def test_the_config_must_be_the_peers_work(seed_config):
    compare.check_same_work(seed_config, ["keras", "flax"])
    with pytest.raises(ConfigError, match="did you mean 'torch'"):
        compare.check_same_work(seed_config, ["pytorch"])
    seed_config.optimizer.learning_rate = 1e-2
    with pytest.raises(ConfigError, match=r"config\.optimizer must be"):
        compare.check_same_work(seed_config, ["keras"])


def test_work_survives_the_disk(tmp_path):
    work = Work({"seed": 0}, *synthetic_dataset(3))
    work.save(tmp_path)
    loaded = Work.load(tmp_path)
    assert loaded.config == work.config
    for there, here in zip(loaded[1:], work[1:], strict=True):
        np.testing.assert_array_equal(there, here)
    assert work.scaled_images().dtype == np.float32
    assert work.scaled_images().max() == 1


def test_rate_takes_a_step_at_least():
    steps = iter([3])
    assert rate(steps, 0.0) > 0
    assert list(steps) == []


def _check_peer(peer, num_parameters, losses):
    assert peer.num_parameters == num_parameters
    before = losses(peer.predict(30))
    peer.first_step()
    for _ in range(3):
        assert peer.train(0.0) > 0
    logits = peer.predict(30)
    assert logits.shape == (30, 10)
    assert losses(logits) < before
    assert peer.predict(1).shape == (1, 10)


@pytest.mark.parametrize("name", ["ours", "flax"])
def test_peers_that_are_always_there(seed_config, name):
    num_parameters = 225_034
    if name == "ours":
        seed_config.model.name = "mlp"  # compiles the fastest
        seed_config.model.kwargs = ConfigDict({"dense": (16,), "dropout": 0.0})
        num_parameters = 785 * 16 + 17 * 10
    seed_config.batch_size = 15
    seed_config.num_shards = 1  # the number of devices is fixed in this process
    work = Work(seed_config.to_dict(), *synthetic_dataset(30))

    def loss(logits):
        chosen = jax.nn.log_softmax(logits)[np.arange(30), work.labels]
        return -float(chosen.mean())

    module = {"ours": ours, "flax": flax_peer}[name]
    _check_peer(module.create(work), num_parameters, loss)


@pytest.fixture
def page_config():
    config = load_config(CONFIGS / "page_reader.py")
    config.model.kwargs.features, config.model.kwargs.blocks = (4, 4, 4), (0, 1, 0)
    config.batch_size = config.eval_batch_size = 2
    config.num_shards, config.compute_dtype = 1, "float32"
    return config


def test_only_those_who_do_the_work_of_pages_are_compared(page_config):
    with pytest.raises(ConfigError, match="no peer 'keras': valid: torch"):
        compare.check_same_work(page_config, ["keras"])
    with pytest.raises(ConfigError, match=r"configs/page_reader\.py: config\.batch"):
        compare.check_same_work(page_config, ["torch"])
    page_config.batch_size = 32
    compare.check_same_work(page_config, ["torch"])


def test_pages_are_marked_and_learned(page_config):
    work = Work(page_config.to_dict(), *synthetic_pages(4, (128, 256)))
    peer = ours.create(work)
    before = ours.loss(peer.predict(4), work.labels)
    peer.first_step()
    for _ in range(8):
        assert peer.train(0.0) > 0
    outputs = peer.predict(4)
    assert outputs.shape == (4, 32, 128, 15)
    assert ours.loss(outputs, work.labels) < before


def test_pytorch_has_the_same_page_net_and_loss(page_config):
    pytest.importorskip("torch", reason="pip install -e '.[peers]'")
    from mnist_jax.benchmark.peers import torch_pages

    work = Work(page_config.to_dict(), *synthetic_pages(4, (128, 256)))
    work.labels[0, :2, 4] = -1  # digits to be ignored
    mine, theirs = ours.create(work), torch_pages.create(work)
    assert mine.num_parameters == theirs.num_parameters
    outputs = mine.predict(4)
    assert theirs.predict(4).shape == outputs.shape
    expected = ours.loss(outputs, work.labels)
    assert torch_pages.loss(outputs, work.labels) == pytest.approx(expected, rel=1e-4)
    before = torch_pages.loss(theirs.predict(4), work.labels)
    for _ in range(20):
        theirs.train(0.0)
    assert torch_pages.loss(theirs.predict(4), work.labels) < before
