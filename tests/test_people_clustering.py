"""Who speaks where nobody is seen: voices told apart when it is known how many there are."""

from __future__ import annotations

import itertools
import wave
from pathlib import Path

import numpy as np
import pytest

from affuse import weights
from affuse.analyzer import Analyzer
from affuse.analyzer.assembly import ONE_VOICE
from affuse.analyzer.speech import SOMEBODY_ELSE
from affuse.errors import AssetError, ConfigError, MediaError
from affuse.experts import Abilities
from affuse.experts.base import ExpertOutput
from affuse.experts.face.track import Track
from affuse.media import SAMPLE_RATE, Recording
from affuse.people import Turn, recognition
from affuse.people.clustering import STEP, HeardVoices, VoiceTurnModel, hear_voices, voices_apart
from affuse.people.faces import SeenFace
from affuse.people.speaking import OFF_SCREEN, Speakers
from affuse.people.voices import VoiceEncoder
from affuse.report.messages import translate
from affuse.testing import FakeExpert, synthetic
from affuse.timeline import Segment, Timeline
from command import caller


class MeanMels:
    """Stands in for the network: the embedding is the mean power by band, of length 1."""

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        rows = np.log(inputs["mels"].mean(axis=1) + 1e-6)
        rows = np.pad(rows - rows.mean(axis=1, keepdims=True), ((0, 0), (0, 256 - rows.shape[1])))
        return [rows / np.linalg.norm(rows, axis=1, keepdims=True)]


@pytest.fixture
def encoder() -> VoiceEncoder:
    found = VoiceEncoder()
    found.__dict__["_session"] = MeanMels()
    return found


