"""Reads pictures of handwritten digits.

  python scripts/predict.py seven.png photos/*.jpg
  python scripts/predict.py photos --recursive --format=csv --output=answers.csv
  python scripts/predict.py --read=number --draw=boxes.png invoice.jpg
  scanner | python scripts/predict.py --format=json -

Names files, folders, quoted patterns, or - for the content of a file on stdin; after
--, also those that begin with -. Each picture is "ok", "unsure", "blank" or "error".
Pictures in folders named 0 to 9, or in a table labels.csv of files and labels, are
also counted right or wrong. Without pictures it reads some images of the run's test
split. The exit code is 0 only if every picture could be read.
"""

import contextlib
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import flags

from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_checkpoint_flags,
    define_data_dir_flags,
    define_device_flag,
)
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.reading.reader import MIN_CONFIDENCE
from mnist_jax.run.config_files import PRETRAINED

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded
    from mnist_jax.reading.paths import Source
    from mnist_jax.reading.reader import Prediction, Reader

_MANY = 20  # with more pictures than these, a progress bar is shown

_FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of a training run; by default that of the weights that come along.",
    flag_values=_FLAGS,
)
_CHECKPOINT, _TRUST_CODE = define_checkpoint_flags(_FLAGS)
_READ = flags.DEFINE_enum(
    "read",
    "auto",
    ["auto", "digit", "number"],
    "One digit in each picture, or several; auto decides for each picture.",
    flag_values=_FLAGS,
)
_TOP_K = flags.DEFINE_integer(
    "top_k",
    1,
    "How many of the likeliest digits to give.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MIN_CONFIDENCE = flags.DEFINE_float(
    "min_confidence",
    MIN_CONFIDENCE,
    'What is less sure is "unsure".',
    lower_bound=0,
    upper_bound=1,
    flag_values=_FLAGS,
)
_RECURSIVE = flags.DEFINE_bool(
    "recursive",
    False,
    "Also read folders inside folders; links are not followed.",
    flag_values=_FLAGS,
)
_PATHS_FROM = flags.DEFINE_string(
    "paths_from",
    None,
    "File with a path on each line; - for stdin.",
    flag_values=_FLAGS,
)
_LABELS = flags.DEFINE_string(
    "labels",
    None,
    "Table (CSV) of pictures and labels, to count what is right.",
    flag_values=_FLAGS,
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "text",
    ["text", "json", "jsonl", "csv"],
    "How to write the answers.",
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Write the answers into this file.", flag_values=_FLAGS
)
_PLOT = flags.DEFINE_string(
    "plot",
    None,
    "Also draw images and answers into this file (.png, .pdf, .svg).",
    flag_values=_FLAGS,
)
_DRAW = flags.DEFINE_string(
    "draw",
    None,
    "Also draw boxes and answers on the picture, into this file.",
    flag_values=_FLAGS,
)
_SAVE_PREPROCESSED = flags.DEFINE_string(
    "save_preprocessed",
    None,
    "Folder for how each picture became the model's input.",
    flag_values=_FLAGS,
)
_DEVICE = define_device_flag(_FLAGS)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples",
    16,
    "Without pictures: how many test images.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Without pictures: which test images.", lower_bound=0, flag_values=_FLAGS
)
_DATA_DIR, _MANUAL_DIR = define_data_dir_flags(_FLAGS)


def main(arguments: list[str]) -> int:
    """Writes what the pictures were read as; returns the exit code."""
    sources = _find_sources(arguments)
    _check_targets(sources)
    from mnist_jax.analysis import splits
    from mnist_jax.checkpoint import load
    from mnist_jax.parallel import devices
    from mnist_jax.reading import reader

    devices.set_up(_DEVICE.value)
    workdir = _WORKDIR.value or PRETRAINED
    which, trust_code = _CHECKPOINT.value, _TRUST_CODE.value
    loaded = load.load_classifier(workdir, which, trust_code=trust_code)
    if note := splits.fallback_note(loaded):
        print(f"warning: {note}", file=sys.stderr)
    pictures = reader.Reader(
        loaded,
        read=_READ.value,  # type: ignore[arg-type]  # an enum
        top_k=_TOP_K.value,
        min_confidence=_MIN_CONFIDENCE.value,
        stages_dir=Path(_SAVE_PREPROCESSED.value) if _SAVE_PREPROCESSED.value else None,
    )
    if sources is None:
        predictions = _read_samples(pictures, loaded)
    else:
        predictions = _read_files(pictures, sources)
    _write_answers(predictions, pictures.class_names, counted=sources is not None)
    if _PLOT.value:
        from mnist_jax.analysis import plots

        plots.save_figure(plots.draw_predictions(predictions), _PLOT.value)
    if _DRAW.value and sources:
        _draw(sources[0], predictions[0])
    failed = [p for p in predictions if p.status == "error"]
    if failed:
        count = f"{len(failed):,} of {len(predictions):,} pictures could not be read"
        first = f"{failed[0].source!r}: {failed[0].error}"
        print(f"warning: {count}, the first: {first}", file=sys.stderr)
    return 1 if failed else 0


