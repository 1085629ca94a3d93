"""docs/tour.ipynb runs top to bottom, and what it stores is short."""

import base64
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TOUR = Path(__file__).resolve().parents[2] / "docs" / "tour.ipynb"
SCREEN = 40, 1100, 900  # lines of text; pixels across and down

EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def read_cells(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def outputs_of(cells):
    return [output for cell in cells for output in cell["outputs"]]


def text_of(output):
    data = output.get("data", {})
    return "".join(output.get("text", data.get("text/plain", "")))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook's cells after it was run, in a folder of its own."""
    if not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))):
        pytest.skip("nbclient and ipykernel, of the extra `test`, are not installed")
    folder = tmp_path_factory.mktemp("tour")
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(TOUR), "run.ipynb"],
        cwd=folder,
        # There is no other data than what comes along.
        env={**os.environ, "TFDS_DATA_DIR": str(folder / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in folder.iterdir()] == ["run.ipynb"]
    return read_cells(folder / "run.ipynb")


def test_it_runs_and_warns_of_nothing(executed):
    assert [cell["execution_count"] for cell in executed] == [
        number + 1 for number in range(len(executed))
    ]
    told = [text_of(o) for o in outputs_of(executed) if o.get("name") == "stderr"]
    told = [text for text in told if "Very slow compile" not in text]  # XLA's, if busy
    assert not told, told[0]


def test_it_shows_what_it_says(executed):
    told = "\n".join(map(text_of, outputs_of(executed)))
    first = float(re.search(r"'accuracy': ([\d.]+)", told)[1])
    assert first > 0.9
    assert len(re.findall(r"% of held-out images right \(sd .+, n = 8\)", told)) == 2
    read = re.search(r"<picture>: (\d+) \(", told)[1]
    assert read == "27430"
    assert float(re.search(r"largest difference .+ ([\d.e-]+)$", told, re.M)[1]) < 0.01


def test_each_stored_output_fits_a_screen():
    """People see these on the web, without running it."""
    cells = read_cells(TOUR)
    shown = [cell for cell in cells if cell["outputs"]]
    assert len(shown) > len(cells) / 2
    lines, *most = SCREEN
    for output in outputs_of(shown):
        assert len(text_of(output).splitlines()) <= lines
        if data := output.get("data", {}).get("image/png"):
            size = Image.open(io.BytesIO(base64.b64decode(data))).size
            assert size[0] <= most[0], size
            assert size[1] <= most[1], size
    assert TOUR.stat().st_size < 500_000


def test_what_is_stored_was_run_in_order_and_names_no_machine():
    cells = read_cells(TOUR)
    assert [c["execution_count"] for c in cells] == [*range(1, len(cells) + 1)]
    assert not re.search(r"/(tmp|root|home)/", TOUR.read_text("utf-8"))
