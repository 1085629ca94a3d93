"""The rules of the source: who may import whom, names, sizes, faces, tests' places.

Each rule is a function over a folder that returns its offences, a line each. The tests
at the end show that each of them finds one in a small package that is made for it.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "mnist_jax"

# From below. A file may import from its own level and from those below. A file that is
# named itself has that level; all others have that of their room.
LEVELS = (
    ("errors", "checkpoint.atomic", "local_files"),
    ("ops", "models", "datasets", "drawing"),
    (
        *("config", "data", "losses", "metrics", "optimizer", "train_state"),
        *("train_step", "augment", "calibration", "tasks"),
    ),
    ("run", "parallel", "checkpoint", "evaluate"),
    ("train",),
    ("reading", "simulation"),
    ("analysis", "benchmark", "portable", "web"),
    ("commands", "__main__"),
)

CORE = (
    *("config.py", "data.py", "models/sprint.py", "optimizer.py", "losses.py"),
    *("metrics.py", "train_state.py", "train_step.py", "train.py", "evaluate.py"),
)
CORE_LINES = 1300
CORE_FUNCTION_LINES = 50
FUNCTION_LINES = 70
MODULE_LINES = 400

# The new reader of pages will replace it.
LONG_MODULES = {"simulation/simulator.py"}

# Each command has these two functions.
SHARED_NAMES = {"main", "run"}
# The command evaluates what the file of that name in the core has the functions for.
SHARED_MODULES = {"evaluate"}

# Folders of tests that mirror no room, and what a test is about that mirrors no file.
TESTS_OF_MANY_ROOMS = {"system"}
STRAY_TESTS: dict[str, str] = {}


class Module(NamedTuple):
    """A file of the package."""

    package: str
    name: str  # such as "analysis.splits"; an `__init__.py` has its folder's name
    path: Path
    tree: ast.Module

    @property
    def is_face(self) -> bool:
        return self.path.name == "__init__.py"


class Import(NamedTuple):
    """One name of the package that a module imports."""

    module: str  # where from
    name: str | None  # what of it; None for the module itself
    bound: str  # under which name
    is_typing: bool  # under `if TYPE_CHECKING`
    line: int


def read_modules(package: Path) -> dict[str, Module]:
    """Reads all files of a package, by their names."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text("utf-8"))
        modules[name] = Module(package.name, name, path, tree)
    return modules


def imports_of(module: Module, modules: Mapping[str, Module]) -> list[Import]:
    """The imports of the same package, wherever they stand in a file."""
    found: list[Import] = []

    def visit(node: ast.AST, is_typing: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, is_typing)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == module.package:
                    name = alias.name.partition(".")[2]
                    bound = alias.asname or alias.name
                    found.append(Import(name, None, bound, is_typing, node.lineno))
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module.path}: an import without the full name"
            if (node.module or "").split(".")[0] == module.package:
                origin = (node.module or "").partition(".")[2]
                for alias in node.names:
                    inner = f"{origin}.{alias.name}".removeprefix(".")
                    is_module = inner in modules
                    found.append(
                        Import(
                            inner if is_module else origin,
                            None if is_module else alias.name,
                            alias.asname or alias.name,
                            is_typing,
                            node.lineno,
                        )
                    )
        for child in ast.iter_child_nodes(node):
            visit(child, is_typing)

    visit(module.tree, False)
    return found


def find_circles(package: Path) -> list[str]:
    """Files that import each other, directly or through others.

    Imports under `TYPE_CHECKING` do not count, as they are never run. Nor do those of
    the package's own `__init__.py`, which offers names that are imported when used.
    """
    modules = read_modules(package)
    graph = {
        name: {
            found.module
            for found in imports_of(module, modules)
            if name and not found.is_typing and found.module in modules
        }
        for name, module in modules.items()
    }

    def reach(start: str) -> set[str]:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            for name in graph[waiting.pop()] - reached:
                reached.add(name)
                waiting.append(name)
        return reached

    reached = {name: reach(name) for name in graph}
    circles = {
        tuple(sorted(b for b in reached[a] if a in reached[b]))
        for a in graph
        if a in reached[a]
    }
    return [f"a circle: {', '.join(circle)}" for circle in sorted(circles)]


