import io
import json
import socket
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image, ImageDraw
from served_page import ask, serve

from mnist_jax.checkpoint.load import load_model
from mnist_jax.errors import ConfigError
from mnist_jax.reading import answers
from mnist_jax.reading.files import SUFFIXES
from mnist_jax.reading.paths import Source
from mnist_jax.reading.reader import Reader
from mnist_jax.web import guard, server
from mnist_jax.web.corrections import Corrections
from mnist_jax.web.server import TOP_K, address_of, open_socket, warm_up

SCHEMA = json.loads(Path(answers.__file__).with_name("answers.schema.json").read_text())


@pytest.fixture(scope="module")
def loaded(_trained):
    return load_model(_trained)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served") / "my_digits"


@pytest.fixture(scope="module")
def port(loaded, folder):
    reader = Reader(loaded, read="digit", top_k=TOP_K)
    with serve(reader, Corrections(folder, reader.class_names)) as port:
        yield port


def draw(form="PNG", pages=1):
    picture = Image.new("RGB", (120, 100), "white")
    ImageDraw.Draw(picture).line((60, 20, 52, 80), "black", 9)
    content = io.BytesIO()
    more = {"save_all": True, "append_images": [picture] * (pages - 1)}
    picture.save(content, form, **(more if pages > 1 else {}))
    return content.getvalue()


@pytest.mark.parametrize(
    ("path", "kind", "begins"),
    [
        ("/", "text/html", b"<!doctype html>"),
        ("/page.css", "text/css", b"/*"),
        ("/page.js", "text/javascript", b"//"),
    ],
)
def test_the_page_is_three_files(port, path, kind, begins):
    reply = ask(port, "GET", path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith(kind)
    assert reply.body.startswith(begins)
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_has_no_address_of_elsewhere_and_no_code_in_it():
    here = Path(server.__file__).parent
    html = (here / "page.html").read_text()
    assert html.count("<script") == html.count('<script src="page.js"') == 1
    assert " style=" not in html
    for name in ("page.html", "page.css", "page.js"):
        text = (here / name).read_text().replace("http://www.w3.org/2000/svg", "")
        for word in ("http:", "https:", "url(", "@import", "innerHTML", "eval("):
            assert word not in text, (name, word)


def test_read_gives_the_json_of_predict(port, loaded):
    content = draw()
    reply = ask(port, "POST", "/read", content)
    assert reply.headers["content-type"] == "application/json"
    told = reply.json()
    jsonschema.validate(told, SCHEMA)
    reader = Reader(loaded, read="digit")
    (read,) = reader.read_files([Source("<body>", content)])
    expected = json.loads(
        answers.to_json([answers.to_record(read, reader.class_names)])
    )
    assert told == expected
    assert len(told["answers"][0]["digits"][0]["top_k"]) == 1


def test_each_page_is_an_answer(port):
    told = ask(port, "POST", "/read", draw("TIFF", 3)).json()
    assert [answer["page"] for answer in told["answers"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "status", "why"),
    [
        (b"", "error", "could not be read: is empty."),
        (b"no picture", "error", "could not be read: not a BMP"),
        ("white", "blank", "no ink that stands out"),
        ("one", "ok", "looks"),
    ],
)
def test_an_answer_is_explained(port, content, status, why):
    if content == "white":
        picture = io.BytesIO()
        Image.new("L", (90, 90), 255).save(picture, "PNG")
        content = picture.getvalue()
    content = draw() if content == "one" else content
    told = ask(port, "POST", "/explain", content).json()
    (answer,), (explained,) = told["answers"], told["explanations"]
    assert answer["status"] in (status, "unsure" if status == "ok" else status)
    assert why in explained["why"]
    assert len(explained["seen"]) == len(answer["digits"])
    assert explained["picture"] is explained["size"] is None
    assert all(len(digit["top_k"]) == 3 for digit in answer["digits"])


def test_pages_are_shown_if_that_is_asked_for(port):
    told = ask(port, "POST", "/explain?pages=1", draw("TIFF", 2)).json()
    for explained in told["explanations"]:
        assert explained["picture"].startswith("data:image/png;base64,")
        assert explained["size"] == [120, 100]


def test_a_stack_of_images_has_an_answer_for_each(port):
    stack = np.zeros((3, 28, 28), np.uint8)
    stack[:, 5:20, 12:15] = 255
    content = io.BytesIO()
    np.save(content, stack)
    told = ask(port, "POST", "/explain?pages=1", content.getvalue()).json()
    assert len(told["answers"]) == len(told["explanations"]) == 3


def test_a_correction_is_kept(port, folder):
    content = draw()
    (answer,) = ask(port, "POST", "/read", content).json()["answers"]
    box = ",".join(map(str, answer["digits"][0]["box"]))
    reply = ask(port, "POST", f"/correct?label=7&box={box}&page=0", content)
    kept = Path(reply.json()["kept"])
    assert kept.parent == folder / "7"
    with Image.open(kept) as picture:
        assert picture.width < 120


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "say ?label=7&box=LEFT,TOP,RIGHT,BOTTOM"),
        ("label=7&box=1,2,3", "say ?label=7"),
        ("label=7&box=1,2,3,x", "say ?label=7"),
        ("label=7&box=1,2,3,4&page=x", "say ?label=7"),
        ("label=7&box=500,500,600,600", "is no part of 120x100 pixels"),
        ("label=7&page=4", "page=4: there is no such page"),
        ("label=seven", "label='seven' is none of 0, 1, 2"),
        ("label=../7", "label='../7' is none of 0, 1, 2"),
    ],
)
def test_a_bad_correction_is_one_line(port, query, says):
    reply = ask(port, "POST", f"/correct?{query}", draw())
    assert reply.status == 400
    assert says in reply.json()["error"]


