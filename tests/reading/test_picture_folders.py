import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import make_tiny_config
from PIL import Image

from mnist_jax.analysis import splits
from mnist_jax.checkpoint.load import load_model
from mnist_jax.data import load_splits
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import resolve_dataset
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.reading import picture_folders
from mnist_jax.reading.files import read_picture
from mnist_jax.reading.pictures import prepare
from mnist_jax.run.console import Console
from mnist_jax.train import train_and_evaluate

SPLITS = ("train", "validation", "test")


def draw(path, label, number, side=60):
    """A bar with an arm, whose length tells the class and whose height the picture."""
    picture = np.full((side, side), 250, np.uint8)
    picture[6:54, 10:15] = 20
    picture[8 + number : 12 + number, 10 : 24 + 4 * label] = 20
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of each of 0, 1 and 2."""
    for label in range(3):
        for number in range(10):
            draw(tmp_path / "my" / str(label) / f"{number}.png", label, number)
    return tmp_path / "my"


@pytest.fixture
def config(folder):
    config = make_tiny_config()
    config.dataset, config.data_folder = "folder", str(folder)
    config.train_split = "train"
    config.optimizer.warmup_epochs = 0.0
    return config


def load(folder, base="", **kwargs):
    name = f"{base}+folder" if base else "folder"
    return resolve_dataset(name, data_folder=str(folder), **kwargs)


def contents(source):
    """{image: (label, split)} of all pictures."""
    return {
        image.tobytes(): (int(label), split)
        for split in SPLITS
        for image, label in zip(*load_dataset(source, split), strict=True)
    }


def test_pictures_are_prepared_as_predict_does(folder):
    source = load(folder)
    assert source.splits == {"train": 21, "validation": 3, "test": 6}
    assert source.class_names == tuple("0123456789")
    found = contents(source)
    assert len(found) == 30
    for label in range(3):
        image = prepare(read_picture(folder / str(label) / "4.png"))
        assert found[image.tobytes()][0] == label


def test_each_class_is_split_in_proportion(folder):
    source = load(folder)
    counts = [np.bincount(load_dataset(source, split).labels) for split in SPLITS]
    assert [list(each) for each in counts] == [[7] * 3, [1] * 3, [2] * 3]


def test_the_split_is_by_content_alone(folder, tmp_path):
    for label in range(3):
        for number in range(10):
            other = tmp_path / "other" / str(label) / "in" / f"x{99 - number}.png"
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / str(label) / f"{number}.png", other)
    assert contents(load(folder)) == contents(load(tmp_path / "other"))


def test_a_picture_stays_in_its_split_if_few_come_along(folder):
    before = contents(load(folder))
    draw(folder / "1" / "late.png", 1, 20)
    after = contents(load(folder))
    moved = [image for image in before if before[image] != after[image]]
    assert len(after) == 31
    assert len(moved) <= 2


def test_classes_follow_the_folders(folder, tmp_path):
    folder.joinpath("2").rename(folder / "cross")
    draw(folder / ".hidden" / "a.png", 1, 1)
    (folder / "empty").mkdir()
    source = load(folder)
    assert source.class_names == ("0", "1", "cross")
    draw(tmp_path / "more" / "wave" / "a.png", 5, 1)
    both = load(f"{folder}, {tmp_path / 'more'}")
    assert both.class_names == ("0", "1", "cross", "wave")
    assert sum(both.splits.values()) == 31


def test_a_picture_of_28x28_stays_as_it_is(folder):
    image = np.zeros((28, 28), np.uint8)
    image[5:9, 3:6] = 200
    for number, levels in enumerate([image, 255 - image]):
        Image.fromarray(levels).save(folder / "1" / f"small{number}.png")
    found = contents(load(folder))
    assert found[image.tobytes()][0] == 1
    assert len(found) == 31  # both are the same digit


def test_what_cannot_be_used_is_named_and_left_out(folder, capsys, config):
    (folder / "0" / "torn.png").write_bytes((folder / "0/1.png").read_bytes()[:60])
    (folder / "1" / "text.png").write_text("no picture")
    Image.new("L", (40, 40), 255).save(folder / "1" / "white.png")
    shutil.copy(folder / "0/2.png", folder / "0" / "again.png")
    shutil.copy(folder / "0/3.png", folder / "2" / "both.png")
    source = load(folder)
    told = dict(
        line.removeprefix(f"{folder}/").split(": ", 1) for line in source.left_out
    )
    assert told.keys() == {
        *("0/torn.png", "1/text.png", "1/white.png", "0/again.png"),
        *("0/3.png", "2/both.png"),
    }
    assert told["1/white.png"] == "is blank"
    assert told["0/again.png"] == f"is the same as {folder}/0/2.png"
    assert told["0/3.png"] == told["2/both.png"] == "is in 0 and in 2"
    assert sum(source.splits.values()) == 29
    train_and_evaluate(config, folder.parent / "run", dry_run=True, console=Console())
    shown = " ".join(capsys.readouterr().out.split())
    assert f"WARNING left out: {folder}/1/white.png: is blank" in shown


def test_a_folder_that_makes_a_class_of_its_own_is_told(folder, config, capsys):
    assert load(folder).warnings == ()
    for number in range(6):
        draw(folder / "unsorted" / f"{number}.png", 7, number)
    (warning,) = load(folder).warnings
    assert warning == (
        "new class 'unsorted' (6 pictures) beside the digits: if that is not meant, "
        f"move what is no class out of {folder}"
    )
    (beside,) = load(folder, "digits").warnings
    assert "'unsorted' (6 pictures) beside those of digits: if" in beside
    train_and_evaluate(config, folder.parent / "run", dry_run=True, console=Console())
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count(f"WARNING {warning}") == 1
    assert "anew" not in shown
    shutil.rmtree(folder / "2")
    (folder / "0").rename(folder / "sign 0")
    assert load(folder).warnings == ()  # most folders are no digits: all are meant
    shutil.rmtree(folder / "unsorted")
    assert "new class 'sign 0'" in load(folder).warnings[0]  # beside 1 alone
    (folder / "1").rename(folder / "sign 1")
    assert load(folder).warnings == ()
    (beside,) = load(folder, "digits").warnings
    assert beside.startswith("new classes 'sign 0' (10 pictures), 'sign 1' (10 ")


def test_a_new_class_that_costs_the_head_of_a_start_says_so(
    folder, config, trained_workdir, capsys
):
    draw(folder / "unsorted" / "a.png", 7, 1)
    config.init_from = str(trained_workdir)
    train_and_evaluate(config, folder.parent / "run", dry_run=True, console=Console())
    shown = " ".join(capsys.readouterr().out.split())
    assert "'unsorted' (1 picture) beside the digits" in shown
    assert "the head of the weights to start from is made anew, and what it" in shown


def test_many_new_classes_are_counted(folder):
    for name in "abcdefgh":
        draw(folder / name / "a.png", 7, ord(name) - 90)
    (warning,) = load(folder, "digits").warnings
    assert "'e' (1 picture), 3 more beside" in warning
    assert "'f'" not in warning


def test_each_page_of_a_file_is_a_picture(folder):
    """Of a blank page and of frames that stand still there is none."""
    pages = [Image.open(folder / "0" / f"{n}.png").copy() for n in range(4)]
    shutil.rmtree(folder / "0")
    (folder / "0").mkdir()
    first, *more = pages
    more.insert(1, Image.new("L", first.size, 250))
    first.save(folder / "0" / "scan.tif", save_all=True, append_images=more)
    still = [Image.open(folder / "1" / f"{n}.png").copy() for n in (0, 0, 1)]
    for place, picture in enumerate(still):  # or Pillow would make them one frame
        picture.putpixel((0, 0), 200 + place)
    still[0].save(folder / "2" / "a.gif", save_all=True, append_images=still[1:])
    for _ in range(2):  # the second time from the cache
        source = load(folder)
        found = contents(source)
        for page in pages:
            assert found[prepare(page.convert("RGB")).tobytes()][0] == 0
        assert source.left_out == (
            f"{folder}/0/scan.tif[2]: is blank",
            f"{folder}/2/a.gif[1]: is the same as its page 0",
        )
        assert sum(source.splits.values()) == 4 + 10 + 10 + 2


def test_each_image_of_an_array_is_a_picture(folder):
    images = np.zeros((4, 28, 28), np.uint8)
    for number, image in enumerate(images[:3]):
        image[5:20, 10 + number] = 255
    np.save(folder / "1" / "more.npy", images)
    source = load(folder)
    assert source.left_out == (f"{folder}/1/more.npy[3]: is blank",)
    found = contents(source)
    assert [found[image.tobytes()][0] for image in images[:3]] == [1, 1, 1]


def test_what_is_no_picture_in_a_folder_is_counted(folder):
    for name in "0/a.svg", "0/b.SVG", "0/notes.txt", "0/.DS_Store", "1/Thumbs.db":
        (folder / name).write_text("x")
    (folder / "1" / "labels.csv").write_text("x")
    (folder / "1" / "desktop.ini").write_text("x")
    (folder / "3").mkdir()
    (folder / "3" / "a.psd").write_text("x")
    (folder / "4").mkdir()
    draw(folder / "loose.png", 1, 2)
    (folder / "readme.txt").write_text("x")
    source = load(folder)
    assert list(source.left_out) == [
        f"{folder}: loose.png: not in the folder of a class",
        f"{folder}/0: 2 files of other formats (2 .svg: save as PNG or JPEG) and "
        "1 file without a picture's suffix",
        f"{folder}/3: 1 file of other formats (1 .psd: save as PNG or JPEG)",
    ]
    assert sum(source.splits.values()) == 30


def test_a_small_picture_of_one_tone_is_blank(folder):
    Image.new("L", (28, 28), 255).save(folder / "1" / "white.png")
    assert load(folder).left_out == (f"{folder}/1/white.png: is blank",)


def test_a_comma_in_the_name_of_a_folder(folder, tmp_path):
    folder.rename(tmp_path / "mine, old")
    assert sum(load(tmp_path / "mine, old").splits.values()) == 30
    with pytest.raises(ConfigError, match=r"no folder '.*/mine'"):
        load(f"{tmp_path / 'mine, old'},{tmp_path}")


def test_what_was_prepared_is_not_prepared_again(folder, monkeypatch):
    before = contents(load(folder))
    prepared = []

    def note(picture):
        prepared.append(picture)
        return prepare(picture)

    monkeypatch.setattr(picture_folders, "prepare", note)
    assert contents(load(folder)) == before
    assert not prepared
    draw(folder / "1" / "new.png", 1, 25)
    assert len(contents(load(folder))) == 31
    assert len(prepared) == 1


def test_a_damaged_cache_is_made_anew(folder, cache_dir):
    before = contents(load(folder))
    (cache,) = cache_dir.glob("folder-*.npz")
    cache.write_bytes(b"damaged")
    assert contents(load(folder)) == before
    assert len(np.load(cache)["shas"]) == 30


def test_pictures_are_put_beside_another_data_set(folder):
    source = load(folder, "digits")
    assert source.name == "digits+folder"
    sizes = {"train": 1197 + 21, "validation": 200 + 3, "test": 400 + 6}
    own = {"own_train": 21, "own_validation": 3, "own_test": 6}
    assert source.splits == {**sizes, **own, "mixed": 6400}
    mixed = load_dataset(source, "mixed")
    alone = {image.tobytes() for image in load_dataset(source, "own_train").images}
    is_own = [image.tobytes() in alone for image in mixed.images]
    assert sum(is_own) == 800
    counts = np.unique(mixed.images[is_own], axis=0, return_counts=True)[1]
    assert len(counts) == 21
    assert np.ptp(counts) <= 1


def test_classes_of_one_name_are_one_class(folder):
    draw(folder / "cross" / "a.png", 6, 1)
    source = load(folder, "digits")
    assert source.class_names == (*"0123456789", "cross")
    assert set(load_dataset(source, "own_train").labels) == {0, 1, 2, 10}


def test_images_are_held_out_as_a_run_without_pictures_does(
    folder, mnist_data_dir, cache_dir
):
    config = make_tiny_config()
    config.dataset, config.train_split, config.validation = "mnist", "train", 40
    alone = load_splits(config, str(mnist_data_dir), None)
    both = load(folder, "mnist", data_dir=str(mnist_data_dir), validation=40)
    held = load_dataset(both, "validation").images
    np.testing.assert_array_equal(held[3:], alone.validation.images)
    trained = {image.tobytes() for image in load_dataset(both, "mixed").images}
    assert not trained & {image.tobytes() for image in held}


@pytest.mark.parametrize(
    ("data_folder", "message"),
    [
        ("", "config.data_folder is empty: name a folder"),
        ("{folder}/none", "config.data_folder: no folder '.*none'"),
        ("{folder},nowhere", "config.data_folder: no folder 'nowhere'"),
        ("gs://bucket/digits", "is a URL"),
    ],
)
def test_no_folder_is_one_line(folder, data_folder, message):
    with pytest.raises(ConfigError, match=message):
        load(data_folder.format(folder=folder))


def test_a_folder_with_too_little_is_one_line(tmp_path):
    (tmp_path / "my" / "0").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no pictures in .*my: put them into a folder"):
        load(tmp_path / "my")
    (tmp_path / "my" / "0" / "a.svg").touch()
    with pytest.raises(DataError, match=r"my \(.*my/0: 1 file of other .*\): put them"):
        load(tmp_path / "my")
    draw(tmp_path / "my" / "0" / "a.png", 0, 1)
    draw(tmp_path / "my" / "1" / "a.png", 0, 2)
    with pytest.raises(DataError, match=r"of 2 pictures .*, none is left for valid"):
        load(tmp_path / "my")
    (tmp_path / "my" / "1").rename(tmp_path / "my" / "a")
    (tmp_path / "my" / "0").rename(tmp_path / "my" / "a" / "0")
    with pytest.raises(DataError, match="my: 1; put pictures into two"):
        load(tmp_path / "my")


def test_a_run_learns_pictures_and_can_be_evaluated_and_resumed(config, tmp_path):
    config.num_epochs, config.batch_size = 2, 8
    train_and_evaluate(config, tmp_path / "run")
    loaded = load_model(tmp_path / "run")
    split = splits.load_split(loaded)
    assert split.name == "folder/test"
    assert len(split.dataset.labels) == 6
    draw(Path(config.data_folder) / "0" / "new.png", 0, 28)
    with pytest.raises(ConfigError, match="the run to resume trained on folder"):
        train_and_evaluate(config, tmp_path / "run", resume=True)
