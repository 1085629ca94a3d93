"""Loads what a trained model is evaluated on; by default, its own run's test split."""

from typing import NamedTuple

from mnist_jax.checkpoint.load import Loaded
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset, Splits, load_splits
from mnist_jax.datasets.cache import load_dataset
from mnist_jax.datasets.sources import DatasetSource, resolve_dataset
from mnist_jax.datasets.split_overlap import count_shared, explain_no_test
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.evaluate import evaluate, make_eval_step
from mnist_jax.models.ensemble import Ensemble
from mnist_jax.parallel.seeds import over_seeds, unstack
from mnist_jax.reading.page_task import PROPOSALS, is_page_net, make_held_out


class LabelledSplit(NamedTuple):
    """A split that a model can be evaluated on."""

    source: DatasetSource
    name: str  # such as "mnist/test"
    dataset: Dataset
    note: str = ""  # that the model was trained on some of it; or ""
    conditions: tuple[str, ...] = ()  # of each page, if these are pages


def load_split(
    loaded: Loaded,
    dataset: str | None = None,
    split: str | None = None,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> LabelledSplit:
    """Loads the split that a model is to be evaluated on.

    Args:
      loaded: from `load.load_model`.
      dataset: name of a data set; None for the one that the model was trained on.
      split: split expression of tfds; None for the config's `test_split`. If the data
        set has no split "validation", that name stands for the images that the run held
        out of training. A page net has pages of "test", which are written with images
        of that `test_split`, or of "validation".
      data_dir: folder of tfds data sets; None for tfds's own default.
      manual_dir: folder with the original archives, if there is one.

    Raises:
      ConfigError: "validation" is asked for, and the run held out no such images; the
        test split is asked for, and the run trained on some of it; or another split or
        data set is asked for than there are pages of.
      DataError: the data cannot be loaded, or has other classes than the model.
    """
    if is_page_net(loaded):
        return _load_pages(loaded, dataset, split or "test", data_dir, manual_dir)
    trained_on = loaded.metadata["dataset"]
    source = resolve_dataset(
        dataset or trained_on["name"],
        data_dir=data_dir,
        manual_dir=manual_dir,
        data_folder=loaded.config.get("data_folder", ""),
        validation=loaded.config.get("validation", 0),
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
    note = ""
    if source.name == trained_on["name"]:
        if split == loaded.config.test_split:
            _check_test(loaded, source)
        note = _trained_note(loaded, source, split)
    data = load_dataset(source, split)
    return LabelledSplit(source, f"{source.name}/{split}", data, note)


def _load_pages(
    loaded: Loaded,
    dataset: str | None,
    split: str,
    data_dir: str | None,
    manual_dir: str | None,
) -> LabelledSplit:
    """Makes the pages that a page net was measured on while it trained."""
    if dataset:
        raise ConfigError(
            "the pages of a page net are written with images that its run held out of "
            "training: leave out --dataset"
        )
    if split not in ("test", "validation"):
        raise ConfigError(
            f"--split={split}: a page net is evaluated on pages that are made, those "
            "of test or those of validation"
        )
    digits = _load_own_digits(loaded, data_dir, manual_dir)
    if split == "test" and (why := digits.no_test_figure):
        instead = "; --split=validation has pages of images that were held out"
        raise ConfigError(
            f"no test figure is given: {why}{instead * (digits.validation is not None)}"
        )
    images = digits.test if split == "test" else _check_held_out(digits.validation)
    made = make_held_out(split, images, loaded.task is PROPOSALS)
    name = f"pages of {digits.source.name}/{split}"
    pages = Dataset(made.images, made.labels)
    return LabelledSplit(digits.source, name, pages, conditions=made.conditions)


def _check_test(loaded: Loaded, source: DatasetSource) -> None:
    """Refuses a test on what was trained on, of old checkpoints too."""
    if why := explain_no_test(source, loaded.config):
        held_out = loaded.config.get("validation", 0)
        instead = "--split=validation has images that were held out, and " * bool(
            held_out
        )
        raise ConfigError(
            f"no test figure is given: {why}; {instead}--dataset=NAME names other data"
        )


def _trained_note(loaded: Loaded, source: DatasetSource, split: str) -> str:
    train_split = loaded.config.train_split
    if not (shared := count_shared(source, split, train_split)):
        return ""
    held_out = loaded.config.get("validation", 0)
    but = ""
    if held_out and "validation" not in source.splits:
        but = f", but for the {held_out:,} held out of that"
    return (
        f"{shared:,} of these images are in config.train_split = {train_split!r}, "
        f"which the model was trained on{but}: this is no test"
    )


def load_held_out(
    loaded: Loaded, data_dir: str | None = None, manual_dir: str | None = None
) -> Dataset:
    """Loads the images that the run of a model held out of training.

    Raises:
      ConfigError: it held out none.
      DataError: the data cannot be loaded.
    """
    return _check_held_out(_load_own_digits(loaded, data_dir, manual_dir).validation)


def _load_own_digits(
    loaded: Loaded, data_dir: str | None, manual_dir: str | None
) -> Splits:
    """Loads the digits of a run, without the images that are made for training."""
    config = ConfigDict(loaded.config.to_dict())
    config.styled_digits = config.negatives = 0
    config.dataset = loaded.metadata["dataset"]["name"]  # it may be a fallback
    return load_splits(config, data_dir, manual_dir)


def _check_held_out(held_out: Dataset | None) -> Dataset:
    if held_out is None:
        raise ConfigError(
            "the run held no images out of training: train with config.validation"
        )
    return held_out


def evaluate_members(loaded: Loaded, dataset: Dataset) -> dict[str, float]:
    """Evaluates each member of an ensemble alone.

    Returns:
      What `seeds.over_seeds` returns: `accuracy`, `accuracy_sd`, `loss` (nats, at
      temperature 1), `num_seeds` and so on. Empty if the model is no ensemble.
    """
    if not isinstance(loaded.model, Ensemble):
        return {}
    eval_step = make_eval_step(loaded.model.member, loaded.task)
    size = loaded.config.eval_batch_size
    each = [
        evaluate(eval_step, variables, dataset, size, loaded.task.mean_metrics)
        for variables in unstack(loaded.variables, loaded.config.num_seeds)
    ]
    return over_seeds(each)


def fallback_note(loaded: Loaded) -> str:
    """Returns a warning if a model was not trained on the data set that its config
    names, because that could not be loaded; else "".
    """
    trained_on = loaded.metadata["dataset"]
    if not trained_on["fallback_for"]:
        return ""
    return (
        f"this model was NOT trained on {trained_on['fallback_for']}, which could not "
        f"be had, but on {trained_on['name']}"
    )