def level_of(name: str, levels: Sequence[Sequence[str]]) -> int | None:
    """The level of a module, by its own name or else that of its room."""
    while name:
        for level, names in enumerate(levels):
            if name in names:
                return level
        name = name.rpartition(".")[0]
    return None


def find_upward_imports(package: Path, levels: Sequence[Sequence[str]]) -> list[str]:
    """Imports from a higher level, and files that have no level.

    Imports under `TYPE_CHECKING` count: who uses a type of a higher level must know
    what that is. The package's own `__init__.py` stands outside: all may read the
    version there, and it offers names from everywhere.
    """
    modules = read_modules(package)
    offences = []
    for name, module in modules.items():
        level = level_of(name, levels)
        if not name:
            continue
        if level is None:
            offences.append(f"{name} has no level")
            continue
        for found in imports_of(module, modules):
            above = level_of(found.module, levels)
            if found.module and above is not None and above > level:
                offences.append(f"{name}:{found.line} imports {found.module}")
    return list(dict.fromkeys(offences))


def find_private_uses(package: Path) -> list[str]:
    """Names that begin with _ and are used outside their file."""
    modules = read_modules(package)
    offences = []
    for name, module in modules.items():
        imports = imports_of(module, modules)
        bound = {i.bound: i.module for i in imports if i.name is None}
        for found in imports:
            private = found.name or found.module.rpartition(".")[2]
            if private.startswith("_") and not private.startswith("__"):
                offences.append(f"{name}:{found.line} imports {private}")
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
                and ast.unparse(node.value) in bound
            ):
                used = f"{ast.unparse(node.value)}.{node.attr}"
                offences.append(f"{name}:{node.lineno} uses {used}")
    return offences


def find_shared_names(package: Path, allowed: set[str]) -> list[str]:
    """Modules, or public functions and classes, of the same name.

    A command may have the name of the module that it runs, and so imports.
    """
    modules = read_modules(package)
    files: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for name, module in modules.items():
        if not module.is_face and module.path.stem != "__main__":
            files.setdefault(module.path.stem, []).append(name)
        for node in module.tree.body:
            is_named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_named and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(name)

    def is_command_of(command: str, others: Sequence[str]) -> bool:
        imported = {i.module for i in imports_of(modules[command], modules)}
        return command.startswith("commands.") and imported >= set(others)

    offences = []
    for stem, where in files.items():
        if stem in SHARED_MODULES:
            continue
        if len(where) > 1 and not any(
            is_command_of(name, [other for other in where if other != name])
            for name in where
        ):
            offences.append(f"modules of one name: {', '.join(where)}")
    for name, where in names.items():
        if len(where) > 1 and name not in allowed:
            offences.append(f"{name} is in {', '.join(where)}")
    return offences


def count_lines(path: Path) -> int:
    """As `wc -l` does."""
    return path.read_bytes().count(b"\n")


def functions_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and lines of each function and method; decorators do not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def find_long_functions(
    folder: Path, limit: int, files: Sequence[str] | None = None
) -> list[str]:
    """Functions of more lines than the limit, in all files or in some."""
    paths = sorted(folder.rglob("*.py"))
    if files is not None:
        paths = [folder / file for file in files]
    return [
        f"{path.relative_to(folder)}: {name} has {lines} lines"
        for path in paths
        for name, lines in functions_of(ast.parse(path.read_text("utf-8")))
        if lines > limit
    ]


def find_long_modules(folder: Path, limit: int, allowed: set[str]) -> list[str]:
    """Files of more lines than the limit."""
    return [
        f"{name} has {lines} lines"
        for path in sorted(folder.rglob("*.py"))
        for name, lines in [(path.relative_to(folder).as_posix(), count_lines(path))]
        if lines > limit and name not in allowed
    ]


