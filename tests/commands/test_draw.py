import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from PIL import Image
from served_page import ask

from mnist_jax.run.config_files import CONFIGS


def wait_for_address(process):
    """The port that a process says it serves on."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not process.has_ended():
        said = process.output.read_text()
        if said.endswith("\n"):
            return int(re.fullmatch(r"draw at http://.+:(\d+) \(.+\)\n", said)[1])
        time.sleep(0.02)
    raise AssertionError(process.errors.read_text())


@pytest.fixture
def start(fork_server, trained_workdir, tmp_path):
    """Starts draw.py; ends it after the test."""
    started = []

    def start_command(*flags):
        flags = (f"--workdir={trained_workdir}", "--no_browser", "--port=0", *flags)
        started.append(fork_server.start("draw.py", *flags, cwd=tmp_path))
        return started[-1]

    yield start_command
    for process in started:
        process.kill()
        process.wait()


def test_it_says_its_address_in_one_line_and_ctrl_c_ends_it(fork_server, start):
    process = start()
    port = wait_for_address(process)
    assert ask(port, "GET", "/").status == 200
    with socket.create_connection(("127.0.0.1", port)):  # as a browser keeps one
        process.kill(signal.SIGINT)
        done = process.wait(30)
        # The fixture waits once more, which a process that has ended cannot be.
        process.kill = process.wait = lambda: None
    assert done.returncode == -signal.SIGINT
    assert done.output.count("\n") == 1
    assert done.errors == ""


def test_it_reads_what_predict_reads(fork_server, start, trained_workdir):
    path = str(CONFIGS.parent / "docs" / "sample.png")
    done = fork_server.run(
        "predict.py", f"--workdir={trained_workdir}", "--format=json", path
    )
    port = wait_for_address(start())
    with open(path, "rb") as file:
        content = file.read()
    told = ask(port, "POST", "/read", content).json()
    assert told["answers"][0]["text"]
    expected = json.loads(done.output)
    expected["answers"][0]["source"] = "<body>"
    assert told == expected


def test_it_listens_on_this_machine_alone(start):
    port = wait_for_address(start())
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_corrections_are_kept_where_the_flag_says(start, tmp_path):
    port = wait_for_address(start("--corrections=my_digits"))
    Image.new("RGB", (50, 50), "navy").save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    reply = ask(port, "POST", "/correct?label=3", content)
    assert reply.status == 200
    assert (tmp_path / reply.json()["kept"]).parent == tmp_path / "my_digits" / "3"


@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/null"])
def test_corrections_need_a_folder(fork_server, tmp_path, place):
    done = fork_server.run("draw.py", f"--corrections={place}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"--corrections={place} is no folder: name one" in done.errors
    assert done.errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_it_says_loudly_that_others_can_use_it(start):
    process = start("--host=0.0.0.0", "--corrections=kept")
    port = wait_for_address(process)
    said = process.errors.read_text()
    assert said.startswith("warning: OPEN TO OTHERS at http://")
    assert f":{port}: " in said
    assert "fill 'kept'" in said
    assert said.count("\n") == 1
    assert ask(port, "GET", "/settings", Host="192.0.2.1:80").status == 200
    assert ask(port, "GET", "/settings", Host="evil.example").status == 403
