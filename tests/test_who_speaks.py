"""Who speaks: mouths, synchrony with the sound, the model of turns, and answers for each person."""

from __future__ import annotations

import itertools
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest

import affuse
from affuse.analyzer import Analyzer
from affuse.analyzer.speech import SOMEBODY_ELSE, SpeechOf
from affuse.errors import AssetError, ConfigError
from affuse.experts import Abilities, ExpertOutput, FaceExpert
from affuse.media import SAMPLE_RATE, Recording, decoding
from affuse.people import Turn, watching
from affuse.people.mouths import MOUTH_RATE, FacePath, mouth_between, mouths
from affuse.people.speaking import OFF_SCREEN, Speakers, TurnModel
from affuse.people.synchrony import (
    LAGS,
    MARGIN,
    STRETCH,
    WIDTH,
    Agreement,
    SynchronyNetworks,
    log_mel,
    measure_agreement,
)
from affuse.people.watching import MouthWatch
from affuse.testing import FakeExpert, synthetic
from affuse.timeline import Segment, Timeline

MODEL = TurnModel(gain=2.0, cost=0.3, heard=2.0, stay=1.5, off_screen=-1.0, anybody=-0.5)


# --- mouths -----------------------------------------------------------------------------------------------------------


def test_a_face_is_interpolated_over_short_gaps_only() -> None:
    points = np.stack([np.full((5, 2), value) for value in (0.2, 0.4, 0.8)])
    path = FacePath(np.array([1.0, 2.0, 5.0]), points)
    found = [path.at(time) for time in (0.5, 0.7, 1.25, 3.0, 5.3, 5.5)]
    assert [None if p is None else round(float(p[0, 0]), 6) for p in found] == [None, 0.2, 0.25, None, 0.8, None]


def test_a_detector_without_landmarks_gives_the_mouth_by_its_box() -> None:
    box = np.array([[0.1, 0.2, 0.4, 0.5]])
    output = ExpertOutput(np.empty((0, 8)), (), times=np.zeros(1), boxes=box, landmarks=np.full((1, 5, 2), np.nan))
    points = FacePath.of(output).points[0]
    assert (points[3:, 1] > points[2, 1]).all()
    assert (points[2, 1] > points[:2, 1]).all()
    assert points[:, 0].min() > 0.1
    assert points[:, 0].max() < 0.5


def test_there_is_one_picture_of_a_mouth_for_every_forty_milliseconds(tmp_path: Path) -> None:
    recording = Recording.open(synthetic.write_clip(tmp_path / "face.mp4", seconds=1.0))
    nowhere = FacePath(np.empty(0), np.empty((0, 5, 2)))
    middle = np.array([[0.45, 0.4], [0.55, 0.4], [0.5, 0.5], [0.46, 0.6], [0.54, 0.6]])
    rows = list(mouths(recording, [FacePath(np.array([0.5]), middle[None]), nowhere]))
    assert len(rows) == round(recording.duration * MOUTH_RATE)
    seen = [number for number, (own, _) in enumerate(rows) if own is not None]
    assert seen == [n for n in range(len(rows)) if abs(n / MOUTH_RATE - 0.5) <= 0.34]
    assert {row[0].shape for row in rows if row[0] is not None} == {(28, 28)}
    assert all(other is None for _, other in rows)


# --- sound and networks -----------------------------------------------------------------------------------------------


def test_the_spectrum_is_that_of_a_reference_library() -> None:
    samples = synthetic.speech(seconds=1.0, pitch=140).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=60, fmax=7600,
        htk=True, norm=None, pad_mode="constant",
    )  # fmt: skip
    found = log_mel(samples)
    assert found.shape == power.shape
    np.testing.assert_allclose(found, np.log(power + 1e-6), atol=2e-3)


def test_embeddings_have_length_one_and_do_not_depend_on_exposure_or_level() -> None:
    networks, draw = SynchronyNetworks(), np.random.default_rng(1)
    pictures = draw.integers(60, 180, (20, 28, 28)).astype(np.uint8)
    seen = networks.of_mouths(pictures)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(networks.of_mouths(pictures - 50), seen, atol=1e-3)
    samples = synthetic.speech(seconds=2.0, pitch=120)
    heard = networks.of_sound(samples)
    assert heard.shape == (len(samples) * MOUTH_RATE // SAMPLE_RATE, WIDTH)
    parts = heard.reshape(len(heard), 3, 64)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 1, atol=1e-5)
    assert (networks.of_sound(samples / 4) * heard).sum(axis=1).mean() > 0.95 * 3


