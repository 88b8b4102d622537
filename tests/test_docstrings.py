"""Every public name has a docstring that a stranger can use: numpydoc sections, and an example that runs.

Public is what the modules below list in ``__all__``; the API reference of the documentation shows exactly these.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc

MODULES = (
    "affuse",
    "affuse.analyzer",
    "affuse.batch",
    "affuse.data.corpora",
    "affuse.data.corrections",
    "affuse.data.own",
    "affuse.data.predictions",
    "affuse.evaluation",
    "affuse.experts",
    "affuse.exporting",
    "affuse.features",
    "affuse.files",
    "affuse.fusion",
    "affuse.fusion.early",
    "affuse.fusion.networks",
    "affuse.fusion.priors",
    "affuse.fusion.rules",
    "affuse.fusion.trust",
    "affuse.labels",
    "affuse.media",
    "affuse.packages",
    "affuse.people",
    "affuse.registry",
    "affuse.report",
    "affuse.results",
    "affuse.service",
    "affuse.tables",
    "affuse.testing",
    "affuse.timeline",
    "affuse.training",
    "affuse.training.augment",
    "affuse.training.networks",
    "affuse.weights",
)

NEEDS_TORCH = ("affuse.fusion.networks", "affuse.training")


def public() -> list[tuple[str, str]]:
    """(module, name) of every public class and function, each once, under the first module that lists it."""
    seen: set[int] = set()
    found = []
    for module in MODULES:
        if module.startswith(NEEDS_TORCH) and importlib.util.find_spec("torch") is None:
            continue
        home = importlib.import_module(module)
        for name in sorted(home.__all__):
            value = getattr(home, name)
            if (inspect.isclass(value) or inspect.isroutine(value)) and id(value) not in seen:
                seen.add(id(value))
                found.append((module, name))
    return found


PUBLIC = public()
NAMES = [f"{module}.{name}" for module, name in PUBLIC]


def parameters(function: Any) -> set[str]:
    """Names of the parameters that a caller may give."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    # "__dataclass_self__" is how pydantic calls self.
    return {p.name for p in found if p.name.strip("_") not in ("self", "cls", "dataclass_self") and p.kind not in kinds}


def documented(section: list[Any]) -> set[str]:
    """Names in a section of parameters; several may share one line."""
    return {name.strip().lstrip("*") for entry in section for name in entry.name.split(",")}


def returns_something(function: Any) -> bool:
    return inspect.signature(function).return_annotation not in (None, "None", inspect.Signature.empty)


def faults(name: str, value: Any) -> list[str]:
    """What the docstring of a function or method lacks."""
    page = FunctionDoc(value)
    missing = parameters(value) - documented(page["Parameters"])
    unknown = documented(page["Parameters"]) - set(inspect.signature(value).parameters)
    silent = returns_something(value) and not (page["Returns"] or page["Yields"])
    return [
        *([f"{name}: Parameters lacks {', '.join(sorted(missing))}"] if missing else []),
        *([f"{name}: Parameters names {', '.join(sorted(unknown))}, which it does not take"] if unknown else []),
        *([f"{name}: no Returns or Yields"] if silent else []),
    ]


def class_faults(name: str, kind: type) -> list[str]:
    """What the docstring of a class lacks: the parameters that it takes, under Parameters or Attributes."""
    if issubclass(kind, BaseException) or "__init__" not in vars(kind):
        return []
    page = ClassDoc(kind)
    given = documented(page["Parameters"]) | documented(page["Attributes"])
    missing = parameters(kind.__init__) - given
    return [f"{name}: Parameters lacks {', '.join(sorted(missing))}"] if missing else []


def methods(kind: type) -> list[tuple[str, Any]]:
    """Public methods that the class itself writes, with a docstring of their own."""
    found = []
    for name, value in vars(kind).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and inspect.isfunction(function):
            found.append((name, function))
    return found


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=NAMES)
def test_a_public_name_has_the_sections_it_needs(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    assert inspect.getdoc(value), f"{name} has no docstring"
    if inspect.isclass(value):
        wrong = class_faults(name, value)
        for method, function in methods(value):
            if function.__doc__ is not None:  # one that only fills in what a base class explains needs none
                wrong += faults(f"{name}.{method}", function)
    else:
        wrong = faults(name, value)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=NAMES)
def test_a_public_name_has_an_example_that_runs(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value) and issubclass(value, BaseException):
        pytest.skip("errors are raised, not called")
    examples = [test for test in doctest.DocTestFinder(recurse=False).find(value, name) if test.examples]
    assert examples, f"{module}.{name} has no example"
    assert not any(doctest.SKIP in example.options for test in examples for example in test.examples)
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed = sum(runner.run(test, out=report.append).failed for test in examples)
    assert not failed, "".join(report)
