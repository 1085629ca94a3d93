import matplotlib
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image
from placed_marks import FOUR, ONE, PAGES, SEVEN, score, taken_for

from mnist_jax.analysis import figure_style, plots, worst_pages

NAMES = [f"class {i}" for i in range(10)]


def draw(pages):
    return worst_pages.draw_worst_pages(*score(pages), NAMES, "pages of mnist/test")


def texts(figure):
    return {text.get_text() for text in figure.findobj(matplotlib.text.Text)}


def test_digits_are_blue_and_marks_are_red(tmp_path):
    cut = taken_for(-1, FOUR)
    figure = draw([("grid", [SEVEN, cut], [taken_for(3, ONE)])])
    (title, *_) = [axes.get_title(loc="left") for axes in figure.axes]
    assert title == "grid: 1 digits, 1 marks, 0 right (page 0)"
    boxes = {}
    for frame in figure.axes[0].findobj(Rectangle):
        if frame is not figure.axes[0].patch:
            drawn = (frame.get_x(), frame.get_y(), frame.get_width())
            key = to_hex(frame.get_edgecolor()), frame.get_linestyle()
            boxes[key] = pytest.approx(drawn)
    assert boxes == {
        (figure_style.BLUE, "-"): (6.5, 7.5, 8),
        (figure_style.BLUE, ":"): (46.5, 7.5, 8),
        (figure_style.RED, "-"): (28.5, 7.5, 4),
    }
    named = {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}
    assert named["class 7"] == figure_style.BLUE
    assert named["class 3"] == figure_style.RED
    plots.save_figure(figure, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(10**6)}
    assert {(47, 109, 181), (200, 67, 60)} <= colours


def test_the_title_says_how_many_are_left_out(tmp_path):
    figure = draw(PAGES * 7)
    expected = "The worst 18 of 21 pages with errors, of 42 pages of mnist/test"
    assert expected in texts(figure)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.split(":")[0] for title in titles] == ["plain"] * 7 + [
        *["boxes", "blank"] * 5,
        "boxes",
    ]
    none = draw(PAGES[:1])
    assert "0 pages with errors, of 1 pages of mnist/test" in texts(none)
    plots.save_figure(none, tmp_path / "none.png")
