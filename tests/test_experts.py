"""Experts: what they declare, how they are found, the languages of words, and the contract that holds for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affuse import EKMAN, LabelSpace, Recording, Segment, Timeline, weights
from affuse.errors import ConfigError
from affuse.experts import (
    EXPERTS,
    LANGUAGES,
    Abilities,
    Expert,
    ExpertOutput,
    FaceExpert,
    SoundExpert,
    TextExpert,
    VoiceExpert,
    WordsExpert,
    expert_names,
    make_expert,
)
from affuse.experts.text import LanguageModel
from affuse.packages import load_package
from affuse.testing import FakeExpert, check_expert, synthetic, write_toy_package

TWO = LabelSpace("two", ("calm", "angry"))


class Capitals(WordsExpert):
    """Takes capitals for anger; a text without letters cannot be read."""

    name, labels = "capitals", TWO

    def classify(self, texts: list[str]) -> np.ndarray:  # type: ignore[override]
        shares = np.array([np.mean([c.isupper() for c in t if c.isalpha()] or [np.nan]) for t in texts])
        return np.stack([1 - shares, shares], axis=1)


class Level(SoundExpert):
    """Takes loud for anger."""

    name, labels = "level", TWO

    def classify(self, waveform: np.ndarray) -> np.ndarray:
        loud = float(np.sqrt(np.mean(waveform**2)))
        return np.array([1 - loud, loud])


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FaceExpert, VoiceExpert, TextExpert, Capitals, Level])
def test_experts_keep_the_contract(kind: type[Expert]) -> None:
    check_expert(kind())


def test_experts_of_packages_and_fakes_keep_the_contract(tmp_path: Path) -> None:
    check_expert(load_package(write_toy_package(tmp_path / "mine")))
    check_expert(FakeExpert("face", {"anger": 0.5}, persons=("Ann", "Ben"), silent=[1], sentiment=(0.5, 0.3, 0.2)))


class Broken(FakeExpert):
    """One rule of the contract broken at a time."""

    def __init__(self, what: str) -> None:
        super().__init__("voice", {"anger": 0.6}, silent=[0] if what == "no reason" else [])
        self.what = what
        self.calls = 0
        if what == "no reason":
            self.reason = ""
        if what == "prior":
            self.prior = np.full(7, 0.2)
        if what == "classifies":
            self.abilities = Abilities(("words",), languages=("en",), classifies=True)

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        self.calls += 1
        (output,) = super().read_windows(recording, timeline)
        if self.what == "sum":
            return [ExpertOutput(output.probabilities * 0.9, output.reasons)]
        if self.what == "again":
            return [ExpertOutput(np.roll(output.probabilities, self.calls, axis=1), output.reasons)]
        if self.what == "persons":
            return [output, output]
        if self.what == "sentiment":
            return [ExpertOutput(output.probabilities, output.reasons, np.full((len(timeline), 3), 1 / 3))]
        return [output]

    def classify(self, inputs: list[str]) -> np.ndarray:  # type: ignore[override]
        return np.full((len(inputs) + 1, 7), 1 / 7)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("sum", "rows must sum to 1"),
        ("again", "asked twice, the answers differ"),
        ("persons", "several outputs must name the person"),
        ("sentiment", "must declare judges_sentiment"),
        ("no reason", "a reason belongs exactly where there is no evidence"),
        ("prior", "must add up to 1"),
        ("classifies", "classify: expected 4 rows of 7"),
    ],
)
def test_the_contract_names_the_rule_that_is_broken(what: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_expert(Broken(what))


def test_what_is_no_expert_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"no subclass of affuse.experts.Expert"):
        check_expert(object())  # type: ignore[arg-type]


# --- abilities -------------------------------------------------------------------------------------------------------


def test_what_the_shipped_experts_declare() -> None:
    face, voice, text = FaceExpert.abilities, VoiceExpert.abilities, TextExpert().abilities
    assert (face.reads, face.sees_persons, face.judges_sentiment) == (("frames",), True, False)
    assert (voice.reads, voice.sees_persons, voice.languages) == (("sound",), False, ())
    assert (text.reads, text.languages, text.judges_sentiment) == (("words",), tuple(LANGUAGES), True)
    assert {"de", "en", "sw", "zh"} < set(text.languages)
    assert all(a.classifies and a.embeds and a.streams for a in (face, voice, text))


def test_a_recording_without_anything_to_read_is_refused_in_one_place() -> None:
    words, windows = Recording.from_text("Hello."), Timeline((Segment(0.0, 1.0),))
    assert VoiceExpert().read(words, windows)[0].reasons == ("no sound",)
    assert FaceExpert().read(words, windows)[0].reasons == ("no picture",)
    both = Abilities(reads=("frames", "sound"))
    assert both.missing(words) == "no picture; no sound"
    assert Abilities(reads=("frames", "words")).missing(words) == ""
    assert Abilities(reads=("table",)).missing(words) == ""


@pytest.mark.parametrize("reads", [(), ("smell",)])
def test_abilities_name_what_is_read(reads: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="reads some of frames, sound, words, table"):
        Abilities(reads)


def test_what_is_not_declared_is_refused_in_one_sentence() -> None:
    expert, words = FakeExpert("voice", {"anger": 0.6}), Recording.from_text("Hello.")
    with pytest.raises(ConfigError, match="the expert fake-voice reads whole recordings, not single items"):
        expert.classify(["Hello."])
    with pytest.raises(ConfigError, match="the expert fake-voice judges no sentiment"):
        expert.sentiment(["Hello."])
    with pytest.raises(ConfigError, match="the expert fake-voice gives no embeddings"):
        expert.embed(words, Timeline((words.span,)))
    with pytest.raises(ConfigError, match="the expert fake-voice reads voice, not face"):
        expert.check_modality("face")
    assert expert.in_language("tlh") is expert  # it does not depend on the language


# --- base classes ----------------------------------------------------------------------------------------------------


def test_an_expert_on_words_only_classifies(tmp_path: Path) -> None:
    file = tmp_path / "talk.srt"
    cues = [
        ("00:00:00,000", "00:00:02,000", "GO"),
        ("00:00:02,000", "00:00:03,000", "well"),
        ("00:00:06,000", "00:00:07,000", "123"),
    ]
    file.write_text("\n".join(f"{i}\n{a} --> {b}\n{t}\n" for i, (a, b, t) in enumerate(cues, 1)), encoding="utf-8")
    timeline = Timeline((Segment(0, 3), Segment(3, 6), Segment(6, 7)))
    (output,) = Capitals().read(Recording.open(file), timeline)
    # Two seconds of shouting and one of talking; silence; digits.
    np.testing.assert_allclose(output.probabilities[0], [1 / 3, 2 / 3])
    assert output.reasons == ("", "no words in this window", "no words in this window")
    assert Capitals().language_of("Hello.") == "und"


def test_an_expert_on_sound_only_classifies(tmp_path: Path) -> None:
    recording = Recording.open(synthetic.write_clip(tmp_path / "clip.mp4", seconds=3.0))
    (output,) = Level().read(recording, Timeline((Segment(0, 3),)))
    (samples,) = recording.sound(Timeline((Segment(0, 3),)))
    np.testing.assert_allclose(output.probabilities[0], Level().classify(samples))


# --- found by name ---------------------------------------------------------------------------------------------------


def test_experts_are_found_in_one_table() -> None:
    assert expert_names() == ["face", "text", "voice"]
    assert {EXPERTS.find(name) for name in expert_names()} == {FaceExpert, TextExpert, VoiceExpert}
    # Those of affuse register in the same group as those of others.
    assert set(EXPERTS.third_party()) >= {"face", "text", "voice"}
    with pytest.raises(ConfigError, match=r"unknown expert 'txt'.*did you mean 'text'"):
        make_expert("txt")
    with pytest.raises(ConfigError, match="no option 'speed'"):
        make_expert("face", speed=2)


# --- languages -------------------------------------------------------------------------------------------------------


class Greek(LanguageModel):
    """Everything in Greek letters is glad."""

    code, script = "el", "other"

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def file(cls) -> Path:
        return Path("greek.onnx")

    @classmethod
    def checksum(cls) -> str:
        return "0" * 64

    @classmethod
    def claims(cls, text: str, network: object) -> bool:
        return any("α" <= c <= "ω" for c in text.lower())

    def read(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.eye(7)[EKMAN.index("happiness")], np.array([0.0, 0.0, 1.0]), np.zeros(2)


def test_a_language_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LANGUAGES.built_in, "el", f"{__name__}:Greek")  # type: ignore[arg-type]
    expert = TextExpert()
    assert "el" in expert.abilities.languages
    assert [expert.language_of(t) for t in ("καλημέρα", "おはよう", "hello", "你好")] == ["el", None, "en", "zh"]
    assert expert.classify(["καλημέρα"])[0, EKMAN.index("happiness")] == 1
    assert expert.sha256["el"] == "0" * 64
    assert TextExpert("el").in_language("en").language == "en"


def test_what_a_language_reads_is_given_for_several_texts() -> None:
    greek = Greek(Path("greek.onnx"))
    assert greek.probabilities(["α", "β"]).argmax(axis=1).tolist() == [EKMAN.index("happiness")] * 2
    np.testing.assert_array_equal(greek.sentiment(["α"]), [[0.0, 0.0, 1.0]])
    assert greek.embed(["α", "β", "γ"]).shape == (3, 2)
    assert greek.probabilities([]).shape == (0, 7)
    assert greek.sentiment([]).shape == (0, 3)


def test_weights_of_ones_own_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = weights.sha256_of

    def sha256_of(path: Path) -> str:
        if path.is_absolute():  # the detector of faces
            return real(path)
        hashed.append(path.name)
        return "0" * 64

    monkeypatch.setattr(weights, "sha256_of", sha256_of)
    own = [
        FaceExpert(model=Path("face.onnx")),
        VoiceExpert(Path("voice.onnx")),
        TextExpert(models={"en": Path("en.onnx"), "zh": Path("zh.onnx")}),
    ]
    for expert in (*own, *own):
        assert "0" * 64 in expert.sha256.values()
    assert sorted(hashed) == ["en.onnx", "face.onnx", "voice.onnx", "zh.onnx"]


def test_an_unknown_language_is_refused_everywhere() -> None:
    for wrong in (
        lambda: TextExpert("fr"),
        lambda: TextExpert().in_language("fr"),
        lambda: TextExpert(models={"fr": Path("x")}),
    ):
        with pytest.raises(ConfigError, match="unknown language 'fr'; the expert text reads af, am, "):
            wrong()


def test_languages_share_their_networks() -> None:
    expert = TextExpert()
    assert expert.in_language("en").network("en") is expert.network("en")
