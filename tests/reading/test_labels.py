import os

import pytest

from mnist_jax.errors import DataError
from mnist_jax.reading import labels

DIGITS = list("0123456789")


def find(*names, table=None, class_names=DIGITS):
    return labels.find_labels(map(str, names), class_names, table).by_name


def left_out(*names, table=None):
    return labels.find_labels(map(str, names), DIGITS, table).left_out


def test_folders_named_as_a_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["7/a.png", "./3/b.png", "x/c.png", "12/d.png", "5.png", "7/sub/e.png"]
    assert find(*names) == {"7/a.png": "7", "./3/b.png": "3"}
    (tmp_path / "Bag").mkdir()
    assert find("Bag/1.png", class_names=["Shirt", "Bag"]) == {"Bag/1.png": "Bag"}


def test_a_table_in_the_folder_or_beside_it(tmp_path):
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "labels.csv").write_text("file,label\na.png,3\n")
    (tmp_path / "labels.csv").write_text("7/b.png,2026\n7/a.png,1\n")
    found = find(folder / "a.png", folder / "b.png", folder / "c.png")
    assert list(found.values()) == ["3", "2026", "7"]


def test_a_table_that_is_named(tmp_path):
    (tmp_path / "1").mkdir()
    table = tmp_path / "my.csv"
    table.write_text(f"{tmp_path}/1/a.png,4\n")
    assert find(tmp_path / "1" / "a.png", tmp_path / "1" / "b.png", table=table) == {
        str(tmp_path / "1" / "a.png"): "4"
    }


@pytest.mark.parametrize(
    "content",
    [
        b"a.png,4\n",
        b"file,label\r\na.png,4\r\n\r\n",
        b"\xef\xbb\xbffile;label\na.png;4\n",
        b"file\tlabel\na.png\t 4 \n",
        b'file,label,writer\n"a.png","4",me\n\xff.png,5,you',
        b"./a.png,4\n",
    ],
)
def test_tables_of_many_kinds(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    assert find(tmp_path / "a.png") == {str(tmp_path / "a.png"): "4"}


def test_names_in_tables_may_be_odd(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b'"a,\n"" .png",1\n\xff.png,2\n=x.png,3\n')
    names = ['a,\n" .png', os.fsdecode(b"\xff.png"), "=x.png"]
    found = find(*(f"{tmp_path}/{name}" for name in names))
    assert list(found.values()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "content",
    [
        b"label,file\n4,a.png\n",
        b"file,width,height,Label\na.png,28,28,4\n",
        "file,label\na.png,4\n".encode("utf-16"),  # of a spreadsheet
        b"file,label\na.png,4.0\n",  # of pandas, where a column has gaps
    ],
)
def test_tables_as_programs_write_them(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    assert find(tmp_path / "a.png") == {str(tmp_path / "a.png"): "4"}


@pytest.mark.parametrize(
    "name",
    ["A.PNG", ".\\a.png", "./a.PNG", "a", "A", ".\\A", "x\\..\\a.png", "a.png "],
)
def test_names_that_can_mean_one_picture_only(tmp_path, name):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    (tmp_path / "labels.csv").write_text(f"{name},4\nb.png,5\n")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert list(find(*paths).values()) == ["4", "5"]
    assert left_out(*paths) == ""


def test_names_are_compared_as_macos_writes_them(tmp_path):
    (tmp_path / "labels.csv").write_text("e\u0301.png,4\n")
    assert find(tmp_path / "\u00e9.png") == {str(tmp_path / "\u00e9.png"): "4"}


def test_names_that_may_mean_several_pictures_match_none(tmp_path):
    names = ["a.png", "a.jpg", "B.png", "b.png"]
    for name in names:
        (tmp_path / name).touch()
    paths = [tmp_path / name for name in names]
    (tmp_path / "labels.csv").write_text("a,4\nb.PNG,5\nb.png,6\n")
    assert find(*paths) == {str(tmp_path / "b.png"): "6"}
    assert left_out(*paths) == (
        f"2 labels may mean other pictures too, the first: 'a' in "
        f"{str(tmp_path / 'labels.csv')!r}; 3 pictures have no label"
    )
    # B.png is there, so that its label is not that of b.png.
    (tmp_path / "labels.csv").write_text("B.png,4\n")
    assert find(tmp_path / "b.png") == {}


def test_what_is_left_out_is_counted(tmp_path):
    for name in ("a.png", "b.png", "c.png", "not_asked.png"):
        (tmp_path / name).touch()
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    table = tmp_path / "labels.csv"
    table.write_text(
        "file,label\na.png,4\nb.png,\nc.png,four\nx.png,1\nnot_asked.png,2\n"
    )
    for given in (None, str(table)):
        assert find(*paths, table=given) == {str(tmp_path / "a.png"): "4"}
        assert left_out(*paths, table=given) == (
            f"2 rows have no usable label, the first: row 3 of {str(table)!r}; "
            f"1 label matches no picture: 'x.png' in {str(table)!r}; "
            "2 pictures have no label"
        )


def test_a_label_is_not_taken_for_that_of_a_picture_that_was_not_asked_for(tmp_path):
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("a,4\n")
    assert find(tmp_path / "a.png") == {}
    assert "1 label may mean another picture too: 'a'" in left_out(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("a.gif,4\n")
    assert find(tmp_path / "a.png") == {}  # another file, which is not there


def test_labels_that_contradict_each_other(tmp_path):
    (tmp_path / "b.png").touch()
    (tmp_path / "labels.csv").write_text("B.png,5\nb,6\n")
    assert find(tmp_path / "b.png") == {}
    assert "2 labels may mean" in left_out(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("B.png,5\nb,5\n")
    assert find(tmp_path / "b.png") == {str(tmp_path / "b.png"): "5"}


def test_labels_of_pictures_that_were_not_asked_for_are_not_counted(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("a.png,1\n.\\b.png,2\nC.PNG,3\nd,4\nx\\d,5\n")
    told = left_out(tmp_path / "a.png")
    assert told.startswith("1 label matches no picture: 'x\\\\d' in")


def test_a_picture_that_is_labelled_twice(tmp_path):
    (tmp_path / "labels.csv").write_text("a.png,4\na.png,4\na.png,5\n")
    assert find(tmp_path / "a.png") == {str(tmp_path / "a.png"): "4"}
    assert "row 3 of" in left_out(tmp_path / "a.png")


FOREIGN = [
    b"",
    b"\x89PNG\r\n\x1a\n\0\0",
    b"\xff\xfe\0",
    b'a.png,"' + b"x" * 200_000,
    b"name;colour\nwall;red\n",
    b"a.png,four\nb.png\n",
]


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize("place", [".", ".."])
def test_a_strangers_table_of_that_name_ends_nothing(tmp_path, content, place):
    folder = tmp_path / "in" / "7"
    folder.mkdir(parents=True)
    (folder / place / "labels.csv").write_bytes(content)
    assert find(folder / "a.png") == {str(folder / "a.png"): "7"}
    assert left_out(folder / "a.png").startswith("1 table is not used: ")
    table = str(folder / place / "labels.csv")
    with pytest.raises(DataError, match="cannot read the labels in"):
        find(folder / "a.png", table=table)


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        find("a.png", table=str(tmp_path / "none.csv"))
    os.mkfifo(tmp_path / "labels.csv")
    assert find(tmp_path / "a.png") == {}
    assert "is a pipe" in left_out(tmp_path / "a.png")
    with pytest.raises(DataError, match="pipe"):
        find(tmp_path / "a.png", table=str(tmp_path / "labels.csv"))
