"""Valence and arousal: the map of emotions, what experts rate, and what an answer says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affuse import Analyzer, LabelSpace, Recording
from affuse.experts.base import Abilities, ExpertOutput
from affuse.experts.voice import SoundExpert
from affuse.fusion.affect import AFFECT, VALENCE_AROUSAL, fused_affect, implied_affect
from affuse.labels import EKMAN
from affuse.testing import FakeExpert

UNRATED = np.full((1, 2, 2), np.nan)


def certain(label: str) -> np.ndarray:
    return np.eye(len(EKMAN))[[EKMAN.index(label)]]


def test_certain_emotions_have_the_values_of_the_map() -> None:
    np.testing.assert_array_equal(implied_affect(np.eye(len(EKMAN))), AFFECT)
    assert implied_affect(certain("happiness"))[0].tolist() == [0.81, 0.51]


def test_signs_of_valence_are_those_of_sentiment() -> None:
    from affuse.fusion.sentiment import COMPATIBILITY, sentiment_score

    implied = sentiment_score(COMPATIBILITY)
    np.testing.assert_array_equal(np.sign(AFFECT[:, 0]), np.sign(np.round(implied, 12)))


def test_without_ratings_everything_follows_from_the_emotions() -> None:
    face, voice = certain("anger"), certain("neutral")
    fused = (face + voice) / 2
    modalities, answer = fused_affect(fused, np.stack([face, voice], axis=1), UNRATED)
    np.testing.assert_allclose(modalities[0], np.array([[-0.51, 0.59], [0, 0]]))
    np.testing.assert_allclose(answer, [[-0.255, 0.295]])


def test_a_modality_alone_answers_as_it_is_rated() -> None:
    voice = np.full((1, 1, len(EKMAN)), 1 / len(EKMAN))
    modalities, answer = fused_affect(voice[:, 0], voice, np.array([[[-0.3, 0.7]]]))
    np.testing.assert_allclose(modalities[0, 0], [-0.3, 0.7])
    np.testing.assert_allclose(answer[0], [-0.3, 0.7])


def test_ratings_of_one_dimension_leave_the_other_to_the_emotions() -> None:
    voice = certain("sadness")[:, None]
    modalities, answer = fused_affect(voice[:, 0], voice, np.array([[[np.nan, 0.5]]]))
    np.testing.assert_allclose(modalities[0, 0], [-0.63, 0.5])
    np.testing.assert_allclose(answer[0], [-0.63, 0.5])


def test_half_of_two_counts_half_and_what_others_say_counts_less() -> None:
    neutral = np.repeat(certain("neutral"), 2, axis=0)
    rated = np.tile(np.array([[[np.nan, np.nan], [0.0, 0.8]]]), (2, 1, 1))
    own = np.array([[1.0, 1.0], [1.0, 0.25]])  # whose voice it is
    _, answer = fused_affect(neutral, np.stack([neutral, neutral], axis=1), rated, own)
    np.testing.assert_allclose(answer[:, 1], [0.4, 0.1])


def test_no_evidence_is_nan_and_a_rating_without_emotions_counts_nothing() -> None:
    silent = np.full((1, 2, len(EKMAN)), np.nan)
    modalities, answer = fused_affect(silent[:, 0], silent, np.full((1, 2, 2), 0.5))
    assert np.isnan(modalities).all()
    assert np.isnan(answer).all()
    silent[:, 0] = certain("anger")
    _, answer = fused_affect(certain("anger"), silent, np.full((1, 2, 2), np.nan))
    np.testing.assert_allclose(answer, [[-0.51, 0.59]])


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_answers_lie_within_minus_one_and_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(len(EKMAN), 0.3), size=(5, 3))
    _, answer = fused_affect(P[:, 2], P, rng.uniform(-1, 1, (5, 3, 2)))
    assert (np.abs(answer) <= 1).all()


# --- what an analysis says -------------------------------------------------------------------------------------------


class Rated(FakeExpert):
    """Answers what it was told, and rates valence and arousal."""

    def __init__(self, modality: str, answers: dict[str, float], affect: tuple[float, float]) -> None:
        super().__init__(modality, answers)
        self.affect = affect

    def read_windows(self, recording, timeline):  # type: ignore[no-untyped-def]
        (output,) = super().read_windows(recording, timeline)
        return [ExpertOutput(output.probabilities, output.reasons, affect=np.tile(self.affect, (len(timeline), 1)))]


def test_what_a_voice_rates_stands_in_the_answer_the_table_and_the_json() -> None:
    analysis = Analyzer({"voice": Rated("voice", {"anger": 0.9}, (-0.4, 0.75))}).analyze_text("Hm.")
    (verdict,) = analysis.verdicts
    assert (verdict.evidence["voice"].valence, verdict.evidence["voice"].arousal) == (-0.4, 0.75)
    assert (verdict.valence, verdict.arousal) == pytest.approx((-0.4, 0.75))
    assert analysis.summary.arousal == pytest.approx(0.75)
    row = analysis.to_frame().iloc[0]
    assert row[["valence", "arousal", "voice_valence", "voice_arousal"]].tolist() == [-0.4, 0.75, -0.4, 0.75]
    window = json.loads(analysis.to_json())["windows"][0]
    assert (window["arousal"], window["evidence"]["voice"]["arousal"]) == (0.75, 0.75)


def test_faces_and_words_are_given_what_their_emotions_imply() -> None:
    analysis = Analyzer({"face": FakeExpert("face", {"happiness": 1.0})}).analyze_text("Hm.")
    evidence = analysis.verdicts[0].evidence["face"]
    assert evidence.probabilities is not None
    assert evidence.valence is not None
    expected = implied_affect(evidence.probabilities)
    assert (evidence.valence, evidence.arousal) == pytest.approx(tuple(expected))
    assert evidence.valence > 0.4


def test_silence_and_own_labels_have_neither() -> None:
    silent = Analyzer({"face": FakeExpert("face", {"anger": 1.0}, silent=[0])}).analyze_text("Hm.")
    assert (silent.summary.valence, silent.summary.evidence["face"].arousal) == (None, None)
    study = LabelSpace("study", ("engaged", "frustrated"))
    own = Analyzer({"voice": FakeExpert("voice", {"engaged": 0.7}, labels=study)}).analyze_text("Hm.")
    assert (own.summary.valence, own.summary.evidence["voice"].valence) == (None, None)


def test_own_labels_that_mean_emotions_have_both() -> None:
    study = LabelSpace("study", ("furious", "glad"), {"furious": "anger", "glad": "happiness"})
    expert = FakeExpert("voice", {"glad": 1.0}, labels=study)
    summary = Analyzer({"voice": expert}, labels=study).analyze_text("Hm.").summary
    assert summary.fused is not None
    assert summary.valence == pytest.approx(summary.fused @ [VALENCE_AROUSAL["anger"][0], 0.81])


def test_a_sound_expert_that_rates_nothing_leaves_it_to_its_emotions(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from affuse.testing import synthetic

    class Angry(SoundExpert):
        name, labels = "angry", EKMAN
        abilities = Abilities(reads=("sound",), classifies=True)

        def classify(self, waveform: np.ndarray) -> np.ndarray:
            return certain("anger")[0]

    recording = Recording.open(synthetic.write_clip(tmp_path / "clip.mp4", seconds=2.0))
    from affuse import Segment, Timeline

    (output,) = Angry().read(recording, Timeline((Segment(0.0, 2.0),)))
    assert output.affect is not None
    assert np.isnan(output.affect).all()


# --- how the voice learns it -----------------------------------------------------------------------------------------


def acted(n: int = 40):  # type: ignore[no-untyped-def]
    """Clips of RAVDESS, every second one spoken strongly, and of EMO-DB."""
    pytest.importorskip("torch", reason="the recipe needs torch")
    from affuse.labels import VOICE
    from recipes.voice_data import Clips

    targets = np.arange(n) % len(VOICE)
    corpus = np.where(targets == VOICE.index("boredom"), "emodb", "ravdess")
    names = np.array([f"03-01-05-{1 + (i // len(VOICE)) % 2:02d}-01-01-01" for i in range(n)])
    return Clips([np.zeros(1)] * n, targets, np.full(n, "ravdess/01"), corpus, names)


def test_strong_speech_is_learned_as_more_aroused_than_normal_speech_of_the_emotion() -> None:
    clips = acted()
    from affuse.labels import VOICE
    from recipes.voice_arousal import INTENSITY, arousal_targets

    y = arousal_targets(clips)
    anger, strong = VOICE.index("anger"), VOICE.index("anger") + len(VOICE)
    np.testing.assert_allclose(y[[anger, strong]], [0.59 - INTENSITY, 0.59 + INTENSITY])
    assert y[VOICE.index("neutral")] == 0  # normal speech only
    assert y[VOICE.index("boredom")] == VALENCE_AROUSAL["boredom"][1]  # its corpus does not say


def test_a_linear_relation_is_found_and_its_report_is_perfect() -> None:
    clips = acted(200)
    import torch

    from recipes.voice_arousal import arousal_report, arousal_targets, learn_arousal
    from recipes.voice_training import VoiceConfig

    rng = np.random.default_rng(0)
    y = arousal_targets(clips)
    plain = torch.from_numpy(np.concatenate([3 + 2 * y[:, None], rng.normal(size=(200, 3))], axis=1)).float()
    model = learn_arousal(plain, clips, np.arange(100), VoiceConfig(arousal_penalty=1e-6))
    with torch.no_grad():
        rated = model(plain[100:]).numpy()
    np.testing.assert_allclose(rated, np.minimum(y[100:], 1), atol=1e-3)
    assert arousal_report(y, clips)["strong_against_normal"] == 1.0
    assert arousal_report(-y, clips)["strong_against_normal"] == 0.0


def test_a_heavy_penalty_says_the_mean() -> None:
    clips = acted(90)
    import torch

    from recipes.voice_arousal import arousal_targets, learn_arousal
    from recipes.voice_training import VoiceConfig, row_weights

    plain = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    model = learn_arousal(plain, clips, np.arange(90), VoiceConfig(arousal_penalty=1e9))
    mean = row_weights(clips.corpus, 0.5) @ arousal_targets(clips)
    np.testing.assert_allclose(model(plain).detach().numpy(), np.full(90, mean), atol=1e-6)
