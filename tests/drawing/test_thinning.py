import numpy as np
from PIL import Image

from mnist_jax.drawing.thinning import thin


def test_the_skeleton_is_thin_and_whole():
    from scipy import ndimage

    image = Image.new("L", (60, 60))
    image.paste(255, (10, 10, 50, 25))
    image.paste(255, (20, 10, 32, 50))
    mask = np.asarray(image) > 0
    skeleton = thin(mask)
    assert mask[skeleton].all()
    assert ndimage.label(skeleton, np.ones((3, 3)))[1] == 1
    assert not ndimage.binary_erosion(skeleton, np.ones((2, 2))).any()
    assert 40 < skeleton.sum() < 100
