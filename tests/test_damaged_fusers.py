"""Saved fusers that somebody has damaged, checksums and all: refused in a sentence, or read and answering."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affuse.errors import AssetError
from affuse.fusion import (
    AdaptiveFuser,
    ConformalSets,
    Fuser,
    MeanRule,
    ProductRule,
    SafeFusion,
    Stacking,
    VectorScaling,
    load,
    registry,
    save,
)
from affuse.fusion.named import NamedFuser
from affuse.fusion.persistence import ARRAYS, CARD, _card_checksum
from affuse.fusion.transfer import ExtendedFuser, Recalibrated
from command import Run, caller

_WAYS = int(os.environ.get("AFFUSE_DAMAGES", "12"))  # of damaging each fuser; more take minutes
_LABELS = ("anger", "happiness", "sadness")
_WRONG = (
    None,
    True,
    7,
    -1.5,
    1e308,
    "x",
    "..",
    [],
    {},
    [1, [2, [3]]],
    {"float": "nan"},
    {"float": "inf"},
    {"dict": []},
)


def simulated(n: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    L = rng.normal(size=(n, 2, 3))
    L[np.arange(n)[:, None], np.arange(2), y[:, None]] += [1.0, 2.0]
    P = np.exp(L)
    P /= P.sum(axis=2, keepdims=True)
    P[::7, 0] = np.nan
    return P, y, np.arange(n) // 6


def compound(name: str) -> Any:
    """Fusers that hold others, which no registry lists."""
    P, y, groups = simulated()
    base = ProductRule().fit(P, y)
    made: dict[str, Callable[[], Any]] = {
        "adaptive": lambda: AdaptiveFuser(MeanRule()),
        "extended": lambda: ExtendedFuser(base, Stacking()),
        "recalibrated": lambda: Recalibrated(base),
        "safe stacking": lambda: SafeFusion(Stacking(), level=0.99),
        "wider": lambda: NamedFuser(base, ("face", "voice"), _LABELS).with_modality("more").over_emotions().fuser,
    }
    fuser = made[name]()
    return fuser if name == "wider" else fuser.fit(P, y, groups)


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    P = simulated(30)[0]
    for j, name in enumerate(("face", "voice")):
        table = pd.DataFrame(P[:, j], columns=list(_LABELS))
        table.insert(0, "id", [f"c{i}" for i in range(len(P))])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return [tmp_path / "face.csv", tmp_path / "voice.csv"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "fuse")


# --- damages ----------------------------------------------------------------------------------------------------------


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where anything stands in a value of JSON."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


def changed(card: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(card)
    inner: Any = found
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return found


def reshaped(array: np.ndarray) -> list[np.ndarray]:
    """The array in other shapes, of other types and with other numbers."""
    doubled = np.concatenate([array, array]) if array.ndim else np.array([array, array])
    shorter = array[:-1] if array.ndim else array[None]
    others = [array.ravel()[:, None], array[None], shorter, doubled, np.zeros((0, *array.shape)), array.astype("U8")]
    if array.dtype.kind in "iuf":
        others += [np.full(array.shape, number) for number in (np.nan, np.inf, 1e308, -1.0)]
        others += [array.astype(complex), array.astype("datetime64[s]") if array.dtype.kind == "i" else array > 0]
    return others


def with_arrays(folder: Path, card: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    content = io.BytesIO()
    np.savez(content, **arrays)
    (folder / ARRAYS).write_bytes(content.getvalue())
    return changed(card, ("files", ARRAYS), hashlib.sha256(content.getvalue()).hexdigest())


def damages(folder: Path, chance: random.Random) -> Iterator[str]:
    """Damage a folder again and again, each time from what it was; what was done, in words."""
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    card = json.loads(whole[CARD])
    with np.load(io.BytesIO(whole[ARRAYS])) as file:
        arrays = dict(file)
    where = [at for at in places(card) if at[0] in ("state", "notes", "fuser")]
    for way in range(_WAYS):
        for name, content in whole.items():
            (folder / name).write_bytes(content)
        if way % 8 == 7:
            name = chance.choice(sorted(whole))
            (folder / name).write_bytes(whole[name][: chance.randrange(len(whole[name]))])
            yield f"{name} was cut off"
            continue
        if way % 3 == 2:
            name = chance.choice(sorted(arrays))
            other = chance.choice(reshaped(arrays[name]))
            damaged = with_arrays(folder, card, arrays | {name: other})
            told = f"array {name}: {arrays[name].dtype}{arrays[name].shape} to {other.dtype}{other.shape}"
        else:
            at, value = chance.choice(where), chance.choice((*_WRONG, ...))
            damaged, told = changed(card, at, value), f"{at} to {value!r}"
        damaged["sha256"] = _card_checksum(damaged)
        (folder / CARD).write_text(json.dumps(damaged))
        yield told


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a warning is no traceback
@pytest.mark.parametrize("name", [*registry.names(), "adaptive", "extended", "recalibrated", "safe stacking"])
def test_a_damaged_fuser_is_refused_or_answers(name: str, tmp_path: Path, tables: list[Path], run: Run) -> None:
    P, y, groups = simulated()
    fuser = registry.make(name).fit(P, y, groups) if name in registry.names() else compound(name)
    notes = {"prior": {"name": "own", "frequencies": [0.3, 0.3, 0.4]}, "priors": {"face": [0.2, 0.3, 0.5]}}
    folder = tmp_path / "fuser"
    NamedFuser(fuser, ("face", "voice"), _LABELS, name, notes).write(folder)
    whole = run(*tables, "--fuser", folder)
    assert whole.code == 0, whole.err
    refused = 0
    for damage in damages(folder, random.Random(name)):
        done = run(*tables, "--fuser", folder, "--prior", "uniform")
        if done.code == 2:
            refused += 1
            assert (done.out, len(done.err.strip().splitlines())) == ("", 1), (damage, done.err)
        else:
            assert done.code == 0, (damage, done.err)
            answers = pd.read_csv(io.StringIO(done.out))[list(_LABELS)].to_numpy(float)
            np.testing.assert_allclose(answers.sum(axis=1), 1.0, err_msg=damage)
            assert (answers >= 0).all(), damage
    assert refused >= _WAYS / 3  # most places of a card matter


@pytest.mark.parametrize("name", ["adaptive", "extended", "recalibrated", "safe stacking", "wider"])
def test_fusers_that_hold_others_survive(name: str, tmp_path: Path) -> None:
    fuser = compound(name)
    save(fuser, tmp_path)
    P = simulated()[0]
    P = P[~np.isnan(P).any(axis=(1, 2))]
    P = np.concatenate([P, P[:, :1]], axis=1)[:, : fuser.n_modalities_]
    P = np.concatenate([P, np.zeros((len(P), P.shape[1], len(fuser.classes_) - 3))], axis=2)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(P), fuser.predict_proba(P))


def damaged(folder: Path, fuser: Any, **attributes: Any) -> Path:
    """A folder of a fuser with other attributes, ``...`` for none."""
    fuser = copy.copy(fuser)
    for name, value in attributes.items():
        if value is ...:
            delattr(fuser, name)
        else:
            vars(fuser)[name] = value
    save(fuser, folder)
    return folder


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"weights_": np.ones(3)}, r"'weights_' must be an array of numbers of shape \(2,\); got .* of shape \(3,\)"),
        ({"weights_": np.ones((2, 1))}, r"got an array of float64 of shape \(2, 1\)"),
        ({"weights_": np.array(["a", "b"])}, r"got an array of <U1 of shape \(2,\)"),
        ({"weights_": [1.0, 2.0]}, r"must be an array of numbers of shape \(2,\); got \[1.0, 2.0\]"),
        ({"weights_": np.array([np.nan, 1.0])}, "'weights_' must hold numbers from 0 to 1e\\+09; got NaN"),
        ({"weights_": np.array([-1.0, 1.0])}, "got -1 to 1"),
        ({"weights_": ...}, "its attribute 'weights_' is missing"),
        ({"weights": ...}, "its attribute 'weights' is missing"),
        ({"weights": "heavy"}, "its attribute 'weights' must be numbers; got 'heavy'"),
        ({"weights": [[1], [2, 3]]}, "its attribute 'weights' must be numbers"),
        ({"n_modalities_": 2.0}, "'n_modalities_' must be a whole number above 0; got 2.0"),
        ({"n_modalities_": True}, "'n_modalities_' must be a whole number above 0; got True"),
        ({"n_modalities_": 10**12}, "1000000000000 modalities and 3 classes, more than any fuser"),
        ({"n_modalities_": 3}, "'weights_' must be an array of numbers of shape"),
        ({"classes_": np.arange(4)}, "'prior_' must be an array of numbers of shape"),
        ({"classes_": np.array([0, 0, 1])}, r"'classes_' must hold different labels; got \[0, 0, 1\]"),
        ({"classes_": np.zeros((3, 1))}, "'classes_' must be an array of labels"),
        ({"classes_": np.array([None, 1, 2], dtype=object)}, "'classes_' must be an array of labels"),
        ({"prior_": np.full(3, 0.5)}, "'prior_' must be frequencies that add up to 1; got a sum of 1.5"),
        ({"combine": 1}, "it has no attribute 'combine'"),
        ({"further_": 1}, "it has no attribute 'further_'"),
    ],
)
def test_an_attribute_that_its_class_does_not_declare_is_named(
    tmp_path: Path, attributes: dict[str, Any], sentence: str
) -> None:
    P, y, _ = simulated()
    folder = damaged(tmp_path, registry.make("weighted").fit(P, y), **attributes)
    with pytest.raises(AssetError, match=f"WeightedMeanRule.*cannot be read here: WeightedMeanRule: .*{sentence}"):
        load(folder)


class Theirs(MeanRule):
    """A rule of another package, which declares nothing."""

    def learn(self, P: np.ndarray, y: np.ndarray, groups: Any) -> None:
        self.anything_ = {"any": [1, "kind"]}


def test_rules_of_others_may_learn_what_they_like_but_no_methods(tmp_path: Path) -> None:
    P, y, _ = simulated()
    name = f"{Theirs.__module__}.Theirs"
    save(Theirs().fit(P, y), tmp_path)
    assert load(tmp_path, trusted=[name]).anything_ == {"any": [1, "kind"]}
    for wrong in ("predict_proba", "learn", "__class__", "hidden"):
        with pytest.raises(AssetError, match=f"it has no attribute '{wrong}'"):
            load(damaged(tmp_path / wrong, Theirs().fit(P, y), **{wrong: 1}), trusted=[name])


def test_a_fuser_inside_another_must_fit_it(tmp_path: Path) -> None:
    P, y, groups = simulated()
    safe = SafeFusion(MeanRule(), level=0.99).fit(P, y, groups)
    narrow = MeanRule().fit(P[:, :1], y)
    with pytest.raises(AssetError, match="'fusers_' must be a fuser of 2 modalities and 3 classes; got 1 and 3"):
        load(damaged(tmp_path, safe, fusers_=[narrow]))
    with pytest.raises(AssetError, match="'fusers_' must be a fuser; got 7"):
        load(damaged(tmp_path, safe, fusers_=[7]))


def test_sets_and_pipelines_are_asked_as_well(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline

    P, y, _ = simulated()
    sets = ConformalSets().fit(P, y)
    with pytest.raises(AssetError, match="cannot be read here"):
        load(damaged(tmp_path / "sets", sets, threshold_="high"))
    pipeline = make_pipeline(VectorScaling(), MeanRule()).fit(P, y)
    NamedFuser(pipeline, ("face", "voice"), _LABELS).write(tmp_path / "fine")
    assert NamedFuser.read(tmp_path / "fine").fuse(P, ("face", "voice")).shape == (90, 3)
    pipeline.steps[0][1].maps_ = [np.ones((2, 5))] * 2
    NamedFuser(pipeline, ("face", "voice"), _LABELS).write(tmp_path / "broken")
    with pytest.raises(AssetError, match=r"does not hold together: its Pipeline does not answer"):
        NamedFuser.read(tmp_path / "broken")


@pytest.mark.parametrize(
    ("notes", "sentence"),
    [
        ({"priors": [1, 2]}, "the note 'priors' must hold frequencies by modality"),
        ({"priors": {"face": [1, 2]}}, "prior of face does not hold together: expected 3 frequencies"),
        ({"priors": {"face": [0, 0, 0]}}, "prior of face does not hold together"),
        ({"prior": 7}, "note of its prior does not hold together"),
        ({"prior": {"name": "x", "frequencies": "even"}}, "note of its prior does not hold together"),
        ({"labels": ["a", "a", "b"]}, "need different names"),
        ({"labels": ["a", "b"]}, "fitted on 2 modalities and 3 labels; named are face, voice and a, b"),
        ({"modalities": ["face", 7]}, "need different names"),
        ({"modalities": "face"}, "a fuser without its modalities"),
    ],
)
def test_notes_that_do_not_fit_are_told_when_they_are_read(tmp_path: Path, notes: Any, sentence: str) -> None:
    P, y, _ = simulated()
    save(MeanRule().fit(P, y), tmp_path, {"modalities": ["face", "voice"], "labels": list(_LABELS), **notes})
    with pytest.raises(AssetError, match=sentence):
        NamedFuser.read(tmp_path)


def test_the_card_names_what_is_in_it(tmp_path: Path) -> None:
    P, y, _ = simulated()
    save(MeanRule().fit(P, y), tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    for name, state in (("affuse.fusion.rules.product.ProductRule", card["state"]), (card["fuser"], {"tuple": [1]})):
        other = {**card, "fuser": name, "state": state}
        other["sha256"] = _card_checksum(other)
        (tmp_path / CARD).write_text(json.dumps(other))
        with pytest.raises(AssetError, match="cannot be read here: it holds a"):
            load(tmp_path)


@pytest.mark.parametrize("name", registry.names())
def test_every_fuser_declares_what_it_learns(name: str) -> None:
    P, y, groups = simulated()
    fuser: Fuser = registry.make(name).fit(P, y, groups)
    own = {attribute for attribute in vars(fuser) if attribute.endswith("_")}
    assert own <= {*fuser.learned(2, 3), "classes_", "n_modalities_", "prior_"}