@pytest.fixture
def only_pitches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every encoder tells voices apart by their spectrum, and needs no weights."""
    monkeypatch.setattr(VoiceEncoder, "_session", MeanMels())
    monkeypatch.setattr(VoiceEncoder, "check", lambda self: None)


def _write(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


PITCHES = (110, 250)


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """A low and a high voice by turns of three seconds, with half a second of silence after each."""
    voices = [synthetic.speech(3.0, pitch) for pitch in PITCHES]
    turns = [part for i in range(4) for part in (voices[i % 2], np.zeros(SAMPLE_RATE // 2))]
    return _write(tmp_path / "call.wav", np.concatenate(turns))


def _voices(order: list[int], spread: float = 0.3) -> HeardVoices:
    """Embeddings of voices by number, around directions that are drawn."""
    draw = np.random.default_rng(4)
    rows = draw.normal(size=(max(order) + 1, 256))[order] + spread * draw.normal(size=(len(order), 256))
    return HeardVoices(np.arange(len(order)), rows / np.linalg.norm(rows, axis=1, keepdims=True), len(order))


# --- the model --------------------------------------------------------------------------------------------------------


def test_smoothing_is_the_sum_over_all_paths() -> None:
    model, steps = VoiceTurnModel(stay=1.0), np.array([0, 1, 3, 4])  # one pause
    logs = np.random.default_rng(1).normal(0, 1, (4, 2))
    stay = 1 / (1 + np.exp(-1.0))
    likely = np.ones((5, 2))
    likely[steps] = np.exp(logs)
    expected = np.zeros((5, 2))
    for path in itertools.product(range(2), repeat=5):
        weight = 0.5 * np.prod([likely[i, voice] for i, voice in enumerate(path)])
        weight *= np.prod([stay * (a == b) + (1 - stay) / 2 for a, b in itertools.pairwise(path)])
        expected[range(5), path] += weight
    expected /= expected.sum(axis=1, keepdims=True)
    found = model._smoothed(HeardVoices(steps, np.empty((4, 256)), 5), logs)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_three_voices_are_numbered_in_the_order_of_their_first_turn() -> None:
    order = [2] * 10 + [0] * 12 + [2] * 6 + [1] * 9 + [0] * 5
    found = VoiceTurnModel().posteriors(_voices(order), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    renamed = {2: 0, 0: 1, 1: 2}
    assert found.argmax(axis=1).tolist() == [renamed[voice] for voice in order]


def test_no_probability_is_higher_than_groups_deserve() -> None:
    found = VoiceTurnModel(trust=0.8).posteriors(_voices([0] * 20 + [1] * 20, spread=0.0), 2)
    assert 0.85 < found.max() <= 0.8 + 0.2 / 2
    assert VoiceTurnModel(trust=1.0).posteriors(_voices([0] * 20 + [1] * 20, spread=0.0), 2).max() > 0.95


def test_a_short_pause_is_part_of_a_turn_and_a_long_one_is_not() -> None:
    heard = HeardVoices(np.array([1, 4, 8]), np.empty((3, 256)), 10)
    assert heard.spoken().astype(int).tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 1, 0]


# --- the sound --------------------------------------------------------------------------------------------------------


def test_embeddings_are_made_where_there_is_speech(call: Path, encoder: VoiceEncoder) -> None:
    heard = hear_voices(Recording.open(call), encoder)
    assert heard.count == np.ceil(14.0 / STEP)
    assert len(heard.embeddings) == len(heard.steps)
    starts = heard.steps * STEP % 3.5
    assert not np.any((starts > 3.05) & (starts + STEP < 3.5))  # nothing in the pauses
    assert len(starts) > 0.5 * 12 / STEP


def test_each_turn_goes_to_its_voice(call: Path, encoder: VoiceEncoder) -> None:
    speakers = voices_apart(Recording.open(call), 2, encoder)
    assert speakers is not None
    assert speakers.names == ("speaker 1", "speaker 2")
    np.testing.assert_allclose(speakers.probabilities.sum(axis=1), 1)
    shares = [speakers.share(f"speaker {1 + turn % 2}", Segment(3.5 * turn, 3.5 * turn + 3)) for turn in range(4)]
    assert min(shares) > 0.75
    assert speakers.probabilities[int(13.8 / STEP), -1] == 1  # the last pause is nobody's


def test_too_little_speech_for_so_many_is_refused(tmp_path: Path, encoder: VoiceEncoder) -> None:
    path = _write(tmp_path / "short.wav", synthetic.speech(0.6, 140))
    with pytest.raises(MediaError, match=r"short\.wav: 9 speakers cannot be told apart in 0\.\d s of speech"):
        voices_apart(Recording.open(path), 9, encoder)
    assert voices_apart(Recording.open(_write(tmp_path / "silence.wav", np.zeros(SAMPLE_RATE))), 2, encoder) is None


# --- the answer -------------------------------------------------------------------------------------------------------


class Length(FakeExpert):
    """A voice that is happier the more it hears, so that whose sound it gets can be read off."""

    def __init__(self) -> None:
        super().__init__("voice", {})
        self.abilities = Abilities(reads=("sound",))

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        sounds = list(recording.sound(timeline))
        rows = [np.full(7, 1 / 7) if len(samples) else np.full(7, np.nan) for samples in sounds]
        return [ExpertOutput(np.array(rows), tuple("" if len(samples) else "no sound" for samples in sounds))]


@pytest.mark.usefixtures("only_pitches")
def test_an_answer_for_each_voice(call: Path) -> None:
    analysis = Analyzer({"voice": Length()}, window=3.0, hop=1.0).analyze(call, speakers=2)
    assert [person.id for person in analysis.persons] == ["speaker 1", "speaker 2"]
    assert {turn.speaker for turn in analysis.turns} == {"speaker 1", "speaker 2"}
    first = {v.person: v for v in analysis.verdicts if v.segment.start == 0}
    assert 0.7 < first["speaker 1"].speaking < 1
    assert first["speaker 2"].evidence["voice"].reason == SOMEBODY_ELSE
    assert ONE_VOICE not in analysis.notes


@pytest.mark.usefixtures("only_pitches")
def test_without_a_number_the_answer_says_that_it_takes_all_for_one_voice(call: Path) -> None:
    analyzer = Analyzer({"voice": Length()})
    assert ONE_VOICE in analyzer.analyze(call).notes
    assert ONE_VOICE not in analyzer.analyze(call, speakers=1).notes
    assert ONE_VOICE not in analyzer.analyze(call, turns=[Turn(Segment(0.0, 3.0), "Anna")]).notes
    short = _write(call.with_name("short.wav"), synthetic.speech(3.0, 140))
    assert ONE_VOICE not in analyzer.analyze(short).notes
    assert translate(ONE_VOICE, "zh").startswith("全部语音")
    assert translate("speaker 2", "zh") == "说话人 2"


@pytest.mark.usefixtures("only_pitches")
def test_names_and_faces_come_before_voices(call: Path) -> None:
    subtitles = "1\n00:00:00,000 --> 00:00:03,000\nAnna: Hi.\n\n2\n00:00:03,500 --> 00:00:06,500\nBen: Ho.\n"
    transcript = call.with_name("names.srt")
    transcript.write_text(subtitles)
    analysis = Analyzer({"voice": Length()}).analyze(call, transcript, speakers=2)
    assert {turn.speaker for turn in analysis.turns} == {"Anna", "Ben"}


@pytest.mark.parametrize("count", [0, 21, -1])
def test_a_number_out_of_range_is_refused(call: Path, count: int) -> None:
    with pytest.raises(ConfigError, match=f"the number of speakers lies within 1 and 20; got {count}"):
        Analyzer({"voice": Length()}).analyze(call, speakers=count)


def test_a_missing_encoder_is_told_before_anything_is_read(
    call: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AFFUSE_MODELS", raising=False)
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssetError, match="affuse people setup"):
        Analyzer({"voice": Length()}).analyze(call, speakers=2)
    affuse = caller(monkeypatch, capfd)
    found = affuse("analyze", call, "--experts", "voice", "--speakers", "2")
    assert (found.code, found.err.count("affuse people setup")) == (2, 1)
    assert affuse("analyze", call, "--turns", "call.rttm", "--speakers", "2").code == 2


def test_a_shared_voice_needs_no_number(call: Path) -> None:
    with pytest.raises(ConfigError, match="leave out the number of speakers"):
        Analyzer({"voice": Length()}, shared_voice=True).analyze(call, speakers=2)


# --- several people in one picture ------------------------------------------------------------------------------------


def test_everybody_who_is_seen_gets_the_voice_of_their_own_turns(
    call: Path, encoder: VoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [Turn(Segment(3.5 * i, 3.5 * i + 3), str(1 - i % 2), 0.95) for i in range(3)]
    turns.append(Turn(Segment(10.5, 13.5), OFF_SCREEN, 0.95))
    speakers = Speakers.of_turns(turns, 14.0)
    monkeypatch.setattr(recognition, "who_speaks", lambda *_: speakers)
    monkeypatch.setattr(recognition, "_output", lambda *_: None)
    persons = [[SeenFace(None)], [SeenFace(None)]]  # type: ignore[arg-type]
    found = recognition._voices_of(Recording.open(call), persons, encoder)
    for number, pitch in ((1, PITCHES[0]), (0, PITCHES[1])):
        alone = encoder.embed(synthetic.speech(3.0, pitch))
        (voice,) = found[number]
        assert alone is not None
        assert voice @ alone > 0.985 > found[1 - number][0] @ alone


def test_a_voice_is_learned_from_sure_turns_only(
    call: Path, encoder: VoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [Turn(Segment(0.0, 3.0), "0", 0.6), Turn(Segment(3.5, 3.8), "1", 0.99)]
    monkeypatch.setattr(recognition, "who_speaks", lambda *_: Speakers.of_turns(turns, 14.0))
    monkeypatch.setattr(recognition, "_output", lambda *_: None)
    persons = [[SeenFace(None)], [SeenFace(None)]]  # type: ignore[arg-type]
    assert [len(own) for own in recognition._voices_of(Recording.open(call), persons, encoder)] == [0, 0]


def test_tracks_of_one_person_become_fractions_of_the_picture_in_order_of_time() -> None:
    later, earlier = (
        Track(times=[t, t + 1.0], boxes=[np.array([10.0, 20.0, 40.0, 50.0])] * 2, landmarks=[np.full((5, 2), 30.0)] * 2)
        for t in (5.0, 1.0)
    )
    output = recognition._output([SeenFace(later, size=(100, 200)), SeenFace(earlier, size=(200, 100))], "7")
    assert (output.person, output.times.tolist()) == ("7", [1.0, 2.0, 5.0, 6.0])
    np.testing.assert_allclose(output.boxes[[0, 2]], [[0.05, 0.2, 0.2, 0.5], [0.1, 0.1, 0.4, 0.25]])
    np.testing.assert_allclose(output.landmarks[[0, 2], 0], [[0.15, 0.3], [0.3, 0.15]])


# --- real voices ------------------------------------------------------------------------------------------------------


def test_real_voices_are_told_apart(data: Path, tmp_path: Path) -> None:
    if weights.find("speaker") is None:
        pytest.skip("the speaker encoder is not here; affuse people setup makes it")
    from bench.voices import clip, speakers_of

    cast = speakers_of(data, "ravdess", 1)
    low, high = (np.concatenate([clip(p) for p in cast[name][:8]]) for name in ("Actor_05", "Actor_06"))
    parts = [own[i * 4 * SAMPLE_RATE : (i + 1) * 4 * SAMPLE_RATE] for i in range(2) for own in (low, high)]
    speakers = voices_apart(Recording.open(_write(tmp_path / "two.wav", np.concatenate(parts))), 2)
    assert speakers is not None
    shares = [speakers.share(f"speaker {1 + i % 2}", Segment(4 * i, 4 * i + 4)) for i in range(4)]
    assert min(shares) > 0.6
