"""Measures a trained model on every image of a split, and draws figures.

  python scripts/evaluate.py
  python scripts/evaluate.py --workdir=checkpoints/mine --split=train[:5000]
  python scripts/evaluate.py --json > evaluation.json
  python scripts/evaluate.py --corruptions --report
  python scripts/evaluate.py --workdir=checkpoints/one --workdir=checkpoints/two
  python scripts/evaluate.py --pictures=100

Only the workdir is needed: model and data set are stored beside the weights. Several
are ranked, by the images that all held out of training and never by test, as the best
of several by test looks better than it is. --split=validation gives those images.
With --corruptions it also reads the split under fifteen corruptions, each at five
severities. With --pictures it reads made pictures instead: photos, scans and drawings
under many conditions, of digits that were held out of training, and of what is no
digit. Page nets are measured by the conditions of made pages.
"""

import json
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from absl import flags

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_checkpoint_flags,
    define_data_dir_flags,
    define_device_flag,
    define_paths_flag,
    define_process_flags,
    join_processes,
)
from mnist_jax.errors import ConfigError
from mnist_jax.local_files import check_can_write
from mnist_jax.run.command_lines import command_line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from mnist_jax.analysis.classification import Evaluation
    from mnist_jax.analysis.corruptions import Robustness
    from mnist_jax.analysis.page_scores import PageEvaluation
    from mnist_jax.analysis.splits import LabelledSplit
    from mnist_jax.checkpoint.load import Loaded

_FLAGS = flags.FlagValues()
_WORKDIR = define_paths_flag(
    _FLAGS,
    "workdir",
    ["checkpoints/default"],
    "Folder of a training run; several to rank.",
)
_CHECKPOINT, _TRUST_CODE = define_checkpoint_flags(_FLAGS)
_SPLIT = flags.DEFINE_string(
    "split",
    None,
    "Any split expression of tfds; by default the run's test split.",
    flag_values=_FLAGS,
)
_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "A data set; by default the one that the run was trained on.",
    flag_values=_FLAGS,
)
_JSON = flags.DEFINE_bool(
    "json", False, "Print JSON in place of the table.", flag_values=_FLAGS
)
_PICTURES = flags.DEFINE_integer(
    "pictures",
    None,
    "Read so many made pictures of each condition.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_CORRUPTIONS = flags.DEFINE_bool(
    "corruptions",
    False,
    "Measure on corrupted images too, in the manner of MNIST-C.",
    flag_values=_FLAGS,
)
_REPORT = flags.DEFINE_bool(
    "report",
    False,
    "Write all of it into one page, WORKDIR/report.html.",
    flag_values=_FLAGS,
)
_FIGURES = flags.DEFINE_bool(
    "figures", True, "Draw figures into WORKDIR/figures.", flag_values=_FLAGS
)
_DEVICE = define_device_flag(_FLAGS)
_DATA_DIR, _MANUAL_DIR = define_data_dir_flags(_FLAGS)
_PROCESSES = define_process_flags(_FLAGS)


def main(arguments: list[str]) -> None:
    """Prints the report and writes the figures."""
    refuse_arguments(arguments)
    from mnist_jax.analysis import splits
    from mnist_jax.checkpoint import load
    from mnist_jax.parallel import devices
    from mnist_jax.reading import page_task

    flags_of_work = (_CHECKPOINT, _SPLIT, _DATASET, _PICTURES, _CORRUPTIONS)
    join_processes(_PROCESSES, {f"--{flag.name}": flag.value for flag in flags_of_work})
    devices.set_up(_DEVICE.value, num_cpu_devices=_PROCESSES.num_cpu_devices.value)
    if len(_WORKDIR.value) > 1:
        _rank()
        return
    (workdir,) = _WORKDIR.value
    which, trust_code = _CHECKPOINT.value, _TRUST_CODE.value
    loaded = load.load_model(workdir, which, trust_code=trust_code)
    if page_task.is_page_net(loaded):
        _refuse_flags_of_digits()
    else:
        load.check_classifier(loaded, workdir)
    if _PICTURES.value:
        _read_pictures(workdir, loaded, _PICTURES.value)
        return
    split = splits.load_split(
        loaded,
        _DATASET.value,
        _SPLIT.value,
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
    )
    _check_targets(workdir)
    _evaluate(workdir, loaded, split)


def _refuse_flags_of_digits() -> None:
    """Raises an error if a flag is given that a page net has no use for."""
    for flag in (_CORRUPTIONS, _PICTURES):
        if flag.value:
            raise ConfigError(
                f"--{flag.name} is for nets of 28x28 images, and this run is a page "
                "net, whose pages are photographed under all conditions: leave it out"
            )


