"""Fusers to disk and back: the same answers, nothing untrusted, and one sentence for files that do not fit."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

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
from affuse.fusion.estimator import Fuser
from affuse.fusion.persistence import ARRAYS, CARD, MODEL, _card_checksum, read_notes, untrusted_types


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
    assert sorted(p.name for p in tmp_path.iterdir()) == [ARRAYS, CARD]
    assert isinstance(load(tmp_path), CalibratedLogPool)
    save(Stacking(GaussianNB()).fit(P, y), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [ARRAYS, CARD, MODEL]
    save(MeanRule().fit(P, y), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [ARRAYS, CARD]


def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"nothing holds no fuser: No such file or directory \(fuser.json\)"):
        load(tmp_path / "nothing")
    P, y = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    content = (tmp_path / ARRAYS).read_bytes()
    (tmp_path / ARRAYS).write_bytes(content[:-10])
    with pytest.raises(AssetError, match=r"arrays.npz was changed or is incomplete: its SHA-256 is \w+, not \w+"):
        load(tmp_path)
    (tmp_path / ARRAYS).unlink()
    with pytest.raises(AssetError, match=r"holds no fuser: No such file or directory \(arrays.npz\)"):
        load(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(AssetError, match="not a card of format 2"):
        load(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(AssetError, match="not a card of affuse"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save(MeanRule().fit(P, y), tmp_path / "file")


class Everything(MeanRule):
    """Holds a value of every kind that a fuser may learn."""

    def learn(self, P: np.ndarray, y: np.ndarray, groups: Any) -> None:
        self.values_ = {
            "numbers": [0.1, -0.0, 1e-320, float("inf"), 2**80, True, None, "Ärger"],
            ("a", 1): (np.float32(0.1), np.int64(3), np.str_("text"), np.bool_(True)),
            "sets": {1, 2},
            "frozen": frozenset({("x",)}),
            "arrays": [
                np.arange(6, dtype=np.uint8).reshape(2, 3),
                np.array(["ä", "bc"]),
                np.zeros((0, 3)),
                np.array(2.5),
            ],
            "objects": np.array([None, "x", (1, 2)], dtype=object),
            "fuser": CalibratedLogPool(shrinkage=7.0).fit(P, y),
            "nothing": {},
        }


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Fuser):
        return _same(vars(one), vars(other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and _same(one.tolist(), other.tolist())
    return bool(one == other) and repr(one) == repr(other)


def test_every_kind_of_value_survives_exactly(tmp_path: Path) -> None:
    P, y = simulated()
    fuser = Everything().fit(P, y)
    save(fuser, tmp_path)
    again = load(tmp_path, trusted=untrusted_types(tmp_path))
    assert not (tmp_path / MODEL).exists()
    assert _same(again, fuser)


@pytest.mark.parametrize("fuser", [MeanRule(), CalibratedLogPool(), SafeFusion(), Stacking()], ids=repr)
def test_saving_twice_writes_the_same_bytes(tmp_path: Path, fuser: Fuser) -> None:
    P, y = simulated()
    fuser.fit(P, y)
    for name in ("one", "two"):
        save(fuser, tmp_path / name)
    assert (tmp_path / "one" / ARRAYS).read_bytes() == (tmp_path / "two" / ARRAYS).read_bytes()


@pytest.mark.parametrize("fuser", [CalibratedLogPool(), Stacking(), SafeFusion(Stacking())], ids=repr)
def test_folders_of_the_first_format_are_read(tmp_path: Path, fuser: Fuser) -> None:
    P, y = simulated()
    fuser.fit(P, y)
    _save_as_first_format(fuser, tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(gappy(P)), fuser.predict_proba(gappy(P)))
    assert read_notes(tmp_path) == {"method": "own"}
    card = json.loads((tmp_path / CARD).read_text())
    for place, value in _damages(card):
        damaged = _changed(card, place, value)
        (tmp_path / CARD).write_text(json.dumps(damaged))
        _loads_or_says_why(tmp_path, P[:5])


def _save_as_first_format(fuser: Fuser, folder: Path) -> None:
    model = import_module("skops.io").dumps(fuser)
    card = {
        "format": 1,
        "fuser": f"{type(fuser).__module__}.{type(fuser).__qualname__}",
        "affuse": "0.1.0",
        "scikit-learn": "1.6.0",
        "sha256": hashlib.sha256(model).hexdigest(),
        "notes": {"method": "own"},
    }
    (folder / MODEL).write_bytes(model)
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize("fuser", [CalibratedLogPool(), SafeFusion(), Stacking()], ids=repr)
def test_a_card_changed_anywhere_is_refused(tmp_path: Path, fuser: Fuser) -> None:
    P, y = simulated()
    save(fuser.fit(P, y), tmp_path, {"modalities": ["a", "b"], "labels": ["x", "y", "z"]})
    card = json.loads((tmp_path / CARD).read_text())
    for place, value in _damages(card):
        (tmp_path / CARD).write_text(json.dumps(_changed(card, place, value)))
        with pytest.raises(AssetError):
            load(tmp_path)
        with pytest.raises(AssetError):
            read_notes(tmp_path)


@pytest.mark.parametrize("fuser", [CalibratedLogPool(), SafeFusion(), Stacking()], ids=repr)
def test_a_card_that_was_rewritten_with_its_checksum_is_refused_or_answers(tmp_path: Path, fuser: Fuser) -> None:
    P, y = simulated()
    save(fuser.fit(P, y), tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    for place, value in _damages(card):
        damaged = _changed(card, place, value)
        damaged["sha256"] = _card_checksum(damaged)
        (tmp_path / CARD).write_text(json.dumps(damaged))
        _loads_or_says_why(tmp_path, P[:5])


def _loads_or_says_why(folder: Path, P: np.ndarray) -> None:
    try:
        fuser = load(folder)
    except AssetError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a file may be well-formed after all
    else:
        assert fuser.predict_proba(P).shape == (len(P), 3)


def _damages(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a value of JSON, with values of other types; ... where it is to go."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        for new in (None, True, 7, -1.5, "x", [], {}, [1, 2], {"float": "nan"}, ...):
            if type(new) is not type(value[key]):
                yield (*place, key), new
        yield from _damages(value[key], (*place, key))


def _changed(card: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(card)
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def _with_file(folder: Path, name: str, content: bytes) -> None:
    """Put a file into a folder as if it had been saved with it."""
    (folder / name).write_bytes(content)
    card = json.loads((folder / CARD).read_text())
    card["files"][name] = hashlib.sha256(content).hexdigest()
    card["sha256"] = _card_checksum(card)
    (folder / CARD).write_text(json.dumps(card))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    P, y = simulated()
    save(Stacking(GaussianNB()).fit(P, y), tmp_path)
    _with_file(tmp_path, MODEL, pickle.dumps({"anything": 1}))
    with pytest.raises(AssetError, match=r"fuser.skops is not a file of skops"):
        load(tmp_path)
    save(MeanRule().fit(P, y), tmp_path)
    _with_file(tmp_path, ARRAYS, pickle.dumps({"0": 1}))
    with pytest.raises(AssetError, match="cannot be read here"):
        load(tmp_path)
    objects: dict[str, Any] = {name: np.array([{}], dtype=object) for name in "01"}
    np.savez(tmp_path / "objects.npz", **objects)
    _with_file(tmp_path, ARRAYS, (tmp_path / "objects.npz").read_bytes())
    with pytest.raises(AssetError, match=r"cannot be read here: .*pickle"):
        load(tmp_path)


def test_arrays_that_unpack_to_more_than_they_are_are_refused(tmp_path: Path) -> None:
    P, y = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    zeros: dict[str, Any] = {name: np.zeros(10**6) for name in "01"}
    np.savez_compressed(tmp_path / "packed.npz", **zeros)
    _with_file(tmp_path, ARRAYS, (tmp_path / "packed.npz").read_bytes())
    with pytest.raises(AssetError, match=r"arrays.npz is compressed"):
        load(tmp_path)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
        archive.writestr("0.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    _with_file(tmp_path, ARRAYS, (tmp_path / "huge.npz").read_bytes())
    with pytest.raises(AssetError, match="cannot be read here"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "affuse.fusion.base.stack", 3, ["os.system"]])
def test_no_class_is_built_that_the_registry_does_not_know(tmp_path: Path, name: Any) -> None:
    P, y = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    for content in ([name, {"dict": []}], {str(name): 1, "state": {"dict": []}}, [[name], {"dict": []}]):
        card["state"] = {"object": content}
        card["sha256"] = _card_checksum(card)
        (tmp_path / CARD).write_text(json.dumps(card))
        with pytest.raises(AssetError):
            load(tmp_path)


def test_a_card_that_is_nested_deeper_than_python_reads(tmp_path: Path) -> None:
    P, y = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    (tmp_path / CARD).write_text("[" * 100_000)
    with pytest.raises(AssetError, match="not a card of affuse"):
        load(tmp_path)
    (tmp_path / CARD).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AssetError, match="not a card of affuse"):
        load(tmp_path)
