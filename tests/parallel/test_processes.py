import json

import pytest

from mnist_jax.errors import ConfigError
from mnist_jax.parallel import processes
from mnist_jax.parallel.processes import Processes


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Processes("127.0.0.1:1234", 2, 2), "--process_id=2 must be from 0 to 1, "),
        (Processes("127.0.0.1", 2, 0), "127.0.0.1 must be HOST:PORT, as "),
        (Processes("127.0.0.1:99999", 2, 0), "127.0.0.1:99999 must be HOST:PORT"),
        (Processes("http://a:1", 2, 0), "http://a:1 must be HOST:PORT, as "),
        (Processes(None, None, None), "--distributed: JAX finds no SLURM"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    with pytest.raises(ConfigError, match=says):
        processes._resolve(given)


def test_slurm_says_where_to_meet(monkeypatch):
    for name, value in {
        "JOB_ID": "7",
        "STEP_NODELIST": "node[017-020]",
        "NTASKS": "4",
        "PROCID": "2",
        "LOCALID": "1",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "1234")
    found = processes._resolve(Processes(None, None, None))
    assert found == ("node017:1234", 4, 2, [1])


def test_versions_name_packages_and_every_file():
    found = processes.code_versions()
    assert {"python", "jax", "jaxlib", "mnist_jax/train.py"} <= set(found)
    json.dumps(found)
