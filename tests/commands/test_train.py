import subprocess
import sys

from mnist_jax.run.config_files import CONFIGS

TRAIN = str(CONFIGS.parent / "scripts" / "train.py")


def train(*flags, cwd=None):
    return subprocess.run(
        [sys.executable, TRAIN, *flags],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


def test_training_prints_its_story_and_no_library_talk(tmp_path):
    done = train(f"--config={CONFIGS / 'smoke.py'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    first_words = [line.split()[0] for line in lines if line and line[0] != " "]
    assert first_words == [
        *("device", "data", "model", "compile", "epoch"),
        *("test", "time", "saved", "next"),
    ]
    assert sum(line.startswith(("  1/2", "  2/2")) for line in lines) == 2
    assert (tmp_path / "checkpoints" / "smoke" / "config.json").exists()
    again = train(f"--config={CONFIGS / 'smoke.py'}", cwd=tmp_path)
    assert again.returncode == 2
    assert "holds a run" in again.stderr


def test_no_tensorflow_is_imported():
    program = (
        "import sys\n"
        "import mnist_jax.train, mnist_jax.evaluate, mnist_jax.reading.reader\n"
        "import tensorflow_datasets, tensorboardX\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
