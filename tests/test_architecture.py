"""The rooms of affuse import only what their place in the house allows, and importing affuse costs next to nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from scripts.imports import LAZY, OWN_NAMES, PACKAGE, ROOMS, Import, house_imports, imports, modules, room_of, tree_of

OUTSIDE = ("recipes", "research", "bench")
"""Beside the package, and never imported by it."""

TORCH_ROOMS = ("training", "fusion/networks", "loop.py")


@cache
def imports_of(file: Path) -> tuple[Import, ...]:
    """The imports of a module of the package, looked for once for all tests."""
    return tuple(imports(file))


def is_allowed(statement: Import) -> bool:
    if statement.target in OWN_NAMES or statement.target == statement.room:
        return True
    if statement.target not in ROOMS:
        return False
    if (statement.room, statement.target) in LAZY:
        return not statement.at_load
    return ROOMS.index(statement.target) < ROOMS.index(statement.room)


def test_every_room_has_its_place() -> None:
    rooms = {room_of(file) for file in modules()} - {"__init__", "__main__"}
    assert rooms == set(ROOMS), f"these rooms are not in the list or not in the house: {rooms ^ set(ROOMS)}"


def test_what_lies_outside_the_package_is_not_imported_by_it() -> None:
    wrong = [str(i) for file in modules() for i in imports_of(file) if i.module.split(".")[0] in OUTSIDE]
    assert not wrong, "\n".join(wrong)


def test_rooms_import_only_from_those_above_them() -> None:
    # The package's own __init__ names everything for type checkers and loads nothing; it has a test of its own below.
    files = [file for file in modules() if file.parent != PACKAGE or file.name not in {"__init__.py", "__main__.py"}]
    wrong = [str(i) for file in files for i in imports_of(file) if i.module.startswith("affuse.") and not is_allowed(i)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "source", "allowed"),
    [
        ("media", "from affuse.timeline import Segment", True),
        ("media", "from affuse.experts import Expert", False),
        ("media", "from affuse import Analyzer", False),
        ("media", "from affuse import __version__", True),
        ("media", "from affuse.media.recording import Recording", True),
        ("media", "from . import recording", True),
        ("media", "from .. import analyzer", False),
        ("media", "from ..fusion import stack", False),
        ("media", "import affuse.analyzer.analyzer", False),
        ("media", "def f():\n    from affuse.analyzer import analyze", False),
        ("results", "from affuse.report import write_report", False),
        ("results", "class A:\n    def f(self):\n        from affuse.report import write_report", False),
        ("report", "from affuse.results import Analysis", True),
        ("cli", "import affuse.training.run", False),
        ("cli", "def f():\n    import affuse.training.run", True),
        ("cli", "if TYPE_CHECKING:\n    import affuse.training.run", True),
        ("cli", "if True:\n    import affuse.training.run", False),
        ("analyzer", "def f():\n    import affuse.training.run", False),
    ],
)
def test_the_check_tells_right_from_wrong(room: str, source: str, allowed: bool) -> None:
    file = PACKAGE / "results.py" if room == "results" else PACKAGE / room / "invented.py"
    assert all(is_allowed(i) for i in house_imports(file, source)) is allowed


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Imports inside functions and for type checkers count. A package's __init__ only gathers the names of its modules.
    files = {".".join(("affuse", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in modules()}
    graph = {
        name: {target for target in module_imports(file) if target in files and target != name}
        for name, file in files.items()
        if file.name not in {"__init__.py", "__main__.py"}
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def module_imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, each with and without its last part: ``a.b.c`` may be a name in ``a.b``."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MOST_LINES = 60


def test_functions_are_short() -> None:
    long = [
        f"{file}:{node.lineno} {node.name} has {n} lines"
        for folder in ("src", *OUTSIDE, "scripts")
        for file in (PACKAGE.parent.parent / folder).rglob("*.py")
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := lines_of_code(node)) > MOST_LINES
    ]
    assert not long, "\n".join(long)


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which should be as long as readers need."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def test_torch_stays_with_training_and_networks() -> None:
    wrong = [
        str(i)
        for file in modules()
        if not file.relative_to(PACKAGE).as_posix().startswith(TORCH_ROOMS)
        for i in imports_of(file)
        if i.module.split(".")[0] == "torch"
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is_and_what_it_offers() -> None:
    wrong = []
    for file in modules():
        tree = tree_of(file)
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        wrong += [f"{file.relative_to(PACKAGE)} has no docstring"] * (ast.get_docstring(tree) is None)
        wrong += [f"{file.relative_to(PACKAGE)} has no __all__"] * ("__all__" not in assigned)
    assert not wrong, "\n".join(wrong)


def in_fresh_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_affuse_loads_nothing_heavy() -> None:
    loaded = set(json.loads(in_fresh_python("import json, sys, affuse; print(json.dumps(sorted(sys.modules)))")))
    heavy = {"torch", "cv2", "av", "onnxruntime", "pandas", "matplotlib", "sklearn", "scipy", "numpy", "rich", "typer"}
    assert "affuse" in loaded
    assert not heavy & loaded


def test_importing_affuse_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import affuse; print(time.perf_counter() - t)"
    assert min(float(in_fresh_python(code)) for _ in range(5)) < 0.3


def test_the_values_of_the_ground_rooms_load_nothing_heavy() -> None:
    code = "import json, sys; from affuse import Segment, LabelSpace, AffuseError; print(json.dumps(list(sys.modules)))"
    heavy = {"torch", "cv2", "av", "onnxruntime", "pandas", "matplotlib", "sklearn", "scipy"}
    assert not heavy & set(json.loads(in_fresh_python(code)))
