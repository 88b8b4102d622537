"""Names and libraries that are loaded when they are asked for."""

from __future__ import annotations

import importlib

import pytest

from affuse.errors import MissingExtraError
from affuse.lazy import lazy_names, needs_extra

PACKAGES = (
    "affuse",
    "affuse.evaluation",
    "affuse.experts",
    "affuse.features",
    "affuse.fusion",
    "affuse.fusion.rules",
    "affuse.fusion.trust",
    "affuse.people",
    "affuse.service",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_of_a_lazy_package_can_be_imported_and_is_listed(name: str) -> None:
    package = importlib.import_module(name)
    assert all(getattr(package, public) is not None for public in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = package.nothing


def test_a_module_may_be_named_from_the_package_on() -> None:
    get, names = lazy_names("affuse.fusion", {"ProductRule": ".rules.product", "EKMAN": "affuse.labels"})
    assert get("ProductRule").__name__ == "ProductRule"
    assert get("EKMAN").name == "ekman"
    assert {"ProductRule", "EKMAN", "__all__"} <= set(names())


def test_a_missing_library_names_the_command_that_installs_it() -> None:
    get, _ = lazy_names("affuse", {"thing": "a_missing_library"}, extra="train")
    with pytest.raises(MissingExtraError, match=r"a_missing_library is not installed; run: .*affuse\[train\]"):
        get("thing")


@pytest.mark.parametrize(("module", "extra"), [("affuse.missing", "train"), ("a_missing_library", None)])
def test_other_missing_modules_stay_what_they_are(module: str, extra: str | None) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{module}'"), needs_extra(extra):
        importlib.import_module(module)