def _read_pictures(workdir: str, loaded: "Loaded", per_condition: int) -> None:
    """Makes pictures, reads them, and prints a line for each condition."""
    from mnist_jax.analysis import splits
    from mnist_jax.simulation import simulator

    held_out = splits.load_held_out(loaded, _DATA_DIR.value, _MANUAL_DIR.value)
    print(f"model        {workdir}, step {loaded.step:,}")
    print(f"pictures     {per_condition:,} of each condition\n", flush=True)
    found = simulator.measure_conditions(loaded, *held_out, per_condition)
    print(simulator.format_conditions(found))


def _check_targets(workdir: str) -> None:
    """Raises an error now, and not after all the work, if it cannot write files."""
    from mnist_jax.parallel import shards

    folder = f"into --workdir={workdir}"
    if _FIGURES.value and shards.is_primary():
        figures = Path(workdir) / "figures"
        check_can_write(figures, f"figures {folder}", "--nofigures leaves them out")
    if _REPORT.value and shards.is_primary():
        check_can_write(workdir, f"report.html {folder}", "or leave --report out")


def _rank() -> None:
    """Prints a table of several runs, by validation."""
    from mnist_jax.analysis import ranking
    from mnist_jax.checkpoint import load
    from mnist_jax.reading import page_task

    if _SPLIT.value not in (None, "validation") or _DATASET.value:
        raise ConfigError(
            "several runs are ranked by validation only: the best of several by "
            f"{_SPLIT.value or _DATASET.value} would look better than it is; leave out "
            "--split and --dataset, or give one --workdir"
        )
    for flag in (_REPORT, _CORRUPTIONS, _PICTURES):
        if flag.value:
            raise ConfigError(f"--{flag.name} is of one run: give one --workdir")
    which, trust_code = _CHECKPOINT.value, _TRUST_CODE.value
    runs = []
    for workdir in _WORKDIR.value:
        loaded = load.load_model(workdir, which, trust_code=trust_code)
        if page_task.is_page_net(loaded):
            raise ConfigError(
                f"only nets of 28x28 images are ranked, and {workdir!r} is a page net: "
                "give it as the one --workdir"
            )
        load.check_classifier(loaded, workdir)
        runs.append((workdir, loaded))
    ranked = ranking.rank(runs, _DATA_DIR.value, _MANUAL_DIR.value)
    if _JSON.value:
        print(json.dumps(ranking.ranking_to_dict(ranked), indent=2))
    else:
        print(ranking.format_ranking(ranked))


def _evaluate(workdir: str, loaded: "Loaded", split: "LabelledSplit") -> None:
    """Prints the report on one run, and writes its figures and its page."""
    from mnist_jax.analysis import splits
    from mnist_jax.parallel import shards

    note = "; ".join(filter(None, (splits.fallback_note(loaded), split.note)))
    if not _JSON.value:
        _print_head(workdir, loaded, split, note)
    found = _Findings(
        _score(loaded, split),
        loaded.task.best.name,
        splits.evaluate_members(loaded, split.dataset),
        note,
        _measure_corruptions(loaded, split) if _CORRUPTIONS.value else None,
    )
    if _JSON.value:
        _print_json(workdir, loaded, split, found)
    else:
        _print_table(found)
    if (_FIGURES.value or _REPORT.value) and shards.is_primary():
        written = _write_files(workdir, loaded, split, found)
        print("\n" + "\n".join(written), file=sys.stderr if _JSON.value else sys.stdout)


def _score(loaded: "Loaded", split: "LabelledSplit") -> "Evaluation | PageEvaluation":
    from mnist_jax.analysis import classification, page_scores
    from mnist_jax.run import inference

    num_shards = loaded.config.get("num_shards", 1)
    outputs = inference.predict_loaded(loaded, split.dataset.images, num_shards)
    if split.conditions:
        return page_scores.score_pages(outputs, split.dataset, split.conditions)
    outputs /= loaded.temperature
    class_names = list(split.source.class_names)
    return classification.score_answers(outputs, split.dataset.labels, class_names)


class _Findings(NamedTuple):
    """What was measured of one run."""

    evaluation: "Evaluation | PageEvaluation"
    metric: str  # which one is best on validation, a key of `members`
    members: dict[str, float]  # of an ensemble, each by itself; else empty
    note: str  # that it was trained on other data than it should, or on these; or ""
    robustness: "Robustness | None"


