"""Characters of the fonts that come with matplotlib."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_EM = 48  # pixels


@functools.cache
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Loads a font that comes with matplotlib.

    Args:
      name: such as "DejaVuSans" or "cmr10".
      size: pixels of an em.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def letter_mask(font: str, character: str) -> np.ndarray:
    """Returns the shape of a character, bool [h, w], with a margin of one pixel."""
    picture = Image.new("L", (2 * _EM, 2 * _EM))
    draw, centre = ImageDraw.Draw(picture), (_EM, _EM)
    draw.text(centre, character, 255, load_font(font, _EM), anchor="mm")
    return np.pad(np.asarray(picture.crop(picture.getbbox())) > 127, 1)
