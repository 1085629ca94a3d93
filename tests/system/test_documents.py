"""README and docs are true: links, figures, pictures, and every snippet and command.

Commands of the pages in `RUN` are run, in their order, in one folder that has what the
pages' snippets write; other pages' are parsed. A block of code says what it is in a
comment before it:

    <!-- file: my_package/net.py -->                a file beside the commands
    <!-- add to: mnist_jax/metrics.py -->           code for a file of this repository
    <!-- line in: mnist_jax/metrics.py METRICS -->  an entry of a dict there
"""

import ast
import itertools
import re
import runpy
import shlex
import shutil
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.client import Server
from mnist_fixture import make_dataset
from PIL import Image

from mnist_jax.config import FIELDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md")),
    *sorted(DOCS.glob("*.md")),
    ROOT / "checkpoints" / "pretrained" / "README.md",
]
RUN = [ROOT / "README.md", DOCS / "extending.md"]

# Commands of the pages in `RUN` that are parsed only, and why.
PARSED_ONLY = {
    "pip install": "it needs the network; .ci/run does it",
    "pytest": "it is what runs here",
    "python scripts/draw.py": "it ends when it is told to; test_draw.py runs it",
}

# What makes the others small: the first pattern that fits the command's line.
SPLITS = ("--config.train_split=train[:256]", "--config.test_split=test[:200]")
DATA = ("--config.dataset=digits", "--config.offline_dataset=", *SPLITS)
LOOP = (
    "--config.validation=56",
    "--config.num_epochs=1",
    "--config.num_shards=1",
    "--config.optimizer.warmup_epochs=0",
    "--config.test_time_shift=0",
    *(f"--config.augment.{name}=0" for name in ("shift", "rotation", "scale", "shear")),
)
NET = (
    "--config.model.kwargs.features=(4,)",
    "--config.model.kwargs.dense=()",
    "--config.model.kwargs.even_contrast=False",
)
SMALL = {
    r"^train\.py .*configs/net\.py": (*DATA, *LOOP),
    r"^train\.py .*data:DATASET": (*SPLITS, *LOOP, *NET),
    r"^train\.py .*dots\.py": (*LOOP, "--config.batch_size=2500"),
    r"^train\.py": (*DATA, *LOOP, *NET),
    r"^evaluate\.py .*--trust_code": ("--nofigures",),
    r"^sweep\.py": ("--num_seeds=1", *DATA, *LOOP, *NET),
    r"^benchmark\.py": ("--only=inference", "--repeats=1", "--seconds=0.01", *NET),
    "": (),
}


class Block(NamedTuple):
    """A block of code: its language, the comment before it, and its text."""

    language: str | None  # None where it is indented
    comment: str
    text: str


def read_blocks(page: Path) -> list[Block]:
    blocks: list[Block] = []
    comment, before = "", ""
    lines = iter(page.read_text("utf-8").splitlines())
    for line in lines:
        if line.startswith("```"):
            text = list(itertools.takewhile(lambda x: x != "```", lines))
            blocks.append(Block(line[3:], comment, "\n".join(text)))
        elif line.startswith("    ") and not before:
            text = [line, *itertools.takewhile(lambda x: x[:4] in ("    ", ""), lines)]
            text = textwrap.dedent("\n".join(text)).strip()
            blocks.append(Block(None, "", text))
            line = ""
        found = re.fullmatch(r"<!-- (.+) -->", line)
        comment, before = found[1] if found else "", line
    return blocks


def read_commands(page: Path) -> list[list[str]]:
    """The words of each command of the indented blocks, without what is the shell's."""
    known = r"(#|\w+=\S+ |python |pip |pytest|uv |export |for )"
    commands = []
    blocks = [b.text for b in read_blocks(page) if b.language is None]
    for text in itertools.chain(*(block.split("\n\n") for block in blocks)):
        if not re.match(known, text):
            continue
        for line in text.replace("\\\n", "").splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            commands.extend(split_commands(list(words)))
    return commands


