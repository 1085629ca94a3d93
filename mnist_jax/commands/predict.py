"""Reads pictures of handwritten digits.

  python scripts/predict.py seven.png photos/*.jpg
  python scripts/predict.py photos --recursive --format=csv --output=answers.csv
  python scripts/predict.py --read=number --draw=boxes.png invoice.jpg
  scanner | python scripts/predict.py --format=json -

Names files, folders, quoted patterns, or - for the content of a file on stdin; after
--, also those that begin with -. Each picture is "ok", "unsure", "blank" or "error";
so is each page of a PDF or a TIFF and each frame of an animation.
Answers as JSON lines or CSV are written while pictures are read; after a kill, --resume
goes on with the --output.
Pictures in folders named 0 to 9, or in a table labels.csv of files and labels, are
also counted right or wrong. Without pictures it reads some images of the run's test
split. The exit code is 0 only if every picture could be read.
"""

import contextlib
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import flags

from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_checkpoint_flags,
    define_data_dir_flags,
    define_device_flag,
    define_path_flag,
    define_reader_flags,
)
from mnist_jax.errors import ConfigError, DataError
from mnist_jax.local_files import is_stdout, is_stream, make_folder, writing
from mnist_jax.reading.reader import MIN_CONFIDENCE
from mnist_jax.run.command_lines import command_line
from mnist_jax.run.config_files import PRETRAINED, PRETRAINED_PAGES

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded
    from mnist_jax.reading.answer_files import Rows
    from mnist_jax.reading.answers import Record
    from mnist_jax.reading.paths import Source
    from mnist_jax.reading.predictions import Prediction
    from mnist_jax.reading.reader import Reader

