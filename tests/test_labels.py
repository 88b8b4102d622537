"""Label spaces and the maps between them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affuse import labels
from affuse.errors import ConfigError, DataError
from affuse.labels import (
    EKMAN,
    EMODB,
    FERPLUS,
    RAVDESS,
    SENTIMENT,
    SMP2020,
    VOICE,
    LabelSpace,
    merge_emotions,
    to_emotions,
)


def test_unknown_label_names_the_valid_ones() -> None:
    with pytest.raises(DataError, match="valid labels: negative, neutral, positive"):
        SENTIMENT.index("joy")


def test_label_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        LabelSpace("x", ("a", "a"))


@pytest.mark.parametrize("space", [FERPLUS, RAVDESS, EMODB, VOICE, SMP2020])
def test_maps_keep_mass_and_gaps(space: LabelSpace) -> None:
    P = np.random.default_rng(0).dirichlet(np.ones(len(space)), size=5)
    P[2] = np.nan
    mapped = labels.to_emotions(P, space)
    assert np.isnan(mapped[2]).all()
    assert np.allclose(np.delete(mapped, 2, axis=0).sum(axis=1), 1.0)


def test_contempt_goes_to_disgust_and_calm_and_boredom_to_neutral() -> None:
    contempt = labels.to_emotions(np.eye(8)[FERPLUS.index("contempt")], FERPLUS)
    assert EKMAN.labels[int(contempt.argmax())] == "disgust"
    for label in ("calm", "boredom"):
        mapped = labels.to_emotions(np.eye(9)[VOICE.index(label)], VOICE)
        assert mapped[EKMAN.index("neutral")] == 1.0


def test_sentiment_of_a_mixed_row_by_hand() -> None:
    P = np.array([0.1, 0.1, 0.1, 0.4, 0.1, 0.05, 0.15])  # anger disgust fear happiness sadness surprise neutral
    assert np.allclose(labels.to_sentiment(P), [0.4, 0.2, 0.4])


def test_restrict_conditions_on_the_labels_of_the_set() -> None:
    P = np.array([[0.2, 0.5, 0.3]])
    assert np.allclose(labels.restrict(P, SENTIMENT, ("negative", "positive")), [[0.4, 0.6]])


def test_label_without_a_goal_is_refused() -> None:
    with pytest.raises(DataError, match="unknown label 'calm'"):
        labels.map_probabilities(np.eye(8), RAVDESS, EKMAN)


def test_of_merged_labels_the_most_probable_stands() -> None:
    P = np.array([[0.3, 0.25, 0.0, 0.35, 0.0, 0.0, 0.0, 0.0, 0.1]])  # neutral calm happiness sadness … boredom
    (row,) = labels.merge_emotions(P, VOICE)
    assert EKMAN.labels[int(row.argmax())] == "sadness", "added up, neutral would have 0.65"
    np.testing.assert_allclose(row[[EKMAN.index("sadness"), EKMAN.index("neutral")]], [0.35 / 0.65, 0.3 / 0.65])
    assert np.isnan(labels.merge_emotions(np.full((1, 9), np.nan), VOICE)).all()
    same = np.random.default_rng(0).dirichlet(np.ones(7), size=4)
    np.testing.assert_allclose(labels.merge_emotions(same, EKMAN), same)
    with pytest.raises(DataError, match="has 9 labels, but the probabilities have 7 columns"):
        labels.merge_emotions(same, VOICE)


def test_own_labels_go_where_their_space_says() -> None:
    study = LabelSpace(
        "study", ("engaged", "frustrated", "bored"), onto={"engaged": "happiness", "frustrated": "anger"}
    )
    with pytest.raises(DataError, match="unknown label 'bored'"):
        to_emotions(np.array([0.5, 0.3, 0.2]), study)
    whole = LabelSpace("study", study.labels, onto={**study.onto, "bored": "boredom"})  # a richer label, then neutral
    found = to_emotions(np.array([[0.5, 0.3, 0.2], [np.nan] * 3]), whole)
    assert found[0] == pytest.approx([0.3, 0, 0, 0.5, 0, 0, 0.2])
    assert np.isnan(found[1]).all()
    both = LabelSpace("study", study.labels, onto=dict.fromkeys(study.labels, "sadness"))
    assert to_emotions(np.array([0.5, 0.3, 0.2]), both)[EKMAN.index("sadness")] == pytest.approx(1.0)
    with pytest.raises(DataError, match="study has 3 labels, but the probabilities have 2 columns"):
        to_emotions(np.array([0.5, 0.5]), both)


def test_a_meaning_is_no_part_of_equality_and_must_name_labels() -> None:
    plain, meant = LabelSpace("study", ("a", "b")), LabelSpace("study", ("a", "b"), onto={"a": "anger"})
    assert plain == meant
    assert hash(plain) == hash(meant)
    with pytest.raises(ConfigError, match="the map of label space 'study' names c; its labels: a, b"):
        LabelSpace("study", ("a", "b"), onto={"c": "anger"})


@given(st.lists(st.sampled_from((*EKMAN.labels, "calm", "contempt")), min_size=2, max_size=9), st.data())
def test_whatever_own_labels_mean_no_mass_is_lost(goals: list[str], data: st.DataObject) -> None:
    labels = tuple(f"own {i}" for i in range(len(goals)))
    space = LabelSpace("own", labels, onto=dict(zip(labels, goals, strict=True)))
    raw = np.array(data.draw(st.lists(st.floats(0.01, 1.0), min_size=len(goals), max_size=len(goals))))
    P = raw / raw.sum()
    assert to_emotions(P, space).sum() == pytest.approx(1.0)
    merged = merge_emotions(P, space)
    assert merged.sum() == pytest.approx(1.0)
    # The most probable own label is never outvoted by labels that are merged.
    best = to_emotions(np.eye(len(goals)), space)[int(P.argmax())].argmax()
    assert merged[best] == pytest.approx(merged.max())
