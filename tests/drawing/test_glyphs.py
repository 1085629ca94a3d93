import numpy as np
import pytest

from mnist_jax.datasets import offline_digits
from mnist_jax.drawing import glyphs


def test_pens_of_any_width_follow_a_glyph():
    images, _ = offline_digits.load_digits()
    glyph = glyphs.from_image(images[3, :, :, 0])
    areas = [
        float(glyphs.write_glyph(glyph, 100, width).sum()) for width in (1, 4, 9, 18)
    ]
    assert areas == sorted(areas)
    assert max(glyphs.write_glyph(glyph, 100).shape) == 100
    line = glyphs.write_glyph(glyph, 200, 1)
    assert set(np.unique(line)) == {0, 1}


@pytest.mark.parametrize("letter", "Aeξω")
def test_letters_have_ink(letter):
    glyph = glyphs.from_letter(letter, 0)
    assert max(glyph.solid.shape) == 128
    assert 0.02 < glyph.solid.mean() < 0.8
