"""Calibrators, the fallback to the best modality, conformal sets, the leak alarm, confidence without a modality."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from affuse.errors import ConfigError, DataError, LeakWarning
from affuse.evaluation import expected_calibration_error
from affuse.fusion import (
    CalibratedLogPool,
    ConformalSets,
    Fuser,
    IsotonicScaling,
    MaxRule,
    MeanRule,
    SafeFusion,
    Stacking,
    TemperatureScaling,
    VectorScaling,
    confidence_rise,
    leak_alarm,
    leak_alarm_features,
    temperature_scale,
)
from affuse.fusion.trust.conformal import _conformal_quantile
from affuse.fusion.trust.safe import _sets_to_try, better_by_more_than_chance

RAVDESS_EXPERTS = ("voice_wav2vec2", "face_au_mlp", "face_au_bilstm")


def simulated(
    n: int = 600, seed: int = 0, skill: tuple[float, ...] = (1.0, 1.5, 2.0), sharpness: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    L = rng.normal(size=(n, len(skill), 3))
    L[np.arange(n)[:, None], np.arange(len(skill)), y[:, None]] += np.array(skill)
    P = np.exp(L * sharpness)
    return P / P.sum(axis=2, keepdims=True), y


# Calibration


def test_temperature_scaling_makes_overconfident_experts_honest() -> None:
    P, y = simulated(3000, sharpness=3.0)
    new, truth = simulated(3000, seed=1, sharpness=3.0)
    scaled = TemperatureScaling().fit(P, y).transform(new)
    for j in range(3):
        assert expected_calibration_error(new[:, j], truth) > 0.04
        assert expected_calibration_error(scaled[:, j], truth) < 0.02
    np.testing.assert_array_equal(scaled.argmax(axis=2), new.argmax(axis=2))


def test_vector_scaling_finds_slopes_and_offsets() -> None:
    P, y = simulated(4000, skill=(2.0,))
    L = np.log(P)
    bent = np.exp(L / [0.5, 1.0, 2.0] + [1.0, 0.0, -1.0])
    bent /= bent.sum(axis=2, keepdims=True)
    new, truth = bent[2000:], y[2000:]
    vector = VectorScaling().fit(bent[:2000], y[:2000]).transform(new)
    temperature = TemperatureScaling().fit(bent[:2000], y[:2000]).transform(new)
    rows = np.arange(len(truth))
    straight = TemperatureScaling().fit(P[:2000], y[:2000]).transform(P[2000:])
    losses = [-np.log(scaled[rows, 0, truth]).mean() for scaled in (vector, temperature, straight)]
    assert losses[0] < losses[1] - 0.03
    assert abs(losses[0] - losses[2]) < 0.05, "nearly what it was before it was bent"


def test_isotonic_scaling_agrees_with_scikit_learn() -> None:
    P, y = simulated(500, skill=(2.0,))
    scaled = IsotonicScaling().fit(P, y).transform(P)[:, 0]
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(P[:, 0, c], y == c).predict(P[:, 0, c])
        for c in range(3)
    ]
    expected = np.maximum(np.stack(columns, axis=1), 1e-6)
    np.testing.assert_allclose(scaled, expected / expected.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("scaling", [TemperatureScaling(), VectorScaling(), IsotonicScaling()])
def test_calibrators_keep_gaps_and_work_in_pipelines(scaling: object) -> None:
    P, y = simulated()
    P[::3, 0] = np.nan
    P[:, 2] = np.nan  # a modality without any row
    scaled = clone(scaling).fit(P, y).transform(P)
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(P))
    np.testing.assert_allclose(np.nansum(scaled, axis=2)[~np.isnan(P[:, :, 0])], 1)
    pipeline = make_pipeline(scaling, MeanRule()).fit(P, np.array(["a", "b", "c"])[y])
    assert set(pipeline.predict(P)) <= {"a", "b", "c"}
    with pytest.raises(DataError, match="expected 3 modalities as in fit; got 2"):
        clone(scaling).fit(P, y).transform(P[:, :2])


@pytest.mark.parametrize("scaling", [TemperatureScaling(), VectorScaling(), IsotonicScaling()])
def test_a_modality_without_rows_keeps_its_probabilities(scaling: object) -> None:
    P, y = simulated(200)
    silent = P.copy()
    silent[:, 1] = np.nan
    fitted = clone(scaling).fit(silent, y)
    np.testing.assert_allclose(fitted.transform(P)[:, 1], P[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(fitted.transform(P)[:, 2], fitted.transform(silent)[:, 2])
    assert fitted.transform(P[:0]).shape == (0, 3, 3)
    tags = get_tags(fitted)
    assert (tags.input_tags.three_d_array, tags.input_tags.two_d_array, tags.input_tags.allow_nan) == (1, 0, 1)
    assert tags.target_tags.required
    with pytest.raises(NotFittedError):
        clone(scaling).transform(P)
    with pytest.raises(DataError, match="expected 3 classes as in fit; got 2"):
        fitted.transform(np.full((1, 3, 2), 0.5))


def test_isotonic_scaling_keeps_its_ends_beyond_what_it_has_seen() -> None:
    P = np.array([[[0.4, 0.6]], [[0.4, 0.6]], [[0.6, 0.4]], [[0.6, 0.4]]])
    scaled = IsotonicScaling().fit(P, [1, 0, 0, 0]).transform(np.array([[[0.1, 0.9]], [[0.9, 0.1]]]))
    np.testing.assert_allclose(scaled[:, 0], [[0.5, 0.5], [1.0, 0.0]], atol=1e-5)


@pytest.mark.parametrize("penalty", [0.5, 20.0])
def test_vector_scaling_is_where_its_loss_is_flat(penalty: float) -> None:
    P, y = simulated(300, skill=(2.0, 0.5))
    P[::4, 1] = np.nan
    assert VectorScaling().penalty == 1.0
    fitted = VectorScaling(penalty).fit(P, y)
    for j, (slopes, offsets) in enumerate(fitted.maps_):
        here = ~np.isnan(P[:, j, 0])
        L = np.log(P[here, j])
        L -= L.mean(axis=1, keepdims=True)
        Q = np.exp(slopes * L + offsets)
        Q /= Q.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(fitted.transform(P)[here, j], Q)
        error = Q - np.eye(3)[y[here]]
        np.testing.assert_allclose((error * L).sum(axis=0) + penalty * (slopes - 1), 0, atol=0.05)
        np.testing.assert_allclose(error.sum(axis=0) + penalty * offsets, 0, atol=0.05)


def test_grid_search_over_calibration() -> None:
    P, y = simulated(200)
    grid = {"vectorscaling__penalty": [0.1, 10.0]}
    search = GridSearchCV(make_pipeline(VectorScaling(), MeanRule()), grid, cv=3).fit(P, y)
    assert search.best_params_["vectorscaling__penalty"] in (0.1, 10.0)
    with pytest.raises(ConfigError, match="penalty must be above 0"):
        VectorScaling(penalty=0).fit(P, y)


# SafeFusion


class Wrong(Fuser):
    """A fuser that is always wrong by one column where the first modality speaks."""

    def combine(self, P: np.ndarray, here: np.ndarray) -> np.ndarray:
        return np.roll(np.nanmean(np.where(here[:, :, None], P, 0), axis=1), 1, axis=1) + 1e-9


def test_fusion_that_wins_is_used() -> None:
    P, y = simulated(skill=(1.5, 1.5, 1.5))
    fuser = SafeFusion().fit(P, y)
    assert not fuser.falls_back
    np.testing.assert_allclose(fuser.predict_proba(P), CalibratedLogPool().fit(P, y).predict_proba(P))


def test_fusion_that_loses_is_not_used() -> None:
    P, y = simulated(skill=(2.5, 0.0))
    fuser = SafeFusion(MaxRule()).fit(P, y)
    assert fuser.falls_back
    assert fuser.margins_[0] <= 0.01
    np.testing.assert_array_equal(fuser.predict(P), P[:, 0].argmax(axis=1))
    assert SafeFusion(Wrong()).fit(P, y).falls_back


def test_what_answers_alone_is_calibrated() -> None:
    P, y = simulated(2000, skill=(2.5, 0.0), sharpness=3.0)
    fuser = SafeFusion(MaxRule()).fit(P, y)
    np.testing.assert_allclose(fuser.predict_proba(P), temperature_scale(P, fuser.temperatures_)[:, 0])
    assert expected_calibration_error(fuser.predict_proba(P), y) < 0.03


def test_every_set_of_modalities_has_its_own_answer() -> None:
    # The third modality is a worse copy of the second: the first with either of them wins, those two together do not.
    P, y = simulated(1500, skill=(1.5, 1.5))
    P = np.concatenate([P, temperature_scale(P[:, 1:], np.array([3.0]))], axis=1)
    fuser = SafeFusion().fit(P, y)
    sets = {tuple(np.flatnonzero(s)): f is not None for s, f in zip(fuser.sets_, fuser.fusers_, strict=True)}
    assert sets == {(1, 2): False, (0, 2): True, (0, 1): True, (0, 1, 2): True}
    less = P.copy()
    less[:, 2] = np.nan
    pair = CalibratedLogPool().fit(np.where([[[True], [True], [False]]], P, np.nan), y)
    np.testing.assert_allclose(fuser.predict_proba(less), pair.predict_proba(less))


def test_which_sets_are_tried() -> None:
    assert len(_sets_to_try(np.ones((1, 4), dtype=bool))) == 6 + 4 + 1
    rare = np.ones((2, 6), dtype=bool)
    rare[1, :4] = False
    sets = _sets_to_try(rare)
    assert len(sets) == 1 + 6 + 1
    assert _sets_to_try(np.ones((1, 1), dtype=bool)).shape == (0, 1)
    P, y = simulated(300, skill=(1.0,) * 6)
    fuser = SafeFusion().fit(P, y)
    P[:, 2:] = np.nan
    np.testing.assert_array_equal(fuser.predict(P), P[:, fuser.accuracies_[:2].argmax()].argmax(axis=1))


def test_the_bound_is_the_t_test_where_every_row_is_by_itself() -> None:
    rng = np.random.default_rng(0)
    agreed = 0
    for _ in range(50):
        gain = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.5, 0.3], size=60)
        p = ttest_1samp(gain, 0, alternative="greater").pvalue
        agreed += better_by_more_than_chance(gain, np.arange(60), 0.05) == (p < 0.05)
    assert agreed >= 48, "the two differ by the degree of freedom in the variance at most"


def test_rows_of_one_group_count_once() -> None:
    gain = np.tile([1.0, -1.0, 1.0, 1.0], 1)
    assert better_by_more_than_chance(np.repeat(gain, 50), np.arange(200), 0.05)
    assert not better_by_more_than_chance(np.repeat(gain, 50), np.repeat(np.arange(4), 50), 0.05)
    assert not better_by_more_than_chance(np.ones(10), np.zeros(10, dtype=int), 0.05), "one group proves nothing"


def test_useless_fusion_is_rarely_believed() -> None:
    # The second modality is a copy of the first up to noise that does not know the label: nothing can be won.
    believed = 0
    for seed in range(30):
        P, y = simulated(200, seed=seed, skill=(1.5, 0.0))
        believed += not SafeFusion(MeanRule()).fit(P, y).falls_back
    assert believed <= 4, "5 % of 30 at most, and some luck"


def test_groups_are_not_split() -> None:
    # Within a group all labels are the same; a classifier that remembers groups would look perfect if rows were split.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    y = np.repeat(rng.integers(2, size=40), 10)
    P = np.repeat(rng.dirichlet(np.ones(2), size=(40, 2)), 10, axis=0)
    remembering = Stacking(KNeighborsClassifier(1))
    assert not SafeFusion(remembering).fit(P, y).falls_back, "rows split: it looks perfect"
    assert SafeFusion(remembering).fit(P, y, groups).falls_back


def test_odd_options_are_refused() -> None:
    P, y = simulated(50)
    for fuser in (SafeFusion(level=0), SafeFusion(folds=1)):
        with pytest.raises(ConfigError, match="level must be between 0 and 1 and folds at least 2"):
            fuser.fit(P, y)


# Conformal sets


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_right_label_as_often_as_promised(method: str, coverage: float) -> None:
    P, y = simulated(6000, skill=(0.7, 0.7))
    sets = ConformalSets(coverage=coverage, method=method).fit(P[:3000], y[:3000]).predict_set(P[3000:])
    covered = sets[np.arange(3000), y[3000:]].mean()
    assert covered > coverage - 0.03
    if method == "lac":
        assert covered < coverage + 0.03, "no more than needed"
    assert (sets.sum(axis=1) >= 1).all()


def test_sets_of_an_unsure_fuser_are_larger_not_wrong() -> None:
    good, y = simulated(4000, skill=(3.0,))
    bad, z = simulated(4000, skill=(0.5,))
    sizes = []
    for P, labels in ((good, y), (bad, z)):
        sets = ConformalSets(coverage=0.9).fit(P[:2000], labels[:2000]).predict_set(P[2000:])
        assert sets[np.arange(2000), labels[2000:]].mean() > 0.87
        sizes.append(sets.sum(axis=1).mean())
    assert sizes[1] > sizes[0] + 0.5


def test_the_conformal_quantile_by_hand() -> None:
    # Nine scores and 80 %: the ⌈10 · 0.8⌉ = 8th; 95 % would need a tenth, so nothing is excluded.
    scores = np.arange(1, 10) / 10
    assert _conformal_quantile(scores, 0.8) == 0.8
    assert _conformal_quantile(scores, 0.95) == np.inf


def test_scores_by_hand() -> None:
    P = np.array([[0.2, 0.5, 0.3]])
    np.testing.assert_allclose(ConformalSets(method="lac")._scores(P), [[0.8, 0.5, 0.7]])
    np.testing.assert_allclose(ConformalSets(method="aps")._scores(P), [[1.0, 0.5, 0.8]])


def test_a_row_without_evidence_may_be_anything() -> None:
    P, y = simulated()
    sets = ConformalSets().fit(P, np.array(["a", "b", "c"])[y], groups=np.arange(len(y)) // 5)
    assert sets.classes_.tolist() == ["a", "b", "c"]
    P[0] = np.nan
    assert sets.predict_set(P)[0].all()
    with pytest.raises(ConfigError, match="unknown method 'raps'; known: aps, lac"):
        ConformalSets(method="raps").fit(P, y)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ConformalSets(coverage=90).fit(P, y)
    with pytest.raises(DataError, match="1 rows cannot be split"):
        ConformalSets().fit(P[:1], y[:1])


# Leak alarm


def test_an_expert_that_knows_the_rows_is_named() -> None:
    honest, y = simulated(500)
    leaking = honest.copy()
    leaking[:, 1] = np.eye(3)[y]
    new, truth = simulated(300, seed=1)
    with pytest.warns(LeakWarning, match=r"voice is right in 100\.0% of the rows to learn from, but in \d\d\.\d%"):
        leaks = leak_alarm(leaking, y, new, truth, ["face", "voice", "text"])
    assert [leak.modality for leak in leaks] == ["voice"]
    assert leaks[0].fit_accuracy == 1.0
    assert leak_alarm(honest, y, new, truth) == []
    with pytest.raises(DataError, match="3 modalities, but 1 names"):
        leak_alarm(honest, y, new, truth, ["face"])


def test_honest_experts_are_rarely_accused() -> None:
    accused = [bool(leak_alarm(*simulated(200, seed=2 * s), *simulated(100, seed=2 * s + 1))) for s in range(60)]
    assert sum(accused) <= 1


def test_a_modality_that_is_silent_is_not_accused() -> None:
    P, y = simulated(300)
    P[:, 1] = np.nan
    assert leak_alarm(P, y, *simulated(300, seed=1)) == []


def test_features_made_from_the_labels_are_named() -> None:
    rng = np.random.default_rng(0)
    y, y_new = rng.integers(2, size=400), rng.integers(2, size=200)
    noise, noise_new = rng.normal(size=(400, 5)), rng.normal(size=(200, 5))
    useful, useful_new = noise + y[:, None], rng.normal(size=(200, 5)) + y_new[:, None]
    told = noise + 3 * y[:, None]
    groups = np.arange(400) // 4
    with pytest.warns(LeakWarning, match="told is right"):
        leaks = leak_alarm_features(
            {"told": told, "useful": useful, "noise": noise},
            y,
            groups,
            {"told": noise_new, "useful": useful_new, "noise": noise_new},
            y_new,
        )
    assert [leak.modality for leak in leaks] == ["told"]
    with pytest.raises(DataError, match="blocks are a; new blocks are b"):
        leak_alarm_features({"a": noise}, y, None, {"b": noise_new}, y_new)


def read_fold(data: Path, fold: int, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tables = [pd.read_csv(data / f"ravdess_posteriors/fold{fold}/{part}_{e}.csv", index_col=0) for e in RAVDESS_EXPERTS]
    P = np.stack([table.drop(columns="label").loc[tables[0].index].to_numpy() for table in tables], axis=1)
    labels = tables[0]["label"]
    return P, labels.to_numpy(), labels.index.str.split("-").str[-1].to_numpy()


def other_folds(data: Path, fold: int, folds: list[int]) -> tuple[np.ndarray, ...]:
    return tuple(
        np.concatenate(parts) for parts in zip(*(read_fold(data, f, "test") for f in folds if f != fold), strict=True)
    )


def folds_in(data: Path) -> list[int]:
    return sorted(int(path.name[4:]) for path in (data / "ravdess_posteriors").glob("fold*"))


@pytest.mark.data
def test_the_alarm_fires_on_training_outputs_and_not_on_honest_ones(data: Path) -> None:
    for fold in folds_in(data):
        P, y, _ = read_fold(data, fold, "test")
        with pytest.warns(LeakWarning):
            leaks = leak_alarm(*read_fold(data, fold, "train")[:2], P, y, RAVDESS_EXPERTS)
        assert [leak.modality for leak in leaks] == list(RAVDESS_EXPERTS)
        honest = other_folds(data, fold, folds_in(data))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert leak_alarm(honest[0], honest[1], P, y, RAVDESS_EXPERTS) == []


@pytest.mark.data
def test_the_alarm_fires_on_mosi_text_and_video_features(data: Path) -> None:
    blocks = {
        p: {b: np.load(data / f"mosi/{p}_{b}.npy") for b in ("text", "audio", "video")} for p in ("train", "holdout")
    }
    train, held_out = (pd.read_csv(data / f"mosi/{part}_utterances.csv") for part in ("train", "holdout"))
    with pytest.warns(LeakWarning):
        leaks = leak_alarm_features(
            blocks["train"], train["label"], train["video"], blocks["holdout"], held_out["label"]
        )
    assert [leak.modality for leak in leaks] == ["text", "video"]


# The automatic choice on real experts


@pytest.mark.data
def test_the_automatic_choice_on_ravdess(data: Path) -> None:
    folds = folds_in(data)
    auto, single, removed = [], [], []
    for fold in folds:
        P, y, _ = read_fold(data, fold, "test")
        fuser = SafeFusion().fit(*other_folds(data, fold, folds))
        auto.append((fuser.predict(P) == y).mean())
        single.append([(fuser.classes_[P[:, j].argmax(axis=1)] == y).mean() for j in range(3)])
        for j in range(3):
            less = P.copy()
            less[:, j] = np.nan
            removed.append((fuser.predict(less) == y).mean())
    assert np.mean(auto) >= 0.872
    alone = np.mean(single, axis=0)
    assert np.mean(auto) > alone.max()
    for j in range(3):
        assert np.mean(removed[j::3]) >= np.delete(alone, j).max()


@pytest.mark.data
def test_half_of_the_evidence_missing_on_ravdess(data: Path) -> None:
    folds = folds_in(data)
    fused, best = [], []
    for fold in folds:
        P, y, _ = read_fold(data, fold, "test")
        fuser = SafeFusion().fit(*other_folds(data, fold, folds))
        for seed in range(5):
            gappy = P.copy()
            gappy[np.random.default_rng(seed).random(P.shape[:2]) < 0.5] = np.nan
            here = ~np.isnan(gappy[:, :, 0])
            spoken = here.any(axis=1)
            choice = np.where(here, fuser.accuracies_, -1).argmax(axis=1)
            alone = fuser.classes_[P[np.arange(len(P)), choice].argmax(axis=1)]
            fused.append((fuser.predict(gappy) == y)[spoken].mean())
            best.append((alone == y)[spoken].mean())
    assert np.mean(fused) >= np.mean(best)


# Confidence without a modality


def test_confidence_rise_by_hand() -> None:
    # Mean of (0.9, 0.1) and (0.5, 0.5) is 0.7; alone they are 0.9 and 0.5: up by 0.2 and down by 0.2.
    P = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.9, 0.1], [np.nan, np.nan]]])
    rise = confidence_rise(MeanRule().fit(P, [0, 1]), P)
    assert rise.pairs == 2
    assert rise.share_risen == 0.5
    assert np.isclose(rise.mean_change, 0.0)
    with pytest.raises(DataError, match="no row of P has evidence of two modalities"):
        confidence_rise(MeanRule().fit(P, [0, 1]), P[1:])


def test_the_calibrated_pool_gets_less_sure_on_average_and_the_mean_does_not() -> None:
    P, y = simulated(1000, skill=(1.5, 1.5, 1.5))
    assert confidence_rise(CalibratedLogPool().fit(P, y), P).mean_change < -0.02
    assert confidence_rise(MeanRule().fit(P, y), P).mean_change > 0, "who speaks alone is not softened by others"
