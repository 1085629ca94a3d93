"""Evaluation: every image of a split counts, once, for any batch size."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from mnist_jax.config import ConfigDict
from mnist_jax.data import (
    Dataset,
    DatasetSource,
    load_dataset,
    load_splits,
    normalize,
    resolve_dataset,
)
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.metrics import Metrics, mean_metrics, summed_metrics
from mnist_jax.models.create import Model
from mnist_jax.models.ensemble import Ensemble
from mnist_jax.parallel import shards
from mnist_jax.parallel.seeds import over_seeds, unstack

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded

PyTree = Any
Batch = dict[str, Any]
EvalStep = Callable[[PyTree, Batch], Metrics]


# The model is static, so jit compiles once for each model, whoever asks.
@functools.partial(jax.jit, static_argnums=0)
def _logits(model: Model, variables: PyTree, images: jax.Array) -> jax.Array:
    logits: Any = model.apply(variables, normalize(images), train=False)
    return logits


@functools.partial(jax.jit, static_argnums=0)
def _eval_step(model: Model, variables: PyTree, batch: Batch) -> Metrics:
    logits = _logits(model, variables, batch["image"])
    return summed_metrics(logits, batch["label"], batch["mask"])


def make_eval_step(model: Model) -> EvalStep:
    """Returns the jitted `(variables, batch) -> summed metrics` of a model.

    A batch holds `image` uint8 [B, 28, 28, 1], `label` int32 [B] and `mask` bool [B],
    False for padding; the sums are those of `metrics.summed_metrics`.
    """
    return functools.partial(_eval_step, model)


def make_sharded_eval_step(model: Model, num_shards: int, mesh: Mesh) -> EvalStep:
    """As `make_eval_step`, with each batch spread over the devices of a mesh."""

    def eval_step(variables: PyTree, batch: Batch) -> Metrics:
        def of_shard(shard: Batch, _: jax.Array) -> Metrics:
            return _eval_step(model, variables, shard)

        sums: Metrics = shards.sum_over_shards(of_shard, num_shards, batch)
        return sums

    sharded: EvalStep = shards.jit_over_shards(eval_step, mesh)
    return sharded


def compile_eval_step(
    eval_step: EvalStep, variables: PyTree, dataset: Dataset, batch_size: int
) -> None:
    """Compiles what `evaluate` of such arguments will need, by running it on zeros.

    Args:
      eval_step: from `make_eval_step`.
      variables: `jax.ShapeDtypeStruct`s.
      dataset: as for `evaluate`.
      batch_size: as for `evaluate`.
    """
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    eval_step(zeros, next(_batches(dataset, batch_size)))


def evaluate(
    eval_step: EvalStep, variables: PyTree, dataset: Dataset, batch_size: int
) -> dict[str, Any]:
    """Evaluates on the whole data set, the last, short batch included.

    Args:
      eval_step: from `make_eval_step`.
      variables: what `model.apply` takes.
      dataset: N > 0 images and labels.
      batch_size: images in each call; any number gives the same counts.

    Returns:
      `loss` (nats) and `accuracy` (0 to 1), means over the N images; `correct` and
      `count` (N), integers.
    """
    # Fetched at the end only, so that the device never waits for Python.
    sums = [eval_step(variables, batch) for batch in _batches(dataset, batch_size)]
    return mean_metrics(sums)


def predict_logits(
    model: Model,
    variables: PyTree,
    images: np.ndarray,
    batch_size: int,
    num_shards: int = 1,
) -> np.ndarray:
    """Runs the model on any number of images.

    Args:
      model: the linen module.
      variables: what `model.apply` takes.
      images: uint8 [N, 28, 28, 1], white on black, N > 0.
      batch_size: images in each call.
      num_shards: parts of a batch, which the devices share; enters the last digits.

    Returns:
      float32 [N, C].
    """
    dataset = Dataset(images, np.zeros(len(images), np.int32))
    logits = functools.partial(_logits, model)
    if num_shards > 1:
        mesh = shards.make_mesh(num_shards)
        logits = _sharded_logits(model, num_shards, mesh)
        variables = jax.device_put(jax.device_get(variables), shards.replicated(mesh))
    outputs = [
        logits(variables, batch["image"]) for batch in _batches(dataset, batch_size)
    ]
    return np.concatenate([np.asarray(x, np.float32) for x in outputs])[: len(images)]


@functools.cache
def _sharded_logits(model: Model, num_shards: int, mesh: Mesh) -> Any:
    def logits(variables: PyTree, images: jax.Array) -> jax.Array:
        of_shard = functools.partial(_logits, model, variables)
        return shards.map_over_shards(of_shard, num_shards, images)

    return shards.jit_over_shards(logits, mesh)


def _batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Batches of one size, as each size compiles anew: the last is filled with zeros.

    Raises:
      ValueError: there is nothing to make a batch of.
    """
    count = len(dataset.labels)
    if not count or batch_size < 1:
        raise ValueError(f"cannot make batches of {batch_size} of {count} images")
    # Of few sizes, so that a program compiled for one number of images serves others.
    batch_size = min(batch_size, 2 ** (count - 1).bit_length())
    for start in range(0, count, batch_size):
        images = dataset.images[start : start + batch_size]
        labels = dataset.labels[start : start + batch_size]
        mask = np.arange(batch_size) < len(labels)
        if padding := batch_size - len(labels):
            images = np.pad(images, [(0, padding), (0, 0), (0, 0), (0, 0)])
            labels = np.pad(labels, (0, padding))
        yield {"image": images, "label": labels, "mask": mask}


