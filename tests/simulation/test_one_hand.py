import numpy as np
from PIL import Image

from mnist_jax.reading.pictures import prepare
from mnist_jax.simulation.one_hand import make_hand, write_as, write_pictures


def written(seed, digit, number):
    """What a digit net sees of it, uint8 [28, 28]."""
    rng = np.random.default_rng([seed, digit, number])
    picture = write_as(rng, make_hand(seed), digit)
    return prepare(Image.fromarray(picture).convert("RGB"))


def test_a_hand_writes_a_digit_alike_and_never_the_same():
    for digit in (0, 3):
        own = [written(1, digit, number).astype(float) for number in range(6)]
        other = [written(2, digit, number).astype(float) for number in range(6)]
        assert not (own[0] == own[1]).all()
        within = np.mean([np.abs(own[0] - image).mean() for image in own[1:]])
        between = np.mean([np.abs(own[0] - image).mean() for image in other])
        assert within < between


def test_the_same_seed_writes_the_same(tmp_path):
    write_pictures(tmp_path / "a", seed=3, count=2)
    write_pictures(tmp_path / "b", seed=3, count=1, first=1)
    files = sorted(str(p.relative_to(tmp_path / "a")) for p in tmp_path.rglob("a/*/*"))
    assert files == [f"{digit}/{n:05d}.png" for digit in range(10) for n in range(2)]
    for file in tmp_path.rglob("b/*/*.png"):
        same = tmp_path / "a" / file.relative_to(tmp_path / "b")
        assert file.read_bytes() == same.read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a" / "7" / "00000.png"))
    assert picture[0, 0] > 200  # paper
    assert picture.min() < 100  # ink
