import dataclasses
import json
import sys
import types

import pytest
from helpers import make_terminal

from mnist_jax.benchmark import measure, reading
from mnist_jax.benchmark.workloads import Spread
from mnist_jax.checkpoint import load
from mnist_jax.commands import benchmark
from mnist_jax.drawing import opencv
from mnist_jax.errors import UserError
from mnist_jax.reading import page_nets


@dataclasses.dataclass
class Made:
    """A measurement that takes no time."""

    speed: float = 1.0


# ml_collections loads config files so.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def parsed(parse_flags_of):
    return parse_flags_of(benchmark, "seed.py")


def test_a_terminal_shows_how_far_it_is(parsed, monkeypatch, capsys):
    def first(workload):
        assert "median" in capsys.readouterr().out  # the head of the table
        assert "measuring:   0%|" in sys.stderr.getvalue()
        return Made()

    def second(workload):
        assert capsys.readouterr().out.startswith("first\n  speed ")
        return Made()

    terminal = make_terminal(monkeypatch)
    made = {"first": first, "second": second}
    monkeypatch.setattr(measure, "MEASUREMENTS", made)
    benchmark.main([])
    printed = capsys.readouterr().out
    assert printed.startswith("second\n  speed ")
    assert "\r" not in printed
    assert "second" not in terminal.getvalue()


def test_reading_needs_opencv(parsed, monkeypatch):
    parsed["reading"].value = True
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.load_opencv.cache_clear()
    with pytest.raises(UserError, match="OpenCV, which is not installed"):
        benchmark.main([])


def test_reading_as_a_table_and_as_json(parsed, monkeypatch, capsys):
    parsed["reading"].value = True
    spread = Spread.of([1.0, 23456.78])
    one = reading.ReadingScore(spread, spread, 50, 0.98, 0.9912)
    other = dataclasses.replace(one, digits_f1=None)
    measured = {reading.LINE: {reading.OURS: one, reading.RECOGNITION: other}}
    loaded = []
    monkeypatch.setattr(page_nets, "load_page_net", loaded.append)
    digit_net = types.SimpleNamespace(metadata={"dataset": {"class_names": ["a", "b"]}})
    monkeypatch.setattr(load, "load_classifier", lambda workdir: digit_net)
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace())
    monkeypatch.setattr(
        reading, "measure_reading", lambda readers, repeats: iter(measured.items())
    )
    parsed["page_workdir"].value = "pages"
    benchmark.main([])
    lines = capsys.readouterr().out.splitlines()
    assert loaded == ["pages"]
    assert max(map(len, lines)) <= 80
    assert "rapidocr skipped: no module 'rapidocr'; pip install -e '.[peers]'" in lines
    assert measure.HEADER in lines
    table = [" ".join(line.split()) for line in lines[lines.index(measure.HEADER) :]]
    assert table[1:7] == [
        f"{reading.LINE}, {reading.OURS}",
        "pictures per second 11,729 1 5,865 17,593",
        "cpu milliseconds per picture 11,729 1 5,865 17,593",
        "pictures 50",
        "share right 0.98",
        "digits f1 0.991",
    ]
    assert table[-2:] == ["pictures 50", "share right 0.98"]
    parsed["json"].value = True
    benchmark.main([])
    printed = json.loads(capsys.readouterr().out)["results"]["reading"]
    assert printed["rapidocr"].startswith("skipped: no module")
    expected = {
        name: dataclasses.asdict(r) for name, r in measured["line of 400x80"].items()
    }
    assert printed["kinds"] == {reading.LINE: expected}