def split_commands(words: list[str]) -> list[list[str]]:
    """Takes a line apart at && and ;, and leaves loops, variables and files out."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", ";"):
            parts.append([])
        else:
            parts[-1].append(word.replace("$seed", "0"))
    commands = []
    for part in parts:
        if part[:1] in (["for"], ["do"], ["done"], ["export"]):
            continue
        while part and re.match(r"\w+=", part[0]):
            del part[0]
        if part[:1] in (["srun"], ["mpirun"]):
            part = part[part.index("python") :]
        if ">" in part:
            part = part[: part.index(">")]
        if part:
            commands.append(part)
    return commands


def show_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ------------------------------------------------------------------ links and figures


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives the headings."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=show_path)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=show_path)
def test_files_of_the_repository_that_are_named_are_there(page):
    if page.name == "CHANGELOG.md":  # which names what has moved
        return
    named = r"(?<![\w./])(?:mnist_jax|configs|scripts|tests|docs)/[\w/-]*(?:\.\w+)?"
    for path in re.findall(named, page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


def test_pages_that_the_package_points_to_are_there():
    """As docs/data.md, or docs/data.md, 'Where the data comes from'."""
    named = re.compile(r"(?:docs|README)[\w/-]*\.md(?:, '(.+?)')?")
    found = set()
    for path in (ROOT / "mnist_jax").rglob("*.py"):
        for match in named.finditer(path.read_text("utf-8")):
            page, heading = match[0].split(",")[0], match[1]
            found.add(page)
            text = (ROOT / page).read_text("utf-8")
            assert not heading or f"\n## {heading}\n" in text, f"{path}: {match[0]}"
    assert found >= {"docs/data.md", "docs/scaling-out.md"}


def test_import_paths_in_the_list_of_changes_are_those_of_today():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n### Import paths\n")[1]
    kept, renamed, moved, other = text.split("\n|---")[1:]
    package = ROOT / "mnist_jax"

    def rows_of(table):
        for line in table.splitlines():
            if line.startswith("| `"):
                yield [re.findall(r"`([\w.]+)`", x) for x in line.split("|")[1:-1]]

    paths = [f"{folder}.{name}" for (folder,), names in rows_of(kept) for name in names]
    paths += [path for _, now in rows_of(renamed) for path in now]
    for path in paths:
        place = package / path.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file(), path
    names = [(path, name) for _, own, (path,) in rows_of(moved) for name in own]
    names += [(path, name) for (path,), _, own in rows_of(other) for name in own]
    for path, name in names:
        source = (package / f"{path.replace('.', '/')}.py").read_text("utf-8")
        assert re.search(rf"^(def |class )?{name}\b", source, re.M), (path, name)


def test_readme_has_a_map_of_all_pages():
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("\n## Where to read on\n")[1].split("\n## ")[0]
    assert set(re.findall(r"\]\(docs/(.+?)\)", section)) == {
        page.name for page in DOCS.glob("*.md")
    }
    assert len(readme.splitlines()) <= 170


def read_table(page: Path, heading: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has that heading."""
    lines = page.read_text("utf-8").splitlines()
    start = next(i for i, x in enumerate(lines) if x.startswith(f"| {heading} |"))
    headings = [cell.strip() for cell in lines[start].split("|")[1:-1]]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        rows.append(dict(zip(headings, cells, strict=True)))
    return rows


def results_of(config: str) -> list[dict[str, str]]:
    """The rows of docs/results.md for a config, the plain one first."""
    rows = read_table(DOCS / "results.md", "config")
    found = [row for row in rows if row["config"].startswith(f"[{config}]")]
    return sorted(found, key=lambda row: len(row["config"]))


def test_readmes_results_are_those_of_docs():
    rows = read_table(ROOT / "README.md", "config")
    assert len(rows) >= 3
    for row in rows:
        name = re.match(r"\[(.+)\]\(configs/\1\)$", row["config"])
        assert name, row
        home = results_of(name[1])[0]
        assert {k: home[k] for k in row if k != "config"} == {
            k: v for k, v in row.items() if k != "config"
        }