def test_three_networks_take_turns_with_the_pictures() -> None:
    pictures = np.random.default_rng(1).integers(60, 180, (8, 28, 28)).astype(np.uint8)
    seen = SynchronyNetworks().of_mouths(pictures).reshape(8, 3, 64)
    assert ((seen != 0).any(axis=2) == np.eye(3, dtype=bool)[np.arange(8) % 3]).all()


def test_a_mouth_that_stands_still_agrees_with_no_sound() -> None:
    draw = np.random.default_rng(1)
    moving = draw.integers(60, 180, (10, 28, 28)).astype(np.uint8)
    frozen = np.repeat(moving[-1:], 10, axis=0)
    seen = SynchronyNetworks().of_mouths(np.concatenate([moving, frozen]))
    lengths = np.linalg.norm(seen, axis=1)
    np.testing.assert_allclose(lengths[:10], 1, atol=1e-5)
    np.testing.assert_array_equal(lengths[13:], 0)  # two pictures before one are seen with it


def test_the_lag_is_where_the_best_face_agrees_most() -> None:
    scores = np.random.default_rng(2).normal(0, 0.1, (100, 2, len(LAGS)))
    scores[:, 1, 3] += 0.4
    assert Agreement(scores, np.ones(100)).best_lag() == LAGS[3]
    assert Agreement(scores, np.zeros(100)).best_lag() == 0
    assert Agreement(np.full((0, 2, len(LAGS)), np.nan), np.empty(0)).best_lag() == 0


# --- turns ------------------------------------------------------------------------------------------------------------


def test_posteriors_are_those_of_all_paths_added_up() -> None:
    """Forward-backward against the sum over every sequence of states, with somebody off screen and without."""
    draw = np.random.default_rng(3)
    scores, speech = draw.normal(0.2, 0.4, (12, 2)), np.ones(12)
    emissions = np.exp(MODEL._emissions(scores, speech))
    expected = np.zeros_like(emissions)
    for chance, off_screen in ((np.exp(MODEL.anybody), MODEL.off_screen), (1.0, -np.inf)):
        first, step = MODEL._transitions(2, off_screen)
        for path in itertools.product(range(4), repeat=len(emissions)):
            weight = chance * first[path[0]] * np.prod([emissions[i, s] for i, s in enumerate(path)])
            weight *= np.prod([step[a, b] for a, b in itertools.pairwise(path)])
            expected[range(len(path)), path] += weight
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(MODEL.posteriors(scores, speech), expected, atol=1e-5)


def test_a_face_that_is_not_seen_does_not_speak_and_silence_is_nobodys() -> None:
    scores = np.full((60, 2), 0.6)
    scores[:30, 0] = np.nan
    speech = np.concatenate([np.ones(45), np.zeros(15)])
    found = MODEL.posteriors(scores, speech)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[:9, 0].max() < 1e-5
    assert found[-3:, -1].min() > 0.9


def test_speakers_by_turns_that_are_given() -> None:
    turns = [Turn(Segment(0.0, 1.0), "Anna"), Turn(Segment(0.5, 2.0), "Ben")]
    speakers = Speakers.of_turns(turns, 3.0, step=0.5)
    expected = [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(speakers.probabilities, expected)
    assert speakers.share("Anna", Segment(0.0, 1.0)) == pytest.approx(0.75)
    assert np.isnan(speakers.share("Anna", Segment(2.0, 3.0)))
    assert speakers.own("Ben", Segment(0.0, 1.0)) == pytest.approx(0.5)
    assert speakers.own("Ben", Segment(2.0, 3.0)) == 0
    assert [(t.speaker, t.segment.end) for t in speakers.turns(1.8)] == [("Anna", 1.0), ("Ben", 1.8)]


def test_a_model_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "turns.json").write_text('{"gain": 1}')
    with pytest.raises(AssetError, match=r"turns\.json is no model of turns"):
        TurnModel.read(tmp_path / "turns.json")
    MODEL.write(tmp_path / "own.json")
    assert TurnModel.read(tmp_path / "own.json") == MODEL


# --- answers for each person ------------------------------------------------------------------------------------------


class Loud(FakeExpert):
    """A voice that is angry where it is loud, so that whose sound it is can be read off."""

    def __init__(self) -> None:
        super().__init__("voice", {})
        self.abilities = Abilities(reads=("sound",))

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        rows = []
        for samples in recording.sound(timeline):
            level = float(np.abs(samples).max()) if len(samples) else np.nan
            rows.append(np.full(7, np.nan) if np.isnan(level) else np.array([level, *[(1 - level) / 6] * 6]))
        return [ExpertOutput(np.array(rows), tuple("" if r[0] == r[0] else "no sound" for r in rows))]