def _find_sources(arguments: list[str]) -> "list[Source] | None":
    """Returns the pictures that the command line names; None if it names none."""
    from mnist_jax.reading import paths

    if _PATHS_FROM.value:
        if _PATHS_FROM.value == "-" and "-" in arguments:
            raise ConfigError("stdin can hold a picture, or --paths_from, but not both")
        arguments = arguments + paths.read_paths(_PATHS_FROM.value)
    if not arguments:
        return None
    return paths.find_pictures(arguments, recursive=_RECURSIVE.value)


def _check_targets(sources: "Sequence[Source] | None") -> None:
    """Raises an error now, and not after all the work, for a file it cannot write."""
    targets = {"output": _OUTPUT.value, "plot": _PLOT.value, "draw": _DRAW.value}
    for flag, target in targets.items():
        if target and os.path.isdir(target):
            raise ConfigError(f"--{flag}={target} is a folder: name a file")
    folders = [os.path.dirname(target) for target in targets.values() if target]
    for folder in [*folders, _SAVE_PREPROCESSED.value]:
        try:
            os.makedirs(folder or ".", exist_ok=True)
        except OSError as error:
            reason = f"{error.strerror}: {folder}"
            raise ConfigError(f"cannot make a folder: {reason}") from error
    if _PLOT.value:
        from mnist_jax.analysis import plots

        plots.check_format(_PLOT.value)
    if _DRAW.value:
        from mnist_jax.reading.files import SUFFIXES

        suffix = os.path.splitext(_DRAW.value)[1].lower()
        if suffix not in SUFFIXES - {".npy"}:
            raise ConfigError(f"--draw={_DRAW.value}: end the name with .png")
        if sources is None or len(sources) != 1:
            count = len(sources or ())
            raise ConfigError(f"--draw takes one picture, and {count:,} are given")
        with contextlib.suppress(OSError):
            if os.path.samefile(_DRAW.value, sources[0].name):
                raise ConfigError(f"--draw={_DRAW.value} is the picture to be read")


def _read_samples(reader: "Reader", loaded: "Loaded") -> "list[Prediction]":
    from mnist_jax.analysis import splits

    try:
        split = splits.load_split(
            loaded, data_dir=_DATA_DIR.value, manual_dir=_MANUAL_DIR.value
        )
    except (ConfigError, DataError) as error:
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise DataError(
            "name a picture, as in: python scripts/predict.py my_digit.png (without "
            f"one, test images are read, and these cannot be: {reason})"
        ) from error
    return reader.read_samples(
        split.name, split.dataset, _NUM_SAMPLES.value, _SEED.value
    )


def _read_files(reader: "Reader", sources: "Sequence[Source]") -> "list[Prediction]":
    from mnist_jax.reading import answers, labels

    names = [source.name for source in sources if source.content is None]
    found = labels.find_labels(names, reader.class_names, _LABELS.value)
    if _LABELS.value and not found:
        print(f"warning: {_LABELS.value} names none of the pictures", file=sys.stderr)
    rows: Iterator[Prediction] = reader.read_files(sources, found)
    streams = _FORMAT.value == "jsonl" and not _OUTPUT.value
    # Rows and a progress bar on one terminal would be mixed up.
    if len(sources) > _MANY and sys.stderr.isatty() and not streams:
        from tqdm import tqdm

        rows = tqdm(rows, "reading", len(sources), leave=False, unit="picture")
    predictions = []
    for prediction in rows:
        if streams:
            print(answers.to_json_line(prediction, reader.class_names), flush=True)
        predictions.append(prediction)
    return predictions


def _write_answers(
    predictions: "Sequence[Prediction]", class_names: Sequence[str], counted: bool
) -> None:
    """Writes the answers, but for lines of JSON that are printed already."""
    from mnist_jax.reading import answers, labels

    report = labels.score_labels(predictions, class_names) if counted else None
    if _FORMAT.value == "text":
        text = answers.to_text(predictions)
        if report:
            text += f"\n\n{report.to_text()}"
        elif not counted:
            right = sum(prediction.is_right for prediction in predictions)
            text += f"\n{right} of {len(predictions)} right"
    elif _FORMAT.value == "json":
        summary = report.to_dict() if report else None
        text = answers.to_json(predictions, class_names, summary)
    elif _FORMAT.value == "csv":
        text = answers.to_csv(predictions, class_names)
    else:
        lines = [answers.to_json_line(p, class_names) for p in predictions]
        text = "\n".join(lines) if _OUTPUT.value or not counted else ""
    if report and _FORMAT.value in ("csv", "jsonl"):  # every row there is an answer
        print(report.to_text(), file=sys.stderr)
    if _OUTPUT.value:
        answers.write_file(_OUTPUT.value, text + "\n")
    elif text:
        print(text)


def _draw(source: "Source", prediction: "Prediction") -> None:
    from mnist_jax.reading import annotate, reader

    if prediction.status == "error":
        return
    drawn = annotate.draw_answers(reader.load_picture(source), prediction.digits)
    annotate.save_picture(drawn, str(_DRAW.value))


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`.

    A shell replaces * by names as they are, so a file's name may look like a flag.
    """
    for i, argument in enumerate(sys.argv[1:], 1):
        if argument == "--":
            break
        if argument != "-" and argument.startswith("-") and os.path.isfile(argument):
            sys.argv[i] = f"./{argument}"
    run_command(main, _FLAGS, needs_stdout=lambda: not _OUTPUT.value)


if __name__ == "__main__":
    run()