def _print_json(
    workdir: str, loaded: "Loaded", split: "LabelledSplit", found: _Findings
) -> None:
    head = {
        "workdir": workdir,
        "step": loaded.step,
        "evaluated_on": split.name,
        "trained_on": loaded.metadata["dataset"]["name"],
        "note": found.note,
        "class_names": list(split.source.class_names),
    }
    report = head | found.evaluation.to_dict()
    if found.members:
        report["members"] = found.members
    if found.robustness:
        report["corruptions"] = found.robustness.to_dict()
    print(json.dumps(report, indent=2))


def _print_head(
    workdir: str, loaded: "Loaded", split: "LabelledSplit", note: str
) -> None:
    """Prints what is measured, before that takes its time."""
    print(f"model        {workdir}, step {loaded.step:,}")
    _print_wrapped("data", f"{split.name}: {split.source.description}")
    if note:
        _print_wrapped("WARNING", note)
    if loaded.temperature != 1:
        _print_wrapped(
            "temperature",
            f"{loaded.temperature:.3f}, by which logits are divided: loss and "
            "calibration are with it, and train.py's loss was without",
        )
    sys.stdout.flush()


def _print_table(found: _Findings) -> None:
    if members := found.members:
        name = found.metric
        _print_wrapped(
            "members",
            f"{members['num_seeds']} alone: {name} {members[name]:.3%} (sd "
            f"{100 * members[f'{name}_sd']:.3f} %), loss {members['loss']:.4f} (sd"
            f" {members['loss_sd']:.4f}); below is what they answer together",
        )
    print(found.evaluation.to_text())
    if found.robustness:
        print(f"\n{found.robustness.to_text()}")


def _write_files(
    workdir: str, loaded: "Loaded", split: "LabelledSplit", found: _Findings
) -> list[str]:
    """Writes the figures and the page; returns a line for each to be printed."""
    from mnist_jax.analysis import plots, results_page

    figures = _draw(workdir, found, split)
    written = []
    if _FIGURES.value:
        for name, figure in figures.items():
            plots.save_figure(figure, Path(workdir) / "figures" / f"{name}.png")
        written.append(f"figures      {Path(workdir) / 'figures'}")
    if _REPORT.value:
        page = Path(workdir) / "report.html"
        results = results_page.Results(
            workdir=workdir,
            loaded=loaded,
            checkpoint=_CHECKPOINT.value,
            evaluated_on=split.name,
            description=split.source.description,
            warning=found.note,
            evaluation=found.evaluation,
            members=found.members,
            robustness=found.robustness,
            figures=figures,
            command=f"{command_line('evaluate')} {shlex.join(sys.argv[1:])}".strip(),
        )
        results_page.write_page(results, page)
        written.append(f"report       {page}")
    return written


def _print_wrapped(label: str, text: str) -> None:
    print(textwrap.fill(f"{label:13}{text}", 80, subsequent_indent=" " * 13))


def _measure_corruptions(loaded: "Loaded", split: "LabelledSplit") -> "Robustness":
    from tqdm import tqdm

    from mnist_jax.analysis import corruptions
    from mnist_jax.run import inference

    count = 1 + len(corruptions.CORRUPTIONS) * len(corruptions.SEVERITIES)
    with tqdm(None, "corruptions", count, leave=False, disable=None) as bar:

        def answer(images: "np.ndarray") -> "np.ndarray":
            logits = inference.predict_loaded(loaded, images)
            bar.update()
            return logits.argmax(-1)

        augment = loaded.config.get("augment", {})
        return corruptions.measure_robustness(answer, *split.dataset, augment)


def _draw(
    workdir: str, found: _Findings, split: "LabelledSplit"
) -> "dict[str, Figure]":
    from mnist_jax.analysis import corruptions, page_scores, plots, worst_pages
    from mnist_jax.run.metric_writer import read_metrics

    records = read_metrics(Path(workdir))
    evaluation, images = found.evaluation, split.dataset.images
    if isinstance(evaluation, page_scores.PageEvaluation):
        return {
            "learning_curves": plots.draw_learning_curves(records, "f1", "F1"),
            "worst_pages": worst_pages.draw_worst_pages(
                evaluation, split.dataset, split.source.class_names, split.name
            ),
        }
    figures = {
        "learning_curves": plots.draw_learning_curves(records),
        "confusion_matrix": plots.draw_confusion_matrix(evaluation, split.name),
        "mistakes": plots.draw_mistakes(evaluation, images, split.name),
        "reliability": plots.draw_reliability_diagram(evaluation, split.name),
    }
    if found.robustness:
        examples = corruptions.examples(images)
        figures["corruptions"] = plots.draw_corruptions(
            found.robustness, examples, split.name
        )
    return figures


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`."""
    run_command(main, _FLAGS, needs_stdout=lambda: True)


if __name__ == "__main__":
    run()
