"""Words that are recognised: where they come from, where they go, and what is said where there are none."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.analyzer import Analyzer
from affuse.errors import AssetError
from affuse.experts.transcribe import Transcriber
from affuse.media import Recording
from affuse.testing import FakeExpert
from serving import write_sound


@dataclass
class Piece:
    start: float
    end: float
    text: str


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


def test_a_long_recording_is_heard_in_stretches(tmp_path: Path) -> None:
    long = write_sound(tmp_path / "long.wav", np.zeros(16_000), 620)
    dictation = Dictation()
    filled, _ = Transcriber(recogniser=dictation).fill(Recording.open(long))
    assert [n for n, _ in dictation.heard] == [300 * 16_000, 300 * 16_000, 20 * 16_000]
    assert [c.segment.start for c in filled.cues] == list(range(620))


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
