"""The pipeline with fake experts: alignment, fusion, conflict, persons, notes and errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affuse
from affuse.analyzer import Analyzer, load_experts, shipped_fuser
from affuse.errors import ConfigError, DataError, MediaError
from affuse.fusion import NamedFuser, ProductRule
from affuse.fusion.sentiment import COMPATIBILITY
from affuse.labels import EKMAN
from affuse.media import Recording
from affuse.results import Analysis
from affuse.testing import FakeExpert, check_expert
from affuse.timeline import Timeline

TRANSCRIPT = "1\n00:00:00,000 --> 00:00:04,000\nI am fine.\n\n2\n00:00:04,000 --> 00:00:08,000\nReally.\n"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Eight seconds of words: a recording with a clock that needs no decoder."""
    path = tmp_path / "talk.srt"
    path.write_text(TRANSCRIPT, encoding="utf-8")
    return path


def experts(**changes: FakeExpert) -> dict[str, FakeExpert]:
    return {
        "face": FakeExpert("face", {"happiness": 0.9}, persons=["person 1"]),
        "voice": FakeExpert("voice", {"anger": 0.9}),
        "text": FakeExpert("text", {"anger": 0.8}),
    } | changes


def test_windows_cover_the_recording_and_the_answer_sums_to_one(recording: Path) -> None:
    analysis = Analyzer(experts()).analyze(recording)
    assert [v.segment.start for v in analysis.verdicts] == [0, 1, 2, 3, 4, 5]
    for verdict in (*analysis.verdicts, analysis.summary):
        assert verdict.fused is not None
        assert verdict.fused.sum() == pytest.approx(1.0)
        assert verdict.confidence == pytest.approx(verdict.fused.max())
        assert verdict.label == EKMAN.labels[int(verdict.fused.argmax())]


def test_fused_answer_is_that_of_the_pool(recording: Path) -> None:
    analysis = Analyzer(experts()).analyze(recording)
    raw = np.array([[_row("happiness", 0.9), _row("anger", 0.9), _row("anger", 0.8)]])
    modalities = ("face", "voice", "text")
    prior = shipped_fuser().default_prior.frequencies
    assert np.allclose(analysis.verdicts[0].fused, shipped_fuser().fuse(raw, modalities, prior)[0])
    alone = shipped_fuser().alone(raw, modalities, prior)[0]
    assert np.allclose([e.probabilities for e in analysis.verdicts[0].evidence.values()], alone)


def test_readings_are_fused_by_themselves_in_whatever_order_they_come(recording: Path) -> None:
    analyzer = Analyzer(experts(voice=FakeExpert("voice", {"anger": 0.9}, silent=[1])))
    opened = Recording.open(recording)
    timeline = Timeline.windows(opened.duration)
    readings = {m: e.read(opened, timeline)[0] for m, e in reversed(analyzer.experts.items())}
    expected = [v.to_dict() for v in analyzer.analyze(recording).verdicts]
    assert [v.to_dict() for v in analyzer.fuse_outputs(readings, timeline)] == expected
    with pytest.raises(DataError, match="face: the output covers 6 windows; the timeline has 1"):
        analyzer.fuse_outputs(readings, Timeline(timeline.segments[:1]))
    del readings["text"]
    with pytest.raises(DataError, match="text: the output covers 0 windows; the timeline has 6"):
        analyzer.fuse_outputs(readings, timeline)


def _row(label: str, p: float) -> list[float]:
    return [p if name == label else (1 - p) / 6 for name in EKMAN.labels]


def test_conflict_is_said_in_words_and_agreement_is_not(recording: Path) -> None:
    sure = {"voice": FakeExpert("voice", {"anger": 0.97}), "text": FakeExpert("text", {"anger": 0.97})}
    verdict = Analyzer(experts(**sure)).analyze(recording).verdicts[0]
    assert verdict.conflict_text == "face says happiness, voice and text say anger"
    assert 0 < verdict.conflict <= 1  # type: ignore[operator]
    same = {m: FakeExpert(m, {"anger": 0.8}) for m in ("face", "voice", "text")}
    calm = Analyzer(same).analyze(recording).verdicts[0]
    assert calm.conflict_text == ""


def test_shares_add_up_to_the_gain_over_the_prior(recording: Path) -> None:
    verdict = Analyzer(experts()).analyze(recording).summary
    assert verdict.fused is not None
    column = EKMAN.labels.index(str(verdict.label))
    p, prior = verdict.fused[column], shipped_fuser().default_prior.frequencies[column]
    assert verdict.prior == pytest.approx(np.log(prior / (1 - prior)))
    gain = np.log(p / (1 - p)) - np.log(prior / (1 - prior))
    assert sum(e.share for e in verdict.evidence.values() if e.share is not None) == pytest.approx(gain)
    assert sum(e.points for e in verdict.evidence.values() if e.points is not None) == pytest.approx(p - prior)


def test_silence_is_a_reason_and_never_a_number(recording: Path) -> None:
    silent = FakeExpert("voice", {"anger": 0.9}, silent=[0, 1], reason="silence")
    analysis = Analyzer(experts(voice=silent)).analyze(recording)
    evidence = analysis.verdicts[0].evidence["voice"]
    assert evidence.probabilities is None
    assert evidence.share is None
    assert evidence.reason == "silence"
    assert analysis.verdicts[2].evidence["voice"].reason == ""
    frame = analysis.to_frame()
    assert frame["voice_anger"].isna().tolist() == [True, True, False, False, False, False]


