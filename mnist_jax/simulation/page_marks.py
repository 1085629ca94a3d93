"""What stands on pages and is no digit: signs, letters, words, scribbles, shapes."""

import numpy as np

from mnist_jax.drawing.figures import SIGNS
from mnist_jax.drawing.masks import character_mask, crop_mask, warp_mask
from mnist_jax.drawing.strokes import draw_strokes, smooth_stroke
from mnist_jax.simulation.page_digits import Rng, hand_matrix, write_mask, write_sign
from mnist_jax.simulation.page_sheet import Sheet

# Letters that many write like a digit are left out: b g q s z S Z B l I O o.
_LATIN = "ACEFHJKLMNPRTUVWXYacdefhijkmnprtuvwxy"
_LATIN_PRINTED = "DGQ"  # these are near 0 and 6 if a hand bends them
_GREEK = "αγεζηθκλμνξπρτφχψωΓΔΘΛΞΠΣΦΨΩ"
_CYRILLIC = "ДЖИКЛПФЦШЩЪЫЮЯджийклпфцшщъыюя"
_SIGNS = "!#%&+<=>?@^~$€£¥§{}*√∞∂∑✓✗★♥♠♣☺→←↑↓♪☎"
_PRINTED = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif"),
    *("DejaVuSerif-Italic", "DejaVuSansMono", "STIXGeneral", "STIXGeneralItalic"),
)
_LATIN_FONTS = (*_PRINTED, "cmr10", "cmss10", "cmti10", "cmtt10")
_WORDS = (
    "No", "Nr.", "Total", "Date", "Name", "Amount", "EUR", "USD", "kg", "cm", "Form",
    "Page", "Sum", "Price", "Account", "Datum", "Betrag", "Signature", "Phone", "Tel.",
    "Code", "Zip", "City", "Street", "Order", "Box", "and", "the", "of", "pay", "to",
    "Mr", "Dr", "Qty", "Unit", "Tax", "Net", "paid", "received", "from", "please",
    "Montant", "Fecha", "Nombre", "Summe", "Kunde", "Invoice", "reference", "Year",
    "Month", "Day", "Result", "Answer", "Score", "Room", "Type", "Yes", "No.", "only",
)  # fmt: skip
_PREFIXES = (
    *("No", "No", "No.", "no", "no.", "Nro", "Nr", "Nr.", "N°", "Box", "Zip", "Room"),
    *("EUR", "USD", "CHF", "Fr.", "Rs", "Euro", "Total", "Total:", "Tel.", "Lot", "to"),
)
_CAPITAL = 47.0  # pixels of a capital in `character_mask`, about
SEPARATORS = (".", ",", "long comma", "-", "/", "steep /", ":", "middle dot")
OPERATORS = ("+", "-", "=", "times", "divided", "<", ">", "/", "~")
CURRENCIES = ("dollar", "two-line dollar", "euro", "pound", "yen")
# How fonts print signs.
_IN_PRINT = {
    **{name: name for name in "+-=/:.,()[]<>~"},
    **{"times": "\u00d7", "divided": "÷", "middle dot": "·", "percent": "%"},
    **{"hash": "#", "dollar": "$", "euro": "€", "pound": "£", "yen": "¥"},
    **{"degree": "°", "question": "?", "quotes": '"', "star": "*"},
    **{"tick": "✓", "cross": "✗"},
}
TICKS = ("tick", "long tick", "cross", "arrow", "star")


def pick(rng: Rng, names: tuple[str, ...] | str) -> str:
    """Draws one of some names, or one character of a text."""
    return names[rng.integers(len(names))]


def put_sign(sheet: Sheet, name: str, x: float, y: float) -> float:
    """Draws a sign, with its left side at x, beside digits whose middle is at y.

    Returns:
      Its width on the page.
    """
    sign = SIGNS[name]
    height = sheet.height * float(sheet.rng.uniform(0.8, 1.15))
    if name in _IN_PRINT and sheet.rng.random() < 0.3:
        return _print_sign(sheet, name, height, x, y)
    if name in (".", "middle dot", ":"):  # a dot is as thick as the pen, or thicker
        size = float(sheet.rng.uniform(0, 2)) * sheet.hand.width
        sign = sign._replace(width=sign.width + size / 3)
    hand = sheet.hand
    if sheet.rng.random() < 0.4:  # another pen, as of one who corrects or prints lines
        width = float(np.exp(sheet.rng.uniform(np.log(0.025), np.log(0.12))))
        hand = hand._replace(width=width, bend=0.0, is_brush=False)
    if "/" in name:  # an upright one would be a 1
        hand = hand._replace(slant=max(hand.slant, 0.1), unsteady=0.03)
    mask = write_sign(sheet.rng, hand, sign, height, sheet.turn_at(x, y))
    if sheet.rng.random() < 0.25:  # of another colour, so of another grey
        mask = (mask * sheet.rng.uniform(0.45, 1)).astype(np.uint8)
    lift = (sign.middle + float(sheet.rng.normal(0, 0.03))) * sheet.height
    sheet.put(mask, x + mask.shape[1] / 2, y + lift)
    return float(mask.shape[1])