def test_readmes_percentages_are_in_docs():
    readme = (ROOT / "README.md").read_text("utf-8")
    prose = "\n".join(x for x in readme.splitlines() if not x.startswith(("    ", "|")))
    docs = "\n".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    for figure in re.findall(r"\d[\d.,]* %", prose):
        assert figure in docs


CONFIGS = sorted((ROOT / "configs").glob("[!_]*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_docs_say(path):
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert len(doc.splitlines()) <= 20
    command = f"python scripts/train.py --config=configs/{path.name}"
    assert (command if path.stem != "default" else "python scripts/train.py") in doc
    words = " ".join(doc.split())
    rows = results_of(path.name)
    if not rows:  # two are of other data, and some are not measured
        assert "not measured" in words or path.stem in ("smoke", "my_hand")
        rows = [{"test accuracy": "", "n": "", "test loss": ""}]
    elif path.stem == "pretrained":
        rows = rows[1:]  # of one network: what the four do is in the model card
    for value in (rows[0]["test accuracy"], rows[0]["test loss"]):
        assert_repeats(words, value)
    assert not rows[0]["n"] or f"n = {rows[0]['n']})" in words
    home = (DOCS / "results.md").read_text("utf-8")
    time = r"\d+(?:\.\d+)?(?= s\b| minutes\b)"
    for figure in re.findall(rf"\d+\.\d+(?= %)|(?<=sd )\d+\.\d+|{time}", words):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", home), figure


def assert_repeats(words: str, cell: str) -> None:
    """That a text has the figure of a table's cell, as "mean (sd ...)"."""
    found = re.fullmatch(r"([\d.]*)(?: ± ([\d.]+))?( %)?", cell)
    assert found, cell
    mean, sd, unit = found[1], found[2], found[3] or ""
    assert (f"{mean}{unit} (sd {sd}" if sd else f"{mean}{unit}") in words


def test_the_model_card_says_what_docs_say():
    card = " ".join((PAGES[-1]).read_text("utf-8").split())
    four, one = results_of("pretrained.py")
    assert f"{four['test accuracy']} (9,965 of 10,000)" in card
    assert f"negative log-likelihood {four['test loss']}" in card
    for row in (one,):
        assert_repeats(card, row["test accuracy"])
        assert_repeats(card, row["test loss"])
        assert row["parameters"] in card


# --------------------------------------------------------------- the house in pictures


def test_the_files_to_follow_are_few_and_their_lines_are_counted():
    page = DOCS / "how-it-is-built.md"
    rows = read_table(page, "order")
    files = [re.fullmatch(r"\[(.+)\]\(\.\./\1\)", row["file"])[1] for row in rows]
    counts = {f: len((ROOT / f).read_text("utf-8").splitlines()) for f in files}
    said = {file: int(row["lines"]) for file, row in zip(files, rows, strict=True)}
    wrong = {file: count for file, count in counts.items() if said[file] != count}
    total = sum(counts.values())
    if f"They have {total:,} lines" not in page.read_text("utf-8"):
        wrong["all"] = total
    assert not wrong, f"docs/how-it-is-built.md should say: {wrong}"
    assert [row["order"] for row in rows] == [str(i + 1) for i in range(len(rows))]
    assert len(files) <= 14
    assert total <= 2200


def read_picture_of_rooms() -> list[set[str]]:
    """The names in each row of the picture, from below; files end in .py."""
    blocks = read_blocks(DOCS / "how-it-is-built.md")
    (picture,) = [block.text for block in blocks if block.language == "text"]
    picture = re.sub(r"\n (?=\S)", " ", picture)  # a row of more than one line
    rows = []
    for line in reversed(picture.splitlines()):
        files = " ".join(re.findall(r"\((.+?)\)", line)).split()
        rooms = re.sub(r"\(.+?\)", "", line).split()
        rows.append({*rooms, *(f"{file}.py" for file in files)})
    return rows


def test_the_picture_of_rooms_is_what_imports_are_held_to():
    """`test_house.py` holds all imports to these levels."""
    package = ROOT / "mnist_jax"
    house = runpy.run_path(str(Path(__file__).with_name("test_house.py")))
    levels = [
        {
            name.replace(".", "/") + (".py" if is_file else "")
            for name in level
            for is_file in (True, False)
            if (package / (name.replace(".", "/") + ".py" * is_file)).exists()
        }
        for level in house["LEVELS"]
    ]
    assert read_picture_of_rooms() == levels


def test_the_picture_has_all_rooms():
    package = ROOT / "mnist_jax"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    shown = set().union(*read_picture_of_rooms())
    assert {name for name in shown if "/" not in name} == rooms | files
    table = read_table(DOCS / "how-it-is-built.md", "room")
    assert {row["room"].strip("`") for row in table} == rooms


# --------------------------------------------------------------- commands and snippets


class World(NamedTuple):
    """Where commands are run."""

    folder: Path
    server: Server
    refused: list[str]  # blocks that found no place in the repository


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the pages' files, and a copy of the package with what they add."""
    folder = tmp_path_factory.mktemp("world")
    house = tmp_path_factory.mktemp("house")
    for name in ("mnist_jax", "configs"):
        shutil.copytree(ROOT / name, house / name)
    (house / "checkpoints").symlink_to(ROOT / "checkpoints")
    refused = []
    for block in [block for page in RUN for block in read_blocks(page)]:
        kind, _, target = block.comment.partition(": ")
        if kind == "file":
            path = folder / target
            assert not path.exists(), f"{target} is written twice"
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text + "\n")
        elif kind in ("add to", "line in"):
            try:
                add_to(house, target.split(), block.text)
            except (OSError, LookupError) as error:
                refused.append(f"{block.comment}: {error!r}")
    put_pictures(folder)
    paths = f"{house}:{folder}"
    env = {
        "PYTHONPATH": paths,
        "TFDS_DATA_DIR": str(folder / "none"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # each program runs for an instant
    }
    with Server(tmp_path_factory.mktemp("server"), env) as server:
        yield World(folder, server, refused)


def add_to(house: Path, target: list[str], text: str) -> None:
    """Puts code in front of a file's first table, or a line at the end of one.

    Raises:
      OSError, LookupError: there is no such file or table.
    """
    path = house / target[0]
    source = path.read_text("utf-8")
    tables = {}
    for node in ast.parse(source).body:
        name = node.target if isinstance(node, ast.AnnAssign) else node
        if isinstance(getattr(node, "value", None), ast.Dict):
            tables[getattr(name, "id", "")] = node
    if not tables:
        raise LookupError("no table")
    lines = source.splitlines()
    if len(target) == 1:
        at = min(node.lineno for node in tables.values()) - 1
        lines[at:at] = [*text.splitlines(), "", ""]
    else:
        end = tables[target[1]].value
        row, column = end.end_lineno - 1, end.end_col_offset - 1
        before = lines[row][:column].rstrip()
        previous = before or lines[row - 1]
        comma = "" if previous.endswith((",", "{")) else ","
        lines[row] = f"{before}{comma}\n{text.strip()}{lines[row][column:]}"
    path.write_text("\n".join(lines) + "\n")


def put_pictures(folder: Path) -> None:
    picture = Image.fromarray(make_dataset(1, 0).images[0, ..., 0])
    (folder / "docs").mkdir()
    shutil.copy(DOCS / "sample.png", folder / "docs")
    (folder / "photos").mkdir()
    for name in ("my_digit.png", "photos/1.png"):
        picture.save(folder / name)


@pytest.fixture(scope="module")
def flags_of(world):
    """{script: its flags}, from its --help."""
    flags = {}
    for path in sorted((ROOT / "scripts").glob("*.py")):
        text = world.server.run(path.name, "--help").output
        flags[path.name] = set(re.findall(r"^ +--(?:\[no\])?(\w+):", text, re.M))
        assert flags[path.name]
    return flags


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=show_path)
def test_commands_can_be_parsed(page, world, flags_of):
    """Their scripts, flags, fields, configs, extras and markers are there."""
    for words in read_commands(page):
        if words[0] == "python" and not words[1].startswith("scripts/"):
            assert (world.folder / words[1]).exists(), words
        elif words[0] == "python":
            check_flags(words[1].removeprefix("scripts/"), words[2:], world, flags_of)
        elif words[:2] in (["pip", "install"], ["uv", "sync"]):
            extras = PROJECT["project"]["optional-dependencies"]
            for extra in re.findall(r"\[(\w+)\]|--extra (\w+)", " ".join(words)):
                assert "".join(extra) in extras, words
        else:
            assert words[0] == "pytest", words
            markers = PROJECT["tool"]["pytest"]["ini_options"]["markers"]
            if "-m" in words:
                assert any(m.startswith(f"{words[-1]}:") for m in markers), words


def check_flags(script, arguments, world, flags_of):
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        name, _, value = argument.removeprefix("--").partition("=")
        group, _, field = name.partition(".")
        assert group in flags_of[script], argument
        if group == "config" and field:
            free = field.startswith(("model.kwargs.", "optimizer.kwargs."))
            assert free or field in FIELDS, argument
        elif field:
            assert any(f"field.{known}".endswith(f".{field}") for known in FIELDS)
        elif group in ("config", "configs"):
            for path in value.split(","):
                there = (ROOT / path).exists() or (world.folder / path).exists()
                assert there, argument


def small(words: list[str], folder: Path) -> list[str]:
    """A command's words for the server, with what makes it small."""
    script = words[1].removeprefix("scripts/")
    line = " ".join([script, *words[2:]])
    added = next(a for pattern, a in SMALL.items() if re.search(pattern, line))
    if script == words[1]:  # one of the page's own
        script = str(folder / script)
    return [script, *words[2:], *added]


@pytest.fixture(scope="module")
def outputs(world):
    """{page: {command: what it printed}}: all are run, in order; failures are kept."""
    return {page: run_page(page, world) for page in RUN}


def run_page(page, world):
    """Starts training while other training runs; all else waits for what is before."""
    done, running = {}, {}
    for words in read_commands(page):
        line = " ".join(words)
        if line.startswith(tuple(PARSED_ONLY)):
            continue
        most = 2 if words[1] == "scripts/train.py" else 0
        while len(running) > most:
            first = next(iter(running))
            done[first] = running.pop(first).wait()
        running[line] = world.server.start(
            *small(words, world.folder), cwd=world.folder
        )
    return done | {line: process.wait() for line, process in running.items()}


def test_what_the_pages_add_to_the_repository_finds_its_place(world):
    assert not world.refused


@pytest.mark.parametrize("page", RUN, ids=show_path)
def test_commands_run(page, outputs):
    failed = {k: v.errors[-500:] for k, v in outputs[page].items() if v.returncode}
    assert not failed, "\n".join(f"{k}\n    {v}" for k, v in failed.items())
    assert len(outputs[page]) >= 6


def test_training_prints_what_readme_shows(outputs):
    (shown,) = [b.text for b in read_blocks(RUN[0]) if b.text.startswith("device")]
    printed = outputs[RUN[0]]["python scripts/train.py"].output
    labels = re.compile(r"^([a-z]+) | (epoch) ", re.M)
    assert labels.findall(printed) == labels.findall(shown)


def test_the_sample_is_read_as_readme_says(outputs):
    printed = outputs[RUN[0]]["python scripts/predict.py docs/sample.png"].output
    (said,) = re.findall(r"it reads (\d+)\.", RUN[0].read_text("utf-8"))
    assert re.search(rf"^docs/sample\.png +{said} +9\d\.\d\d%$", printed, re.M), printed


def test_a_metric_that_is_added_is_in_the_log(world, outputs):
    assert outputs
    log = world.folder / "checkpoints" / "default" / "metrics.jsonl"
    assert "test/confidence" in log.read_text()
