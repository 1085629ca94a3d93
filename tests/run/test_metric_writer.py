import json

import pytest

from mnist_jax.run.metric_writer import MetricWriter, read_metrics


def test_records_come_back(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(10, {"train/loss": 0.5})
        writer.write(20, {"train/loss": 0.25}, {"images_per_second": 1000.0})
    expected = [{"step": 10, "train/loss": 0.5}, {"step": 20, "train/loss": 0.25}]
    assert read_metrics(tmp_path) == expected


def test_tensorboard_can_read_the_events(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    with MetricWriter(tmp_path) as writer:
        writer.write(10, {"train/loss": 0.5}, {"images_per_second": 1000.0})
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(10, 0.5)]
    assert [e.value for e in events.Scalars("images_per_second")] == [1000.0]


def test_a_resumed_run_writes_again_what_came_after_its_checkpoint(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (10, 20, 30):
            writer.write(step, {"train/loss": step / 10})
        writer.write(30, {"test/loss": 1.0})
    with MetricWriter(tmp_path, first_step=30) as writer:
        pass
    assert [r["step"] for r in read_metrics(tmp_path)] == [10, 20, 30]
    with MetricWriter(tmp_path, first_step=10) as writer:
        writer.write(20, {"train/loss": 7.0})
    assert read_metrics(tmp_path)[1:] == [{"step": 20, "train/loss": 7.0}]


def test_a_line_that_was_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "a": 2}) + '\n{"step": 2, "a"')
    assert read_metrics(tmp_path) == [{"step": 1, "a": 2}]


def test_no_file_is_no_records(tmp_path):
    assert read_metrics(tmp_path) == []
