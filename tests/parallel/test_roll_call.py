import contextlib
import socket
import threading
import time

import pytest
from helpers import make_terminal

from mnist_jax.errors import ConfigError, UserError
from mnist_jax.parallel import roll_call


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch):
    monkeypatch.setattr(roll_call, "MEET_SECONDS", 1.0)


def call_the_roll(address, *others, count=2, **same):
    """What comes of it in process 0 and in each of the others, by a thread each."""
    results = {}

    def take(i, fn, *arguments):
        try:
            results[i] = fn(address, *arguments)
        except UserError as error:
            results[i] = error

    tasks = [(0, roll_call.call_roll, count, same)]
    for i, (process_id, others_count, others_same) in enumerate(others, 1):
        report = (roll_call.answer_roll, others_count, process_id, others_same)
        tasks.append((i, *report))
    threads = [threading.Thread(target=take, args=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    close(results)
    return results


def close(results):
    sockets = [found for found in results.values() if isinstance(found, socket.socket)]
    if isinstance(results[0], dict):
        sockets += results[0].values()
    for each in sockets:
        each.close()


def test_processes_that_agree_meet(address):
    same = {"jax": "1.0", "config.shape": (1, 2)}
    found = call_the_roll(address, (2, 3, same), (1, 3, same), count=3, **same)
    assert sorted(found[0]) == [1, 2]
    assert all(isinstance(found[i], socket.socket) for i in (1, 2))


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ([(1, 2, {"jax": "2.0"})], "process 1 has jax 2.0, but process 0 has 1.0: "),
        ([(1, 2, {})], "process 1 has jax None, but process 0 has 1.0: "),
        ([(1, 2, {"jax": "1.0", "x": 3})], "process 1 has x 3, but process 0 has None"),
        ([(2, 3, {"jax": "1.0"})], "process 2 has --num_processes=3, but process 0 "),
        ([(0, 2, {"jax": "1.0"})], "two processes have --process_id=0"),
    ],
)
def test_what_does_not_fit_together_is_named_in_all(address, others, says):
    found = call_the_roll(address, *others, jax="1.0")
    assert all(isinstance(each, ConfigError) for each in found.values())
    assert all(str(each).startswith(says) for each in found.values())


def test_the_same_number_twice_is_named(address):
    same = {"jax": "1.0"}
    found = call_the_roll(address, (1, 3, same), (1, 3, same), count=3, **same)
    assert {str(each) for each in found.values()} == {
        "two processes have --process_id=1"
    }


def test_those_who_do_not_come_are_named(address):
    found = call_the_roll(address, (2, 4, {}), count=4)
    line = "of 4 processes, number 1, 3 did not come within 1 seconds"
    assert {str(each) for each in found.values()} == {line}


def test_a_coordinator_that_is_not_there_is_one_line(address):
    with pytest.raises(UserError, match=f"process 0 is not at {address}: Connection"):
        roll_call.answer_roll(address, 2, 1, {})
    with pytest.raises(UserError, match="there is no host of that name"):
        roll_call.answer_roll("no-such-host.invalid:1234", 2, 1, {})


def test_what_answers_in_its_place_is_one_line(address):
    host, port = address.split(":")
    with socket.create_server((host, int(port))) as server:
        answer = threading.Thread(target=answer_with, args=(server, b"\0\0\n"))
        answer.start()
        with pytest.raises(UserError, match="is no run that waits"):
            roll_call.answer_roll(address, 2, 1, {})
        answer.join()


def answer_with(server, what):
    server.settimeout(2)
    with contextlib.suppress(TimeoutError):
        while True:
            peer, _ = server.accept()
            with peer:
                peer.sendall(what)


def test_an_address_in_use_or_of_others_is_one_line(address):
    host, port = address.split(":")
    with (
        socket.create_server((host, int(port))),
        pytest.raises(UserError, match="the address is in use; name another port"),
    ):
        roll_call.call_roll(address, 2, {})
    with pytest.raises(UserError, match="it is no address of this machine"):
        roll_call.call_roll(f"192.0.2.123:{port}", 2, {})


def test_strangers_are_not_let_in(address):
    result = {}

    def gather():
        result.update(roll_call.call_roll(address, 2, {}))

    thread = threading.Thread(target=gather)
    thread.start()
    host, port = address.split(":")
    for what in (b"GET / HTTP/1.1\n", b"[]\n", b"{}\n", b'{"process_id": 1}\n', b""):
        for _ in range(100):  # until it listens
            with contextlib.suppress(ConnectionRefusedError):
                with socket.create_connection((host, int(port))) as stranger:
                    stranger.sendall(what)
                break
            time.sleep(0.01)
    with roll_call.answer_roll(address, 2, 1, {}):
        thread.join()
    assert list(result) == [1]
    result[1].close()


def test_a_terminal_shows_what_is_waited_for(address, monkeypatch):
    terminal = make_terminal(monkeypatch)
    same = {"jax": "1.0"}
    call_the_roll(address, (1, 3, same), count=3, **same)
    shown = terminal.getvalue()
    assert "waiting for process 1, 2 of 3, 1 s at most" in shown
    assert "waiting for process 2 of 3, " in shown
    assert f"waiting for process 0 at {address}, 1 s at most" in shown


def test_a_file_gets_nothing_of_it(address, capfd):
    call_the_roll(address, count=2)
    assert capfd.readouterr() == ("", "")