def _print_sign(sheet: Sheet, name: str, height: float, x: float, y: float) -> float:
    """As `put_sign`, with a sign of a font."""
    # The other fonts lack some of them.
    font = "DejaVuSans" if name in ("tick", "cross") else pick(sheet.rng, _PRINTED[:6])
    mask = character_mask(font, _IN_PRINT[name])
    matrix = sheet.turn_at(x, y) * (height / _CAPITAL)
    mask = crop_mask(warp_mask(sheet.rng, mask, matrix))
    # In fonts most signs stand about the middle of a capital, and these at its foot.
    lift = 0.5 if name in ".," else float(sheet.rng.uniform(-0.05, 0.12))
    sheet.put(mask, x + mask.shape[1] / 2, y + lift * sheet.height)
    return float(mask.shape[1])


def draw_letter(sheet: Sheet, height: float, x: float, y: float) -> np.ndarray:
    """Draws a letter or a sign, printed or as a hand would write it."""
    rng = sheet.rng
    is_printed = rng.random() < 0.3
    kind = rng.random()
    if kind < 0.55:
        font = pick(rng, _LATIN_FONTS)
        text = pick(rng, _LATIN + _LATIN_PRINTED if is_printed else _LATIN)
    elif kind < 0.85:
        font = pick(rng, _PRINTED[:4])
        text = pick(rng, _GREEK + _CYRILLIC)
    else:
        font, text = "DejaVuSans", pick(rng, _SIGNS)
    mask = character_mask(font, text)
    height = height * float(np.clip(mask.shape[0] / 48, 0.5, 1.3))
    turn = sheet.turn_at(x, y)
    if is_printed:
        return crop_mask(warp_mask(rng, mask, turn * (height / mask.shape[0])))
    return write_mask(rng, sheet.hand, mask, height, turn)


def draw_invented_letter(sheet: Sheet, height: float) -> np.ndarray:
    """Draws a character of no script: so many strokes that it is no digit."""
    rng = sheet.rng
    strokes = []
    for _ in range(rng.integers(4, 7)):
        corners = rng.uniform(0, 1, (rng.integers(2, 5), 2))
        if rng.random() < 0.4:  # along the axes
            corners[1:, rng.integers(2)] = corners[0, rng.integers(2)]
        strokes.append(smooth_stroke(corners) * height)
    return draw_strokes(strokes, max(1.0, sheet.hand.width * height))


def draw_scribble(sheet: Sheet, height: float) -> np.ndarray:
    """Draws a scribble, a signature, or what a pen leaves that is tried out."""
    rng = sheet.rng
    count = int(rng.integers(7, 22))
    if rng.random() < 0.5:  # loops along a line
        t = np.linspace(0, count, count * 6)
        turns = rng.uniform(2.0, 5.0)
        x = t * rng.uniform(0.12, 0.4) + 0.35 * np.cos(t * turns)
        y = 0.4 * np.sin(t * turns) * np.interp(t, [0, count / 2, count], rng.random(3))
        points = np.column_stack([x, y + 0.1 * np.sin(t * rng.uniform(0.3, 1))])
        points = points * [min(1.0, 4 / np.ptp(x)), 1]
    else:
        points = smooth_stroke(rng.normal(0, 0.4, (count, 2)) * [1.3, 0.8])
    return draw_strokes([points * height], max(1.0, sheet.hand.width * height * 0.8))


