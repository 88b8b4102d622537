"""Every registered fuser keeps the contract, works in scikit-learn's tools, and is found by its name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from affuse import fusion
from affuse.errors import ConfigError
from affuse.fusion import registry
from affuse.fusion.estimator import Fuser
from affuse.testing import check_fuser

NAMES = sorted(registry.BUILT_IN)


def simulated(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three experts of growing skill: P (n, 3, 4), labels (n,) and groups of four rows (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    L = rng.normal(size=(n, 3, 4))
    L[np.arange(n)[:, None], np.arange(3), y[:, None]] += [1.0, 1.5, 2.0]
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y, np.arange(n) // 4


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    check_fuser(registry.make(name))


@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_tools(name: str) -> None:
    P, y, groups = simulated()
    fuser = registry.make(name)
    assert clone(fuser).get_params().keys() == fuser.get_params().keys()
    scores = cross_val_score(fuser, P, y, groups=groups, cv=GroupKFold(3))
    assert scores.mean() > 0.5, "chance is 0.25, the best expert alone above 0.7"
    pipeline = make_pipeline(FunctionTransformer(), fuser)
    np.testing.assert_array_equal(pipeline.fit(P, y).predict(P), clone(fuser).fit(P, y).predict(P))


def test_grid_search_chooses_a_parameter() -> None:
    P, y, _ = simulated()
    search = GridSearchCV(registry.make("weighted"), {"weights": [[1, 0, 0], [0, 0, 1]]}, cv=3).fit(P, y)
    assert search.best_params_ == {"weights": [0, 0, 1]}, "the third expert is the best"


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_public_and_explained(name: str) -> None:
    kind = registry.find(name)
    assert issubclass(kind, Fuser)
    assert getattr(fusion, kind.__name__) is kind
    assert kind.__name__ in fusion.__all__
    assert "gaps" in kind.__doc__.lower()
    assert "ties" in kind.__doc__.lower()


def test_every_public_name_of_the_room_leads_somewhere() -> None:
    assert len(set(fusion.__all__)) == len(fusion.__all__)
    assert all(getattr(fusion, name) is not None for name in fusion.__all__)
    with pytest.raises(AttributeError, match="no attribute 'MeanRul'"):
        fusion.MeanRul  # noqa: B018 - the access is what is tested


def test_unknown_names_and_parameters_list_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"unknown fuser 'average'; known: .*mean, median"):
        registry.make("average")
    with pytest.raises(ConfigError, match="log_pool has no parameter 'shrink'; it has: prior, shrinkage"):
        registry.make("log_pool", shrink=1)
    assert registry.make("log_pool", shrinkage=3.0).shrinkage == 3.0


def test_other_packages_register_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "affuse.fusion.rules.averaging:MeanRule", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    assert "theirs" in registry.names()
    assert registry.find("theirs") is fusion.MeanRule
