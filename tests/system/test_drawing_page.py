"""The page to draw on, in a real browser: Chromium, driven by Selenium.

Every test is run on a wide screen with a mouse, and on a phone's with a finger. It
fails on any error in the browser's console, and on any request to another host.
"""

import json
import shutil

import numpy as np
import pytest
from pen_strokes import strokes_of
from PIL import Image
from served_page import serve

from mnist_jax.checkpoint.load import load_classifier
from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.reading.reader import Reader
from mnist_jax.run.config_files import CONFIGS, PRETRAINED
from mnist_jax.web.corrections import Corrections
from mnist_jax.web.server import TOP_K, warm_up

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

selenium = pytest.importorskip("selenium", reason="the extra `test` has it")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no browser: apt-get install chromium chromium-driver",
)

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import (  # noqa: E402
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.action_builder import ActionBuilder  # noqa: E402
from selenium.webdriver.common.actions.pointer_input import PointerInput  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

SAMPLE = CONFIGS.parent / "docs" / "sample.png"
WIDE, PHONE = 1280, 390
SECONDS = 120  # that a test waits for an answer on a machine that does other work
ALONE = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def address(folder):
    reader = Reader(load_classifier(PRETRAINED), top_k=TOP_K)
    warm_up(reader)
    with serve(reader, Corrections(folder / "kept", reader.class_names)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module", params=[WIDE, PHONE])
def chromium(request, folder):
    """A browser whose camera sees the sample, and the width of its window."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        *ALONE,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film_sample(folder)}",
    ):
        options.add_argument(argument)
    screen = {"width": request.param, "height": 844, "pixelRatio": 2, "touch": True}
    if request.param == PHONE:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": screen})
    else:
        options.add_argument(f"--window-size={request.param},900")
    logs = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver, request.param
    driver.quit()


@pytest.fixture
def page(chromium, address):
    page = Page(*chromium, address)
    yield page
    page.check_logs()


class Page:
    """The page in a browser, and what a person does there."""

    def __init__(self, driver, width, address):
        self.driver, self.width, self.address = driver, width, address
        driver.get(address)
        self.wait(lambda: self.find("#curl").text.endswith("/read"))

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, is_so):
        """Waits until something is so; elements may be replaced meanwhile."""
        replaced = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.driver, SECONDS, 0.1, replaced)
        return waiting.until(lambda driver: is_so())

    def wait_for(self, text):
        self.wait(lambda: self.find("#text").text.rstrip("?") == text)

    def click(self, selector):
        """Clicks as a finger or mouse does: where the element is."""
        element = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView()", element)
        element.click()

    def choose_mode(self, name):
        self.click(f"[value={name}] + span")

    def draw(self, strokes, left, top, side):
        """Draws strokes into a square of the paper; all are shares of its width."""
        paper = self.find("#paper")
        self.driver.execute_script("scrollTo(0, 0)")
        box = paper.rect
        kind = "touch" if self.width == PHONE else "mouse"
        actions = ActionBuilder(self.driver, PointerInput(kind, "pen"), duration=0)
        for stroke in strokes:
            places = box["width"] * (np.array([left, top]) + side * stroke)
            points = [
                (round(box["x"] + x), round(box["y"] + y)) for x, y in places.tolist()
            ]
            actions.pointer_action.move_to_location(*points[0])
            actions.pointer_action.pointer_down()
            for point in points[1:]:
                actions.pointer_action.move_to_location(*point)
            actions.pointer_action.pointer_up()
        actions.perform()

    def check_logs(self):
        errors = [e for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        assert not errors
        addresses = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                addresses.append(message["params"]["request"]["url"])
        own = (f"{self.address}/", "data:", "blob:")
        assert addresses
        assert not [url for url in addresses if not url.startswith(own)]


def film_sample(folder):
    """Writes a film of the sample, for the camera, in YUV with half the colours."""
    frame = Image.new("RGB", (640, 480), "#ddd8cc")
    frame.paste(Image.open(SAMPLE).convert("RGB"), (80, 140))
    grey, *colours = frame.convert("YCbCr").split()
    planes = [grey, *(colour.resize((320, 240)) for colour in colours)]
    content = b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    path = folder / "camera.y4m"
    path.write_bytes(b"YUV4MPEG2 W640 H480 F5:1 Ip A1:1 C420jpeg\n" + 5 * content)
    return path


def strokes_of_digit(label, number):
    """The strokes of one of the data set's images of a digit."""
    images, labels = load_digits()
    return strokes_of(images[np.flatnonzero(labels == label)[number], ..., 0])


def draw_274(page):
    for place, (label, number) in enumerate(((2, 2), (7, 1), (4, 1))):
        strokes = strokes_of_digit(label, number)
        page.draw(strokes, 0.01 + 0.32 * place, 0.15, 0.32)
    page.wait_for("274")
    # It is told once the last stroke is read; until then, the answer is replaced.
    page.wait(lambda: "274" in page.find("#spoken").get_property("textContent"))


def test_digits_of_the_data_set_are_drawn_and_read(page):
    assert page.find("#text").text == "Nothing here yet"
    draw_274(page)
    page.wait(lambda: len(page.all("#boxes g")) == 3)
    assert [e.text.rstrip("?") for e in page.all("#boxes text")] == ["2", "7", "4"]
    paper = page.find("#paper").rect
    for place, box in enumerate(page.all("#boxes .around")):
        middle = (box.rect["x"] + box.rect["width"] / 2 - paper["x"]) / paper["width"]
        assert abs(middle - (0.17 + 0.32 * place)) < 0.08
    rows = page.all("#digits > li")
    assert len(rows) == 3
    for row, digit in zip(rows, "274", strict=True):
        names = [name.text for name in row.find_elements(By.CLASS_NAME, "name")]
        assert names[0] == digit
        assert len(names) == 3
        assert row.find_element(By.CLASS_NAME, "number").text.endswith(" %")
        bar = row.find_element(By.CSS_SELECTOR, ".bar i")
        assert bar.rect["width"] > 0.2 * bar.find_element(By.XPATH, "..").rect["width"]
        seen = row.find_element(By.CLASS_NAME, "seen")
        assert seen.get_property("naturalWidth") == 28
        assert "What the model saw" in seen.get_attribute("alt")
    assert page.find("#why").text.endswith(".")
    assert "274" in page.find("#paper").get_attribute("aria-label")
    page.wait(lambda: "274" in page.find("#spoken").get_property("textContent"))


def test_strokes_are_undone_and_cleared(page):
    undo, clear = page.find("#undo"), page.find("#clear")
    assert not undo.is_enabled()
    assert not clear.is_enabled()
    page.draw(strokes_of_digit(7, 1), 0.1, 0.1, 0.4)
    page.wait_for("7")
    clear.click()
    page.wait_for("Nothing here yet")
    assert not clear.is_enabled()
    assert not page.all("#boxes g")
    undo.click()  # Clear can be undone too
    page.wait_for("7")
    while undo.is_enabled():
        undo.click()
    page.wait_for("Nothing here yet")


def test_the_pen_has_a_thickness(page):
    def count_ink():
        return page.driver.execute_script(
            "const p = document.querySelector('#paper');"
            "const d = p.getContext('2d').getImageData(0, 0, p.width, p.height).data;"
            "return d.filter((value, i) => i % 4 === 3 && value > 127).length"
        )

    line = [np.array([[0.1, 0.2], [0.9, 0.2]])]
    page.draw(line, 0.1, 0.1, 0.5)
    thin = count_ink()
    slider = page.find("#thickness")
    page.driver.execute_script("arguments[0].value = 28", slider)
    page.draw(line, 0.1, 0.4, 0.5)
    assert 2.5 < count_ink() / thin < 3.5


def test_a_digit_is_corrected_as_it_was_drawn(page, folder):
    draw_274(page)
    before = set((folder / "kept").rglob("*.png"))
    page.click("[aria-label='Number 2 is 1']")
    page.wait(lambda: "Kept as" in page.find("#spoken").get_property("textContent"))
    (kept,) = set((folder / "kept" / "1").glob("*.png")) - before
    pressed = page.all(".correct [aria-pressed=true]")
    assert [button.text for button in pressed] == ["1"]
    with Image.open(kept) as picture:
        levels = np.asarray(picture.convert("L"))
    box = page.all("#boxes .around")[1].rect
    ratio = page.driver.execute_script("return devicePixelRatio")
    assert abs(levels.shape[0] / (1.4 * box["height"] * ratio) - 1) < 0.1
    assert levels[0, 0] == 255
    assert levels.min() == 0


def test_picture_files_are_chosen_and_shown(page, tmp_path):
    big = Image.open(SAMPLE).convert("RGB")
    big.save(
        tmp_path / "two.tif", save_all=True, append_images=[big.resize((240, 100))]
    )
    (tmp_path / "no picture.txt").write_text("no picture")
    names = [SAMPLE, tmp_path / "no picture.txt", tmp_path / "two.tif"]
    page.find("#files").send_keys("\n".join(map(str, names)))
    page.wait(lambda: len(page.all("#shelf li")) == 4)
    page.wait(lambda: "…" not in page.find("#shelf").text)
    told = [e.get_attribute("aria-label") for e in page.all("#shelf button")]
    assert told == [
        "sample.png: 274",
        "no picture.txt: Cannot be read",
        "two.tif: 274",
        "two.tif, page 2: 274",
    ]
    page.wait_for("274")
    assert len(page.all("#boxes g")) == 3
    page.all("#shelf button")[1].click()
    page.wait_for("Cannot be read")
    assert "not a BMP" in page.find("#why").text
    page.all("#shelf button")[3].click()
    page.wait_for("274")
    page.click("#empty")
    page.wait_for("Nothing here yet")
    assert not page.all("#shelf li")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page, how):
    content = list(SAMPLE.read_bytes())
    page.driver.execute_script(
        "const file = new File([new Uint8Array(arguments[1])], 'mine.png');"
        "const data = new DataTransfer();"
        "data.items.add(file);"
        "const options = {bubbles: true, cancelable: true};"
        "document.body.dispatchEvent(arguments[0] === 'drop'"
        "  ? new DragEvent('drop', {...options, dataTransfer: data})"
        "  : new ClipboardEvent('paste', {...options, clipboardData: data}));",
        how,
        content,
    )
    page.wait_for("274")
    assert page.find("[name=mode][value=pictures]").is_selected()
    (button,) = page.all("#shelf button")
    assert button.get_attribute("aria-current") == "true"


def test_the_camera_is_read_live_and_held_to_correct_it(page, folder):
    page.choose_mode("camera")
    page.click("#start")
    page.wait_for("274")
    assert page.find("#video").is_displayed()
    page.click("#hold")
    page.wait(lambda: page.find("#picture").is_displayed())
    page.wait_for("274")
    page.click("[aria-label='Number 3 is 9']")
    page.wait(lambda: "Kept as" in page.find("#spoken").get_property("textContent"))
    assert list((folder / "kept" / "9").glob("*.png"))
    page.click("#start")  # which stops it
    page.wait_for("Nothing here yet")
    assert not page.find("#video").is_displayed()


def test_all_controls_are_reached_by_keyboard_and_have_names(page):
    page.choose_mode("pictures")
    unnamed = page.driver.execute_script(
        "return [...document.querySelectorAll('button, input, img, canvas, video')]"
        ".filter(e => !(e.ariaLabel || e.textContent.trim() || e.alt !== undefined"
        " && e.tagName === 'IMG' || e.labels?.length || e.ariaHidden === 'true'))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []
    page.driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    focused = []
    for _ in range(5):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        focused.append(
            page.driver.execute_script(
                "const e = document.activeElement; return e.id || e.value"
            )
        )
    assert {"theme", "pictures", "choose", "photograph"} <= set(focused)


def test_colours_follow_the_system_until_they_are_chosen(page):
    def lightness():
        colour = page.find("body").value_of_css_property("background-color")
        return sum(int(n) for n in colour[colour.index("(") + 1 :].split(",")[:3])

    def system(colours):
        feature = {"name": "prefers-color-scheme", "value": colours}
        page.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [feature]}
        )

    system("dark")
    page.wait(lambda: lightness() < 150)
    system("light")
    page.wait(lambda: lightness() > 600)
    page.click("#theme")
    page.wait(lambda: lightness() < 150)
    page.driver.refresh()
    page.wait(lambda: lightness() < 150)
    assert page.find("#theme").text == "Light"
    page.driver.execute_script("localStorage.clear()")


def test_nothing_is_wider_than_the_screen(page):
    draw_274(page)
    for mode in ("draw", "pictures", "camera"):
        page.choose_mode(mode)
        inner, outer = page.driver.execute_script(
            "return [document.documentElement.scrollWidth, innerWidth]"
        )
        assert inner <= outer
