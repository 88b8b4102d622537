"""A fuser does all that scikit-learn expects of a classifier, and predicts without importing it."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from affuse.fusion import CalibratedLogPool, MeanRule, ProductRule, Stacking, TemperatureScaling

HEAVY = ("pandas", "scipy.optimize", "skops", "sklearn")


def _rows(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    P = rng.dirichlet(np.ones(3), size=(n, 2))
    P[:, 0] = 0.5 * P[:, 0] + 0.5 * np.eye(3)[y]
    return P, y, np.arange(n) // 6


def test_predicting_imports_nothing_that_only_learning_needs() -> None:
    code = f"""
import sys
import numpy as np
from affuse.fusion import registry
for name in registry.names():
    registry.find(name)
P = np.full((3, 2, 3), 1 / 3)
for name in ("mean", "product", "vote", "dempster_shafer"):
    registry.make(name).fit(P, [0, 1, 2]).predict(P)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parameters_are_those_of_init() -> None:
    fuser = Stacking(LogisticRegression(C=2.0))
    assert fuser.get_params()["classifier__C"] == 2.0
    assert set(fuser.get_params(deep=False)) == {"classifier"}
    fuser.set_params(classifier__C=3.0)
    assert fuser.classifier.C == 3.0
    assert MeanRule().get_params() == {}
    with pytest.raises(
        ValueError, match=r"Invalid parameter 'C' for estimator CalibratedLogPool\(\). Valid parameters"
    ):
        CalibratedLogPool().set_params(C=1.0)


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(CalibratedLogPool()) == "CalibratedLogPool()"
    assert repr(CalibratedLogPool(shrinkage=3.0)) == "CalibratedLogPool(shrinkage=3.0)"
    assert len(repr(ProductRule(prior=list(range(10_000))))) <= 703


def test_scikit_learn_takes_it_for_a_classifier_over_three_dimensions() -> None:
    tags = get_tags(MeanRule())
    assert is_classifier(MeanRule())
    assert tags.input_tags.three_d_array
    assert tags.input_tags.allow_nan
    assert not tags.input_tags.two_d_array
    assert "shrinkage" in CalibratedLogPool()._repr_html_()


def test_not_fitted_is_scikit_learns_own_error() -> None:
    P, y, _ = _rows()
    for ask in (MeanRule().predict, MeanRule().predict_proba, lambda _: check_is_fitted(MeanRule())):
        with pytest.raises(NotFittedError, match="This MeanRule instance is not fitted yet"):
            ask(P)
    check_is_fitted(MeanRule().fit(P, y))


def test_score_is_accuracy() -> None:
    P, y, _ = _rows()
    fuser = MeanRule().fit(P, y)
    weights = np.linspace(0, 1, len(y))
    assert fuser.score(P, y) == pytest.approx(accuracy_score(y, fuser.predict(P)))
    assert fuser.score(P, y, weights) == pytest.approx(accuracy_score(y, fuser.predict(P), sample_weight=weights))


def test_pipelines_search_and_cross_validation() -> None:
    P, y, groups = _rows()
    chain = make_pipeline(TemperatureScaling(), CalibratedLogPool())
    assert cross_val_predict(chain, P, y, groups=groups, cv=GroupKFold(3), method="predict_proba").shape == (60, 3)
    search = GridSearchCV(CalibratedLogPool(), {"shrinkage": [1.0, 9.0]}, cv=3).fit(P, y)
    assert search.best_params_["shrinkage"] in (1.0, 9.0)


def test_metadata_routing_brings_groups() -> None:
    seen: list[Any] = []

    class Watching(MeanRule):
        def learn(self, P: np.ndarray, y: np.ndarray, groups: Any) -> None:
            seen.append(groups)

    P, y, groups = _rows()
    with sklearn.config_context(enable_metadata_routing=True):
        fuser = clone(Watching().set_fit_request(groups=True))
        cross_val_score(fuser, P, y, params={"groups": groups}, cv=3)
    assert [len(found) for found in seen] == [40, 40, 40]


def test_partial_answers_are_those_without_the_others() -> None:
    P, y, _ = _rows()
    fuser = CalibratedLogPool().fit(P, y)
    alone = P.copy()
    alone[:, 1] = np.nan
    np.testing.assert_array_equal(fuser.partial_proba(P, [True, False]), fuser.predict_proba(alone))
    np.testing.assert_array_equal(fuser.partial_proba(P, [True, True]), fuser.predict_proba(P))
    assert np.isnan(fuser.partial_proba(P, [False, False])).all()
    assert np.isfinite(P).all(), "the input stays as it is"