def test_nobody_and_nothing_is_an_answer_too(recording: Path) -> None:
    everywhere = range(6)
    mute = {m: FakeExpert(m, {"anger": 0.9}, silent=everywhere, reason=f"no {m}") for m in ("face", "voice", "text")}
    analysis = Analyzer(mute).analyze(recording)
    assert analysis.summary.label is None
    assert analysis.summary.fused is None
    assert analysis.summary.evidence["face"].reason == "no face"
    assert analysis.to_frame()["fused_anger"].isna().all()


def test_a_long_table_is_the_short_one_repeated_and_needs_little_more_memory(recording: Path) -> None:
    import tracemalloc

    silent = FakeExpert("voice", {"anger": 0.9}, silent=[0, 1], reason="silence")
    short = Analyzer(experts(voice=silent)).analyze(recording)
    frame = short.to_frame()
    long = replace(short, verdicts=short.verdicts * 200)
    tracemalloc.start()
    table = long.to_frame()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pd.testing.assert_frame_equal(table, pd.concat([frame] * 200, ignore_index=True))
    assert peak < 4 * table.memory_usage().sum() + 1e6


def test_every_person_gets_a_row_a_window(recording: Path) -> None:
    two = FakeExpert("face", {"happiness": 0.9}, persons=["person 1", "person 2"])
    analysis = Analyzer(experts(face=two)).analyze(recording)
    assert len(analysis.verdicts) == 12
    assert [v.person for v in analysis.verdicts[:2]] == ["person 1", "person 2"]
    assert [v.person for v in analysis.summaries] == ["person 1", "person 2"]
    assert "count for each of them" in analysis.notes[-1]


def test_the_same_input_twice_gives_the_same_json(recording: Path) -> None:
    analyzer = Analyzer(experts())
    assert analyzer.analyze(recording).to_json() == analyzer.analyze(recording).to_json()


def test_sentiment_follows_the_emotions(recording: Path) -> None:
    glad = {m: FakeExpert(m, {"happiness": 0.9}) for m in ("face", "voice", "text")}
    sad = {m: FakeExpert(m, {"sadness": 0.9}) for m in ("face", "voice", "text")}
    happy, unhappy = (Analyzer(own).analyze(recording).summary for own in (glad, sad))
    assert happy.sentiment > 0.7  # type: ignore[operator]
    assert unhappy.sentiment < -0.7  # type: ignore[operator]
    for verdict in (happy, unhappy):  # where nobody judges it, sentiment is what the emotions imply
        assert verdict.sentiment == pytest.approx(verdict.fused @ COMPATIBILITY @ [-1, 0, 1])


def test_progress_reaches_the_end_of_every_modality(recording: Path) -> None:
    seen: dict[str, float] = {}
    Analyzer(experts()).analyze(recording, progress=seen.__setitem__)
    assert seen == {"face": 1.0, "voice": 1.0, "text": 1.0}


def test_window_longer_than_the_recording_is_refused(recording: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"talk.srt: a window of 30 s is longer than the recording, which lasts 8.00 s"
    ):
        Analyzer(experts(), window=30).analyze(recording)


def test_modality_that_the_fuser_does_not_know_is_named() -> None:
    with pytest.raises(affuse.AffuseError, match="knows face, voice, text; got gait"):
        Analyzer({"gait": FakeExpert("gait", {"anger": 0.9})})


def test_unknown_expert_and_language_list_the_choices() -> None:
    with pytest.raises(ConfigError, match="unknown expert 'nose'; installed: face, text, voice"):
        load_experts({"face": "nose"})
    with pytest.raises(ConfigError, match="reads voice, not face"):
        load_experts({"face": "voice"})
    with pytest.raises(ConfigError, match="unknown language 'fr'; the expert text reads af, am, "):
        load_experts({"text": "text"}, language="fr")


def test_analyze_needs_exactly_one_source() -> None:
    with pytest.raises(ConfigError, match="either"):
        affuse.analyze()
    with pytest.raises(ConfigError, match="either"):
        affuse.analyze("clip.mp4", text="words")
    with pytest.raises(MediaError, match="empty"):
        affuse.analyze(text="  ")


def test_the_language_may_be_set_where_the_fuser_knows_few_modalities() -> None:
    rule = ProductRule().fit(np.full((7, 1, 7), 1 / 7), np.arange(7))
    fuser = NamedFuser(rule, ("text",), EKMAN.labels, "product", {"priors": {"text": [1 / 7] * 7}})
    analysis = affuse.analyze(text="I love it!", language="en", fuser=fuser)
    assert list(analysis.modalities) == ["text"]
    assert analysis.cues[0].language == "en"


def test_fake_expert_keeps_the_contract(recording: Path) -> None:
    opened = Recording.open(recording)
    check_expert(FakeExpert("voice", {"anger": 0.9}, silent=[1]), opened, Timeline.windows(8.0))


def test_error_inside_an_expert_names_file_and_modality(recording: Path) -> None:
    class Broken(FakeExpert):
        def read(self, recording: Recording, timeline: Timeline) -> list:  # type: ignore[type-arg]
            raise MediaError("the sound cannot be decoded")

    with pytest.raises(MediaError, match=r"talk.srt, voice: the sound cannot be decoded"):
        Analyzer(experts(voice=Broken("voice", {"anger": 0.9}))).analyze(recording)


def test_real_experts_answer_bare_text() -> None:
    analysis: Analysis = affuse.analyze(text="I am so happy about this, thank you, it is wonderful!")
    assert analysis.summary.label == "happiness"
    assert analysis.summary.sentiment > 0.5  # type: ignore[operator]
    assert analysis.summary.evidence["face"].reason
    assert analysis.summary.evidence["voice"].reason
