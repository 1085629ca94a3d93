import io
import os
import sys

import pytest

from mnist_jax.errors import ConfigError, UserError
from mnist_jax.reading.paths import (
    Source,
    find_pictures,
    natural_key,
    read_paths,
    take_part,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: a folder of empty files."""
    monkeypatch.chdir(tmp_path)
    for name in ("10.png", "2.png", "B.JPG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/1.png", "in/deep/3.npy"):
        (tmp_path / name).touch()
    return tmp_path


def names(*arguments, **options):
    sources = find_pictures(arguments, **options).sources
    assert not any(source.error for source in sources)
    return [source.name for source in sources]


def error(*arguments, **options):
    (source,) = find_pictures(arguments, **options).sources
    return source.error


def feed(monkeypatch, content):
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)


def test_natural_order():
    given = ["b10", "b2", "a", "B1", "b02", "2", "10", "1.9", "1.10", "٣", "²"]
    expected = ["1.9", "1.10", "2", "10", "a", "B1", "b02", "b2", "b10", "²", "٣"]
    assert sorted(given, key=natural_key) == expected
    natural_key("9" * 5000)


def test_files_are_taken_as_they_are(folder):
    given = ["notes.txt", "10.png", "none.png", "2.png", "10.png", "a\0b"]
    assert names(*given) == given


def test_folders_give_their_pictures_in_natural_order(folder):
    assert names(".") == ["./2.png", "./10.png", "./a.jpg", "./B.JPG"]
    assert names("in") == ["in/1.png"]
    assert names("in/") == ["in/1.png"]
    assert names("in", recursive=True) == ["in/1.png", "in/deep/3.npy"]


def test_a_folder_named_as_a_picture(folder):
    (folder / "in" / "x.png").mkdir()
    assert names("in") == ["in/1.png", "in/x.png"]  # to be an error when it is read
    assert "in/x.png" in names("in/*")
    assert "no picture" in error("in/x.png")


def test_folders_without_pictures(folder):
    (folder / "empty" / "sub").mkdir(parents=True)
    assert "--recursive" in error("empty")
    assert "no picture" in error("empty", recursive=True)


def left_out(*arguments, **options):
    return find_pictures(arguments, **options).left_out


def test_all_pictures_that_are_read_are_found(tmp_path):
    suffixes = {".apng", ".jfif", ".pfm", ".pjpeg", ".webp"}
    suffixes |= {".avif", ".heic", ".heif", ".hif", ".npz", ".pdf"}
    for suffix in suffixes:
        (tmp_path / f"a{suffix.upper()}").touch()
    found = {os.path.splitext(name)[1].lower() for name in names(str(tmp_path))}
    assert found == suffixes


def test_what_a_folder_holds_besides_is_counted(folder):
    other = "1 file without a picture's suffix (name them to read them)"
    assert left_out(".") == f"{other} and 1 folder (read with --recursive)"
    assert left_out(".", recursive=True) == other
    (folder / "labels.csv").touch()  # is read, or named in a warning of its own
    assert left_out(".", recursive=True) == other
    for name in ("a.svg", "b.SVG", "c.psd", "in/d.jxl", ".e.psd"):
        (folder / name).touch()
    (folder / "link").symlink_to("in")
    assert left_out(".") == (
        "3 files of other formats (1 .psd, 2 .svg: save as PNG or JPEG) and "
        f"{other} and 2 folders (read with --recursive)"
    )
    assert left_out(".", "in", recursive=True) == (
        "5 files of other formats (2 .jxl, 1 .psd, 2 .svg: save as PNG or JPEG) and "
        f"{other} and 1 link to folders (name the folders)"
    )
    assert "2 folders" in left_out("*")
    assert left_out("a.svg", "10.png") == ""  # what is named is read, or is an error


def test_a_folder_of_other_formats_alone_says_so(folder):
    (folder / "photos" / "sub").mkdir(parents=True)
    for name in ("a.svg", "b.svg", "c.psd", "d.txt"):
        (folder / "photos" / name).touch()
    told = error("photos", recursive=True)
    assert told == (
        "is a folder with no picture in it, but 3 files of other formats "
        "(1 .psd, 2 .svg: save as PNG or JPEG) and 1 file without a picture's suffix "
        "(name them to read them)"
    )
    assert "and 1 folder (read with --recursive)" in error("photos")
    assert left_out("photos") == ""  # the error says it
    (folder / "notes").mkdir()
    (folder / "notes" / "photo").touch()
    assert "but 1 file without a picture's suffix" in error("notes")


def test_links_are_followed_to_files_and_not_in_circles(folder):
    os.symlink("..", "in/up")
    os.symlink(".", "in/deep/here")
    os.symlink("../2.png", "in/link.png")
    os.symlink("self.png", "in/self.png")
    expected = ["in/1.png", "in/link.png", "in/self.png", "in/deep/3.npy"]
    assert names("in", recursive=True) == expected
    assert names("in/up")[0] == "in/up/2.png"  # a link that is named is followed


def test_patterns(folder):
    assert names("*.png") == ["2.png", "10.png"]
    assert names("[a-z].*") == ["a.jpg"]
    assert names("*/*.png") == ["in/1.png"]
    assert names("i*", recursive=True) == ["in/1.png", "in/deep/3.npy"]
    for pattern in ("*.gif", "i*", "none[1].png", "*\0*"):
        assert "matches none" in error(pattern)
    (folder / "a[1].png").touch()
    (folder / "a1.png").touch()
    assert names("a[1].png") == ["a[1].png"]  # the file, and not the pattern


def test_names_of_any_bytes(folder):
    name = os.fsdecode(b"in/\xff\xfe.png")
    open(name, "w").close()
    odd = ["in/-x.png", "in/=1.png", "in/new\nline.png", "in/,'\".png"]
    for path in odd:
        open(path, "w").close()
    assert set(names("in")) == {"in/1.png", name, *odd}
    assert name in names("in/*")


def test_stdin(monkeypatch):
    feed(monkeypatch, b"content")
    sources = find_pictures(["-", "x.png", "-"]).sources
    assert sources[0] == Source("<stdin>", b"content")
    assert sources[1] == Source("x.png")
    assert "already" in sources[2].error


def test_stdin_that_nobody_writes_to(monkeypatch):
    feed(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(ConfigError, match="terminal"):
        find_pictures(["-"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="closed"):
        find_pictures(["-"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"\xef\xbb\xbfa.png\r\n\r\n b.png", ["a.png", " b.png"]),
        (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
        (b"-x.png\n\xff.png", ["-x.png", "\udcff.png"]),
    ],
)
def test_lists_of_paths(tmp_path, monkeypatch, content, expected):
    (tmp_path / "list.txt").write_bytes(content)
    assert read_paths(str(tmp_path / "list.txt")) == expected
    feed(monkeypatch, content)
    assert read_paths("-") == expected


@pytest.mark.parametrize("total", [0, 1, 2, 7, 100, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 102])
def test_parts_are_all_pictures_in_order(total, count):
    sources = [Source(str(number)) for number in range(total)]
    parts = [take_part(sources, f"{part}/{count}") for part in range(count)]
    assert [source for part in parts for source in part] == sources
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "shard",
    ["4/4", "5/4", "0/0", "a/b", "", "1", "-1/4", "1/4/2", "1/-4", " 1/4", "²/4"],
)
def test_what_is_no_part_is_said(shard):
    with pytest.raises(ConfigError, match="give K/N with K from 0 to N - 1"):
        take_part([Source("a")], shard)


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "empty").write_text("\n")
    for path, reason in [
        (tmp_path, "is a folder"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "empty", "names no picture"),
    ]:
        with pytest.raises(UserError, match=reason):
            read_paths(str(path))
