"""Components by name: built in, of other packages, mistyped, and with options that they do not have."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from affuse.errors import ConfigError, MissingExtraError
from affuse.registry import Registry, suggestion


class Shape:
    def __init__(self, sides: int = 3, name: str = "") -> None:
        self.sides = sides


class Loose:
    def __init__(self, **options: Any) -> None:
        self.options = options


BUILT_IN = {"shape": f"{__name__}:Shape", "loose": f"{__name__}:Loose", "json": "json:loads"}


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package with two components, one of which has the name of a built-in one."""
    points = [EntryPoint("circle", f"{__name__}:Loose", "shapes"), EntryPoint("shape", "builtins:dict", "shapes")]
    monkeypatch.setattr("affuse.registry.entry_points", lambda group: [p for p in points if p.group == group])


@pytest.mark.usefixtures("others")
def test_other_packages_add_components_and_replace_none() -> None:
    registry = Registry("shape", BUILT_IN, group="shapes")
    assert registry.names() == list(registry) == ["circle", "json", "loose", "shape"]
    assert registry.find("circle") is Loose
    assert registry.find("shape") is Shape
    assert Registry("shape", BUILT_IN).names() == ["json", "loose", "shape"]


def test_membership_and_canonical_names_go_by_the_same_form() -> None:
    registry = Registry("shape", BUILT_IN, normalise=lambda name: name.lower().replace("-", ""))
    assert "SH-APE" in registry
    assert registry.canonical("SH-APE") == "shape"
    assert registry.find("JSON")("[1]") == [1]
    assert "circle" not in registry
    assert 3 not in registry


def test_unknown_names_and_options_say_what_is_near_and_what_there_is() -> None:
    registry = Registry("shape", BUILT_IN)
    with pytest.raises(ConfigError) as name:
        registry.find("shap")
    assert str(name.value) == "unknown shape 'shap' (did you mean 'shape'?); known: json, loose, shape"
    with pytest.raises(ConfigError) as option:
        registry.make("shape", side=4)
    assert str(option.value) == "the shape 'shape' has no option 'side' (did you mean 'sides'?); options: sides, name"
    assert registry.make("shape", sides=4).sides == 4
    assert registry.make("loose", anything=1).options == {"anything": 1}


def test_a_missing_library_names_its_extra_and_a_mistake_of_ours_does_not() -> None:
    built_in = {"far": "no_such_library.inner:Thing", "near": "affuse.no_such_module:Thing"}
    with pytest.raises(MissingExtraError, match=r"no_such_library is not installed; run: pip install 'affuse\[plot\]'"):
        Registry("thing", built_in, extra="plot").find("far")
    with pytest.raises(ModuleNotFoundError):
        Registry("thing", built_in, extra="plot").find("near")
    with pytest.raises(ModuleNotFoundError):
        Registry("thing", built_in).find("far")


def test_suggestions_are_at_most_two() -> None:
    assert suggestion("mean", ["mean1", "mean2", "mean3"]).count("'") == 4
    assert suggestion("xyz", ["mean"]) == ""


def test_installed_packages_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    monkeypatch.setattr("affuse.registry.entry_points", lambda group: searches.append(group) or [])
    registry = Registry("codec", {"json": "json:loads"}, group="my.codecs")
    assert registry.find("json")("[1]") == [1]
    assert registry.names() == ["json"]
    assert "yaml" not in registry
    assert searches == ["my.codecs"]
