"""The reader runs in an engine that runs Python functions on many machines."""

import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image, ImageDraw

from mnist_jax.run.config_files import CONFIGS

ROOT = CONFIGS.parent
PAGE = ROOT / "docs" / "your-own-pictures.md"


def test_the_documented_lines_read_pictures_with_dask(tmp_path):
    pytest.importorskip("dask.bag", reason="Dask is not installed: pip install dask")
    text = PAGE.read_text("utf-8")
    (code,) = re.findall(r"<!-- with: dask -->\n```python\n(.+?)```", text, re.S)
    assert code.count("partition_size=1000") == 1
    (tmp_path / "mine.py").write_text(code.replace("size=1000", "size=2"))
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    (tmp_path / "photos").mkdir()
    one = Image.new("L", (80, 100), 255)
    ImageDraw.Draw(one).line((42, 20, 38, 80), 0, 7)
    blank = Image.new("L", (80, 100), 255)
    one.save(tmp_path / "photos" / "1.png")
    blank.save(tmp_path / "photos" / "2.tif", save_all=True, append_images=[one.copy()])
    one.save(tmp_path / "photos" / "3.png")
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # In this one process, as that of a worker would have to start.
        env=os.environ | {"PYTHONPATH": str(ROOT), "DASK_SCHEDULER": "synchronous"},
    )
    assert done.returncode == 0, done.stderr
    parts = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((tmp_path / "answers").iterdir())
    ]
    assert [[(row["source"], row["page"]) for row in rows] for rows in parts] == [
        [("photos/1.png", 0), ("photos/2.tif", 0), ("photos/2.tif", 1)],
        [("photos/3.png", 0)],
    ]
    assert [row["text"] for rows in parts for row in rows] == ["1", "", "1", "1"]
