"""Fusers to disk and back: the same answers, nothing untrusted, and one sentence for files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from affuse.errors import AssetError, OutputError
from affuse.fusion import (
    CalibratedLogPool,
    ConformalSets,
    IsotonicScaling,
    MeanRule,
    SafeFusion,
    Stacking,
    TemperatureScaling,
    VectorScaling,
    load,
    save,
)
from affuse.fusion.persistence import CARD, MODEL, read_notes, untrusted_types


class Unregistered(MeanRule):
    """A rule of somebody else."""


def simulated(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    L = rng.normal(size=(n, 2, 3))
    L[np.arange(n)[:, None], np.arange(2), y[:, None]] += [1.0, 2.0]
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


def gappy(P: np.ndarray) -> np.ndarray:
    P = P.copy()
    P[::3, 0] = np.nan
    P[::5, 1] = np.nan
    return P


@pytest.mark.parametrize(
    "classifier",
    [
        None,
        SVC(),
        GaussianNB(),
        MLPClassifier((8,), max_iter=30, solver="lbfgs", random_state=0),
        make_pipeline(StandardScaler(), SVC(kernel="linear")),
    ],
    ids=["logistic", "svm", "bayes", "network", "pipeline"],
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # a network of 30 steps is enough to be written
def test_stacking_over_common_classifiers(tmp_path: Path, classifier: object) -> None:
    P, y = simulated()
    fuser = Stacking(classifier).fit(P, y)
    save(fuser, tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(gappy(P)), fuser.predict_proba(gappy(P)))


def test_labels_parameters_and_fallbacks_survive(tmp_path: Path) -> None:
    P, y = simulated()
    fuser = SafeFusion(CalibratedLogPool(shrinkage=3.0)).fit(P, np.array(["angry", "calm", "happy"])[y])
    save(fuser, tmp_path / "new" / "folder", {"modalities": ["face", "voice"]})
    again = load(tmp_path / "new" / "folder")
    assert again.fuser.shrinkage == 3.0
    assert again.falls_back == fuser.falls_back
    np.testing.assert_array_equal(again.predict(gappy(P)), fuser.predict(gappy(P)))
    assert read_notes(tmp_path / "new" / "folder") == {"modalities": ["face", "voice"]}


@pytest.mark.parametrize("scaling", [TemperatureScaling(), VectorScaling(), IsotonicScaling()])
def test_calibrators_in_pipelines(tmp_path: Path, scaling: object) -> None:
    P, y = simulated()
    pipeline = make_pipeline(scaling, MeanRule()).fit(P, y)
    save(pipeline, tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(gappy(P)), pipeline.predict_proba(gappy(P)))


def test_conformal_sets(tmp_path: Path) -> None:
    P, y = simulated()
    sets = ConformalSets().fit(P, y)
    save(sets, tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_set(P), sets.predict_set(P))


def test_types_are_trusted_by_name_only(tmp_path: Path) -> None:
    P, y = simulated()
    forest = Stacking(RandomForestClassifier(5, random_state=0)).fit(P, y)
    save(forest, tmp_path / "forest")
    assert untrusted_types(tmp_path / "forest") == ["sklearn.tree._tree.Tree"]
    with pytest.raises(AssetError, match=r"does not trust by itself: sklearn\.tree\._tree\.Tree; .*trusted="):
        load(tmp_path / "forest")
    again = load(tmp_path / "forest", trusted=["sklearn.tree._tree.Tree"])
    np.testing.assert_array_equal(again.predict_proba(P), forest.predict_proba(P))

    save(Unregistered().fit(P, y), tmp_path / "theirs")
    name = f"{Unregistered.__module__}.Unregistered"
    with pytest.raises(AssetError, match="Unregistered"):
        load(tmp_path / "theirs")
    assert isinstance(load(tmp_path / "theirs", trusted=[name]), Unregistered)


def test_a_fuser_is_replaced_as_a_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    P, y = simulated()
    for fuser in (MeanRule(), CalibratedLogPool()):
        save(fuser.fit(P, y), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [CARD, MODEL]
    assert isinstance(load(tmp_path), CalibratedLogPool)


def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"nothing holds no fuser: No such file or directory \(fuser.json\)"):
        load(tmp_path / "nothing")
    P, y = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    content = (tmp_path / MODEL).read_bytes()
    (tmp_path / MODEL).write_bytes(content[:-10])
    with pytest.raises(AssetError, match="was changed or is incomplete"):
        load(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(AssetError, match="not a card of format 1"):
        load(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(AssetError, match="not a card of affuse"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save(MeanRule().fit(P, y), tmp_path / "file")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    import hashlib
    import pickle

    P, y = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    content = pickle.dumps({"anything": 1})
    (tmp_path / MODEL).write_bytes(content)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(AssetError, match="not a file of skops"):
        load(tmp_path)
