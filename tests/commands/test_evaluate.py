import json
import os

import pytest
from absl.testing import flagsaver
from helpers import make_page_config, make_terminal

from mnist_jax.analysis import corruptions
from mnist_jax.checkpoint import load
from mnist_jax.commands import evaluate
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.parallel import devices
from mnist_jax.reading import page_task
from mnist_jax.run import inference
from mnist_jax.run.metric_writer import read_metrics
from mnist_jax.simulation import simulator
from mnist_jax.train import train_and_evaluate


@pytest.fixture
def parsed(monkeypatch):
    """The command's flags as they are without any."""
    monkeypatch.setattr(devices, "set_up", lambda *args, **kwargs: None)
    evaluate._FLAGS(["evaluate.py"])
    saved = flagsaver.save_flag_values(evaluate._FLAGS)
    yield evaluate._FLAGS
    flagsaver.restore_flag_values(saved, evaluate._FLAGS)
    evaluate._FLAGS.unparse_flags()


def test_a_run_that_cannot_be_written_names_the_flag_that_helps(
    parsed, tmp_path, monkeypatch
):
    evaluate._check_targets(str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"cannot write figures into .* --nofigures"):
        evaluate._check_targets(str(tmp_path))
    parsed["figures"].value = False
    evaluate._check_targets(str(tmp_path))
    parsed["report"].value = True
    with pytest.raises(UserError, match=r"cannot write report.html into --workdir"):
        evaluate._check_targets(str(tmp_path))


class BegunError(Exception):
    """The long work has begun."""


def begin(*arguments):
    raise BegunError


def test_what_is_measured_is_printed_before_it_is(
    parsed, trained_workdir, monkeypatch, capsys
):
    parsed["workdir"].value = [str(trained_workdir)]
    monkeypatch.setattr(inference, "predict_loaded", begin)
    with pytest.raises(BegunError):
        evaluate.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"model        {trained_workdir}, step 20"
    assert lines[1].startswith("data         digits/test: 1,797 digits")
    parsed["json"].value = True
    with pytest.raises(BegunError):
        evaluate.main([])
    assert capsys.readouterr().out == ""


def test_made_pictures_are_announced_before_they_are_made(
    parsed, trained_workdir, monkeypatch, capsys
):
    parsed["workdir"].value = [str(trained_workdir)]
    parsed["pictures"].value = 1000
    monkeypatch.setattr(simulator, "measure_conditions", begin)
    with pytest.raises(BegunError):
        evaluate.main([])
    printed = capsys.readouterr().out
    assert printed.startswith(f"model        {trained_workdir}, step 20\npictures ")
    assert "1,000 of each condition" in printed


def test_a_terminal_shows_how_far_corruptions_and_pictures_are(
    parsed, trained_workdir, monkeypatch, capsys
):
    terminal = make_terminal(monkeypatch)
    monkeypatch.setattr(corruptions, "SEVERITIES", (1,))
    monkeypatch.setattr(
        corruptions, "CORRUPTIONS", {"noise": corruptions.CORRUPTIONS["shot_noise"]}
    )
    parsed["workdir"].value = [str(trained_workdir)]
    parsed["split"].value = "test[:20]"
    parsed["corruptions"].value = True
    parsed["figures"].value = False
    evaluate.main([])
    assert "corruptions:   0%|" in terminal.getvalue()
    assert " 0/2 [" in terminal.getvalue()
    assert "noise" in capsys.readouterr().out
    for name in ("CONDITIONS", "NEGATIVES"):
        some = dict([next(iter(getattr(simulator, name).items()))])
        monkeypatch.setattr(simulator, name, some)
    monkeypatch.setattr(simulator.unseen_styles, "UNSEEN_STYLES", {})
    parsed["pictures"].value = 2
    evaluate.main([])
    assert "pictures:   0%|" in terminal.getvalue()
    assert " 0/4 [" in terminal.getvalue()
    assert capsys.readouterr().out.count("    2  ") == 4  # pictures in a row


@pytest.fixture
def page_run(parsed, tmp_path, monkeypatch):
    """The folder of a small page net, whose test pages are given to the command."""
    monkeypatch.setattr(page_task, "HELD_OUT_PAGES", 6)
    monkeypatch.setattr(page_task, "PAGES_AN_EPOCH", 4)
    train_and_evaluate(make_page_config(), tmp_path / "pages")
    parsed["workdir"].value = [str(tmp_path / "pages")]
    return tmp_path / "pages"


def test_a_page_net_is_evaluated_by_condition(page_run, parsed, capsys):
    parsed["report"].value = True
    evaluate.main([])
    out = capsys.readouterr().out
    assert "data         pages of digits/test: " in out
    assert "condition      pages  digits" in out
    assert f"report       {page_run / 'report.html'}" in out
    figures = {path.name for path in (page_run / "figures").iterdir()}
    assert figures == {"learning_curves.png", "worst_pages.png"}
    report = (page_run / "report.html").read_text()
    assert "<td>all</td><td>6</td>" in report
    assert "of 6 pages" in report
    assert report.count("data:image/png;base64,") == 2
    assert "ccuracy (%)" not in report
    parsed["json"].value = True
    for name, value in (("split", "validation"), ("checkpoint", "best")):
        parsed[name].value = value
    parsed["figures"].value = parsed["report"].value = False
    evaluate.main([])
    found = json.loads(capsys.readouterr().out)
    record = next(r for r in read_metrics(page_run) if "validation/f1" in r)
    assert found["step"] == record["step"]
    for name in ("loss", "f1", "digits", "count"):
        assert found[name] == pytest.approx(record[f"validation/{name}"], rel=1e-5)
    pages = [each["count"] for each in found["conditions"].values()]
    assert sum(pages) == 6


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("corruptions", True, "--corruptions is for nets of 28x28 images"),
        ("pictures", 3, "--pictures is for nets of 28x28 images"),
        ("dataset", "mnist", "leave out --dataset"),
        ("split", "train", "--split=train: a page net is evaluated on pages"),
        ("workdir", ["one", "two"], "only nets of 28x28 images are ranked, and 'one'"),
    ],
)
def test_what_is_for_digits_alone_is_refused_for_a_page_net(
    flag, value, says, parsed, monkeypatch
):
    config, metadata = make_page_config(), {"dataset": {"name": "digits"}}
    loaded = load.Loaded(config, None, {}, metadata, 0, page_task.PAGES)
    monkeypatch.setattr(load, "load_model", lambda *args, **kwargs: loaded)
    parsed[flag].value = value
    with pytest.raises(ConfigError, match=says) as caught:
        evaluate.main([])
    assert "\n" not in str(caught.value)
