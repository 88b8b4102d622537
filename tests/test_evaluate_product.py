"""The product measured on labelled recordings: figures by hand, manifests, excerpts, known sets, the command."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affuse.analyzer import Analyzer
from affuse.data.corpora import load, load_open
from affuse.errors import ConfigError, DataError, MediaError, OutputError
from affuse.evaluation import classification_report, reliability
from affuse.evaluation.corpora import corpus_manifest, framed
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.evaluation.manifest import Clip, Manifest, read_manifest
from affuse.evaluation.product import evaluate_product
from affuse.evaluation.product_measures import (
    answers_report,
    break_down,
    condition,
    oracle,
    paired_difference,
    product_report,
)
from affuse.media import Excerpt, Picture, Recording
from affuse.report.evaluation import write_evaluation
from affuse.testing import FakeExpert
from affuse.timeline import Segment, Timeline
from command import Run, caller
from serving import write_sound

NAN = [np.nan, np.nan]
CLIP = Path(__file__).parent.parent / "demo" / "clip.mp4"

# Two modalities over two labels, six rows of three groups. Right are 0 1 0 1 0 1.
TARGETS = np.array([0, 1, 0, 1, 0, 1])
GROUPS = np.array(["a", "a", "b", "b", "c", "c"])
FACE = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], NAN, NAN]  # right, wrong, right, right, -, -
VOICE = [[0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1], [0.2, 0.8], NAN]  # wrong, right, right, wrong, wrong, -
FUSED = [[0.6, 0.4], [0.4, 0.6], [0.7, 0.3], [0.8, 0.2], [0.2, 0.8], NAN]  # right, right, right, wrong, wrong, -
P = np.stack([FACE, VOICE], axis=1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "evaluate")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return product_report(P, np.array(FUSED), TARGETS, GROUPS, ["face", "voice"], ["x", "y"])["as_answered"]


# --- measures ---------------------------------------------------------------------------------------------------------


def test_each_modality_is_measured_where_it_speaks(report: dict[str, Any]) -> None:
    face, voice, fused = (*report["modalities"].values(), report["fused"])
    assert [own["n"] for own in (face, voice, fused)] == [4, 5, 5]
    assert [own["coverage"] for own in (face, voice, fused)] == pytest.approx([4 / 6, 5 / 6, 5 / 6])
    assert [own["accuracy"] for own in (face, voice, fused)] == pytest.approx([3 / 4, 2 / 5, 3 / 5])
    assert [own["accuracy_all_rows"] for own in (face, voice, fused)] == pytest.approx([3 / 6, 2 / 6, 3 / 6])


def test_recall_f1_and_confusion_by_hand(report: dict[str, Any]) -> None:
    fused = report["fused"]  # true x: right, right, wrong; true y: right, wrong
    assert fused["confusion"] == [[2, 1], [1, 1]]
    assert fused["uar"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert fused["macro_f1"] == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_calibration_by_hand(report: dict[str, Any]) -> None:
    # Of 15 bins: .6 and .6 (both right) share one, .7 (right) its own, .8 and .8 (both wrong) one.
    assert report["fused"]["ece"] == pytest.approx((0.8 + 0.3 + 1.6) / 5)
    assert report["fused"]["confidence"] == pytest.approx(3.5 / 5)
    assert reliability(np.array(FUSED[:5]), TARGETS[:5]) == [
        {"confidence": pytest.approx(0.6), "accuracy": 1.0, "n": 2},
        {"confidence": pytest.approx(0.7), "accuracy": 1.0, "n": 1},
        {"confidence": pytest.approx(0.8), "accuracy": 0.0, "n": 2},
    ]


def test_the_best_choice_is_right_where_any_modality_is(report: dict[str, Any]) -> None:
    assert report["oracle"]["accuracy"] == pytest.approx(4 / 5)  # the fifth row: only the voice, which is wrong
    chosen = oracle(P, TARGETS)
    assert chosen[:5].tolist() == [FACE[0], VOICE[1], FACE[2], FACE[3], VOICE[4]]
    assert np.isnan(chosen[5]).all()


def test_fused_is_compared_with_the_best_single_on_the_same_rows(report: dict[str, Any]) -> None:
    assert report["best_single"] == "face"
    # The face's four rows: fused 1 1 1 0, face 1 0 1 1. By group: a +1, b -1.
    assert report["difference"]["n"] == 4
    assert report["difference"]["difference"] == pytest.approx(0.0)
    assert report["difference"]["p"] == 1.0
    assert report["all_rows_difference"]["n"] == 6
    assert report["all_rows_difference"]["difference"] == pytest.approx(0.0)


def test_a_paired_difference_by_hand() -> None:
    first, second = np.array([1, 1, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 0, 0])
    found = paired_difference(first, second, GROUPS)
    assert found["difference"] == pytest.approx(0.5)
    assert found["p"] == pytest.approx(2 / 8)  # all three groups gain: two of eight sign patterns are as extreme
    assert found["ci95"] == pytest.approx([0.5, 0.5])  # every group gains one of two rows
    assert paired_difference(first, second, np.zeros(6))["ci95"] is None
    assert paired_difference(first[:0], second[:0], GROUPS[:0]) == {"n": 0, "difference": None, "ci95": None, "p": None}


def test_measures_without_gaps_are_those_of_the_classification_report() -> None:
    rng = np.random.default_rng(1)
    answers, targets = rng.dirichlet(np.ones(5), size=300), rng.integers(4, size=300)
    found = answers_report(answers, targets, rng.integers(20, size=300), draws=20)
    reference = classification_report(answers, targets, list("abcde"))
    assert found["confusion"] == reference.pop("confusion")
    del reference["labels"]
    assert {key: found[key] for key in reference} == pytest.approx(reference)


def test_intervals_draw_whole_groups() -> None:
    rng = np.random.default_rng(2)
    answers, targets = rng.dirichlet(np.ones(3), size=400), rng.integers(3, size=400)
    groups = np.repeat(np.arange(20), 20)
    found = answers_report(answers, targets, groups)
    low, high = cluster_bootstrap((answers.argmax(axis=1) == targets).astype(float), groups)
    assert found["accuracy_ci95"] == pytest.approx([low, high], abs=0.01)
    for name in ("accuracy", "uar", "macro_f1"):
        low, high = found[f"{name}_ci95"]
        assert low < found[name] < high
    # A group that repeats one row gives nothing new: ten copies of 20 rows are as uncertain as 20 rows.
    copies = answers_report(
        np.repeat(answers[::20], 10, axis=0), np.repeat(targets[::20], 10), np.repeat(range(20), 10)
    )
    alone = answers_report(answers[::20], targets[::20], np.arange(20))
    assert copies["accuracy_ci95"] == pytest.approx(alone["accuracy_ci95"])


def test_one_group_has_no_interval_and_silence_no_measure() -> None:
    found = answers_report(np.eye(2), np.arange(2), np.zeros(2))
    assert found["accuracy"] == 1.0
    assert found["accuracy_ci95"] is None
    silent = answers_report(np.full((3, 2), np.nan), np.zeros(3, dtype=int), np.arange(3))
    assert (silent["n"], silent["coverage"], silent["accuracy_all_rows"]) == (0, 0.0, 0.0)
    assert silent["accuracy"] is silent["ece"] is silent["uar_ci95"] is None


def test_conditioning_on_the_labels_that_occur() -> None:
    given = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [np.nan] * 3])
    kept = condition(given, np.array([0, 2]))
    assert kept[:2] == pytest.approx(np.array([[5 / 7, 2 / 7], [0.5, 0.5]]))
    assert np.isnan(kept[2]).all()


def test_both_views_are_in_the_report() -> None:
    answers = np.array([[0.3, 0.1, 0.6], [0.2, 0.7, 0.1]])
    found = product_report(answers[:, None], answers, np.array([0, 1]), np.array(["a", "b"]), ["text"], ["x", "y", "z"])
    assert found["as_answered"]["fused"]["accuracy"] == 0.5
    assert found["restricted"]["fused"]["accuracy"] == 1.0
    assert found["restricted"]["labels"] == ["x", "y"]
    json.dumps(found, allow_nan=False)


def test_a_modality_that_never_speaks_is_not_the_best_single_one() -> None:
    wrong = np.array([[0.9, 0.1], [0.8, 0.2]])
    answers = np.stack([np.full((2, 2), np.nan), wrong], axis=1)
    found = product_report(answers, wrong, np.array([1, 1]), np.array(["a", "b"]), ["face", "voice"], ["x", "y"])
    assert found["as_answered"]["best_single"] == "voice"


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(DataError, match=r"P of shape \(6, 1, 2\)"):
        product_report(P, np.array(FUSED), TARGETS, GROUPS, ["face"], ["x", "y"])
    with pytest.raises(DataError, match="no rows"):
        product_report(P[:0], np.array(FUSED)[:0], TARGETS[:0], GROUPS[:0], ["face", "voice"], ["x", "y"])


# --- groups -----------------------------------------------------------------------------------------------------------


def answers_of(hits: Sequence[bool]) -> np.ndarray:
    """Answers that are right (label 0) exactly where ``hits``."""
    return np.where(np.array(hits, dtype=bool)[:, None], [0.9, 0.1], [0.1, 0.9])


def test_a_column_that_whole_persons_have_is_dealt_to_persons() -> None:
    # Ten persons of four rows; those of x are always right, those of y never.
    persons, values = np.repeat(np.arange(10), 4), np.repeat(["x", "y"], 20)
    found = break_down(answers_of(values == "x"), np.zeros(40, dtype=int), persons, values)
    assert found["values"]["x"]["accuracy"] == 1.0
    assert found["values"]["y"]["accuracy"] == 0.0
    assert (found["values"]["x"]["n"], found["values"]["x"]["groups"]) == (20, 5)
    assert found["dealt"] == "to whole groups"
    assert found["p"] == pytest.approx(2 / 252, abs=0.003)  # 252 ways to deal five of each; two are as extreme
    assert not found["too_few"]


def test_few_persons_cannot_tell() -> None:
    persons, values = np.repeat(np.arange(6), 30), np.repeat(["x", "y"], 90)
    found = break_down(answers_of(values == "x"), np.zeros(180, dtype=int), persons, values)
    assert found["too_few"]
    assert found["p"] == pytest.approx(2 / 20, abs=0.01)


def test_a_column_that_changes_within_persons_is_dealt_within_them() -> None:
    persons, values = np.repeat(np.arange(4), 6), np.tile(["x", "x", "x", "y", "y", "y"], 4)
    found = break_down(answers_of(values == "x"), np.zeros(24, dtype=int), persons, values)
    assert found["dealt"] == "within groups"
    assert found["p"] == pytest.approx(2 / 20**4, abs=0.001)
    # What a person is good at does not leak: persons that differ, values that do not.
    found = break_down(answers_of(persons < 2), np.zeros(24, dtype=int), persons, values)
    assert found["p"] == 1.0


def test_chance_is_not_called_a_difference() -> None:
    rng = np.random.default_rng(3)
    ps = []
    for seed in range(60):
        hits = rng.random(120) < np.repeat(rng.random(12), 10)
        values = np.repeat(np.arange(12) % 2, 10).astype(str)
        found = break_down(answers_of(hits), np.zeros(120, dtype=int), np.repeat(np.arange(12), 10), values, 20, seed)
        ps.append(found["p"])
    assert np.mean(np.array(ps) < 0.05) < 0.15
    assert 0.3 < np.mean(ps) < 0.7


def test_several_values_are_compared_two_by_two() -> None:
    values = np.repeat(["x", "y", "z", ""], 20)
    found = break_down(answers_of(values == "x"), np.zeros(80, dtype=int), np.arange(80), values)
    assert found["left_out"] == 20
    assert [pair["values"] for pair in found["pairs"]] == [["x", "y"], ["x", "z"], ["y", "z"]]
    assert [pair["difference"] for pair in found["pairs"]] == [1.0, 1.0, 0.0]
    assert found["pairs"][0]["p_holm"] == pytest.approx(3 * found["pairs"][0]["p"])
    assert found["pairs"][2]["p_holm"] == 1.0


@pytest.mark.parametrize("values", [["x"] * 40, [str(i) for i in range(40)]])
def test_a_column_must_be_comparable(values: list[str]) -> None:
    with pytest.raises(DataError, match=r"2 to 30 different values; got (1|40)"):
        break_down(answers_of([True] * 40), np.zeros(40, dtype=int), np.arange(40), np.array(values))


# --- recordings -------------------------------------------------------------------------------------------------------


def tones(folder: Path) -> Path:
    """Three seconds of sound whose level says which second it is."""
    levels = np.repeat([1000, 4000, 16_000], 16_000)
    return write_sound(folder / "tones.wav", levels * np.sin(2 * np.pi * 200 * np.arange(48_000) / 16_000))


def test_an_excerpt_is_the_stretch_on_a_clock_of_its_own(tmp_path: Path) -> None:
    whole = Recording.open(tones(tmp_path))
    part = Excerpt(whole, 1.0, 2.5)
    assert part.duration == pytest.approx(1.5)
    assert part.span == Segment(0.0, 1.5)
    windows = Timeline((Segment(0.0, 1.0), Segment(0.5, 1.5)))
    expected = list(whole.sound(Timeline((Segment(1.0, 2.0), Segment(1.5, 2.5)))))
    for heard, own in zip(part.sound(windows), expected, strict=True):
        np.testing.assert_array_equal(heard, own)
    assert Excerpt(whole, None, 1.0).duration == pytest.approx(1.0)
    assert Excerpt(whole, 2.0, 3.2).duration == pytest.approx(1.0)  # tables round


def test_an_excerpt_shows_the_frames_of_its_stretch() -> None:
    if not CLIP.is_file():
        pytest.skip("the demo's clip is not here")
    whole = Recording.open(CLIP)
    times = [0.0, 0.5, 1.0]
    part = list(Excerpt(whole, 2.0, 4.0).frames([*times, 2.5], max_side=64))
    assert [frame.time for frame in part] == pytest.approx(times)
    for own, frame in zip(whole.frames([2.0, 2.5, 3.0], max_side=64), part, strict=True):
        np.testing.assert_array_equal(own.image, frame.image)


def test_an_excerpt_keeps_its_words_and_stays_one_with_others(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(
        "1\n00:00:00,000 --> 00:00:00,900\nbefore\n\n2\n00:00:00,800 --> 00:00:02,000\ninside\n", encoding="utf-8"
    )
    part = Excerpt(Recording.open(tones(tmp_path), transcript=tmp_path / "a.srt"), 1.0, 3.0)
    assert [(c.text, c.segment) for c in part.cues] == [("inside", Segment(0.0, 1.0))]
    other = part.with_words([], "a note")
    assert isinstance(other, Excerpt)
    assert (other.cues, other.notes[-1]) == ((), "a note")
    assert part.cues


@pytest.mark.parametrize(("start", "end"), [(3.5, None), (0.0, 4.0), (2.0, 1.0), (-1.0, 1.0)])
def test_an_excerpt_lies_in_its_recording(tmp_path: Path, start: float, end: float | None) -> None:
    with pytest.raises(MediaError, match=r"lasts 3\.00 s; it has no stretch"):
        Excerpt(Recording.open(tones(tmp_path)), start, end)
    with pytest.raises(MediaError, match="text without duration"):
        Excerpt(Recording.from_text("Hello"), start, end)


def test_a_picture_in_memory_is_a_picture() -> None:
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    picture = Picture(image)
    assert (picture.kind, picture.duration, picture.has_frames, picture.has_sound) == ("picture", 0.0, True, False)
    assert [f.image.shape for f in picture.frames([0.0, 0.5, 2.0], max_side=50)] == [(30, 50, 3)] * 2
    with pytest.raises(MediaError, match=r"uint8 of shape \(h, w, 3\)"):
        Picture(image[:, :, 0])


def test_a_face_is_enlarged_and_framed() -> None:
    picture = framed(np.full((48, 48), 200, dtype=np.uint8), 90)
    assert picture.shape == (320, 320, 3)
    assert (picture[:64] == 90).all()
    assert (picture[64:256, 64:256] == 200).all()


# --- manifests --------------------------------------------------------------------------------------------------------


def table(folder: Path, text: str, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_is_read(tmp_path: Path) -> None:
    tones(tmp_path)
    rows = (
        "path,label,start,end,transcript,speaker,sex,take\n"
        "tones.wav,Happy,0.5,1.5,So glad!,01,f,007\ntones.wav,calm,,,,02,m,8\n"
    )
    found = read_manifest(table(tmp_path, rows), by=["take"])
    first, second = found.clips
    assert (first.label, second.label) == ("happiness", "neutral")
    assert (first.start, first.end, second.start) == (0.5, 1.5, None)
    assert (first.person, first.transcript) == ("01", "So glad!")
    assert found.unit == "person"
    assert found.column("take") == ["007", "8"]
    recording = first.open()
    assert recording.duration == pytest.approx(1.0)
    assert [(c.text, c.segment) for c in recording.cues] == [("So glad!", Segment(0.0, 1.0))]


def test_a_manifest_of_texts_and_of_parquet(tmp_path: Path) -> None:
    rows = pd.DataFrame({"Text": ["so glad", "oh no"], "Emotion": ["joy", "sad"], "group": ["a", "b"]})
    rows.to_parquet(tmp_path / "rows.parquet")
    found = read_manifest(tmp_path / "rows.parquet")
    assert [(c.text, c.label, c.group) for c in found.clips] == [
        ("so glad", "happiness", "a"),
        ("oh no", "sadness", "b"),
    ]
    assert found.unit == "group"
    assert found.clips[0].open().kind == "text"


def test_words_may_stand_in_the_column_text(tmp_path: Path) -> None:
    tones(tmp_path)
    (clip,) = read_manifest(table(tmp_path, "path,text,label\ntones.wav,So glad.,joy\n")).clips
    assert (clip.text, clip.transcript) == (None, "So glad.")


def test_rows_are_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    rows = (
        "path,label,start,end,transcript\nlost.wav,joy,,,\nbroken.wav,hapy,,,\nbroken.wav,joy,2,1,\n"
        "broken.wav,joy,x,,\nbroken.wav,joy,,,lost.srt\nbroken.wav,,,,\n,joy,,,\n"
    )
    with pytest.raises(DataError) as caught:
        read_manifest(table(tmp_path, rows))
    told = str(caught.value)
    assert "7 rows do not fit, of 7: row 1: " in told
    assert "lost.wav does not exist" in told
    assert "row 2: the label 'hapy' is no emotion that affuse can answer; did you mean 'happy'?" in told
    assert "row 3: it starts at 2 s and ends at 1 s" in told
    assert "row 4: start must be seconds, such as 12.5; got 'x'" in told
    assert "lost.srt does not exist; and 2 more" in told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,label\na,joy\n", "no column named path or text; its columns: name, label"),
        ("path,lable\na,joy\n", "no column named label; its columns: path, lable"),
        ("text,label\nhello,positive\n", "the label 'positive' is no emotion that affuse can answer; the answers are"),
        ("text,label,start\nhello,joy,1\n", "a text has no start"),
        ("text,label\n", "holds no rows"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_manifest(table(tmp_path, text))


def test_an_unknown_column_to_break_down_by_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'sex' to break down by; its columns: label"):
        read_manifest(table(tmp_path, "text,label\nhello,joy\n"), by=["sex"])


def test_a_folder_of_folders_is_a_manifest(tmp_path: Path) -> None:
    for name in ("joy", "Traurig", "notes"):
        (tmp_path / name).mkdir()
    write_sound(tmp_path / "joy" / "a.wav", np.zeros(16_000))
    (tmp_path / "joy" / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\nhello\n", encoding="utf-8")
    write_sound(tmp_path / "Traurig" / "b.wav", np.zeros(16_000))
    found = read_manifest(tmp_path)
    assert [(c.where, c.label) for c in found.clips] == [("Traurig/b.wav", "sadness"), ("joy/a.wav", "happiness")]
    assert found.clips[1].transcript == tmp_path / "joy" / "a.srt"
    with pytest.raises(DataError, match="without folders named by emotions"):
        read_manifest(tmp_path / "joy")


def test_recordings_in_a_folder_that_is_no_emotion_are_not_passed_over(tmp_path: Path) -> None:
    for name in ("joy", "engaged"):
        (tmp_path / name).mkdir()
        write_sound(tmp_path / name / "a.wav", np.zeros(16_000))
    with pytest.raises(DataError, match="engaged holds recordings too, but the name is no emotion"):
        read_manifest(tmp_path)


# --- the product ------------------------------------------------------------------------------------------------------


def analyzer(**answers: dict[str, float]) -> Analyzer:
    return Analyzer({modality: FakeExpert(modality, own) for modality, own in answers.items()})


def texts(labels: Sequence[str], **columns: Sequence[str]) -> Manifest:
    clips = [
        Clip(f"row {i}", label, text="hello", person=f"p{i // 2}", columns={k: v[i] for k, v in columns.items()})
        for i, label in enumerate(labels)
    ]
    return Manifest("made up", clips, tuple(columns))


def test_the_answers_are_those_of_the_analysis() -> None:
    asked = analyzer(face={"happiness": 0.9}, voice={"anger": 0.8})
    rows = texts(["happiness", "anger", "happiness", "sadness"], sex=["f", "f", "m", "m"])
    found = evaluate_product(rows, asked, by=["sex"])
    summary = asked.analyze_text("hello").summary
    for answer in found.answers:
        np.testing.assert_array_equal(answer.fused, summary.fused)
        np.testing.assert_array_equal(answer.P[0], summary.evidence["face"].probabilities)
    facts = found.to_dict()
    assert facts["as_answered"]["modalities"]["face"]["accuracy"] == 0.5
    assert facts["as_answered"]["modalities"]["voice"]["accuracy"] == 0.25
    assert facts["as_answered"]["oracle"]["accuracy"] == 0.75
    assert facts["as_answered"]["by"]["sex"]["values"]["f"]["n"] == 2
    assert (facts["n"], facts["groups"], facts["unit"]) == (4, 2, "person")
    assert facts["settings"]["experts"]["face"]["name"] == "fake-face"
    json.dumps(facts, allow_nan=False)


def test_a_modality_without_evidence_covers_nothing() -> None:
    asked = Analyzer(
        {"face": FakeExpert("face", {"happiness": 0.9}, silent=[0]), "text": FakeExpert("text", {"fear": 0.9})}
    )
    view = evaluate_product(texts(["fear", "fear"]), asked).report["as_answered"]
    assert view["modalities"]["face"]["coverage"] == 0.0
    assert view["modalities"]["face"]["accuracy"] is None
    assert (view["best_single"], view["fused"]["accuracy"]) == ("text", 1.0)


def test_a_row_that_fails_is_reported_and_counts_nowhere(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    tones(tmp_path)
    rows = "path,label,start\ntones.wav,joy,\nbroken.wav,joy,\ntones.wav,joy,9\n"
    found = evaluate_product(read_manifest(table(tmp_path, rows)), analyzer(voice={"happiness": 0.9}))
    assert found.report["n"] == 1
    assert [f.clip.where for f in found.failures] == ["clips.csv, row 2", "clips.csv, row 3"]
    assert "tones.wav lasts 3.00 s" in found.to_dict()["failed"]["first"][1]["reason"]
    lines = list(found.rows())
    assert [bool(line["failure"]) for line in lines] == [False, True, True]
    assert lines[0]["answer"] == lines[0]["voice_answer"] == "happiness"
    with pytest.raises(DataError, match=r"no row could be analysed; broken\.csv, row 1: "):
        evaluate_product(
            read_manifest(table(tmp_path, "path,label\nbroken.wav,joy\n", "broken.csv")), analyzer(voice={})
        )


@pytest.mark.parametrize("adapt", ["none", "collection"])
def test_nothing_that_can_be_read_is_told_however_it_is_adapted(tmp_path: Path, adapt: str) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    rows = read_manifest(table(tmp_path, "path,label\nbroken.wav,joy\n"))
    with pytest.raises(DataError, match="no row could be analysed"):
        evaluate_product(rows, analyzer(voice={"happiness": 0.9}), adapt=adapt)


def test_unknown_ways_to_adapt_are_told() -> None:
    with pytest.raises(ConfigError, match="unknown adaptation 'world'; known: none, person, collection"):
        evaluate_product(texts(["fear"]), analyzer(text={"fear": 0.9}), adapt="world")


# --- page and table ---------------------------------------------------------------------------------------------------


def test_page_and_table(tmp_path: Path) -> None:
    rows = texts(["happiness", "anger", "happiness", "sadness"], sex=["f", "<m>", "f", "<m>"])
    found = evaluate_product(rows, analyzer(face={"happiness": 0.9}, voice={"anger": 0.8}), by=["sex"])
    page, lines = write_evaluation(found.to_dict(), list(found.rows()), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "right on 50.0 % of the rows" in text
    assert "&lt;m&gt;" in text
    assert "<m>" not in text
    assert not re.search(r"(src|href)=", text)  # nothing is fetched
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(picture)
    with lines.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [line["label"] for line in read] == ["happiness", "anger", "happiness", "sadness"]
    assert {line["answer"] for line in read} == {"happiness"}
    assert [line["voice_answer"] for line in read] == ["anger"] * 4
    assert read[1]["sex"] == "<m>"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_evaluation(found.to_dict(), [], tmp_path / "file" / "x")


def test_the_page_of_the_other_view(tmp_path: Path) -> None:
    found = evaluate_product(texts(["happiness", "anger"]), analyzer(face={"happiness": 0.9}))
    page, _ = write_evaluation(found.to_dict() | {"view": "restricted"}, [], tmp_path)
    assert "2 labels, on the condition that the answer is one that occurs" in page.read_text(encoding="utf-8")


# --- the command ------------------------------------------------------------------------------------------------------

TEXTS = "text,label,person,sex\nI am so happy today!,joy,1,f\nI am furious with you!,anger,1,f\n" + (
    "I miss her so much; I cannot stop crying.,sadness,2,m\nThat is wonderful news!,happiness,2,m\n"
)


def test_the_command_measures_a_manifest(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path, TEXTS)
    result = run("--manifest", path, "--experts", "text", "--by", "sex", "--report", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert facts["n"] == 4
    assert facts["as_answered"]["fused"]["accuracy"] >= 0.75
    assert set(facts["as_answered"]["by"]["sex"]["values"]) == {"f", "m"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"evaluation.html", "rows.csv"}


def test_the_command_prints_tables(run: Run, tmp_path: Path) -> None:
    result = run("--manifest", table(tmp_path, TEXTS), "--experts", "text", "--by", "sex", "--restrict")
    assert result.code == 0, result.err
    assert "4 rows, 3 labels (those that occur); 95 % intervals draw whole persons, of 2" in result.out
    for words in ("best choice", "fused − text", "fused, by sex", "too few persons", "is a confidence kept?"):
        assert words in result.out


def test_strict_makes_failures_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    path = table(tmp_path, "path,text,label\n,That is wonderful news!,joy\nbroken.wav,,joy\n")
    lenient = run("--manifest", path, "--experts", "text")
    assert lenient.code == 0
    assert "1 row could not be analysed" in lenient.out
    assert "clips.csv, row 2" in lenient.out
    assert run("--manifest", path, "--experts", "text", "--strict").code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either --manifest or --dataset"),
        (["--manifest", "a.csv", "--dataset", "emodb"], "give either --manifest or --dataset"),
        (["--manifest", "a.csv", "--expert", "voice"], "--expert is measured on a --dataset"),
        (["--manifest", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--dataset", "emodb"], "--data DIR or AFFUSE_DATA"),
        (["--dataset", "emodb", "--data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_the_command_tells_what_does_not_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    monkeypatch.delenv("AFFUSE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1


# --- known sets -------------------------------------------------------------------------------------------------------


def labelled(folder: Path, table_name: str, speakers: str) -> None:
    folder.mkdir(exist_ok=True)
    rows = ["path,label,speaker,sex"]
    for speaker in speakers:
        write_sound(folder / f"{speaker}.wav", np.zeros(16_000))
        rows.append(f"{speaker}.wav,anger,{speaker},female")
    (folder / table_name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_splits_of_labelled_corpora_come_from_their_tables(tmp_path: Path) -> None:
    labelled(tmp_path / "urdu_speech", "labels_open.csv", "ab")
    found = corpus_manifest("urdu_speech", tmp_path, "open")
    assert [c.person for c in found.clips] == ["a", "b"]
    assert found.column("sex") == ["female", "female"]
    with pytest.raises(DataError, match=r"labels_test\.csv is missing"):
        load("urdu_speech", tmp_path, "test")
    labelled(tmp_path / "urdu_speech", "labels_test.csv", "cde")
    assert list(load("urdu_speech", tmp_path, "test").groups) == ["c", "d", "e"]
    with pytest.raises(DataError, match="has no split 'train': its open part is 'dev'"):
        load("urdu_speech", tmp_path, "train")
    (tmp_path / "urdu_speech" / "a.wav").unlink()
    with pytest.raises(DataError, match=r"a\.wav is missing, which labels_open\.csv names"):
        load("urdu_speech", tmp_path, "valid")


def test_actors_that_voices_learn_from_are_train_and_the_others_dev(tmp_path: Path) -> None:
    folder = tmp_path / "javanese_speech"
    folder.mkdir()
    rows = ["path,label,speaker,sex"]
    for speaker in ("05", "06", "09", "08"):
        write_sound(folder / f"{speaker}.wav", np.zeros(16_000))
        rows.append(f"{speaker}.wav,anger,{speaker},female")
    (folder / "labels_open.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert list(load("javanese_speech", tmp_path, "train").groups) == ["06", "08"]
    assert list(load("javanese_speech", tmp_path, "dev").groups) == ["05", "09"]
    everything = load_open("javanese_speech", tmp_path)
    assert list(everything.groups) == ["06", "08", "05", "09"]
    assert [path.stem for path in everything.inputs] == ["06", "08", "05", "09"]
    assert list(everything.columns["speaker"]) == ["06", "08", "05", "09"]
    assert [c.person for c in corpus_manifest("javanese_speech", tmp_path, "open").clips] == ["06", "08", "05", "09"]


def test_sentiments_are_no_emotions(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("good film\t1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="sst2 is labelled with negative, positive, which are no emotions"):
        corpus_manifest("sst2", tmp_path, "valid")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "persons", "labels"),
    [
        ("javanese_av", 48, 2, 6),
        ("javanese_speech", 144, 2, 6),
        ("urdu_speech", 294, 20, 4),
        ("ravdess", 300, 5, 7),
        ("emodb", 107, 2, 6),
    ],
)
def test_known_sets_are_read(data: Path, name: str, rows: int, persons: int, labels: int) -> None:
    found = corpus_manifest(name, data)
    assert len(found) == rows
    assert len({c.person for c in found.clips}) == persons
    assert len({c.label for c in found.clips}) == labels
    assert found.unit == "person"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows"), [("ravdess", 1200), ("emodb", 415), ("javanese_av", 144), ("urdu_speech", 294)]
)
def test_open_is_everything_that_is_no_test(data: Path, name: str, rows: int) -> None:
    assert len(corpus_manifest(name, data, "open")) == rows


@pytest.mark.data
def test_a_known_set_and_its_own_table_are_the_same_rows(data: Path) -> None:
    by_table = read_manifest(data / "javanese_av" / "labels_open.csv")
    by_name = corpus_manifest("javanese_av", data, "open")
    table_rows, name_rows = ([(c.path, c.label, c.person) for c in m.clips] for m in (by_table, by_name))
    assert sorted(table_rows) == sorted(name_rows)


@pytest.mark.data
def test_real_clips_go_the_way_of_analyze(run: Run, data: Path, tmp_path: Path) -> None:
    for name in ("01-01-01_01", "01-01-02_01", "02-01-01_01", "03-01-01_01"):
        source = data / "javanese_av" / f"{name}.mp4"
        if source.is_file():
            shutil.copy(source, tmp_path)
    clips = sorted(tmp_path.glob("*.mp4"))
    assert len(clips) >= 2
    rows = "path,label,person\n" + "".join(f"{p.name},neutral,{p.name[:2]}\n" for p in clips)
    found = json.loads(run("--manifest", table(tmp_path, rows), "--experts", "face,voice", "--json").out)
    assert found["n"] == len(clips)
    assert found["as_answered"]["modalities"]["voice"]["coverage"] == 1.0
    assert set(found["settings"]["experts"]) == {"face", "voice"}


@pytest.mark.data
def test_faces_without_a_picture_become_pictures(data: Path) -> None:
    if not os.environ.get("AFFUSE_MODELS"):
        pytest.skip("finding nearly every face needs YuNet")
    from affuse.analyzer import load_experts

    found = corpus_manifest("ferplus", data)
    few = Manifest(found.name, found.clips[:40])
    measured = evaluate_product(few, Analyzer(load_experts({"face": "face"})))
    assert measured.report["as_answered"]["modalities"]["face"]["coverage"] >= 0.9
    assert measured.report["as_answered"]["fused"]["accuracy"] >= 0.6


def test_a_value_with_few_rows_is_named_and_left_out() -> None:
    from affuse.evaluation.product_measures import break_down

    values = np.array(["a"] * 20 + ["b"] * 20 + ["c"] * 9)
    y = np.zeros(49, dtype=int)
    P = np.tile([0.9, 0.1], (49, 1))
    P[20:30] = P[40:] = [0.1, 0.9]  # b is half right, c never
    found = break_down(P, y, np.arange(49), values, draws=50)
    assert {name: own["accuracy"] for name, own in found["values"].items()} == {"a": 1.0, "b": 0.5}
    assert (found["too_small"], found["left_out"], found["pairs"]) == ({"c": 9}, 9, [])
    assert found["p"] < 0.01
    assert break_down(P, y, np.arange(49), values, draws=50, least=9)["too_small"] == {}
    only = break_down(P[20:], y[20:], np.arange(29), values[20:], draws=50)  # one of two may be small
    assert set(only["values"]) == {"b", "c"}
