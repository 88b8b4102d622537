"""What `import affuse` offers: exactly this, and every name leads somewhere."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import affuse

PUBLIC = {
    "EKMAN",
    "SENTIMENT",
    "AffuseError",
    "Analysis",
    "Analyzer",
    "LabelSpace",
    "Recording",
    "Segment",
    "Timeline",
    "__version__",
    "adapt",
    "analyze",
    "compare",
    "compare_features",
    "evaluate",
    "export",
    "extract_features",
    "fuse_tables",
    "plot_timeline",
    "serve",
    "stack",
    "tune",
    "write_report",
}
NEED_AN_EXTRA = {"train"}
"""Not brought by a star import, which must work without torch."""


def test_the_surface_is_the_one_agreed_on() -> None:
    assert set(affuse.__all__) == PUBLIC
    assert len(affuse.__all__) == len(PUBLIC)
    assert set(dir(affuse)) >= PUBLIC | NEED_AN_EXTRA
    assert set(affuse._HOMES) == PUBLIC - {"__version__"} | NEED_AN_EXTRA


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"} | NEED_AN_EXTRA))
def test_a_name_is_the_object_of_its_home(name: str) -> None:
    if name in NEED_AN_EXTRA:
        pytest.importorskip("torch")
    home = importlib.import_module(affuse._HOMES[name])
    assert getattr(affuse, name) is getattr(home, name)
    assert name in home.__all__


@pytest.mark.parametrize("name", sorted(PUBLIC - {"EKMAN", "SENTIMENT", "__version__"}))
def test_public_classes_and_functions_are_explained(name: str) -> None:
    assert inspect.getdoc(getattr(affuse, name))


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'affuse' has no attribute 'analyse'"):
        affuse.analyse  # noqa: B018 - the access is what is tested


def test_a_star_import_brings_the_surface() -> None:
    namespace: dict[str, object] = {}
    exec("from affuse import *", namespace)  # a star import stands only at module level
    assert set(namespace) - {"__builtins__"} == PUBLIC


def test_the_version_is_the_installed_one() -> None:
    assert importlib.import_module("importlib.metadata").version("affuse") == affuse.__version__


def test_python_dash_m_and_the_entry_point_lead_to_the_same_command() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["affuse"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    answer = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == f"affuse {affuse.__version__}"


def test_every_registered_expert_of_ours_exists() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, place in project["entry-points"]["affuse.experts"].items():
        module, _, attribute = place.partition(":")
        assert inspect.isclass(getattr(importlib.import_module(module), attribute)), name


def test_a_missing_extra_names_its_command() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom affuse import *\nimport affuse\naffuse.train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'affuse[train]'" in done.stderr, done.stderr
