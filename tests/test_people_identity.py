"""The same person: ratios by hand, thresholds, unknown people, and tracks that are joined."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affuse.errors import AssetError, ConfigError, DataError
from affuse.people.identity import (
    UNKNOWN,
    Identity,
    IdentityModel,
    distances,
    join_tracks,
    mean_identity,
    shipped_identity,
)

RATES = np.array([[0.1, 0.0], [0.01, 2.0]])
MODEL = IdentityModel(
    slopes=np.array([10.0, 4.0]),
    offsets=np.array([5.0, 2.0]),
    weights=np.array([1.0, 0.5]),
    thresholds={"face": RATES, "voice": RATES + np.array([0.0, 1.0]), "face+voice": RATES},
)


def at(degrees: float) -> np.ndarray:
    """A unit vector in a plane: two of them are 2 sin(half the angle between them) apart."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def test_distances_are_those_of_unit_vectors_and_missing_is_nan() -> None:
    D = distances([Identity(at(0)), Identity(None, at(0))], [Identity(3 * at(60), at(180))])
    np.testing.assert_allclose(D[:, 0], [[1.0, np.nan], [np.nan, 2.0]])


def test_ratios_add_up_by_the_weights_of_the_pool() -> None:
    found = MODEL.ratios(np.array([[0.2, 0.3], [0.2, np.nan], [np.nan, 0.3], [np.nan, np.nan]]))
    face, voice = 5 - 10 * 0.2, 2 - 4 * 0.3
    np.testing.assert_allclose(found, [face + voice / 2, face, voice / 2, np.nan], atol=1e-9)


def test_a_prior_moves_the_log_odds() -> None:
    a, b = Identity(at(0)), Identity(at(20))
    even, rare = MODEL.probability(a, b), MODEL.probability(a, b, prior=0.1)
    assert np.log(rare / (1 - rare)) - np.log(even / (1 - even)) == pytest.approx(np.log(1 / 9))
    with pytest.raises(ConfigError, match="a prior lies above 0 and below 1"):
        MODEL.probability(a, b, prior=1.0)


def test_thresholds_lie_on_the_line_between_measured_rates_and_grow_by_nats_beyond() -> None:
    assert MODEL.threshold(0.1) == 0
    assert MODEL.threshold(10**-1.5) == pytest.approx(1.0)
    assert MODEL.threshold(0.01, ["voice"]) == 3
    assert MODEL.threshold(0.001) == pytest.approx(2 + np.log(10))


@given(st.floats(1e-5, 0.5), st.floats(1e-5, 0.5))
def test_a_stricter_rate_never_lowers_the_threshold(a: float, b: float) -> None:
    model = shipped_identity()
    low, high = sorted((a, b))
    for modalities in (["face"], ["voice"], ["face", "voice"]):
        assert model.threshold(low, modalities) >= model.threshold(high, modalities)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="a false-accept rate lies above 0 and below 1"):
        MODEL.threshold(rate)


def test_a_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="a comparison needs face or voice; got none"):
        MODEL.threshold(0.01, [])


def test_somebody_known_is_named_and_somebody_else_is_unknown() -> None:
    known = {"Anna": Identity(at(0)), "Ben": Identity(at(90))}
    match = MODEL.identify(Identity(at(5)), known)
    L = 5 - 10 * 2 * np.sin(np.radians([2.5, 42.5]))
    odds = np.exp(L) / 2
    assert match.name == "Anna"
    assert match.probability == pytest.approx(odds[0] / (odds.sum() + 1))
    assert match.evidence == pytest.approx(L[0])
    stranger = MODEL.identify(Identity(at(200)), known)
    assert stranger.name == UNKNOWN
    assert stranger.probability > 0.99


def test_more_names_need_more_evidence() -> None:
    person = Identity(at(14))  # 2.56 nats: enough for one name at 1 %, too little for a share of a tenth
    known = {"Anna": Identity(at(0))}
    crowd = known | {str(i): Identity(at(150 + i)) for i in range(9)}
    assert MODEL.identify(person, known).name == "Anna"
    assert MODEL.identify(person, crowd).name == UNKNOWN


def test_people_without_a_modality_in_common_are_unknown() -> None:
    match = MODEL.identify(Identity(at(0)), {"Anna": Identity(None, at(0))})
    assert (match.name, match.probability) == (UNKNOWN, 1.0)


def test_tracks_of_one_person_are_joined_and_those_of_one_picture_never() -> None:
    looks = [Identity(at(a)) for a in (0, 60, 4, 64, 2)]
    times = [np.array([float(i)]) for i in range(5)]
    strict = IdentityModel(np.array([40.0, 4.0]), np.array([12.0, 2.0]), np.ones(2), MODEL.thresholds)
    assert join_tracks(looks, times, strict) == [0, 1, 0, 1, 0]
    times[2] = times[0]
    joined = join_tracks(looks, times, strict)
    assert joined[0] != joined[2]
    assert joined[1] == joined[3]


def test_a_third_track_does_not_bridge_two_that_are_seen_together() -> None:
    looks, times = [Identity(at(0))] * 3, [np.array([0.0]), np.array([0.0]), np.array([1.0])]
    first, second, third = join_tracks(looks, times, MODEL)
    assert first != second
    assert third in (first, second)


def test_tracks_and_times_belong_together() -> None:
    with pytest.raises(DataError, match="got 2 tracks and 1 times"):
        join_tracks([Identity(at(0))] * 2, [np.array([0.0])], MODEL)
    assert join_tracks([], [], MODEL) == []


def test_the_mean_of_several_looks_keeps_what_is_there() -> None:
    mean = mean_identity([Identity(np.array([1.0, 0.0])), Identity(np.array([0.0, 1.0]), at(0))])
    assert mean.face is not None
    np.testing.assert_allclose(mean.face, [0.5, 0.5])
    assert mean.voice is not None
    np.testing.assert_allclose(mean.voice, at(0))


def test_wrong_embeddings_are_refused() -> None:
    with pytest.raises(DataError, match="the voice of a person is one row of finite numbers"):
        Identity(voice=np.full(256, np.nan))


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(MODEL.to_dict()))
    again = IdentityModel.read(path)
    D = np.random.default_rng(0).uniform(0, 1, (20, 2))
    np.testing.assert_array_equal(again.ratios(D), MODEL.ratios(D))
    path.write_text("[]")
    with pytest.raises(AssetError, match="is no calibration of identities"):
        IdentityModel.read(path)


def test_a_model_without_thresholds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"thresholds are missing for face\+voice, voice"):
        IdentityModel(np.ones(2), np.ones(2), np.ones(2), {"face": RATES})


def test_the_shipped_model_counts_nearer_as_more_alike() -> None:
    model = shipped_identity()
    grid = np.linspace(0.1, 1.0, 10)
    for column in range(2):
        D = np.full((10, 2), np.nan)
        D[:, column] = grid
        assert (np.diff(model.ratios(D)) < 0).all()
