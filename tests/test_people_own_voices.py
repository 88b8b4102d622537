"""Voices that are learned from the moments at which it is clear who speaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.fft import dct
from scipy.stats import multivariate_normal

from affuse.people.mouths import MOUTH_RATE
from affuse.people.own_voices import StepVoices
from affuse.people.speaking import HOP, TurnModel
from affuse.people.synchrony import Agreement, cepstra, in_time_of_sound, log_mel

MODEL = TurnModel(gain=2.0, cost=0.3, heard=2.0, stay=1.5, off_screen=-1.0, anybody=-2.0, voice=0.5)
SECOND = MOUTH_RATE


def conversation(apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two faces that speak in turn, 2 s each, for 24 s, and voices that lie ``apart`` spreads from each other.

    In the last second of every turn both mouths move alike. Scores (t, 2), colour (t, 12), and who speaks (t,).
    """
    draw = np.random.default_rng(seed)
    who = np.repeat(np.arange(12) % 2, 2 * SECOND)
    scores = np.where(np.arange(2) == who[:, None], 0.6, 0.0)
    scores[np.arange(len(who)) % (2 * SECOND) >= SECOND] = 0.3
    # Neighbouring pictures sound alike, so that the noise of a step is that of a picture.
    noise = np.repeat(draw.normal(size=(len(who) // HOP, 12)), HOP, axis=0)
    return scores, noise + apart / np.sqrt(12) * (who[:, None] - 0.5), who


def right(found: np.ndarray, who: np.ndarray) -> float:
    """Share of the steps that go to who speaks, of the two faces; in seconds in which both mouths move alike."""
    pictures = np.arange(HOP // 2, len(who), HOP)
    alike = pictures % (2 * SECOND) >= SECOND
    return float((found[:, :2].argmax(axis=1) == who[pictures])[alike].mean())


def test_voices_tell_where_mouths_do_not() -> None:
    scores, colour, who = conversation(apart=4.0)
    speech = np.ones(len(who))
    mouths_alone = replace(MODEL, voice=0.0).posteriors(scores, speech, colour)
    both = MODEL.posteriors(scores, speech, colour)
    np.testing.assert_allclose(both.sum(axis=1), 1)
    assert right(both, who) > 0.95 > 0.8 > right(mouths_alone, who)
    np.testing.assert_array_equal(mouths_alone, MODEL.posteriors(scores, speech))


def test_one_voice_for_all_changes_little() -> None:
    scores, colour, who = conversation(apart=0.0)
    speech = np.ones(len(who))
    without, found = (MODEL.posteriors(scores, speech, c) for c in (None, colour))
    clear = np.abs(without[:, 0] - without[:, 1]) > 0.9
    assert clear.mean() > 0.3
    assert (without.argmax(axis=1) == found.argmax(axis=1))[clear].mean() > 0.98


def test_somebody_who_speaks_alone_is_not_taken_for_two() -> None:
    # A voice that changes, from soft to loud for example, must not give half of the words to somebody off screen.
    _, colour, who = conversation(apart=4.0)
    found = MODEL.posteriors(np.full((len(who), 1), 0.5), np.ones(len(who)), colour)
    assert found[:, 0].min() > 0.9


def test_likelihoods_are_those_of_normal_distributions() -> None:
    draw = np.random.default_rng(1)
    colour, speaks = draw.normal(size=(90, 3)), draw.dirichlet(np.ones(3), 30)
    voices = StepVoices.of(colour, np.ones(90), hop=3)
    steps = colour.reshape(30, 3, 3).mean(axis=1)
    np.testing.assert_allclose(voices.colour, steps - steps.mean(axis=0))
    np.testing.assert_array_equal(voices.weight, 1)
    # Means shrink towards that of all speech as if 20 steps of it were added to everybody's own.
    means = speaks.T @ voices.colour / (speaks.sum(axis=0) + 20)[:, None]
    squares = sum(speaks[:, k, None] * (voices.colour - means[k]) ** 2 for k in range(3))
    variance = np.sum(squares, axis=0) / 30 + 1e-3
    # Somebody off screen has anybody's voice.
    anybody = multivariate_normal(np.zeros(3), np.diag(voices.colour.var(axis=0) + 1e-3))
    faces = [multivariate_normal(mean, np.diag(variance)) for mean in means[:2]]
    expected = np.stack([voice.logpdf(voices.colour) for voice in (*faces, anybody)], axis=1)
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(voices.log_likelihoods(speaks), expected)


def test_silence_has_no_voice() -> None:
    colour = np.random.default_rng(2).normal(size=(60, 4))
    speech = np.r_[np.ones(30), np.zeros(30)]
    voices = StepVoices.of(colour, speech, hop=3)
    assert voices.enough
    assert not voices.log_likelihoods(np.full((20, 2), 0.5) * [1, 0.5])[10:].any()
    assert not StepVoices.of(colour, 0.05 * speech, hop=3).enough
    assert not StepVoices.of(colour[:0], speech[:0], hop=3).enough


@pytest.mark.parametrize("length", [1, 7, 60])
def test_any_length(length: int) -> None:
    scores, colour, _ = conversation(apart=4.0)
    found = MODEL.posteriors(scores[:length], np.ones(length), colour[:length])
    assert found.shape == (-(-length // HOP), 4)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_cepstra_are_the_cosine_transform_of_the_spectrum() -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, 16_000)
    spectrum = log_mel(samples).astype(float)
    expected = dct(spectrum, axis=0, norm="ortho")[1:13, :100].reshape(12, 25, 4).mean(axis=2).T
    np.testing.assert_allclose(cepstra(log_mel(samples)), expected, atol=0.005)  # half precision
    np.testing.assert_allclose(cepstra(log_mel(10 * samples)), expected, atol=0.05)  # whatever the level


@pytest.mark.parametrize(
    ("lag", "expected"), [(0, [1, 2, 3, 4]), (1, [0, 1, 2, 3]), (-1, [2, 3, 4, 0]), (3, [0, 0, 0, 1])]
)
def test_scores_move_to_the_time_of_the_sound(lag: int, expected: list[float]) -> None:
    moved = in_time_of_sound(np.array([[1.0, np.nan], [2, np.nan], [3, np.nan], [4, np.nan]]), lag)
    assert moved[:, 0].tolist() == expected
    assert np.isnan(moved[:, 1]).all()


def test_late_sound_and_speech_meet() -> None:
    # The mouth moves with a second of speech that is heard four pictures late.
    scores = np.zeros((75, 1, 17))
    scores[25:50, 0, 12] = 0.8
    speech = np.zeros(75)
    speech[29:54] = 1.0
    agreement = Agreement(scores, speech)
    assert agreement.best_lag() == 4
    np.testing.assert_array_equal(agreement.at_lag(4)[:, 0] > 0, speech > 0)