def draw_shape(sheet: Sheet, height: float) -> np.ndarray:
    """Draws a shape: a box, a star, a disc, a diamond, a triangle, a heart; or bars."""
    rng = sheet.rng
    kind = rng.integers(6)
    if kind == 5:
        return _draw_bars(rng, height)
    if kind == 0:
        text = pick(rng, "■□▲△◆◇●●●★☆♥♦✚✖☐☒✱➤▶◼")
        mask = character_mask("DejaVuSans", text)
        matrix = np.eye(2) * (height / mask.shape[0])
        return crop_mask(warp_mask(rng, mask, matrix, 0.01 * height))
    if kind == 1:  # a frame with sharp or round corners
        wide = float(rng.uniform(0.95, 2.5))  # a narrower one is a 0
        box = np.array([(0, 0), (wide, 0), (wide, 1), (0, 1), (0, 0)])
        return draw_strokes([box * height], height * float(rng.uniform(0.03, 0.15)))
    sides = int(rng.choice([3, 4, 5, 10]))
    angles = np.linspace(0, 2 * np.pi, sides + 1) + rng.uniform(0, 6)
    radii = np.ones(sides + 1)
    if sides == 10:
        radii[1::2] = 0.45
    points = np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None]
    width = height * float(rng.uniform(0.03, 0.12))
    strokes = [points * height / 2]
    if kind == 2:  # with what crosses it
        strokes += [rng.uniform(-0.6, 0.6, (2, 2)) * height for _ in range(2)]
    return draw_strokes(strokes, width)


def _draw_bars(rng: Rng, height: float) -> np.ndarray:
    """Draws bars as of a barcode, or hatching: so many that they are no 1s."""
    count = int(rng.integers(14, 40))
    pitch = max(3.0, 0.12 * height)
    is_code = rng.random() < 0.6
    mask = np.zeros((max(4, int(height)), int(count * pitch)), np.uint8)
    widths = rng.uniform(0.15, 0.9 if is_code else 0.3, count) * pitch
    for start, width in zip(np.arange(count) * pitch, widths, strict=True):
        mask[:, int(start) : int(start) + max(1, round(float(width)))] = 255
    lean = 0.0 if is_code else float(rng.uniform(-1, 1))
    return crop_mask(warp_mask(rng, mask, np.array([[1, lean], [0, 1]])))


def _draw_text(rng: Rng) -> str:
    """Draws a word, a name of a form's field, or letters."""
    text = pick(rng, _WORDS)
    if rng.random() < 0.15:
        letters = "abcdefghijklmnopqrstuvwxyz"
        text = "".join(pick(rng, letters) for _ in range(rng.integers(3, 9)))
    return text.upper() if rng.random() < 0.2 else text


def draw_word(
    sheet: Sheet, height: float, x: float, y: float, is_prefix: bool = False
) -> np.ndarray:
    """Draws a printed word; its capitals are about `height` pixels high.

    `is_prefix` draws one that often stands right before a number.
    """
    rng = sheet.rng
    if is_prefix:
        text = pick(rng, _PREFIXES)
    else:
        text = _draw_text(rng) + pick(rng, ("", "", ":"))
    mask = character_mask(pick(rng, _LATIN_FONTS), text)
    matrix = sheet.turn_at(x, y) * (height / 48)
    return crop_mask(warp_mask(rng, mask, matrix))


def print_text(sheet: Sheet, height: float) -> None:
    """Prints a block of text in one font, as a page of a book has it."""
    rng, (down, across) = sheet.rng, sheet.shape
    font, step = pick(rng, _LATIN_FONTS), height * float(rng.uniform(1.2, 1.9))
    left = height * float(rng.uniform(-2, 1))
    for y in np.arange(height * float(rng.uniform(-0.5, 1)), down + height, step):
        x = left
        while x < across:
            matrix = sheet.turn_at(x, y) * (height / 48)
            mask = character_mask(font, _draw_text(rng))
            word = crop_mask(warp_mask(rng, mask, matrix))
            sheet.put(word, x + word.shape[1] / 2, y)
            x += word.shape[1] + 0.4 * height


def draw_script(sheet: Sheet, height: float, x: float, y: float) -> np.ndarray:
    """Draws a word as a hand would, of letters that nobody takes for digits."""
    rng = sheet.rng
    letters = "acdefhkmnprtuvwxy"
    text = "".join(pick(rng, letters) for _ in range(rng.integers(3, 8)))
    fonts = ("cmti10", "STIXGeneralItalic", "DejaVuSerif-Italic", "DejaVuSans")
    mask = character_mask(pick(rng, fonts), text)
    matrix = hand_matrix(rng, sheet.hand, sheet.turn_at(x, y))
    return crop_mask(warp_mask(rng, mask, matrix * (height / 48), 0.05 * height))


def print_words(sheet: Sheet, count: int, height: float) -> None:
    """Prints words anywhere where no ink is."""
    rng = sheet.rng
    down, across = sheet.shape
    for _ in range(count):
        x, y = rng.uniform(0, across), rng.uniform(0, down)
        mask = draw_word(sheet, height, x, y)
        area = np.full_like(mask, 255)
        is_free = sheet.overlap(area, x, y, sheet.frame) < 0.1
        if is_free and sheet.overlap(area, x, y) < 0.01:
            sheet.put(mask, x, y, sheet.frame)
