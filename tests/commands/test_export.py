import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from jax import export
from PIL import Image

from mnist_jax.checkpoint.load import load_model
from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.reading.reader import predict
from mnist_jax.run.config_files import CONFIGS, PRETRAINED

DOCS = CONFIGS.parent / "docs"


@pytest.fixture(scope="module")
def exported(fork_server, tmp_path_factory):
    """A folder with the pretrained model in both formats, and what was printed."""
    folder = tmp_path_factory.mktemp("exported")
    run = f"--workdir={PRETRAINED}"
    printed = {}
    for form in ("onnx", "stablehlo"):
        output = f"--output=new/digits.{form}"
        done = fork_server.run("export.py", run, f"--format={form}", output, cwd=folder)
        assert done.returncode == 0, done.errors
        printed[form] = done.output + done.errors
    return folder / "new", printed


def test_what_is_printed(exported):
    folder, printed = exported
    for form, text in printed.items():
        checked, saved = text.splitlines()
        size = (folder / f"digits.{form}").stat().st_size
        assert re.fullmatch(
            r"checked  \w+ on 200 real digits: largest difference \d\.\de[-+]\d\d",
            checked,
        )
        assert saved.startswith(f"saved    new/digits.{form}, ")
        assert size > 500_000
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["digits.onnx", "digits.stablehlo", "digits.stablehlo.json"]


def test_both_give_the_answers_of_the_model(exported):
    folder, _ = exported
    images = load_digits()[0][300:340]
    expected = predict(load_model(PRETRAINED), images)
    session = onnxruntime.InferenceSession(folder / "digits.onnx")
    (found,) = session.run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    loaded = export.deserialize(bytearray((folder / "digits.stablehlo").read_bytes()))
    assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
    for count in (1, 40):
        found = loaded.call(images[:count])["probabilities"]
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)
    about = json.loads((folder / "digits.stablehlo.json").read_text())
    assert session.get_modelmeta().custom_metadata_map == about
    assert json.loads(about["classes"]) == list("0123456789")
    assert "28x28 pixels" in about["preparation"]


def read_example(package):
    """The snippet of docs/commands.md that imports a package."""
    text = (DOCS / "commands.md").read_text("utf-8")
    (found,) = (
        x for x in re.findall(r"```python\n(.*?)```", text, re.S) if package in x
    )
    return found


@pytest.mark.parametrize("light", [False, True])
def test_the_example_reads_pictures_with_onnxruntime_alone(exported, light, tmp_path):
    folder, _ = exported
    example = read_example("onnxruntime")
    assert len([line for line in example.splitlines() if line]) <= 20
    assert "mnist_jax" not in example
    assert "jax" not in example
    images, labels = load_digits()
    right = 0
    for number in range(10):
        digit = Image.fromarray(images[number, ..., 0]).resize((140, 140))
        page = Image.new("L", (300, 260), 10)
        page.paste(digit, (20 + 9 * number, 80))
        if not light:
            page = page.point(lambda level: 240 - level * 0.8)
        page.save(tmp_path / "picture.png")
        done = subprocess.run(
            [sys.executable, "-c", example, str(tmp_path / "picture.png")],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert re.fullmatch(r"\d \d+\.\d%\n", done.stdout), done.stderr
        right += done.stdout[0] == str(labels[number])
    assert right >= 9


def test_the_example_of_jax_runs(exported):
    folder, _ = exported
    done = subprocess.run(
        [sys.executable, "-c", read_example("export.deserialize")],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("[") == 6, done.stderr


def test_what_was_written_is_counted_alone(fork_server, tmp_path):
    (tmp_path / "notes.txt").write_text("x" * 10_000_000)
    done = fork_server.run(
        "export.py", f"--workdir={PRETRAINED}", "--output=.", cwd=tmp_path
    )
    assert done.returncode == 0, done.errors
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) - 10_000_000
    shown = f"saved    ., {size / 1e3:,.0f} kB in {len(files) - 1} files\n"
    assert done.output == shown


@pytest.mark.parametrize("form", ["onnx", "stablehlo"])
@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", "--output is empty"),
        (".", "is a folder: name a file"),
        ("new/", "is a folder: name a file"),
        ("x.json", ".json is for"),
        ("-", "is no file: name one to write"),
        ("/proc/x/y", "is no file: name one to write"),
    ],
)
def test_bad_outputs_are_one_line(fork_server, tmp_path, form, output, told):
    arguments = (f"--workdir={PRETRAINED}", f"--format={form}", f"--output={output}")
    done = fork_server.run("export.py", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert told in done.errors
    assert done.errors.count("\n") == 1
    assert not list(tmp_path.iterdir())