def _sound(path: Path, *channels: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes((np.stack(channels, axis=1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def loud_then_soft(tmp_path: Path) -> Path:
    second = np.ones(SAMPLE_RATE)
    return _sound(tmp_path / "call.wav", np.concatenate([0.9 * second, 0.9 * second, 0.3 * second, 0.3 * second]))


def test_each_speaker_is_heard_alone(loud_then_soft: Path) -> None:
    turns = [Turn(Segment(0.0, 2.0), "Anna"), Turn(Segment(2.0, 4.0), "Ben")]
    analyzer = Analyzer({"voice": Loud()})
    analysis = analyzer.analyze(loud_then_soft, turns=turns)
    heard = {s.person: s.evidence["voice"].probabilities for s in analysis.summaries}
    alone = {
        level: analyzer.analyze(_sound(loud_then_soft.with_name(f"{level}.wav"), np.full(SAMPLE_RATE, level)))
        for level in (0.9, 0.3)
    }
    for name, level in (("Anna", 0.9), ("Ben", 0.3)):
        np.testing.assert_allclose(heard[name], alone[level].summary.evidence["voice"].probabilities, atol=1e-4)
    assert [person.id for person in analysis.persons] == ["Anna", "Ben"]
    assert [(t.speaker, t.segment.end) for t in analysis.turns] == [("Anna", pytest.approx(2.04)), ("Ben", 4)]


def test_a_window_in_which_others_speak_says_so(loud_then_soft: Path) -> None:
    turns = [Turn(Segment(0.0, 2.0), "Anna"), Turn(Segment(2.0, 4.0), "Ben")]
    analysis = Analyzer({"voice": Loud()}, window=1.0).analyze(loud_then_soft, turns=turns)
    first = [v for v in analysis.verdicts if v.segment.start == 0]
    assert [(v.person, v.label is None, v.evidence["voice"].reason, v.speaking) for v in first] == [
        ("Anna", False, "", 1.0),
        ("Ben", True, SOMEBODY_ELSE, 0.0),
    ]


def test_turns_come_from_a_file_and_may_be_left_out(loud_then_soft: Path, tmp_path: Path) -> None:
    rttm = tmp_path / "call.rttm"
    rttm.write_text("SPEAKER call 1 0.0 2.0 <NA> <NA> Anna <NA> <NA>\nSPEAKER call 1 2.0 2.0 <NA> <NA> Ben <NA> <NA>\n")
    analyzer = Analyzer({"voice": Loud()}, window=4.0)
    assert [s.person for s in analyzer.analyze(loud_then_soft, turns=rttm).summaries] == ["Anna", "Ben"]
    analyzer.shared_voice = True
    assert [s.person for s in analyzer.analyze(loud_then_soft, turns=rttm).summaries] == [None]


def test_labels_of_a_transcript_tell_persons_apart_and_change_no_word(tmp_path: Path) -> None:
    said = (("Agent", "How can I help you?"), ("Customer", "I am furious!"))
    cues = [f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{who}: {text}\n" for i, (who, text) in enumerate(said, 1)]
    (tmp_path / "call.srt").write_text("\n".join(cues))
    analysis = affuse.analyze(tmp_path / "call.srt", language="en")
    by_person = {summary.person: summary for summary in analysis.summaries}
    assert list(by_person) == ["Agent", "Customer"]
    alone = affuse.analyze(text="I am furious!", language="en").summary
    assert by_person["Customer"].label == alone.label == "anger"
    np.testing.assert_allclose(by_person["Customer"].fused, alone.fused, atol=1e-6)
    assert [cue.speaker for cue in analysis.cues] == ["Agent", "Customer"]


def test_doubt_about_the_voice_mixes_the_answers_with_it_and_without() -> None:
    """With probability p this voice is mine: p times the answer with it, 1 - p times the one without."""
    rows = np.eye(7)[[0, 3]] * 0.7 + 0.3 / 7
    face, voice = (ExpertOutput(rows[[i]], ("",)) for i in (0, 1))
    face = replace(face, person="person 1")
    analyzer = Analyzer({"face": FakeExpert("face", {}), "voice": Loud()})
    fuser, timeline = analyzer._evidence, Timeline((Segment(0.0, 3.0),))

    def fused(own: float) -> np.ndarray:
        (verdict,) = fuser.fuse_outputs({"face": face, "voice": voice}, timeline, own=np.array([own]))
        assert verdict.fused is not None
        assert verdict.speaking == own
        odds = verdict.prior + sum(e.share or 0.0 for e in verdict.evidence.values())  # type: ignore[operator]
        assert odds == pytest.approx(np.log(verdict.fused.max() / (1 - verdict.fused.max())), abs=1e-6)
        return verdict.fused

    np.testing.assert_allclose(fused(0.25), 0.25 * fused(1.0) + 0.75 * fused(0.0), atol=1e-9)
    silent = ExpertOutput.silent(1, 7, "silence")
    (without,) = fuser.fuse_outputs({"face": face, "voice": silent}, timeline, own=np.array([0.0]))
    np.testing.assert_allclose(fused(0.0), without.fused, atol=1e-9)


def test_in_the_whole_answer_a_voice_counts_where_it_is_heard_longest() -> None:
    rows = np.eye(7)[[0, 0, 3, 3]] * 0.7 + 0.3 / 7
    analyzer = Analyzer({"voice": Loud(), "text": FakeExpert("text", {})})
    timeline = Timeline(tuple(Segment(i, i + 3.0) for i in range(4)))

    def voice(windows: list[int]) -> np.ndarray:
        outputs = {"voice": ExpertOutput(rows[windows], ("",) * len(windows)), "text": silent(len(windows))}
        return summary(outputs, Timeline(tuple(timeline[i] for i in windows)), None)

    def silent(n: int) -> ExpertOutput:
        return ExpertOutput.silent(n, 7, "no words")

    def summary(outputs: dict[str, ExpertOutput], windows: Timeline, seconds: np.ndarray | None) -> np.ndarray:
        found = analyzer._evidence.summarise(outputs, windows, heard_for=seconds).evidence
        return np.array([found[name].probabilities for name in outputs if found[name].probabilities is not None])

    everything = {"voice": ExpertOutput(rows, ("",) * 4), "text": ExpertOutput(rows, ("",) * 4)}
    heard, said = summary(everything, timeline, np.array([3.0, 2.5, 1.0, 0.0]))
    np.testing.assert_allclose(heard[None], voice([0, 1]))
    np.testing.assert_allclose(said, summary(everything, timeline, None)[1], err_msg="words count wherever they are")
    everything["voice"] = ExpertOutput(
        np.where(np.arange(4)[:, None] < 2, np.nan, rows), ("no speech",) * 2 + ("",) * 2
    )
    heard, _ = summary(everything, timeline, np.array([3.0, 2.5, 1.0, 0.2]))
    np.testing.assert_allclose(heard[None], voice([2]), err_msg="the longest of those that say something")


def test_the_sound_of_a_channel_is_that_of_its_speaker(tmp_path: Path) -> None:
    second = np.ones(SAMPLE_RATE)
    recording = Recording.open(_sound(tmp_path / "two.wav", 0.5 * second, 0.1 * second))
    turns = [Turn(recording.span, "channel 1"), Turn(recording.span, "channel 2")]
    speakers = Speakers.of_turns(turns, recording.duration)
    views = [SpeechOf(recording, f"channel {number}", speakers) for number in (1, 2)]
    found = [next(view.sound(Timeline((recording.span,)))) for view in views]
    assert [round(float(np.abs(samples).max()), 2) for samples in found] == [0.5, 0.1]
    assert [len(samples) for samples in found] == [SAMPLE_RATE, SAMPLE_RATE]


def test_turns_need_a_probability() -> None:
    with pytest.raises(ConfigError, match="a probability lies within 0 and 1"):
        Turn(Segment(0.0, 1.0), "Anna", 1.2)


@pytest.mark.data
def test_of_two_faces_the_one_that_speaks_is_found(data: Path) -> None:
    analysis = affuse.analyze(data / "clips" / "obama_speech.mp4")
    speaking = {summary.person: summary.speaking for summary in analysis.summaries}
    (speaker,) = [person for person, own in speaking.items() if own and own > 0.8]
    boxes = {person.id: float(np.median(person.boxes[:, 2])) for person in analysis.persons if len(person.boxes)}
    assert boxes[speaker] == max(boxes.values())  # who stands in front speaks
    spoken = sum(t.segment.duration for t in analysis.turns if t.speaker == speaker)
    assert spoken > 0.85 * sum(t.segment.duration for t in analysis.turns)


@pytest.mark.data
def test_a_face_agrees_more_with_its_own_sound_than_with_that_of_other_clips(data: Path, tmp_path: Path) -> None:
    from bench.speakers import Dialogue, read_clips, write_video

    own, *others = read_clips(data, "03-01-01*") + read_clips(data, "03-0[234]-01*")
    scores = []
    for other in (own, *others):
        n = min(len(own.frames), len(other.frames))
        path = tmp_path / "clip.mp4"
        write_video(Dialogue(list(own.frames[:n]), other.samples[: n * 640], []), path)
        recording = Recording.open(path)
        faces = FaceExpert().read(recording, Timeline.windows(recording.duration))
        agreement = measure_agreement(recording, [FacePath.of(face) for face in faces])
        scores.append(float(np.nanmean(agreement.at_lag(0)[agreement.speech > 0.5])))
    assert len(scores) == 4
    assert scores[0] > max(scores[1:]) + 0.1


@pytest.mark.data
def test_one_pass_finds_what_two_find(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording.open(data / "clips" / "obama_speech.mp4")
    timeline, expert, watch = Timeline((recording.span,)), FaceExpert(), MouthWatch(recording)
    outputs = expert.read_observed(recording, timeline, watch)
    known = measure_agreement(recording, [FacePath.of(face) for face in outputs])
    found = watch.agreement()
    assert found is not None
    assert found.scores.shape == known.scores.shape
    assert np.array_equal(np.isnan(found.scores), np.isnan(known.scores))
    spoken = found.speech > 0
    assert np.nanmax(np.abs(found.scores - known.scores)[spoken]) < 0.15  # of -1 to 1; grey comes without colours
    # As in a large video, of which only the pictures are decoded that others need.
    monkeypatch.setattr(decoding, "_LARGE", 0)
    fewer = MouthWatch(recording)
    expert.read_observed(recording, timeline, fewer)
    both = [spoken @ np.nan_to_num(own.at_lag(known.best_lag())) for own in (known, fewer.agreement())]
    assert both[0].argmax() == both[1].argmax()


def test_a_long_silence_is_read_as_the_pictures_come_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording.open(synthetic.write_clip(tmp_path / "drawn.mp4"))
    read: list[int] = []

    def silence(_: Recording) -> Iterator[tuple[int, np.ndarray]]:
        for number in range(20):
            read.append(number)
            yield STRETCH, np.zeros((STRETCH + 2 * MARGIN) * SAMPLE_RATE // MOUTH_RATE, dtype=np.float32)

    monkeypatch.setattr(watching, "sound_stretches", silence)
    times = MouthWatch(recording).watch.times
    assert [next(times) for _ in range(3)] == [0.0, 10.0, 20.0]
    assert read == [0, 1, 2]


def test_without_speech_or_faces_no_pictures_are_asked_for(tmp_path: Path) -> None:
    recording = Recording.open(synthetic.write_clip(tmp_path / "drawn.mp4"))
    watch = MouthWatch(recording)
    times = watch.watch.times
    first = next(times)
    watch.place(first, {})
    watch.place(first + 0.4, {})  # so that the next look for faces comes at 0.8
    assert next(times) > first + 0.8


def test_a_mouth_between_two_pictures_is_their_mean_by_distance() -> None:
    mouths = [np.full((2, 2), grey, dtype=np.uint8) for grey in (0, 100, 200)]
    times = np.array([1.0, 1.1, 1.5])
    at = {t: mouth_between(t, times, mouths.__getitem__) for t in (0.7, 0.9, 1.0, 1.075, 1.2, 1.35, 1.6, 1.8)}
    values = {time: None if mouth is None else int(mouth[0, 0]) for time, mouth in at.items()}
    assert values == {0.7: None, 0.9: 0, 1.0: 0, 1.075: 75, 1.2: 100, 1.35: 200, 1.6: 200, 1.8: None}


def test_late_sound_is_noticed(data: Path, tmp_path: Path) -> None:
    from bench.speakers import Dialogue, read_clips, write_video

    clip = read_clips(data, "05-01-*")[0]
    path = tmp_path / "late.mp4"
    write_video(Dialogue(list(clip.frames), clip.samples, []), path, shift=0.2)
    recording = Recording.open(path)
    faces = FaceExpert().read(recording, Timeline.windows(recording.duration))
    assert measure_agreement(recording, [FacePath.of(face) for face in faces]).best_lag() == pytest.approx(5, abs=1)


def test_somebody_off_screen_is_a_person_of_their_own() -> None:
    speakers = Speakers(("person 1", OFF_SCREEN), np.array([[0.9, 0.1, 0.0]] * 3 + [[0.1, 0.9, 0.0]] * 3), step=1.0)
    assert [turn.speaker for turn in speakers.turns()] == ["person 1", OFF_SCREEN]
