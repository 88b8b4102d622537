"""Bundles in an analysis: own labels and frequencies, sentiment alone, several blocks of which any may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affuse import weights
from affuse.analyzer import Analyzer, load_experts, shipped_fuser
from affuse.errors import ConfigError, DataError
from affuse.experts.voice import VoiceExpert
from affuse.fusion import NamedFuser, ProductRule
from affuse.fusion.spaces import (
    check_emotions,
    common_emotions,
    common_sentiment,
    judges_sentiment,
    under_common_prior,
)
from affuse.labels import EKMAN, SENTIMENT, VOICE, LabelSpace, to_sentiment
from affuse.media import Recording
from affuse.packages import load_package, write_package
from affuse.packages.columns import FeatureTable
from affuse.report.schema import schema
from affuse.testing import FakeExpert, check_expert
from affuse.timeline import Segment, Timeline
from command import Run, caller
from small_networks import (
    TWO,
    Scene,
    Square,
    answers,
    column,
    description,
    loudness,
    mean_id,
    network,
    sound,
    tokenizer,
)

COMMON = shipped_fuser().default_prior.frequencies


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "analyze")


# --- from own labels and frequencies to the common ones --------------------------------------------------------------


def test_frequencies_are_exchanged_by_bayes() -> None:
    """Two labels, seen even, asked where the first is three times as frequent: 0.2 : 0.8 becomes 0.6 : 0.8."""
    moved = under_common_prior(
        np.array([[0.2, 0.8]]), np.array([0.5, 0.5]), np.array([0.75, 0.25]), np.array([True, True])
    )
    np.testing.assert_allclose(moved, [[3 / 7, 4 / 7]])


def test_labels_that_an_expert_does_not_know_keep_their_frequency() -> None:
    common = np.array([0.2, 0.3, 0.5])
    P = np.array([[0.9, 0.1, 0.0], [np.nan, np.nan, np.nan]])
    moved = under_common_prior(P, np.array([0.4, 0.6, 0.0]), common, np.array([True, True, False]))
    # 0.9 * 0.2 / 0.4 = 0.45 and 0.1 * 0.3 / 0.6 = 0.05 share the 0.5 that both have together.
    np.testing.assert_allclose(moved[0], [0.45, 0.05, 0.5])
    assert np.isnan(moved[1]).all()


def test_an_answer_that_only_repeats_the_frequencies_changes_nothing() -> None:
    own = np.array([0.1, 0.2, 0.3, 0.4])
    space = LabelSpace("four", ("anger", "calm", "neutral", "happiness"))
    np.testing.assert_allclose(common_emotions(own[None], space, own, COMMON), COMMON[None])


def test_of_richer_labels_the_one_that_the_evidence_favours_most_stands() -> None:
    space = LabelSpace("three", ("calm", "neutral", "anger"))
    (row,) = common_emotions(np.array([[0.1, 0.5, 0.4]]), space, np.array([0.25, 0.25, 0.5]), COMMON)
    anger, neutral = EKMAN.index("anger"), EKMAN.index("neutral")
    odds = (0.4 / 0.5 * COMMON[anger]) / (0.5 / 0.25 * COMMON[neutral])
    assert row[anger] / row[neutral] == pytest.approx(odds)
    assert row[EKMAN.index("fear")] == pytest.approx(COMMON[EKMAN.index("fear")])


def test_sentiment_of_two_classes_says_nothing_about_neutral() -> None:
    polar = LabelSpace("polar", ("negative", "positive"))
    assert judges_sentiment(polar)
    assert judges_sentiment(SENTIMENT)
    assert not judges_sentiment(LabelSpace("x", ("negative", "positive", "anger")))
    assert not judges_sentiment(LabelSpace("x", ("neutral", "positive")))
    common = np.array([0.3, 0.5, 0.2])
    (row,) = common_sentiment(np.array([[0.1, 0.9]]), polar, np.array([0.5, 0.5]), common)
    np.testing.assert_allclose(row, [0.5 * 0.03 / 0.21, 0.5, 0.5 * 0.18 / 0.21])


def test_foreign_labels_are_named() -> None:
    with pytest.raises(ConfigError, match="its labels laughter, applause have no place among anger, disgust"):
        check_emotions(LabelSpace("x", ("anger", "laughter", "applause")))
    check_emotions(VOICE)


# --- analyses --------------------------------------------------------------------------------------------------------


def test_the_shipped_voice_as_a_bundle_gives_the_same_analysis_but_for_the_pool(tmp_path: Path) -> None:
    clip = sound(tmp_path / "a.wav", 0.5, 0.3, 0.2, 0.0)
    prior = np.full(9, 1 / 9)
    bundle = write_package(
        tmp_path / "v", description(labels=VOICE, prior=tuple(prior)), {"model.onnx": weights.shipped("voice")}
    )
    analysis = Analyzer(load_experts({"voice": str(bundle)}), window=1.0).analyze(clip)
    recording = Recording.open(clip)
    P = VoiceExpert().predict(recording, Timeline.windows(4.0, 1.0, 1.0))
    expected = shipped_fuser().prior_of("voice")  # the frequencies under which the fuser learned to read voices
    assert expected is not None
    own = shipped_fuser().fuse(common_emotions(P, VOICE, prior, expected)[:, None], ["voice"], COMMON)
    for verdict, row in zip(analysis.verdicts, own, strict=True):
        if np.isnan(row).any():
            assert (verdict.fused, verdict.evidence["voice"].reason) == (None, "silence")
            continue
        np.testing.assert_allclose(verdict.evidence["voice"].probabilities, row, atol=1e-9)
        np.testing.assert_allclose(verdict.fused, row, atol=1e-9)
    assert analysis.verdicts[3].fused is None
    settings = analysis.settings["experts"]["voice"]
    assert settings["name"] == "mine"
    assert settings["weights"]["model.onnx"] == weights.digest("voice")


def test_a_bundle_of_two_labels_shifts_only_these(tmp_path: Path) -> None:
    bundle = write_package(tmp_path / "v", description(), {"model.onnx": loudness()})
    expected = np.array([0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.3])
    product = ProductRule(prior=expected).fit(np.full((7, 1, 7), 1 / 7), np.arange(7))
    fuser = NamedFuser(product, ("voice",), EKMAN.labels, notes={"priors": {"voice": expected.tolist()}})
    analyzer = Analyzer(load_experts({"voice": str(bundle)}), fuser=fuser)
    shown = analyzer.analyze(sound(tmp_path / "a.wav", 0.5, 0.5, 0.5)).summary.evidence["voice"].probabilities
    others = [EKMAN.index(label) for label in EKMAN.labels if label not in TWO.labels]
    np.testing.assert_allclose(shown[others], expected[others])


def test_a_sentiment_bundle_judges_sentiment_only(tmp_path: Path) -> None:
    polar = LabelSpace("polar", ("negative", "positive"))
    reads = {"modality": "text", "reads": ("tokens",), "inputs": {"tokens": {"longest": 5}}}
    files = {
        "model.onnx": network({"ids": ["n", "t"], "mask": ["n", "t"]}, mean_id(), 2),
        "tokenizer.json": tokenizer("good", "great"),
    }
    bundle = write_package(tmp_path / "t", description(labels=polar, **reads), files)
    experts = load_experts({"text": str(bundle)})
    alone = Analyzer(experts).analyze_text("great great great")
    common = to_sentiment(COMMON)
    ends = answers(2.0) * common[[0, 2]]  # ids 0 3 3 3 1; both sentiments were as frequent in training
    own = np.array([ends[0], 0.0, ends[1]]) / ends.sum() * (common[0] + common[2])
    own[1] = common[1]
    assert alone.summary.label is None
    assert alone.summary.evidence["text"].reason == "judges sentiment only"
    assert alone.summary.sentiment == pytest.approx(own[2] - own[0])
    from affuse.report.sentences import headline

    assert headline(alone) == "Sentiment +0.3 (words: judges sentiment only)"
    angry = FakeExpert("voice", {"anger": 0.9})
    both, without = (
        Analyzer(e).analyze_text("great great great").summary for e in ({"voice": angry, **experts}, {"voice": angry})
    )
    # Emotion and sentiment are of one answer: a glad judgement speaks against anger, and has its share in that.
    assert both.sentiment > without.sentiment
    happiness, anger = EKMAN.index("happiness"), EKMAN.index("anger")
    assert both.fused[happiness] / both.fused[anger] > without.fused[happiness] / without.fused[anger]
    assert both.label == "anger"
    assert both.evidence["text"].probabilities is None
    assert both.evidence["text"].share < 0
    gain = np.log(both.confidence / (1 - both.confidence)) - both.prior
    assert both.evidence["text"].share + both.evidence["voice"].share == pytest.approx(gain)
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked by jsonschema (extra dev)")
    jsonschema.validate(alone.to_dict(), schema())


# --- joint -----------------------------------------------------------------------------------------------------------


def joint(place: Path, images: bool = False) -> Path:
    """Score: loudness x present + 10 x the first number x present (+ 100 x brightness of the face x present)."""
    blocks = ["waveform", "columns", *(["images"] if images else [])]
    inputs: dict[str, Any] = {"waveform": ["n", "samples"], "columns": ["n", 2], "present": ["n", len(blocks)]}
    nodes = [
        ("Abs", ["waveform"], "loud"),
        ("ReduceMean", ["loud", "axes"], "voice_mean"),
        *column("voice_mean", "v"),
        ("MatMul", ["columns", "pick"], "c"),
    ]
    parts = ["v", "c"]
    shapes: dict[str, Any] = {"columns": {"names": ["AU12", "AU04"]}}
    if images:
        inputs["images"] = ["n", 1, 16, 16]
        shapes["images"] = {"size": 16, "channels": 1}
        nodes += [("ReduceMean", ["images", "planes"], "grey"), *column("grey", "f")]
        parts.append("f")
    nodes += [("Concat", parts, "all"), ("Mul", ["all", "present"], "there"), ("MatMul", ["there", "scales"], "score")]
    scales = np.array([[1.0], [10.0], [1 / 255]], dtype=np.float32)[: len(blocks)]
    model = network(inputs, nodes, 2, pick=np.array([[1.0], [0.0]], dtype=np.float32), scales=scales)
    told = description(name="both", kind="joint", modality="joint", reads=tuple(blocks), inputs=shapes)
    return write_package(place, told, {"model.onnx": model})


def table(**columns: list[Any]) -> FeatureTable:
    return FeatureTable(pd.DataFrame(columns), "au.csv")


def test_a_joint_bundle_uses_what_is_there(tmp_path: Path) -> None:
    clip = sound(tmp_path / "a.wav", 0.5, 0.0)
    recording, timeline = Recording.open(clip), Timeline.windows(2.0, 1.0, 1.0)
    loud = float(np.abs(next(recording.sound(timeline))).mean())
    features = table(name=["a.wav"], AU12=[0.3], AU04=[9.0])
    (both,) = load_package(joint(tmp_path / "j"), features=features).read(recording, timeline)
    np.testing.assert_allclose(both.probabilities, [answers(loud + 3.0), answers(3.0)], atol=1e-6)
    assert both.reasons == ("", "")
    assert both.notes == ()
    expert = load_package(tmp_path / "j")
    (alone,) = expert.read(recording, timeline)
    np.testing.assert_allclose(alone.probabilities[0], answers(loud), atol=1e-6)
    assert np.isnan(alone.probabilities[1]).all()
    assert alone.reasons == ("", "silence; no numbers for this window")
    assert alone.notes == ("both also reads numbers from a table of features, and none was given",)
    np.testing.assert_allclose(expert.embed(recording, timeline)[0], [loud], atol=1e-6)
    check_expert(expert, recording, timeline)


def test_a_joint_bundle_over_faces_answers_for_every_person_and_goes_on_without_them(tmp_path: Path) -> None:
    features = table(name=["scene"], AU12=[0.1], AU04=[0.0])
    expert = load_package(joint(tmp_path / "j", images=True), features=features, detector=Square())
    (reading,) = expert.read(Scene(lambda t: (51, 51, 51), 4.0, gone=1.8), Timeline.windows(4.0, 2.0, 2.0))
    assert reading.person == "person 1"
    np.testing.assert_allclose(reading.probabilities, [answers(1.0 + 0.2), answers(1.0)], atol=2e-3)
    (nobody,) = expert.read(Scene(lambda t: (0, 0, 0), 4.0), Timeline.windows(4.0, 2.0, 2.0))
    assert nobody.person is None
    np.testing.assert_allclose(nobody.probabilities, [answers(1.0)] * 2, atol=1e-6)


def test_what_a_joint_expert_reads_is_not_asked_about_again(tmp_path: Path) -> None:
    expert = load_package(joint(tmp_path / "j"))
    assert expert.covers == ("voice", "face")  # action units are of the face
    with pytest.raises(ConfigError, match=r"expert 'both' reads voice itself; .* so leave out voice"):
        Analyzer({"joint": expert, "voice": FakeExpert("voice", {"anger": 0.9})})
    analysis = Analyzer({"joint": expert, "text": FakeExpert("text", {"anger": 0.9})}).analyze(
        sound(tmp_path / "a.wav", 0.5, 0.5)
    )
    assert analysis.modalities == ("joint", "text")
    assert analysis.notes == ("both also reads numbers from a table of features, and none was given",)


def test_the_modality_of_a_table_is_what_its_columns_were_measured_on() -> None:
    def covers(**columns: Any) -> tuple[str, ...]:
        reads = ("waveform", "columns")
        return description(kind="joint", modality="joint", reads=reads, inputs={"columns": columns}).covers

    assert covers(names=["heart_rate"]) == ("voice",)
    assert covers(names=["AU12_r", "AU45_c"]) == ("voice", "face")
    assert covers(names=["AU12_r", "age"]) == ("voice",)
    assert covers(names=["age"], modality="text") == ("voice", "text")


def test_a_recording_that_the_table_does_not_know_is_noted(tmp_path: Path) -> None:
    features = table(name=["b.wav"], AU12=[0.3], AU04=[9.0])
    recording = Recording.open(sound(tmp_path / "a.wav", 0.5))
    (reading,) = load_package(joint(tmp_path / "j"), features=features).read(recording, Timeline((recording.span,)))
    assert reading.notes == ("au.csv has no row for a.wav (its first is for b.wav), so that both did without it",)


# --- tables of features ----------------------------------------------------------------------------------------------


def test_rows_with_times_are_averaged_over_a_window() -> None:
    features = table(
        clip=["a.mp4"] * 3 + ["b.mp4"],
        start=[0, 1, 2, 0],
        end=[1, 2, 4, 9],
        AU12=[1.0, 2.0, np.nan, 7.0],
        AU04=[0.0] * 4,
    )
    rows = features.windows("a.mp4", Timeline((Segment(0, 2), Segment(1.5, 3), Segment(5, 6))), ["AU12", "AU04"])
    # 1 s of 1.0 and 1 s of 2.0; 0.5 s of 2.0 and a gap; nothing.
    np.testing.assert_allclose(rows, [[1.5, 0.0], [2.0, 0.0], [np.nan, np.nan]])


@pytest.mark.parametrize("key", ["a.b", "a.b.wav", "corpus/a.b.wav", "corpus\\a.b.wav", "a.b.mp4"])
def test_recordings_are_named_with_or_without_folder_and_suffix(key: str) -> None:
    features = table(file=[key], AU12=["0.5"])
    assert features.windows("a.b.wav", Timeline((Segment(0, 1),)), ["AU12"]).tolist() == [[0.5]]
    assert not features.names("a.b.c.wav")
    both = table(file=[key, "a.b.wav"], AU12=[0.5, 0.7])
    assert both.windows("a.b.wav", Timeline((Segment(0, 1),)), ["AU12"])[0, 0] in (0.7, 0.6)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"who": ["a"], "AU12": [1.0]},
            "au.csv names no recordings in a column name or path .*; its columns: who, AU12",
        ),
        ({"name": ["a"], "AU21": [1.0]}, "has no column 'AU12'; did you mean 'AU21'"),
        ({"name": ["a"], "x": [1.0]}, "has no column 'AU12'; its columns: name, x"),
        ({"name": ["b", "a"], "AU12": ["1", "wide"]}, "row 2: AU12 is no number .'wide'."),
        (
            {"name": ["a"], "start": [2.0], "end": [1.0], "AU12": [1.0]},
            "row 1: a stretch needs 0 <= start < end; got 2",
        ),
        ({"name": ["a"], "start": [2.0], "end": [None], "AU12": [1.0]}, "row 1: a stretch needs 0 <= start < end"),
    ],
)
def test_tables_that_do_not_fit_are_refused(columns: dict[str, list[Any]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        table(**columns).windows("a.wav", Timeline((Segment(0, 1),)), ["AU12"])


# --- commands --------------------------------------------------------------------------------------------------------


def test_analyze_asks_bundles(tmp_path: Path, run: Run) -> None:
    clip = sound(tmp_path / "a.wav", 0.5, 0.5, 0.5)
    joint(tmp_path / "j")
    (tmp_path / "au.csv").write_text("AU04,AU12,name\n1,0.4,a\n", encoding="utf-8")
    plain = run(clip, "--experts", f"joint={tmp_path / 'j'}", "--json")
    assert plain.code == 0, plain.err
    told = run(clip, "--experts", f"joint={tmp_path / 'j'}", "--features", tmp_path / "au.csv", "--json")
    before, after = (json.loads(r.out)["summary"][0]["fused"]["happiness"] for r in (plain, told))
    assert after > before  # the table adds 4 to the score of happiness
    reported = run(clip, "--experts", f"joint={tmp_path / 'j'}", "--out", tmp_path / "out")
    assert reported.code == 0, reported.err
    assert "joint" in (tmp_path / "out" / "a.html").read_text(encoding="utf-8")


def test_analyze_says_what_is_wrong_with_experts(tmp_path: Path, run: Run) -> None:
    clip = sound(tmp_path / "a.wav", 0.5)
    bundle = write_package(tmp_path / "v", description(), {"model.onnx": loudness()})
    joint(tmp_path / "j")
    (tmp_path / "empty").mkdir()
    write_package(tmp_path / "run" / "package", description(), {"model.onnx": loudness()})
    (tmp_path / "au.csv").write_text("name,AU12\na,1\n", encoding="utf-8")
    for options, sentence in {
        ("--experts", f"voice={tmp_path / 'run'}"): f"give {tmp_path / 'run' / 'package'}, which is one",
        ("--experts", "joint"): "unknown modality 'joint' in --experts; known: face, voice, text, or name its expert",
        ("--experts", f"face={bundle}"): "the expert mine reads voice, not face",
        ("--experts", f"voice={bundle},voice"): "--experts names voice twice",
        ("--experts", "voice=nothing"): "unknown expert 'nothing'; installed: face, text, voice, or give the folder",
        ("--experts", f"voice={tmp_path / 'empty'}"): "is no package: it holds no bundle.json",
        ("--experts", f"joint={tmp_path / 'j'},voice"): "leave out voice",
        ("--features", str(tmp_path / "au.csv")): "none of the experts face, voice, text reads a table of features",
        ("--experts", f"joint={tmp_path / 'j'}", "--features", str(tmp_path / "au.csv")): "has no column 'AU04'",
    }.items():
        result = run(clip, *options)
        assert result.code == 2
        assert sentence in result.err, (options, result.err)


def test_evaluate_measures_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from affuse.data.corpora import Dataset
    from affuse.evaluation.experts import evaluate_expert

    clips = [sound(tmp_path / f"{i}.wav", level, level) for i, level in enumerate((0.02, 0.9))]
    rows = Dataset("own", "voice", TWO, clips, np.array([0, 1]), np.array(["a", "b"]))
    bundle = write_package(tmp_path / "v", description(), {"model.onnx": loudness()})
    assert evaluate_expert(load_package(bundle), rows)["accuracy"] == 0.5  # a mean level is above 0, so happiness
    call = caller(monkeypatch, capfd, "evaluate")
    result = call("--expert", bundle, "--dataset", "ferplus", "--data", tmp_path)
    assert result.code == 2