def find_large_core(package: Path, files: Sequence[str], limit: int) -> list[str]:
    """The size of the core, if it is above the limit, and files that are not there."""
    there = [file for file in files if (package / file).exists()]
    missing = [f"{file} is not there" for file in files if file not in there]
    lines = sum(count_lines(package / file) for file in there)
    return missing + [f"the core has {lines} lines"] * (lines > limit)


def find_faceless_rooms(package: Path) -> list[str]:
    """Rooms whose `__init__.py` does not name the file to open first, as `x.py`."""
    offences = []
    for room in sorted({path.parent for path in package.rglob("*.py")} - {package}):
        face = room / "__init__.py"
        text = face.read_text("utf-8") if face.exists() else ""
        named = re.findall(r"`(\w+\.py)`", ast.get_docstring(ast.parse(text)) or "")
        if not named or not (room / named[0]).exists():
            offences.append(f"{room.relative_to(package)} names no file to open first")
    return offences


def find_stray_tests(
    tests: Path, package: Path, many_rooms: set[str], allowed: Mapping[str, str]
) -> list[str]:
    """Files tests/ROOM/test_X.py without a file ROOM/X.py in the package."""
    offences = []
    for path in sorted(tests.rglob("test_*.py")):
        name = path.relative_to(tests)
        mirrored = package / name.with_name(name.name.removeprefix("test_"))
        is_exempt = name.parts[0] in many_rooms or name.as_posix() in allowed
        if not (is_exempt or mirrored.exists()):
            offences.append(f"{name.as_posix()} mirrors no file")
    return offences


def expect_none(offences: Sequence[str]) -> None:
    assert not offences, "\n".join(["", *offences])


def test_no_files_import_each_other():
    expect_none(find_circles(PACKAGE))


def test_no_import_is_from_a_higher_level():
    expect_none(find_upward_imports(PACKAGE, LEVELS))


def test_private_names_stay_in_their_file():
    expect_none(find_private_uses(PACKAGE))


def test_no_name_means_two_things():
    expect_none(find_shared_names(PACKAGE, SHARED_NAMES))


@pytest.mark.parametrize("folder", ["mnist_jax", "scripts"])
def test_functions_are_short(folder):
    expect_none(find_long_functions(REPOSITORY / folder, FUNCTION_LINES))


def test_functions_of_the_core_are_shorter():
    files = [file for file in CORE if (PACKAGE / file).exists()]
    expect_none(find_long_functions(PACKAGE, CORE_FUNCTION_LINES, files))


def test_modules_are_short():
    expect_none(find_long_modules(PACKAGE, MODULE_LINES, LONG_MODULES))


def test_the_core_is_small():
    expect_none(find_large_core(PACKAGE, CORE, CORE_LINES))


def test_each_room_says_where_to_start():
    expect_none(find_faceless_rooms(PACKAGE))


def test_tests_mirror_the_rooms():
    tests = REPOSITORY / "tests"
    expect_none(find_stray_tests(tests, PACKAGE, TESTS_OF_MANY_ROOMS, STRAY_TESTS))


# That each rule can fail: a package of two levels in which all is well, and what spoils
# it, one offence at a time.

GOOD = {
    "__init__.py": "",
    "low/__init__.py": '"""Open `base.py` first."""',
    "low/base.py": "SIZE = 1\n_SIZE = 2\n\ndef measure():\n    return _SIZE\n",
    "high/__init__.py": '"""Open `top.py` first."""',
    "high/top.py": "from package.low import base\nfrom package.low.base import SIZE\n",
    "commands/__init__.py": '"""Open `top.py` first."""',
    "commands/top.py": "from package.high import top\n\ndef main():\n    pass\n",
    "commands/other.py": "def main():\n    pass\n",
}
GOOD_LEVELS = (("low",), ("high",), ("commands",))


