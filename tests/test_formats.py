"""Results where people work: every format read again by another library or by hand, and corrections that come back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import matplotlib.colors
import numpy as np
import openpyxl
import pysubs2
import pytest
import webvtt

import samples
from affuse.data.corrections import import_corrections, split_tier_name, tier_name
from affuse.data.own import read as read_own
from affuse.errors import ConfigError, DataError, MissingExtraError, OutputError
from affuse.evaluation.manifest import read_manifest
from affuse.labels import EKMAN, LabelSpace
from affuse.people.turns import Turn
from affuse.report import FORMATS, labelling_config, write_as, write_results
from affuse.report.formats import Format, Place, formats_of
from affuse.report.formats.intervals import Interval, cells, runs, tiers, without_overlap
from affuse.report.palette import palette
from affuse.results import Analysis, Cue, Evidence, Source, Verdict
from affuse.timeline import Segment, Timeline
from command import Run, caller
from serving import write_sound

praatio = pytest.importorskip("praatio.textgrid", reason="the extra formats is not installed")
pympi = pytest.importorskip("pympi", reason="the extra formats is not installed")

DEMO = Path(__file__).parent.parent / "demo"
TOOLS = ("audacity", "elan", "labelstudio", "srt", "textgrid", "vtt")
MAKERS = (
    samples.one_person,
    samples.two_persons,
    samples.own_labels,
    samples.audio_only,
    samples.picture,
    samples.text_only,
    samples.silent_nobody,
)
ODD = "张 <三> & \"Co\" 'x'"


def verdict(start: float, end: float, person: str | None, label: str | None, confidence: float = 0.5) -> Verdict:
    segment = Segment(start, end)
    if label is None:
        return Verdict(segment, person, {"face": Evidence(None, "no face")}, None, None, None, None)
    fused = np.full(len(EKMAN), (1 - confidence) / (len(EKMAN) - 1))
    fused[EKMAN.index(label)] = confidence
    return Verdict(segment, person, {"face": Evidence(fused)}, fused, label, confidence, 0.25)


def analysis(
    verdicts: Sequence[Verdict],
    cues: Sequence[Cue] = (),
    turns: Sequence[Turn] = (),
    duration: float = 6.0,
    path: Path | None = None,
    labels: LabelSpace = EKMAN,
) -> Analysis:
    people = list(dict.fromkeys(v.person for v in verdicts))
    summaries = [next(v for v in verdicts if v.person == person) for person in people]
    source = Source(path.name if path else "clip.mp4", path, duration, "video")
    return Analysis(source, verdicts, summaries, (), cues, ("face",), labels=labels, turns=turns)


def four_windows(person: str | None = None) -> list[Verdict]:
    """Windows of 3 s, one a second, over 6 s: their cells are 0-2, 2-3, 3-4 and 4-6 s."""
    said = [("anger", 0.6), ("anger", 0.9), (None, 0.0), ("sadness", 0.7)]
    spans = Timeline.windows(6.0, 3.0, 1.0)
    return [verdict(s.start, s.end, person, label, p) for s, (label, p) in zip(spans, said, strict=True)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


# --- windows become intervals -----------------------------------------------------------------------------------------


def test_cells_of_windows_do_not_overlap_and_leave_no_gap() -> None:
    assert cells(four_windows()).tolist() == [[0, 2], [2, 3], [3, 4], [4, 6]]


def test_the_last_window_that_is_moved_back_has_a_smaller_cell() -> None:
    windows = [verdict(s.start, s.end, None, "anger") for s in Timeline.windows(5.4, 3.0, 1.0)]
    assert np.allclose(cells(windows), [[0, 2], [2, 3], [3, 3.7], [3.7, 5.4]])


def test_runs_join_neighbours_of_one_emotion_with_the_mean_confidence_over_time() -> None:
    found = runs(analysis(four_windows()), None)
    assert [(r.start, r.end, r.label) for r in found] == [(0, 3, "anger"), (4, 6, "sadness")]
    assert found[0].confidence == pytest.approx((2 * 0.6 + 1 * 0.9) / 3)
    assert found[1].confidence == pytest.approx(0.7)


def test_a_gap_without_evidence_parts_two_runs_of_one_emotion() -> None:
    windows = [verdict(0, 1, None, "anger"), verdict(1, 2, None, None), verdict(2, 3, None, "anger")]
    assert [(r.start, r.end) for r in runs(analysis(windows), None)] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(0, 2, "a"), (1, 3, "b")], [(0, 1, "a"), (1, 3, "b")]),  # the later one cuts the other short
        ([(0, 2, "a"), (0, 3, "b")], [(0, 3, "a / b")]),  # the same start: both texts
        ([(0, 2, "a"), (0, 3, "a")], [(0, 3, "a")]),
        ([(1, 1, "a"), (2, 3, "b")], [(1, 1.001, "a"), (2, 3, "b")]),  # no length: nothing is lost
        ([(1, 1, "a"), (1, 2, "b")], [(1, 2, "a / b")]),
        ([(0, 10, "a"), (3, 4, "b")], [(0, 3, "a"), (3, 4, "b")]),
        ([(2.0004, 3, "b"), (0, 2.0001, "a")], [(0, 2, "a"), (2, 3, "b")]),  # milliseconds
        ([], []),
    ],
)
def test_intervals_without_overlap(given: list[Any], expected: list[Any]) -> None:
    assert without_overlap([Interval(*i) for i in given]) == [Interval(*i) for i in expected]


@pytest.mark.parametrize("make", MAKERS)
def test_tiers_are_in_order_within_the_recording_and_have_names_of_their_own(make: Any) -> None:
    found = tiers(make())
    assert len({tier.name for tier in found}) == len(found)
    for tier in found:
        times = [t for i in tier.intervals for t in (i.start, i.end)]
        assert times == sorted(times)
        assert all(i.start < i.end for i in tier.intervals)


def test_names_of_tiers_come_apart_again() -> None:
    assert split_tier_name(tier_name("emotion", "a@b")) == ("emotion", "a@b")
    assert split_tier_name(tier_name("words", None)) == ("words", "")


def spoken() -> Analysis:
    """Two persons with odd names, one of them without a face and without answers; words that overlap."""
    cues = [
        Cue(Segment(0.5, 2.5), 'Well, "no" & <b>so</b>.', "en", ODD),
        Cue(Segment(2.0, 3.0), "为什么？\n\n-->", "zh", ODD),
        Cue(Segment(4.0, 5.0), "=1+1", "en", "off camera"),
    ]
    turns = [Turn(Segment(0.5, 3.0), ODD, 0.9), Turn(Segment(4.0, 5.0), "off camera", 0.8)]
    return analysis(four_windows(ODD), cues, turns)


# --- ELAN, by ElementTree ---------------------------------------------------------------------------------------------


def read_eaf(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """The tiers of an ELAN file, read without pympi."""
    root = ET.parse(path).getroot()
    slots = {s.attrib["TIME_SLOT_ID"]: int(s.attrib["TIME_VALUE"]) / 1000 for s in root.iter("TIME_SLOT")}
    return {
        tier.attrib["TIER_ID"]: [
            (
                slots[a.attrib["TIME_SLOT_REF1"]],
                slots[a.attrib["TIME_SLOT_REF2"]],
                a.findtext("ANNOTATION_VALUE") or "",
            )
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iter("TIER")
    }


def test_elan_holds_every_tier_of_everybody(tmp_path: Path) -> None:
    found = read_eaf(write_as(spoken(), tmp_path / "clip.eaf", "elan"))
    assert found == {
        f"emotion@{ODD}": [(0, 3, "anger"), (4, 6, "sadness")],
        f"confidence@{ODD}": [(0, 2, "0.60"), (2, 3, "0.90"), (4, 6, "0.70")],
        f"sentiment@{ODD}": [(0, 2, "+0.25"), (2, 3, "+0.25"), (4, 6, "+0.25")],
        f"turn@{ODD}": [(0.5, 3, ODD)],
        f"words@{ODD}": [(0.5, 2, 'Well, "no" & <b>so</b>.'), (2, 3, "为什么？ -->")],
        "turn@off camera": [(4, 5, "off camera")],
        "words@off camera": [(4, 5, "=1+1")],
    }


def test_elan_is_laid_out_as_its_schema_demands(tmp_path: Path) -> None:
    clip = tmp_path / "a clip 一.mp4"
    clip.write_bytes(b"")
    path = write_as(analysis(four_windows(), path=clip), tmp_path / "deep" / "clip.eaf", "elan")
    root = ET.parse(path).getroot()
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LANGUAGE", "CONSTRAINT", "CONTROLLED_VOCABULARY"]
    assert list(dict.fromkeys(child.tag for child in root)) == order  # EAFv2.8.xsd: a sequence
    ids = [a.attrib["ANNOTATION_ID"] for a in root.iter("ALIGNABLE_ANNOTATION")]
    assert len(set(ids)) == len(ids)
    types = {t.attrib["LINGUISTIC_TYPE_ID"]: t.attrib for t in root.iter("LINGUISTIC_TYPE")}
    assert {t.attrib["LINGUISTIC_TYPE_REF"] for t in root.iter("TIER")} <= set(types)
    assert types["emotion"]["CONTROLLED_VOCABULARY_REF"] == "emotion"
    assert tuple(value.text for value in root.iter("CVE_VALUE")) == EKMAN.labels
    (medium,) = root.iter("MEDIA_DESCRIPTOR")
    assert medium.attrib["MEDIA_URL"] == clip.resolve().as_uri()
    assert medium.attrib["RELATIVE_MEDIA_URL"] == "./../a clip 一.mp4"
    assert medium.attrib["MIME_TYPE"] == "video/mp4"


# --- Praat, by pympi (and by Praat itself where Parselmouth is installed) ---------------------------------------------


def test_a_textgrid_is_read_by_another_library(tmp_path: Path) -> None:
    path = write_as(spoken(), tmp_path / "clip.TextGrid", "textgrid")
    grid = pympi.TextGrid(str(path))
    assert (grid.xmin, grid.xmax) == (0, 6)
    found = {tier.name: list(tier.intervals) for tier in grid.tiers}
    assert set(found) == set(read_eaf(write_as(spoken(), tmp_path / "clip.eaf", "elan")))
    assert found[f"emotion@{ODD}"] == [(0, 3, "anger"), (3, 4, ""), (4, 6, "sadness")]
    assert found[f"words@{ODD}"] == [
        (0, 0.5, ""), (0.5, 2, 'Well, "no" & <b>so</b>.'), (2, 3, "为什么？ -->"), (3, 6, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("make", [*MAKERS, spoken])
def test_praat_reads_a_textgrid(make: Any, tmp_path: Path) -> None:
    parselmouth = pytest.importorskip("parselmouth", reason="Praat for Python (praat-parselmouth) is not installed")
    expected = {tier.name: len(tier.intervals) for tier in tiers(make())} or {"emotion": 0}
    grid = parselmouth.read(str(write_as(make(), tmp_path / "clip.TextGrid", "textgrid")))
    call = parselmouth.praat.call
    for number, name in enumerate(expected, 1):
        assert call(grid, "Get tier name", number) == name
        n = call(grid, "Get number of intervals", number)
        texts = [call(grid, "Get label of interval", number, i) for i in range(1, n + 1)]
        assert sum(text != "" for text in texts) == expected[name]


# --- subtitles, by pysubs2, webvtt-py and the browser -----------------------------------------------------------------


def test_subrip_is_read_by_another_library(tmp_path: Path) -> None:
    path = write_as(spoken(), tmp_path / "clip.srt", "srt")
    red, blue = palette().colours["anger"], palette().colours["sadness"]
    found = pysubs2.load(str(path), keep_html_tags=True)
    assert [(e.start, e.end, e.text) for e in found] == [
        (500, 2500, f'<font color="{red}">[anger 70 %]</font> {ODD}: Well, "no" & <b>so</b>.'),
        (2000, 3000, f'<font color="{red}">[anger 70 %]</font> {ODD}: 为什么？ →'),
        (4000, 5000, "off camera: =1+1"),  # nobody else's face speaks for somebody who is only heard
    ]
    assert blue not in path.read_text(encoding="utf-8")


def test_webvtt_is_read_by_another_library(tmp_path: Path) -> None:
    found = webvtt.read(str(write_as(spoken(), tmp_path / "clip.vtt", "vtt")))
    assert [(c.start, c.end) for c in found] == [
        ("00:00:00.500", "00:00:02.500"), ("00:00:02.000", "00:00:03.000"), ("00:00:04.000", "00:00:05.000"),
    ]  # fmt: skip
    assert "<c.anger>anger 70 %</c>" in found.captions[0].raw_text
    assert palette().colours["anger"] in found.styles[0].text


def test_words_of_nobody_known_stand_behind_everybodys_emotion(tmp_path: Path) -> None:
    verdicts = [verdict(0, 3, "Ann", "anger", 0.6), verdict(0, 3, "Ben", "fear", 0.7)]
    said = analysis(verdicts, [Cue(Segment(0, 2), "So.", "en")], duration=3)
    text = write_as(said, tmp_path / "clip.srt", "srt").read_text(encoding="utf-8")
    assert re.sub("<[^>]*>", "", text).splitlines()[2] == "[Ann: anger 60 %] [Ben: fear 70 %] So."


def test_without_words_the_emotions_themselves_are_the_subtitles(tmp_path: Path) -> None:
    found = pysubs2.load(str(write_as(analysis(four_windows("Ann")), tmp_path / "clip.srt", "srt")))
    assert [(e.start, e.end, e.plaintext) for e in found] == [
        (0, 3000, "[anger 70 %] Ann:"), (4000, 6000, "[sadness 70 %] Ann:"),
    ]  # fmt: skip


@pytest.mark.browser
def test_a_browser_parses_the_webvtt(tmp_path: Path) -> None:
    from chromium import CHROMIUM, QUIET, sync_api

    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    own = LabelSpace("own", ("bored to tears", "惊"))
    odd = replace(verdict(0, 3, ODD, "anger"), label="惊", fused=np.array([0.4, 0.6]), confidence=0.6)
    said = analysis([odd], [Cue(Segment(0, 2), "a < b & c --> d", "en", ODD)], duration=3, labels=own)
    text = write_as(said, tmp_path / "clip.vtt", "vtt").read_text(encoding="utf-8")
    script = """text => new Promise(done => {
        const track = document.createElement("track"), video = document.createElement("video");
        video.append(track); document.body.append(video); track.track.mode = "showing";
        track.src = URL.createObjectURL(new Blob([text], {type: "text/vtt"}));
        track.onload = () => done([...track.track.cues].map(cue => {
            const html = document.createElement("div"); html.append(cue.getCueAsHTML());
            return [cue.startTime, cue.endTime, html.textContent, html.innerHTML];
        }));
        track.onerror = () => done("error");
    })"""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        found = browser.new_page().evaluate(script, text)
        browser.close()
    ((start, end, shown, html),) = found
    assert (start, end) == (0, 2)
    assert shown == "惊 60 % a < b & c --> d"
    assert 'class="label-2"' in html
    assert "title=\"张 &lt;三&gt; &amp; &quot;Co&quot; 'x'\"" in html  # the voice


# --- tables, Audacity, Label Studio -----------------------------------------------------------------------------------


def test_excel_keeps_a_name_that_looks_like_a_formula_as_text(tmp_path: Path) -> None:
    path = write_as(analysis(four_windows("=1+1")), tmp_path / "clip.xlsx", "xlsx")
    rows = list(openpyxl.load_workbook(path)["table"].iter_rows(max_col=3))
    assert [cell.value for cell in rows[0]] == ["start", "end", "person"]
    assert (rows[1][2].value, rows[1][2].data_type) == ("=1+1", "s")
    write_as(analysis(four_windows("Ann")), path, "xlsx")  # our own table is replaced
    assert openpyxl.load_workbook(path)["table"]["C2"].value == "Ann"


def test_audacity_labels_by_hand(tmp_path: Path) -> None:
    path = write_as(
        analysis([*four_windows("=Ann\t2"), verdict(0, 6, None, "fear")]), tmp_path / "clip.txt", "audacity"
    )
    assert path.read_text(encoding="utf-8") == (
        "0.000000\t3.000000\tanger (=Ann 2)\n0.000000\t6.000000\tfear\n4.000000\t6.000000\tsadness (=Ann 2)\n"
    )


# From the pages "Import pre-annotated data" and "Audio" of Label Studio's documentation.
TIMES = {"start": {"type": "number"}, "end": {"type": "number"}, "channel": {"type": "integer"}}
TASKS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "properties": {
            "data": {"type": "object", "additionalProperties": {"type": "string"}},
            "predictions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["model_version", "result"],
                    "properties": {
                        "score": {"type": "number", "minimum": 0, "maximum": 1},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["id", "from_name", "to_name", "type", "value"],
                                "properties": {"type": {"enum": ["labels", "textarea"]}},
                                "if": {"properties": {"type": {"const": "labels"}}},
                                "then": {
                                    "properties": {
                                        "value": {
                                            "required": ["start", "end", "labels"],
                                            "properties": {
                                                **TIMES,
                                                "labels": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                                            },
                                        }
                                    }
                                },
                                "else": {
                                    "properties": {
                                        "value": {
                                            "required": ["start", "end", "text"],
                                            "properties": {
                                                **TIMES,
                                                "text": {"type": "array", "items": {"type": "string"}},
                                            },
                                        }
                                    }
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.mark.parametrize("make", [*MAKERS, spoken])
def test_label_studio_tasks_are_as_documented_and_fit_the_configuration(make: Any, tmp_path: Path) -> None:
    tasks = json.loads(write_as(make(), tmp_path / "clip.json", "labelstudio").read_text(encoding="utf-8"))
    jsonschema.validate(tasks, TASKS)
    config = ET.fromstring(labelling_config(make().labels))
    controls = {tag.attrib["name"]: tag for tag in config.iter() if "toName" in tag.attrib}
    known = {label.attrib["value"] for label in config.iter("Label")}
    assert {tag.attrib["value"] for tag in config if tag.tag in ("Audio", "Video")} == {"$recording"}
    for result in tasks[0]["predictions"][0]["result"]:
        control = controls[result["from_name"]]
        assert control.tag.lower() == result["type"]
        assert control.attrib["toName"] == result["to_name"]
        assert set(result["value"].get("labels", ())) <= known


def test_the_page_shows_the_labelling_configuration() -> None:
    page = (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
    assert f"```xml\n{labelling_config()}\n```" in page


def test_label_studio_numbers_by_hand(tmp_path: Path) -> None:
    (task,) = json.loads(write_as(spoken(), tmp_path / "clip.json", "labelstudio").read_text(encoding="utf-8"))
    (prediction,) = task["predictions"]
    assert task["data"] == {"recording": "/data/local-files/?d=clip.mp4"}
    assert prediction["score"] == pytest.approx((3 * 0.7 + 2 * 0.7) / 5)
    labels = [(r["value"]["start"], r["value"]["end"], r["value"]["labels"]) for r in prediction["result"][::2]]
    assert labels == [(0, 3, ["anger"]), (4, 6, ["sadness"])]
    assert [r["value"]["text"] for r in prediction["result"][1::2]] == [[ODD], [ODD]]
    assert [r["id"] for r in prediction["result"]] == ["affuse-1", "affuse-1", "affuse-2", "affuse-2"]


# --- all formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_every_format_takes_every_kind_of_analysis(make: Any, tmp_path: Path) -> None:
    written = write_results(make(), tmp_path, "clip", formats=FORMATS.names())
    assert len({path.name for path in written}) == len(FORMATS.names())
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize("name", TOOLS)
def test_control_characters_and_no_answers_at_all_do_no_harm(name: str, tmp_path: Path) -> None:
    empty = analysis([verdict(0, 3, "A\x00\x1bB\ud800", None)], [Cue(Segment(0, 1), "\x07 hm\u2028", "en")], duration=3)
    path = write_as(empty, tmp_path / "clip", name)
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    if name == "elan":
        assert read_eaf(path) == {"words": [(0, 1, "hm")]}


@pytest.mark.parametrize("name", TOOLS)
def test_files_that_may_hold_corrections_are_never_replaced(name: str, tmp_path: Path) -> None:
    (path,) = write_results(samples.one_person(), tmp_path, "clip", formats=[name])
    before = path.read_bytes()
    with pytest.raises(OutputError, match="may hold corrections; move it away or choose another folder"):
        write_results(samples.one_person(), tmp_path, "clip", formats=["json", name])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # all or none


def test_a_transcript_beside_the_recording_is_not_what_subtitles_are_called() -> None:
    assert {form.suffix for form in formats_of(["srt", "vtt"])} == {".emotions.srt", ".emotions.vtt"}


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown format 'elam' \(did you mean 'elan'\?\); known: audacity, csv, elan"
    ):
        formats_of(["elam"])
    with pytest.raises(ConfigError, match="name at least one format"):
        formats_of([])


class Headline(Format):
    suffix: ClassVar[str] = ".headline.txt"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        part.write_text(f"{place.path.name}: {analysis.summary.label}\n", encoding="utf-8")


class SecondTable(Headline):
    suffix = ".CSV"


def test_another_package_adds_a_format_by_an_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points = [
        EntryPoint(n, f"{__name__}:{c}", "affuse.formats") for n, c in (("head", "Headline"), ("two", "SecondTable"))
    ]
    monkeypatch.setattr("affuse.registry.entry_points", lambda group: [p for p in points if p.group == group])
    (path,) = write_results(analysis(four_windows()), tmp_path, "clip", formats=["head"])
    assert path.read_text(encoding="utf-8") == "clip.headline.txt: anger\n"
    with pytest.raises(ConfigError, match=r"the formats csv and two write the same file \*\.CSV"):
        formats_of(["csv", "two"])


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pympi", None)
    monkeypatch.delitem(sys.modules, "affuse.report.formats.elan", raising=False)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'affuse[formats]'")):
        formats_of(["elan"])


# --- notebooks --------------------------------------------------------------------------------------------------------


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.styles: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.styles.append(dict(attrs).get("style") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_the_emotions_of_everybody() -> None:
    page = Balanced()
    page.feed(spoken()._repr_html_())
    assert not page.open
    assert ODD in page.text  # and no <三> among the tags
    colours = palette().colours
    strips = [s for s in page.styles if "left:" in s]
    assert ["left:0.000%;width:50.000%" in strips[0], "left:66.667%;width:33.333%" in strips[1]] == [True, True]
    assert [colours["anger"] in strips[0], colours["sadness"] in strips[1]] == [True, True]


@pytest.mark.parametrize("make", MAKERS)
def test_a_notebook_shows_every_kind_of_analysis(make: Any) -> None:
    page = Balanced()
    page.feed(make()._repr_html_())
    assert not page.open
    picture = make()._repr_png_()
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def test_the_picture_of_a_notebook_has_a_strip_a_person_in_the_colours_of_the_report() -> None:
    from affuse.report.notebook import _figure

    (axis,) = _figure(analysis([*four_windows("$x^"), *four_windows("Ben")])).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["$x^", "Ben"]
    drawn = [(c.get_label(), c.get_paths()[0].vertices[:, 0]) for c in axis.collections]
    assert [(label, x.min(), x.max()) for label, x in drawn] == [("anger", 0, 3), ("sadness", 4, 6)] * 2
    colours = [matplotlib.colors.to_hex(c.get_facecolor()[0]).upper() for c in axis.collections]
    assert colours == [palette().colours["anger"], palette().colours["sadness"]] * 2


def test_a_notebook_without_matplotlib_has_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert samples.one_person()._repr_png_() is None
    assert len(samples.long_video(30)._repr_html_()) < 1_000_000


# --- the way back -----------------------------------------------------------------------------------------------------


def correct(path: Path, tier: str, number: int, label: str) -> None:
    """Change one label as ELAN would, without pympi."""
    tree = ET.parse(path)
    chosen = next(t for t in tree.getroot().iter("TIER") if t.attrib["TIER_ID"] == tier)
    list(chosen.iter("ANNOTATION_VALUE"))[number].text = label
    tree.write(path, encoding="UTF-8", xml_declaration=True)


def test_analyse_correct_import_evaluate(run: Run, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    shutil.copy(DEMO / "clip.mp4", clip)
    words = tmp_path / "clip.srt"
    shutil.copy(DEMO / "clip.srt", words)
    out = tmp_path / "results"
    text = ("--experts", "text")
    done = run("analyze", clip, *text, "--transcript", words, "--out", out, "--format", "elan,srt")
    assert done.code == 0, done.err
    assert f"written: {out / 'clip'}.eaf, .emotions.srt" in done.out
    (tier,) = [name for name in read_eaf(out / "clip.eaf") if name.startswith("emotion")]
    before = read_eaf(out / "clip.eaf")[tier]
    new = "anger" if before[1][2] != "anger" else "fear"
    correct(out / "clip.eaf", tier, 1, new)
    manifest = tmp_path / "manifest.csv"
    done = run("import", out / "clip.eaf", "--recording", clip, "--out", manifest, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"] == len(before)
    clips = read_manifest(manifest).clips
    assert [(c.start, c.end, c.label) for c in clips] == [
        (start, end, new if i == 1 else label) for i, (start, end, label) in enumerate(before)
    ]
    assert all(c.path is not None and c.path.samefile(clip) for c in clips)
    done = run("evaluate", "--manifest", manifest, *text, "--json")
    assert done.code == 0, done.err
    fused = json.loads(done.out)["as_answered"]["fused"]
    assert fused["n"] == len(before)
    assert sum(fused["confusion"][EKMAN.index(new)]) == 1  # the changed label is the truth now
    again = run("analyze", clip, *text, "--transcript", words, "--out", out, "--format", "elan")
    assert (again.code, "may hold corrections" in again.err) == (2, True)
    assert read_eaf(out / "clip.eaf")[tier][1][2] == new


def test_a_manifest_of_corrections_is_one_to_train_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("=Ann", "Ben", "张"):  # three recordings: one is kept for the dev split
        clip = write_sound(tmp_path / f"{name}.wav", rng.normal(0, 3000, 6 * 16_000))
        said = [Cue(Segment(0.5, 2), "So, I lost it.", "en", f"x {name}")]
        write_as(analysis(four_windows(f"x {name}"), said, path=clip), tmp_path / f"{name}.eaf", "elan")
    import_corrections(sorted(tmp_path.glob("*.eaf")), tmp_path / "manifest.csv")
    data = read_own(tmp_path / "manifest.csv", "voice")
    found = sorted((s.start, s.end, s.speaker, s.text or "", s.path and s.path.stem) for s in data.samples)
    expected = [(0, 3, "So, I lost it."), (4, 6, "")]
    names = ("=Ann", "Ben", "张")
    assert found == sorted((start, end, f"x {name}", text, name) for name in names for start, end, text in expected)
    assert data.labels.labels == ("anger", "sadness")
    assert {s.speaker for s in data.split("train")}.isdisjoint(s.speaker for s in data.split("dev"))


def export(results: Sequence[dict[str, Any]], recording: str = "/data/upload/1/0a1b2c3d-clip.wav", **more: Any) -> Any:
    return [{"id": 7, "data": {"recording": recording, **more}, "annotations": [{"result": list(results)}]}]


def region(start: float, end: float, *labels: str, name: str = "emotion", id: str = "r") -> dict[str, Any]:
    value = {"start": start, "end": end, "channel": 0, "labels": list(labels)}
    return {"id": id, "from_name": name, "to_name": "audio", "type": "labels", "value": value}


def write_export(folder: Path, tasks: Any) -> Path:
    (folder / "clip.wav").write_bytes(b"")
    path = folder / "project.json"
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return path


def test_label_studio_comes_back_as_it_went(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"")
    written = write_as(analysis(four_windows(ODD), path=clip), tmp_path / "tasks.json", "labelstudio")
    tasks = json.loads(written.read_text(encoding="utf-8"))
    with pytest.raises(DataError, match="holds no annotation, only tasks; submit them"):
        import_corrections([written], tmp_path / "m.csv")
    (prediction,) = tasks[0].pop("predictions")
    tasks[0]["annotations"] = [{"result": prediction["result"]}]
    rows = import_corrections([write_export(tmp_path, tasks)], tmp_path / "m.csv").to_dict("records")
    assert rows == [
        {"path": "clip.wav", "start": 0.0, "end": 3.0, "label": "anger", "speaker": ODD},
        {"path": "clip.wav", "start": 4.0, "end": 6.0, "label": "sadness", "speaker": ODD},
    ]


def test_of_several_annotations_the_ground_truth_counts_else_the_last(tmp_path: Path) -> None:
    tasks = export([region(0, 1, "anger")])
    (first,) = tasks[0]["annotations"]
    first["updated_at"] = "2026-01-02T00:00:00Z"
    older = {"result": [region(0, 1, "fear")], "updated_at": "2026-01-01T00:00:00Z"}
    dropped = {"result": [region(0, 1, "disgust")], "updated_at": "2026-01-03T00:00:00Z", "was_cancelled": True}
    tasks[0]["annotations"] += [older, dropped]
    path = write_export(tmp_path, tasks)
    assert import_corrections([path], tmp_path / "m.csv")["label"].tolist() == ["anger"]
    older["ground_truth"] = True
    path = write_export(tmp_path, tasks)
    assert import_corrections([path], tmp_path / "m.csv")["label"].tolist() == ["fear"]


def test_labels_of_frames_need_the_frame_rate(tmp_path: Path) -> None:
    value = {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["anger"]}
    frames = {"id": "r", "from_name": "emotion", "to_name": "video", "type": "timelinelabels", "value": value}
    path = write_export(tmp_path, export([frames]))
    with pytest.raises(DataError, match="its times are frames; say the frameRate of the Video tag by --fps"):
        import_corrections([path], tmp_path / "m.csv")
    # Frames 26 to 50, counted from 1, at 25 a second: the second second.
    table = import_corrections([path], tmp_path / "m.csv", fps=25)
    assert table[["start", "end"]].to_numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ("{", "is not JSON; export the project from Label Studio as JSON"),
        ("[" * 100_000, "is not JSON"),
        ({}, "is no export of Label Studio"),
        ([], "is no export of Label Studio"),
        ([{"recording": "clip.wav", "emotion": []}], r"is no export of Label Studio: .* \(JSON, not JSON-MIN\)"),
        (export([region(0, 1)]), r"task 7: the region at 0 s must have one label; got \[\]"),
        (export([region(0, 1, "anger", "fear")]), "must have one label"),
        (export([region(0, 1, "anger", name="tricks")]), r"has no labels called emotion; it has tricks \(--tier"),
        (export([region(2, 1, "anger")]), "a label from 2 s to 1 s; it must end after it starts"),
        (export([region(-1, 1, "anger")]), "a label from -1 s to 1 s"),
        (export([{**region(0, 1, "anger"), "value": {"start": "x"}}]), "a region has no start, end and labels"),
        (export([region(0, 1, "anger")], "other.wav"), r"its recording other\.wav is not in .*; say where it is by"),
        (export([]), "no labelled stretch in it"),
    ],
)  # fmt: skip
def test_a_bad_export_is_refused_in_one_sentence(tasks: Any, sentence: str, tmp_path: Path) -> None:
    path = write_export(tmp_path, tasks)
    if isinstance(tasks, str):
        path.write_text(tasks, encoding="utf-8")
    with pytest.raises(DataError, match=sentence) as caught:
        import_corrections([path], tmp_path / "m.csv")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.csv").exists()


def test_a_bad_elan_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"")
    path = write_as(analysis(four_windows("Ann"), path=clip), tmp_path / "clip.eaf", "elan")
    out = tmp_path / "m.csv"
    with pytest.raises(
        DataError, match=r"has no tier called mood or mood@NAME; its tiers: emotion@Ann, confidence@Ann"
    ):
        import_corrections([path], out, tier="mood")
    correct(path, "emotion@Ann", 1, " ")
    with pytest.raises(
        DataError, match="annotation of the tier 'emotion@Ann' at 4 s is empty; give it a label or delete"
    ):
        import_corrections([path], out)
    for broken in ("", "<a/>", "<ANNOTATION_DOCUMENT/>", path.read_text(encoding="utf-8")[:900]):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(DataError, match=r"clip.eaf (is not an ELAN file|has no tier)"):
            import_corrections([path], out)
    bomb = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    path.write_text(f'<!DOCTYPE x [<!ENTITY a0 "ha">{bomb}]><x>&a9;</x>', encoding="utf-8")
    with pytest.raises(DataError, match="is not an ELAN file"):
        import_corrections([path], out)
    assert not out.exists()


def test_recordings_are_found_by_name_in_a_folder(tmp_path: Path) -> None:
    media, notes = tmp_path / "media", tmp_path / "notes"
    media.mkdir()
    for name in ("a 一.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
        write_as(analysis(four_windows(), path=tmp_path / name), notes / f"{name[0]}.eaf", "elan")
        (tmp_path / name).rename(media / name)
    files = [notes / "a.eaf", notes / "b.eaf"]
    with pytest.raises(DataError, match=r"a\.eaf: its recording a 一\.wav .*is not in .*notes; say where it is"):
        import_corrections(files, tmp_path / "m.csv")
    with pytest.raises(DataError, match="is a single recording, but the files are about 2; give their folder instead"):
        import_corrections(files, tmp_path / "m.csv", media / "b.wav")
    table = import_corrections(files, tmp_path / "m.csv", media)
    assert list(dict.fromkeys(table["path"])) == ["media/a 一.wav", "media/b.wav"]


def test_no_input_is_written_over(run: Run, tmp_path: Path) -> None:
    path = write_export(tmp_path, export([region(0, 1, "anger")]))
    table = tmp_path / "table.csv"
    path.rename(table)
    shutil.copy(table, path)
    (tmp_path / "clip.wav").unlink()
    (tmp_path / "clip.wav").hardlink_to(table)
    with pytest.raises(OutputError, match=r"table\.csv is one of the inputs; choose another place"):
        import_corrections([path], table)
    assert json.loads(table.read_text(encoding="utf-8"))[0]["id"] == 7
    done = run("import", path, "--recording", table, "--out", table)
    assert (done.code, "is one of the inputs" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("import", "clip.txt", "--out", "m.csv"), "clip.txt must end in .eaf (ELAN) or .json (Label Studio)"),
        (("import", "clip.eaf", "--out", "m.csv"), "clip.eaf does not exist"),
        (("import", "clip.eaf", "--out", "m.doc"), "--out must end in .csv"),
        (("import", "project.json", "--out", "m.csv", "--fps", "0"), "fps must be above 0; got 0"),
        (
            ("analyze", "--text", "So.", "--format", "elan"),
            "--format is about the files in a folder; say which one by --out",
        ),
        (
            ("analyze", "--text", "So.", "--out", "o", "--format", "elam"),
            "unknown format 'elam' (did you mean 'elan'?)",
        ),
    ],
)
def test_commands_refuse_what_cannot_be(
    run: Run, arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.code, sentence in done.err) == (2, True), done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_elan_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder without ELAN files \(\.eaf\)"):
        import_corrections([tmp_path], tmp_path / "manifest.csv")


def test_no_file_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give at least one file"):
        import_corrections([], tmp_path / "m.csv")


# --- R ----------------------------------------------------------------------------------------------------------------


def test_r_reads_the_table_and_the_labels_as_the_page_says(tmp_path: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    page = (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
    snippet = re.search(r"```r\n(.*?)```", page, re.DOTALL)
    assert snippet is not None
    said = samples.one_person()
    write_results(said, tmp_path / "results", "clip", formats=["csv", "audacity"])
    script = tmp_path / "read.R"
    script.write_text(snippet[1] + "\ncat(nrow(windows), nrow(labels), sum(seconds), sep = ' ')\n", encoding="utf-8")
    done = subprocess.run(
        ["Rscript", "--vanilla", script], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    windows, labels, seconds = done.stdout.split()[-3:]
    found = runs(said, said.summary.person)
    assert (int(windows), int(labels)) == (len(said.verdicts), len(found))
    assert float(seconds) == pytest.approx(sum(r.end - r.start for r in found), abs=1e-5)