class LabelledSplit(NamedTuple):
    """A split that a model can be evaluated on."""

    source: DatasetSource
    name: str  # such as "mnist/test"
    dataset: Dataset


def load_split(
    loaded: "Loaded",
    dataset: str | None = None,
    split: str | None = None,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> LabelledSplit:
    """Loads what a model is to be evaluated on.

    Args:
      loaded: from `load.load_model`.
      dataset: name of a data set; None for the one that the model was trained on.
      split: split expression of tfds; None for the config's `test_split`. Of a data
        set without a split "validation", that is what the run held out of training.
      data_dir: folder of tfds data sets; None for tfds's own default.
      manual_dir: folder with the original archives, if there is one.

    Raises:
      DataError: it cannot be had, or has other classes than the model.
    """
    trained_on = loaded.metadata["dataset"]
    source = resolve_dataset(
        dataset or trained_on["name"], data_dir=data_dir, manual_dir=manual_dir
    )
    if source.num_classes != trained_on["num_classes"]:
        raise DataError(
            f"{source.name} has {source.num_classes} classes, but the model knows the "
            f"{trained_on['num_classes']} of {trained_on['name']}"
        )
    split = split or loaded.config.test_split
    if split == "validation" and split not in source.splits:
        if source.name != trained_on["name"]:
            raise ConfigError(f"the run held out no images of {source.name}")
        held_out = load_held_out(loaded, data_dir, manual_dir)
        return LabelledSplit(source, f"{source.name}/validation", held_out)
    return LabelledSplit(source, f"{source.name}/{split}", load_dataset(source, split))


def load_held_out(
    loaded: "Loaded", data_dir: str | None = None, manual_dir: str | None = None
) -> Dataset:
    """Loads the images that the run of a model held out of training.

    Raises:
      ConfigError: it held none out.
      DataError: the data cannot be had.
    """
    config = ConfigDict(loaded.config.to_dict())
    config.styled_digits = config.negatives = 0
    config.dataset = loaded.metadata["dataset"]["name"]  # not one it fell back from
    held_out = load_splits(config, data_dir, manual_dir).validation
    if held_out is None:
        raise ConfigError(
            "the run held no images out of training: train with config.validation"
        )
    return held_out


def measure_members(loaded: "Loaded", dataset: Dataset) -> dict[str, float]:
    """How the members of an ensemble do by themselves.

    Returns:
      As `seeds.over_seeds`: `accuracy`, `accuracy_sd`, `loss` (nats, at temperature 1),
      `num_seeds` and so on; of what is no ensemble, nothing.
    """
    if not isinstance(loaded.model, Ensemble):
        return {}
    eval_step = make_eval_step(loaded.model.member)
    each = [
        evaluate(eval_step, variables, dataset, loaded.config.eval_batch_size)
        for variables in unstack(loaded.variables, loaded.config.num_seeds)
    ]
    return over_seeds(each)


def fallback_note(loaded: "Loaded") -> str:
    """Says so if a model was not trained on what its config names; else ""."""
    trained_on = loaded.metadata["dataset"]
    if not trained_on["fallback_for"]:
        return ""
    return (
        f"this model was NOT trained on {trained_on['fallback_for']}, which could not "
        f"be had, but on {trained_on['name']}"
    )
