import pytest

from mnist_jax.analysis.front import Recipe, draw_front, find_front, read_recipes
from mnist_jax.errors import DataError

FAST = Recipe("fast", "mnist_jax", 3.0, 99.2, 0.04)
SLOW = Recipe("slow", "other", 30.0, 99.0, 0.1)
BEST = Recipe("best", "mnist_jax", 600.0, 99.7, 0.02)
SAME = Recipe("same", "other", 3.0, 99.1, 0.1)


def test_the_front_is_what_nothing_beats_in_both():
    assert find_front([SLOW, BEST, SAME, FAST]) == [FAST, BEST]
    assert find_front([SLOW]) == [SLOW]


def test_points_are_read_and_drawn(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(
        "name,by,seconds,accuracy,sd,n\nfast,mnist_jax,3.0,99.2,0.04,20\n"
        "slow,other,30,99,.1,5\n"
    )
    points = read_recipes(path)
    assert points == [FAST, SLOW]
    (axes,) = draw_front(points).axes
    assert [text.get_text() for text in axes.texts] == ["fast", "other"]
    line = axes.lines[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([3.0], [99.2])
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    "content",
    [
        b"name,by,seconds\na,b,1\n",
        b"name,by,seconds,accuracy,sd\na,b,1,x,2\n",
        b"name,by,seconds,accuracy,sd\na,b,1\n",
        b"name,by,seconds,accuracy,sd\na,b,0,99,0.1\n",
        b"name,by,seconds,accuracy,sd\na,b,1,99,-0.1\n",
        b"name,by,seconds,accuracy,sd\na,b,nan,99,0.1\n",
        b"name,by,seconds,accuracy,sd\n",
        b"",
        b"name,by,seconds,accuracy,sd\n\xff,b,1,2,3\n",
        None,
    ],
)
def test_files_of_other_things_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "points.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read recipes from ") as told:
        read_recipes(path)
    assert "points.csv" in str(told.value)
    assert "\n" not in str(told.value)
