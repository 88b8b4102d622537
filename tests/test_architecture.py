"""The rooms of affuse import only what their place in the house allows, and importing affuse costs next to nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import affuse

PACKAGE = Path(affuse.__file__).parent

GROUND = {"errors", "atomic", "timeline", "labels"}
INFERENCE = GROUND | {"analysis", "media", "fusion", "experts", "features", "datasets", "evaluation"}

# Room → rooms that it may import, besides itself. Imports inside functions and for type checkers count as well.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "atomic": {"errors"},
    "timeline": {"errors"},
    "labels": {"errors"},
    "loop": {"errors"},
    "analysis": GROUND,
    "media": GROUND,
    "fusion": {"errors", "atomic", "labels", "loop"},  # loop: in fusion/networks alone
    "experts": GROUND | {"media"},
    "features": GROUND | {"media", "experts"},  # embeddings are those of the experts
    "datasets": GROUND | {"media"},
    "evaluation": {"errors", "labels", "fusion"},
    "training": INFERENCE | {"loop", "evaluating", "pipeline"},  # what a recipe reports is read as the command reads it
    "verdicts": INFERENCE,
    "pipeline": INFERENCE | {"verdicts"},
    "adaptation": INFERENCE | {"pipeline"},
    "fusing": INFERENCE,
    "probes": GROUND | {"media"},
    "evaluating": INFERENCE | {"adaptation", "pipeline"},
    "benchmark": INFERENCE | {"pipeline", "probes"},
    "exporting": INFERENCE | {"pipeline", "evaluating", "benchmark", "probes"},
    "report": GROUND | {"analysis"},
    "testing": INFERENCE,
    "service": INFERENCE | {"pipeline", "fusing", "report"},
    "cli": INFERENCE
    | {"adaptation", "pipeline", "fusing", "evaluating", "benchmark", "exporting", "report", "service"},
}

# (room, room): allowed inside functions only, where it is loaded for the one call that needs it.
LAZY = {
    ("analysis", "report"),  # Analysis.report and .plot are the front door to the pages
    ("cli", "training"),  # the command that runs a recipe; everything else must work without torch
}

# Names that the package itself holds without importing a room.
OWN_NAMES = {"__version__"}

TORCH_ROOMS = ("training", "fusion/networks", "loop.py")


@dataclass(frozen=True)
class Import:
    """One import statement: the dotted module, where it stands and whether it runs when its file is loaded."""

    module: str
    file: Path
    line: int
    at_load: bool

    @property
    def room(self) -> str:
        return room_of(self.file)

    @property
    def target(self) -> str:
        return self.module.split(".")[1]

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}:{self.line} imports {self.module}"


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(file: Path, source: str | None = None) -> Iterator[Import]:
    """Every import of ``file``; ``from affuse import x`` counts as ``affuse.x``, relative ones become absolute."""
    tree = ast.parse(source if source is not None else file.read_text(encoding="utf-8"), str(file))
    package = ("affuse", *file.relative_to(PACKAGE).parent.parts)
    lazy = {id(inner) for outer in ast.walk(tree) if _runs_later(outer) for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin == "affuse" else [origin]
        else:
            continue
        for name in names:
            yield Import(name, file, node.lineno, id(node) not in lazy)


def _runs_later(node: ast.AST) -> bool:
    """Whether what is in ``node`` does not run when its file is loaded: functions, and what type checkers read."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def is_allowed(statement: Import) -> bool:
    if statement.target in OWN_NAMES or statement.target == statement.room:
        return True
    if statement.target in ALLOWED[statement.room]:
        return True
    return (statement.room, statement.target) in LAZY and not statement.at_load


def house_imports(file: Path, source: str | None = None) -> list[Import]:
    return [i for i in imports(file, source) if i.module.startswith("affuse.")]


def test_every_room_has_its_place() -> None:
    rooms = {room_of(file) for file in modules()} - {"__init__", "__main__"}
    unknown = rooms - set(ALLOWED)
    assert not unknown, f"add these rooms to the import table: {', '.join(sorted(unknown))}"


def test_the_table_has_no_circles() -> None:
    seen: set[str] = set()
    while left := set(ALLOWED) - seen:
        free = {room for room in left if ALLOWED[room] <= seen}
        assert free, f"these rooms import each other in a circle: {', '.join(sorted(left))}"
        seen |= free


def test_rooms_import_only_what_the_table_allows() -> None:
    # The package's own __init__ names everything for type checkers and loads nothing; it has a test of its own below.
    files = [file for file in modules() if file.parent != PACKAGE or file.name not in {"__init__.py", "__main__.py"}]
    wrong = [str(i) for file in files for i in house_imports(file) if not is_allowed(i)]
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
        ("media", "from .. import pipeline", False),
        ("media", "from ..fusion import stack", False),
        ("media", "import affuse.pipeline", False),
        ("media", "def f():\n    from affuse.pipeline import analyze", False),
        ("analysis", "from affuse.report import write_report", False),
        ("analysis", "class A:\n    def f(self):\n        from affuse.report import write_report", True),
        ("cli", "import affuse.training.face", False),
        ("cli", "def f():\n    import affuse.training.face", True),
        ("cli", "if TYPE_CHECKING:\n    import affuse.training.face", True),
        ("cli", "if True:\n    import affuse.training.face", False),
        ("pipeline", "def f():\n    import affuse.training.face", False),
    ],
)
def test_the_check_tells_right_from_wrong(room: str, source: str, allowed: bool) -> None:
    file = PACKAGE / f"{room}.py" if room in {"analysis", "pipeline"} else PACKAGE / room / "invented.py"
    assert all(is_allowed(i) for i in house_imports(file, source)) is allowed


def test_torch_stays_with_training_and_networks() -> None:
    wrong = [
        str(i)
        for file in modules()
        if not file.relative_to(PACKAGE).as_posix().startswith(TORCH_ROOMS)
        for i in imports(file)
        if i.module.split(".")[0] == "torch"
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is_and_what_it_offers() -> None:
    wrong = []
    for file in modules():
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
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
