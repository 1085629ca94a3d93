import pytest

from mnist_jax.reading.pdf_worker import reduction
from mnist_jax.reading.reduction import MAX_SIDE, MIN_SIDE, reduced_size


@pytest.mark.parametrize(
    "size", [(10, 10), (1654, 2339), (40_000, 40_000), (9, 40_000), (3000, 70), (1, 1)]
)
def test_the_scale_is_that_of_other_pictures(size):
    scale = reduction(*size, MAX_SIDE, MIN_SIDE)
    found = [max(1, round(scale * side)) for side in size]
    assert found == list(reduced_size(size))
