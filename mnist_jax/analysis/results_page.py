"""Writes the results of a run into one HTML file, to read or print.

The figures are part of the file, and it loads nothing from the network.
"""

import base64
import html
import io
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.analysis.classification import NUM_BINS
from mnist_jax.analysis.corruptions import PAPER_SEVERITY, SEVERITIES
from mnist_jax.analysis.page_scores import SHARES, SURE_OF_NONE, PageEvaluation
from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.local_files import writing
from mnist_jax.run.command_lines import command_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mnist_jax.analysis.classification import Evaluation
    from mnist_jax.analysis.corruptions import Robustness
    from mnist_jax.checkpoint.load import Loaded

_CAPTIONS = {
    "learning_curves": "Loss and accuracy, or F1, while training. Of several seeds the "
    "mean, with a band of one standard deviation to each side, and each seed as a thin "
    "line.",
    "confusion_matrix": "Confusion: labels against answers. Mistakes are red.",
    "mistakes": "Wrong answers, the surest first.",
    "reliability": "Accuracy against confidence.",
    "corruptions": "Accuracy under corruptions, with an example of each.",
    "worst_pages": "The pages with most errors: digits are blue, marks are red.",
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --grey: #616e7c; --line: #d8dde3;
  --paper: #ffffff; --card: #f5f7fa; --blue: #2f6db5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --grey: #9aa5b1;
  --line: #3a4550; --paper: #161b20; --card: #212830; --blue: #7fb1ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 46rem; }
.sub, figcaption, .note { color: var(--grey); font-size: .9rem; }
.warn { border-left: 4px solid #c8433c; padding: .2rem .8rem; font-weight: 600; }
.cards { display: grid; gap: .7rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.card { background: var(--card); border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; color: var(--blue);
  font-variant-numeric: tabular-nums; }
.card span { font-size: .85rem; color: var(--grey); display: block; }
.card .name { color: var(--ink); font-weight: 600; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; padding: .4rem; }
figure.narrow { max-width: 30rem; }
figure.middle { max-width: 42rem; }
figcaption { margin-top: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tr.sum td { font-weight: 600; }
table.facts { width: 100%; table-layout: fixed; }
table.facts td { white-space: normal; overflow-wrap: anywhere; text-align: left; }
.columns { columns: 2 22rem; column-gap: 2rem; }
pre { background: var(--card); border-radius: 8px; padding: .8rem 1rem;
  overflow-x: auto; font-size: .8rem; line-height: 1.45; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2 { break-after: avoid; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .card { border: 1px solid var(--line); } }
"""


class Results(NamedTuple):
    """What a page shows."""

    workdir: str
    loaded: "Loaded"
    checkpoint: str  # "latest" or "best"
    evaluated_on: str  # such as "mnist/test"
    description: str  # of the data set's source
    warning: str  # or ""
    evaluation: "Evaluation | PageEvaluation"
    members: Mapping[str, float]  # from `splits.evaluate_members`
    robustness: "Robustness | None"
    figures: Mapping[str, "Figure"]  # by the keys of `_CAPTIONS`
    command: str  # that made this page


def write_page(results: Results, path: Path) -> None:
    """Writes the page; if that fails, the old one is left as it was.

    Raises:
      UserError: it cannot be written there.
    """
    page = to_html(results)
    with writing(repr(str(path))), atomic_file(path) as file:
        file.write(page.encode())


def to_html(results: Results) -> str:
    """Returns the page. Everything that comes from a file or a config is escaped."""
    r = results
    model = r.loaded.config.model.name
    title = f"{model} on {r.evaluated_on}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="sub">{_text(r.workdir)}, step {r.loaded.step:,}, with mnist_jax '
        f"{_text(_versions(r).get('mnist_jax', '?'))}</p>",
        f'<p class="warn">{_text(r.warning)}</p>' if r.warning else "",
        _cards(r),
        "<h2>Data and protocol</h2>",
        *(f"<p>{_text(line)}</p>" for line in _protocol(r)),
        "<h2>Training</h2>",
        _figure(r, "learning_curves"),
        "<h2>Answers</h2>",
        *_answers(r),
    ]
    if r.robustness:
        parts += ["<h2>Corruptions</h2>", _corruptions(r.robustness)]
        parts.append(_figure(r, "corruptions", "middle"))
    config = r.loaded.config.to_dict()
    parts += [
        "<h2>Config</h2>",
        f'<div class="columns">{_facts(_flat(config))}</div>',
        "<h2>Versions</h2>",
        f'<div class="columns">{_facts(_versions(r))}</div>',
        "<h2>To do it again</h2>",
        f"<p>This page:</p><pre>{_text(r.command)}</pre>",
        "<p>The run: save this as <code>again.py</code>, and</p>",
        f"<pre>{command_line('train')} --config=again.py --workdir=checkpoints/again"
        "</pre>",
        f"<pre>{_text(_config_file(config))}</pre>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _answers(r: Results) -> list[str]:
    if isinstance(r.evaluation, PageEvaluation):
        *rows, total = r.evaluation.rows()
        head = ["condition", "pages", "digits", *SHARES]
        note = f'<p class="note">{_text(SURE_OF_NONE.capitalize())}.</p>'
        return [_table(head, rows, [total]), note, _figure(r, "worst_pages")]
    return [
        _figure(r, "confusion_matrix", "middle"),
        _class_table(r.evaluation),
        _figure(r, "mistakes"),
        "<h2>Calibration</h2>",
        f"<p>{_text(_calibration(r, r.evaluation))}</p>",
        _figure(r, "reliability", "narrow"),
    ]


def _scores_of_pages(e: PageEvaluation) -> list[tuple[str, str, str]]:
    _, pages, digits, *shares = e.rows()[-1]
    sure = SURE_OF_NONE.partition(": ")[2]
    notes = (f"of {digits} digits", "of all lines", f"of {pages} pages", sure)
    return list(zip(SHARES, shares, notes, strict=True))


def _scores_of_classes(e: "Evaluation") -> list[tuple[str, str, str]]:
    low, high = e.interval
    return [
        (
            "Accuracy",
            f"{e.accuracy:.2%}",
            f"± {e.standard_error:.2%} (standard error); {low:.2%} to {high:.2%} with "
            "95 % confidence",
        ),
        ("Wrong", f"{e.count - e.correct:,}", f"of {e.count:,} images"),
        ("Loss", f"{e.nll:.4f}", "nats, mean negative log-likelihood"),
        (
            "Calibration error",
            f"{e.calibration.error:.2%}",
            f"expected, {NUM_BINS} bins",
        ),
    ]


def _cards(r: Results) -> str:
    e = r.evaluation
    if isinstance(e, PageEvaluation):
        cards = _scores_of_pages(e)
    else:
        cards = _scores_of_classes(e)
    if r.members:
        m, name = r.members, r.loaded.task.best.name
        cards.append(
            (
                "Members alone",
                f"{m[name]:.3%}",
                f"mean {name} of the {m['num_seeds']} that make up the ensemble; sd "
                f"{100 * m[f'{name}_sd']:.3f} %",
            )
        )
    if r.robustness:
        mean = r.robustness.mean(PAPER_SEVERITY)
        note = f"mean accuracy of {len(r.robustness.accuracy)}, severity "
        cards.append(("Corruptions", f"{mean:.1%}", f"{note}{PAPER_SEVERITY}"))
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><span class="name">{_text(name)}</span>'
            f"<b>{_text(value)}</b><span>{_text(note)}</span></div>"
            for name, value, note in cards
        )
        + "</div>"
    )


def _protocol(r: Results) -> list[str]:
    config, dataset = r.loaded.config, r.loaded.metadata["dataset"]
    held = config.get("validation", 0)
    is_pages = isinstance(r.evaluation, PageEvaluation)
    means = "outputs" if is_pages else "log-probabilities"
    lines = [f"{r.evaluated_on}: {r.description}."]
    trained = f"Trained on {dataset['name']}, split {config.get('train_split', '?')}"
    own = dataset.get("splits", {}).get("validation")
    if held and own:
        lines.append(f"{trained}; validated on its own {own:,} validation images.")
    elif held:
        lines.append(
            f"{trained}, without {held:,} images of it that were held out for "
            "validation: a fixed sample, with the classes in proportion."
        )
    else:
        lines.append(f"{trained}, all of it: nothing was held out for validation.")
    seeds = config.get("num_seeds", 1)
    if seeds > 1:
        first = config.seed
        lines.append(
            f"{seeds} networks, of seeds {first} to {first + seeds - 1}, none left "
            f"out: their mean {means} are the ensemble's."
        )
    average = " (their moving average)" if config.get("ema_decay", 0) else ""
    if r.checkpoint == "best":
        lines.append(f"The weights{average} are those that did best on validation.")
    else:
        lines.append(
            f"The weights{average} are the last that were saved, of a schedule fixed "
            "beforehand: neither step nor seed was chosen by what is shown here."
        )
    if why := r.loaded.metadata.get("no_test_figure"):
        lines.append(f"No test figure is given: {why}.")
    each = "page that is made" if is_pages else "image of the split"
    lines.append(f"Every {each} counts, once.")
    return lines


def _calibration(r: Results, e: "Evaluation") -> str:
    text = (
        f"Expected calibration error {e.calibration.error:.2%} "
        f"({NUM_BINS} bins of equal width)."
    )
    if r.loaded.temperature != 1:
        text += (
            f" Logits are divided by a temperature of {r.loaded.temperature:.3f}, which"
            " was fitted to images held out of training; it changes no answer."
        )
    return text


def _class_table(e: "Evaluation") -> str:
    rows = [
        [name, f"{p:.2%}", f"{recall:.2%}", f"{f1:.2%}", f"{support:,}"]
        for name, p, recall, f1, support in e.classes
    ]
    return _table(["class", "precision", "recall", "F1", "images"], rows)


def _corruptions(r: "Robustness") -> str:
    rows = []
    for name, accuracy in r.accuracy.items():
        mark = " *" if name in r.trained_for else ""
        cells = [f"{value:.2%}" for value in accuracy]
        rows.append([name.replace("_", " ") + mark, *cells])
    sums = [
        [name, *(f"{r.mean(s, strict=strict):.2%}" for s in SEVERITIES)]
        for name, strict in r.kinds_of_mean().items()
    ]
    text = (
        f"Accuracy on {r.num_images:,} images under corruptions in the manner of "
        "MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337), written anew; severity "
        f"{PAPER_SEVERITY} has its strengths. Without corruption: {r.clean:.2%}."
    )
    if r.trained_for:
        text += " * Training had something like it: see augment in the config."
    head = ["severity", *map(str, SEVERITIES)]
    return f"<p>{_text(text)}</p>{_table(head, rows, sums)}"


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], sums: Sequence[Any] = ()
) -> str:
    def line(cells: Sequence[str], tag: str = "td", attributes: str = "") -> str:
        inner = "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells)
        return f"<tr{attributes}>{inner}</tr>"

    lines = [line(row) for row in rows]
    lines += [line(row, attributes=' class="sum"') for row in sums]
    return (
        f'<div class="scroll"><table><thead>{line(head, "th")}</thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _versions(r: Results) -> dict[str, str]:
    versions: dict[str, str] = r.loaded.metadata.get("versions", {})
    return versions


def _config_file(config: Mapping[str, Any]) -> str:
    fields = pprint.pformat(dict(config), sort_dicts=False, width=80)
    return (
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config():\n    return ConfigDict(CONFIG)\n\n\nCONFIG = {fields}\n"
    )


def _figure(r: Results, name: str, kind: str = "wide") -> str:
    if name not in r.figures:
        return ""
    png = io.BytesIO()
    r.figures[name].savefig(
        png, format="png", dpi=160, bbox_inches="tight", pad_inches=0.15
    )
    data = base64.b64encode(png.getvalue()).decode()
    caption = _text(_CAPTIONS[name])
    return (
        f'<figure class="{kind}"><img alt="{caption}" '
        f'src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption>'
        "</figure>"
    )