def make(folder: Path, changes: Mapping[str, str]) -> Path:
    """Writes the package with some files changed or added."""
    package = folder / "package"
    for name, text in {**GOOD, **changes}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


RULES = {
    "circles": find_circles,
    "levels": lambda package: find_upward_imports(package, GOOD_LEVELS),
    "private": find_private_uses,
    "names": lambda package: find_shared_names(package, SHARED_NAMES),
    "functions": lambda package: find_long_functions(package, 4),
    "modules": lambda package: find_long_modules(package, 6, {"low/long.py"}),
    "core": lambda package: find_large_core(package, ["low/base.py"], 6),
    "faces": find_faceless_rooms,
}
CIRCLE = "from package.high import top\n"
TYPING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize("rule", RULES)
def test_a_good_package_has_no_offence(tmp_path, rule):
    assert RULES[rule](make(tmp_path, {"low/long.py": "\n" * 7})) == []


@pytest.mark.parametrize(
    ("rule", "file", "text", "offence"),
    [
        ("circles", "low/base.py", CIRCLE, "a circle: high.top, low.base"),
        ("circles", "high/top.py", f"def f():\n    {CIRCLE}", "a circle: high.top"),
        ("levels", "low/base.py", CIRCLE, "low.base:1 imports high.top"),
        ("levels", "low/base.py", TYPING + CIRCLE, "low.base:3 imports high.top"),
        (
            "levels",
            "low/base.py",
            "import package.high.top",
            "low.base:1 imports high.top",
        ),
        ("levels", "loft/x.py", "", "loft.x has no level"),
        ("private", "high/x.py", "from package.low.base import _SIZE", "high.x:1 imp"),
        (
            "private",
            "high/x.py",
            "from package.low import base as b\nprint(b._SIZE)",
            "high.x:2 uses b._SIZE",
        ),
        (
            "private",
            "high/x.py",
            "import package.low.base\nprint(package.low.base._SIZE)",
            "high.x:2 uses package.low.base._SIZE",
        ),
        ("names", "high/base.py", "", "modules of one name: high.base, low.base"),
        ("names", "commands/base.py", "", "modules of one name: commands.base, low."),
        ("names", "high/x.py", "class measure: pass", "measure is in high.x, low.base"),
        ("functions", "low/x.py", "def f():\n" + "    1\n" * 4, "low/x.py: f has 5 "),
        ("functions", "low/x.py", "class C:\n def f():\n" + "  1\n" * 4, "low/x.py: f"),
        ("modules", "low/x.py", "\n" * 7, "low/x.py has 7 lines"),
        ("core", "low/base.py", "\n" * 7, "the core has 7 lines"),
        ("faces", "low/__init__.py", '"""All is in base."""', "low names no file to"),
        ("faces", "low/__init__.py", '"""Open `none.py`."""', "low names no file to"),
        ("faces", "loft/x.py", "", "loft names no file to open first"),
    ],
)
def test_each_rule_finds_its_offence(tmp_path, rule, file, text, offence):
    (found,) = RULES[rule](make(tmp_path, {file: text}))
    assert found.startswith(offence)


def test_types_alone_make_no_circle(tmp_path):
    package = make(tmp_path, {"low/base.py": TYPING + CIRCLE})
    assert find_circles(package) == []


def test_a_core_without_its_files_is_an_offence(tmp_path):
    found = find_large_core(make(tmp_path, {}), ["low/none.py"], 6)
    assert found == ["low/none.py is not there"]


def test_a_test_that_mirrors_nothing_is_an_offence(tmp_path):
    package = make(tmp_path, {})
    files = ["low/test_base.py", "low/test_none.py", "test_base.py", "system/test_x.py"]
    for name in files:
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_stray_tests(tmp_path / "tests", package, {"system"}, {})
    assert found == ["low/test_none.py mirrors no file", "test_base.py mirrors no file"]
    allowed = {"low/test_none.py": "why", "test_base.py": "why"}
    assert not find_stray_tests(tmp_path / "tests", package, {"system"}, allowed)