_FLAGS = flags.FlagValues()
_WORKDIR, _PAGE_WORKDIR = define_reader_flags(_FLAGS)
_CHECKPOINT, _TRUST_CODE = define_checkpoint_flags(_FLAGS)
_READ = flags.DEFINE_enum(
    "read",
    "auto",
    ["auto", "digit", "number"],
    "auto and number read all digits; digit takes all ink for one digit.",
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
_PATHS_FROM = define_path_flag(
    _FLAGS, "paths_from", None, "File with a path on each line; - for stdin."
)
_SHARD = flags.DEFINE_string(
    "shard",
    None,
    "Read only part K of N, as in 0/4, 1/4, 2/4 and 3/4: for several machines.",
    flag_values=_FLAGS,
)
_LABELS = define_path_flag(
    _FLAGS, "labels", None, "Table (CSV) of pictures and their labels, to count."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "text",
    ["text", "json", "jsonl", "csv"],
    "How to write the answers.",
    flag_values=_FLAGS,
)
_OUTPUT = define_path_flag(
    _FLAGS, "output", None, "Write the answers into this file; - for stdout."
)
_RESUME = flags.DEFINE_bool(
    "resume",
    False,
    "Go on with the --output of a run that was stopped (jsonl, csv).",
    flag_values=_FLAGS,
)
_PLOT = define_path_flag(
    _FLAGS,
    "plot",
    None,
    "Also draw images and answers into this file (.png, .pdf, .svg).",
)
_DRAW = define_path_flag(
    _FLAGS, "draw", None, "Also draw boxes and answers on the picture, into this file."
)
_SAVE_PREPROCESSED = define_path_flag(
    _FLAGS, "save_preprocessed", None, "Folder for what the nets saw of each picture."
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
    listed = _find_sources(arguments)
    sources = _take_part(listed)
    _check_targets(sources)
    from mnist_jax.analysis import splits
    from mnist_jax.checkpoint import load
    from mnist_jax.parallel import devices
    from mnist_jax.reading import answer_text, reader

    devices.set_up(_DEVICE.value, share_memory=True)
    workdir = _WORKDIR.value or PRETRAINED
    which, trust_code = _CHECKPOINT.value, _TRUST_CODE.value
    loaded = load.load_classifier(workdir, which, trust_code=trust_code)
    if note := splits.fallback_note(loaded):
        _warn(note)
    pictures = reader.Reader(
        loaded,
        pages=None if sources is None else _load_page_net(loaded),
        read=_READ.value,  # type: ignore[arg-type]  # an enum
        top_k=_TOP_K.value,
        min_confidence=_MIN_CONFIDENCE.value,
        stages_dir=Path(_SAVE_PREPROCESSED.value) if _SAVE_PREPROCESSED.value else None,
    )
    labels = _find_labels(listed or (), pictures.class_names)
    predictions, records = _read(pictures, loaded, sources, labels)
    _write_answers(predictions, records, pictures.class_names, sources is not None)
    if _PLOT.value:
        from mnist_jax.analysis import plots

        plots.save_figure(plots.draw_predictions(predictions), _PLOT.value)
    if _DRAW.value and sources:
        _draw(sources[0], predictions)
    if note := answer_text.describe_errors(records):
        _warn(note)
    return 1 if note else 0


def _load_page_net(loaded: "Loaded") -> "Loaded | None":
    """Loads what finds the digits; None if a picture shows one thing."""
    from mnist_jax.reading import page_nets

    if page_nets.reads_pages(loaded, _READ.value):
        workdir = _PAGE_WORKDIR.value or PRETRAINED_PAGES
        return page_nets.load_page_net(workdir, _TRUST_CODE.value)
    if _PAGE_WORKDIR.value:
        raise ConfigError("--page_workdir is not for one digit (or letter) a picture")
    return None


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _find_sources(arguments: list[str]) -> "list[Source] | None":
    """Returns the pictures that the command line names; None if it names none."""
    from mnist_jax.reading import paths

    if _PATHS_FROM.value:
        if _PATHS_FROM.value == "-" and "-" in arguments:
            raise ConfigError("stdin can hold a picture, or --paths_from, but not both")
        arguments = arguments + paths.read_paths(_PATHS_FROM.value)
    if not arguments:
        return None
    found = paths.find_pictures(arguments, recursive=_RECURSIVE.value)
    if found.left_out:
        _warn(f"not read: {found.left_out}")
    return found.sources


def _take_part(sources: "list[Source] | None") -> "list[Source] | None":
    """Returns the pictures that --shard leaves to this process."""
    from mnist_jax.reading import paths

    if _SHARD.value is None:
        return sources
    if sources is None:
        raise ConfigError("--shard takes a part of pictures: name all of them")
    part = paths.take_part(sources, _SHARD.value)
    if not part:
        _warn(f"--shard={_SHARD.value}: none of the {len(sources):,} pictures is in it")
    return part


def _output() -> str | None:
    """Returns the file that the answers go into; None for stdout."""
    path: str | None = _OUTPUT.value
    return None if path is None or is_stdout(path) else path


def _check_targets(sources: "Sequence[Source] | None") -> None:
    """Raises an error now, and not after all the work, for a file it cannot write."""
    targets = {"output": _output(), "plot": _PLOT.value, "draw": _DRAW.value}
    for flag, target in targets.items():
        if target and (os.path.isdir(target) or not os.path.basename(target)):
            raise ConfigError(f"--{flag}={target} is a folder: name a file")
        if target and not is_stream(target):
            make_folder(os.path.dirname(target) or ".", f"--{flag}={target}")
    if folder := _SAVE_PREPROCESSED.value:
        make_folder(folder, f"--save_preprocessed={folder}")
    from mnist_jax.reading import answer_files

    answer_files.check_output(_output(), _FORMAT.value, resume=_RESUME.value)
    if _RESUME.value and sources is None:
        raise ConfigError("--resume goes on with pictures: name the same ones")
    if _RESUME.value and (_PLOT.value or _DRAW.value):
        raise ConfigError("--plot and --draw show all: read without --resume")
    if _PLOT.value:
        from mnist_jax.analysis import plots

        plots.check_format(_PLOT.value)
    if _DRAW.value:
        from mnist_jax.reading import annotate

        annotate.check_drawing(_DRAW.value, sources or ())


def _read_samples(reader: "Reader", loaded: "Loaded") -> "list[Prediction]":
    from mnist_jax.analysis import splits

    try:
        split = splits.load_split(
            loaded, data_dir=_DATA_DIR.value, manual_dir=_MANUAL_DIR.value
        )
    except (ConfigError, DataError) as error:
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise DataError(
            f"name a picture, as in: {command_line('predict')} my_digit.png (without "
            f"one, test images are read, and these cannot be: {reason})"
        ) from error
    return reader.read_samples(
        split.name, split.dataset, _NUM_SAMPLES.value, _SEED.value
    )


def _read(
    reader: "Reader",
    loaded: "Loaded",
    sources: "Sequence[Source] | None",
    labels: Mapping[str, str],
) -> "tuple[list[Prediction], list[Record]]":
    """Reads all pictures, and writes rows as they come.

    Returns:
      What this run read, and the records of all, with those of the run to resume.
    """
    from mnist_jax.reading import answer_files, answer_text, answers

    read: Iterable[Prediction]
    predictions = []
    with _open_rows(reader, loaded, sources or (), labels) as rows:
        start = rows.resume_at()
        records = list(rows.records)
        if sources is None:
            read = _read_samples(reader, loaded)
        else:
            read = reader.read_files(sources, labels, start)
            # Rows and a progress bar on one terminal would be mixed up.
            if _output() or _FORMAT.value not in answer_files.ROW_FORMS:
                read = answer_files.with_progress(read, len(sources), start)
        for prediction in read:
            record = answers.to_record(prediction, reader.class_names)
            rows.write(record)
            predictions.append(prediction)
            records.append(record)
    if sources and (n := answer_text.describe_unlabelled(sources, records, labels)):
        _warn(n)
    return predictions, records


def _find_labels(
    sources: "Sequence[Source]", class_names: Sequence[str]
) -> dict[str, str]:
    from mnist_jax.reading import labels

    names = [source.name for source in sources if source.content is None]
    found = labels.find_labels(names, class_names, _LABELS.value)
    if found.left_out:
        _warn(f"labels: {found.left_out}")
    return found.by_name


def _open_rows(
    reader: "Reader",
    loaded: "Loaded",
    sources: "Sequence[Source]",
    labels: Mapping[str, str],
) -> "contextlib.AbstractContextManager[Rows]":
    """Opens what gets each answer as it comes; nothing does if they are one text."""
    from mnist_jax.reading import answer_files

    form, path = _FORMAT.value, _output()
    if form not in answer_files.ROW_FORMS:
        return contextlib.nullcontext(answer_files.Rows())
    if not path:
        return contextlib.nullcontext(answer_files.PrintedRows(form))
    settings = [form, _READ.value, _TOP_K.value, _MIN_CONFIDENCE.value, _SHARD.value]
    weights = [loaded.metadata, reader.page_metadata]
    run = answer_files.describe_run(weights, sources, labels, settings)
    return answer_files.RowFile(path, form, run, resume=_RESUME.value)


def _write_answers(
    predictions: "Sequence[Prediction]",
    records: "Sequence[Record]",
    class_names: Sequence[str],
    counted: bool,
) -> None:
    """Writes the answers, but for rows, which are written already."""
    from mnist_jax.reading import answer_files, answer_text, answers, score

    report = score.score_labels(records, class_names)
    if _FORMAT.value in answer_files.ROW_FORMS:
        if report:
            print(report.to_text(), file=sys.stderr)
        return
    if _FORMAT.value == "json":
        text = answers.to_json(records, report.to_dict() if report else None)
    else:
        text = answer_text.to_text(predictions)
        if not counted:
            right = sum(prediction.is_right for prediction in predictions)
            text += f"\n{right} of {len(predictions)} right"
        elif report:
            text += f"\n\n{report.to_text()}"
    if path := _output():
        with writing(f"--output={path}"):
            answer_files.write_file(path, text + "\n")
    else:
        print(text)


def _draw(source: "Source", pages: "Sequence[Prediction]") -> None:
    from mnist_jax.reading import annotate, files

    if len(pages) > 1:
        _warn(f"--draw shows the first of the {len(pages):,} pages of {source.name!r}")
    if pages[0].status == "error":
        return
    drawn = annotate.draw_answers(files.read_picture(source.place), pages[0].digits)
    annotate.save_picture(drawn, _DRAW.value)


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`.

    A shell replaces * by names as they are, so a file's name may look like a flag.
    """
    for i, argument in enumerate(sys.argv[1:], 1):
        if argument == "--":
            break
        if argument != "-" and argument.startswith("-") and os.path.isfile(argument):
            sys.argv[i] = f"./{argument}"
    run_command(main, _FLAGS, needs_stdout=lambda: not _output())


if __name__ == "__main__":
    run()