@pytest.mark.parametrize("path", ["/read", "/explain", "/correct?label=7"])
def test_a_form_is_told_how_to_send_a_picture(port, path):
    kind = "multipart/form-data; boundary=x"
    reply = ask(port, "POST", path, b"--x\r\n", Content_Type=kind)
    assert reply.status == 415
    assert "curl --data-binary @FILE" in reply.json()["error"]


def test_an_image_of_a_stack_is_corrected(port, folder):
    stack = np.zeros((3, 28, 28), np.uint8)
    stack[:, 5:20, 12:15] = 255
    stack[2, 3:5] = 255
    content = io.BytesIO()
    np.save(content, stack)
    reply = ask(port, "POST", "/correct?label=5&page=2", content.getvalue())
    kept = Path(reply.json()["kept"])
    assert kept.parent == folder / "5"
    np.testing.assert_array_equal(np.asarray(Image.open(kept)), stack[2])


def test_every_picture_that_is_read_can_be_chosen():
    """An iPhone's HEIC is no image to some browsers."""
    html = (Path(server.__file__).parent / "page.html").read_text()
    accepted = html.split('id="files"')[1].split('accept="')[1].split('"')[0].split(",")
    by_browsers = {".apng", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pjpeg"}
    by_browsers |= {".png", ".webp"}
    assert "image/*" in accepted
    assert set(accepted) >= SUFFIXES - by_browsers


def test_a_picture_that_cannot_be_read_is_not_kept(port):
    reply = ask(port, "POST", "/correct?label=7", b"no picture")
    assert reply.status == 400
    assert "not a BMP" in reply.json()["error"]


def test_nothing_is_kept_unasked(loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serve(Reader(loaded, read="digit", top_k=TOP_K)) as port:
        settings = ask(port, "GET", "/settings").json()
        assert settings["class_names"] == list("0123456789")
        assert settings["keeps_corrections"] is False
        assert settings["max_bytes"] == guard.MAX_BODY
        assert ask(port, "POST", "/read", draw()).status == 200
        reply = ask(port, "POST", "/correct?label=7", draw())
        assert reply.status == 404
        assert "--corrections=FOLDER" in reply.json()["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/read", 405),
        ("PUT", "/read", 405),
        ("GET", "/nope", 404),
        ("GET", "/server.py", 404),
        ("GET", "/../server.py", 404),
        ("POST", "/", 405),
    ],
)
def test_what_is_not_there_is_one_line(port, method, path, status):
    reply = ask(port, method, path)
    assert reply.status == status
    assert list(reply.json()) == ["error"]


def test_other_sites_are_turned_away(port):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        reply = ask(port, "POST", "/read", draw(), **headers)
        assert reply.status == 403
        assert "evil.example" in reply.json()["error"]
    own = {"Origin": f"http://127.0.0.1:{port}"}
    assert ask(port, "POST", "/read", draw(), **own).status == 200


def test_too_large_a_body_is_refused_by_its_length(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            b"POST /read HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_failure_of_the_disk_is_one_line(loaded, tmp_path):
    corrections = Corrections(tmp_path, list("0123456789"))
    (tmp_path / "7").touch()  # where a folder should be
    reader = Reader(loaded, read="digit", top_k=TOP_K)
    with serve(reader, corrections) as port:
        reply = ask(port, "POST", "/correct?label=7", draw())
    assert reply.status == 500
    assert "File exists" in reply.json()["error"]


def test_a_port_is_taken_or_said_to_be_in_use():
    with open_socket("127.0.0.1", 0) as first:
        number = first.getsockname()[1]
        assert address_of(first, "127.0.0.1") == f"http://127.0.0.1:{number}"
        with pytest.raises(ConfigError, match=rf"--port={number} on 127.0.0.1 cannot"):
            open_socket("127.0.0.1", number)
        assert address_of(first, "0.0.0.0") == f"http://127.0.0.1:{number}"
        assert address_of(first, "::1") == f"http://[::1]:{number}"


def test_a_free_port_is_found_where_the_usual_one_is_taken(monkeypatch):
    with open_socket("127.0.0.1", 0) as first:
        monkeypatch.setattr(server, "_USUAL_PORT", first.getsockname()[1])
        with open_socket("127.0.0.1", None) as second:
            assert second.getsockname()[1] != first.getsockname()[1]


def test_an_address_of_elsewhere_is_one_line():
    with pytest.raises(ConfigError, match=r"--host=192.0.2.1 cannot be listened on"):
        open_socket("192.0.2.1", None)
    with pytest.raises(ConfigError, match=r"--host=a..b: there is no such address"):
        open_socket("a..b", None)


def test_warming_up_reads_pictures(loaded):
    read = []

    class Watched(Reader):
        def read_files(self, sources, *args):
            for prediction in super().read_files(sources, *args):
                read.append(prediction)
                yield prediction

    warm_up(Watched(loaded, read="digit", top_k=TOP_K))
    assert len(read) == 4
    assert all(prediction.digits for prediction in read)
