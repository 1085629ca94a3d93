"""The task of the page reader: a net that marks the digits of simulated pages."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mnist_jax.checkpoint.load import Loaded
from mnist_jax.data import Dataset, Splits, load_splits
from mnist_jax.datasets.stream import Stream
from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.losses import Batch
from mnist_jax.models.create import create_model
from mnist_jax.models.page_net import NOISE
from mnist_jax.reading.page_loss import page_loss
from mnist_jax.reading.page_points import COUNTS
from mnist_jax.run.stored_config import config_from_dict
from mnist_jax.tasks import BestMetric, Task

SHAPE = (128, 256)  # height and width of a page that is trained on
PAGES_AN_EPOCH = 16_000
HELD_OUT_PAGES = 512  # of validation, and as many of test
_MOST_DIGITS, _MOST_REDUCED = 80, 256  # of a page, and of a reduced one
_HELD_OUT_SEEDS = {"validation": 2**32, "test": 2**32 + 1}  # no run has these seeds


class MadePages(NamedTuple):
    """N pages, and what is on them."""

    images: np.ndarray  # uint8 [N, H, W, 1]
    labels: np.ndarray  # float32 [N, M, 6], as `page_loss` reads them
    conditions: tuple[str, ...]  # N of `pages.CONDITIONS`


def standardise(pictures: jax.Array) -> jax.Array:
    """Subtracts each picture's mean and divides by its standard deviation.

    Args:
      pictures: uint8 or float [B, H, W, 1], from 0 to 255.

    Returns:
      float32 of the same shape. The deviation is taken as `NOISE` more than it is, so
      that the noise of a blank page stays small.
    """
    pictures = pictures.astype(jnp.float32)
    centred = pictures - pictures.mean((1, 2), keepdims=True)
    deviation = jnp.sqrt(jnp.square(centred).mean((1, 2), keepdims=True))
    return centred / (deviation + NOISE)


def load_pages(
    config: ConfigDict,
    data_dir: str | None,
    manual_dir: str | None,
    reduced: bool = False,
) -> Splits:
    """Loads digits to write pages with.

    Pages to train on are made by workers, of the images that a digit net would be
    trained on. Pages of validation and of test are made of its validation and test
    images, so that no image is on pages of two splits.

    Args:
      config: of the run.
      data_dir: see `data.load_splits`.
      manual_dir: likewise.
      reduced: whether pages are larger, and then reduced; see `make_reduced_page`.

    Raises:
      UserError: OpenCV is missing, or see `data.load_splits`.
    """
    load_opencv()
    where = (json.dumps(config.to_dict()), data_dir, manual_dir)
    digits = _load_digits(*where)
    validation = None
    if digits.validation is not None:
        held_out = make_held_out("validation", digits.validation, reduced)
        validation = Dataset(*held_out[:2])
    test = Dataset(*make_held_out("test", digits.test, reduced)[:2])
    train = Stream(functools.partial(make_batch, *where, reduced), PAGES_AN_EPOCH)
    return digits._replace(train=train, validation=validation, test=test)


def make_held_out(split: str, digits: Dataset, reduced: bool = False) -> MadePages:
    """Makes the pages of "validation" or "test", written with digits of that split.

    They are the same for all runs that hold the same digits out of training.

    Raises:
      UserError: OpenCV is missing.
    """
    return _make_pages(_HELD_OUT_SEEDS[split], 0, HELD_OUT_PAGES, digits, reduced)


def make_batch(
    config: str,
    data_dir: str | None,
    manual_dir: str | None,
    reduced: bool,
    seed: int,
    step: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Makes the pages of a step; `config` is JSON, the others are as for `load_pages`.

    Returns:
      `image` uint8 [B, H, W, 1], `label` float32 [B, M, 6] as `page_loss` reads it,
      `mask` bool [B].
    """
    digits = _load_digits(config, data_dir, manual_dir).train
    assert isinstance(digits, Dataset)
    made = _make_pages(seed, step * batch_size, batch_size, digits, reduced)
    mask = np.ones(batch_size, bool)
    return {"image": made.images, "label": made.labels, "mask": mask}


@functools.lru_cache(1)  # once in each worker
def _load_digits(config: str, data_dir: str | None, manual_dir: str | None) -> Splits:
    load_opencv().setNumThreads(1)  # there is a worker for each core
    return load_splits(config_from_dict(json.loads(config)), data_dir, manual_dir)


def _make_pages(
    seed: int, first: int, count: int, digits: Dataset, reduced: bool
) -> MadePages:
    """Makes pages `first`, `first + 1` and so on."""
    from mnist_jax.simulation import page_reduced, pages  # reading does not need them

    make_page = page_reduced.make_reduced_page if reduced else pages.make_page
    room = _MOST_REDUCED if reduced else _MOST_DIGITS
    images = np.empty((count, *SHAPE, 1), np.uint8)
    labels = np.zeros((count, room, 6), np.float32)
    conditions = []
    for i in range(count):
        page = make_page(seed, first + i, digits.images[..., 0], digits.labels, SHAPE)
        images[i, ..., 0] = page.picture
        # More digits than there is room for are to be ignored, and never wrong.
        rows = page.digits[:room]
        labels[i, : len(rows)] = rows
        conditions.append(page.condition)
    return MadePages(images, labels, tuple(conditions))


def _create_net(config: ConfigDict, num_classes: int) -> nn.Module:
    model: nn.Module = create_model(config.model, num_classes, (*SHAPE, 1))
    return model


def _mean_counts(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Turns sums over batches into `f1` of digits and shares of lines and pages."""
    total = {name: sum(float(each[name]) for each in sums) for name in sums[0]}

    def share(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    return {
        "loss": total["loss"] / total["count"],
        "f1": share(2 * total["right"], total["found"] + total["wanted"]),
        "lines_right": share(total["lines_right"], total["lines"]),
        "pages_right": share(total["page_right"], total["count"] - total["empty"]),
        "empty_sure": share(total["empty_sure"], total["empty"]),
        "digits": int(total["wanted"]),
        "count": int(total["count"]),
    }


def _describe(test: dict[str, float]) -> str:
    return (
        f"F1 {test['f1']:.2%} of {test['digits']:,} digits, {test['lines_right']:.2%} "
        f"of lines and {test['pages_right']:.2%} of {test['count']:,} pages right; a "
        f"sure digit on {test['empty_sure']:.1%} of pages without one"
    )


def _loss(outputs: jax.Array, batch: Batch) -> jax.Array:
    return page_loss(outputs, batch, ConfigDict())


PAGES = Task(
    load_splits=load_pages,
    create_model=_create_net,
    image_shape=(*SHAPE, 1),
    prepare=standardise,
    augment=lambda rng, batch, config: batch,
    loss=page_loss,
    metrics={"loss": _loss, **COUNTS},
    mean_metrics=_mean_counts,
    best=BestMetric("f1", "F1"),
    describe=_describe,
    predictor=lambda net, config: net.clone(dtype="float32"),
    images_per_call=320,
)


# What finds digits of any size on reduced pages, and does not tell which they are. Then
# the page net reads them at the scale that suits it.
PROPOSALS = dataclasses.replace(
    PAGES,
    load_splits=functools.partial(load_pages, reduced=True),
    create_model=lambda config, num_classes: _create_net(config, 1),
)


def is_page_net(loaded: Loaded) -> bool:
    """Whether a model marks the digits of pages; `PROPOSALS` too."""
    return loaded.task in (PAGES, PROPOSALS)
