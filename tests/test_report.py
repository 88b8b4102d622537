"""The page, the files, the terminal, the figure, the schema and the words of an analysis."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator, ValidationError
from matplotlib import colors as mcolors
from rich.cells import cell_len
from rich.console import Console

import dialogues
import samples
from affuse.errors import ConfigError, MissingExtraError, OutputError
from affuse.labels import EKMAN
from affuse.report import (
    headline,
    plot_timeline,
    print_analysis,
    render_report,
    schema,
    write_report,
    write_results,
)
from affuse.report import media as report_media
from affuse.report.messages import LANGUAGES, messages, page_messages, translate
from affuse.report.page import style
from affuse.report.palette import COLOURS, INKS, LETTERS, STACK, Palette
from affuse.report.sentences import absences, conflict_text, windows_of
from affuse.results import Analysis, Cue
from affuse.timeline import Segment

MAKERS = [
    samples.one_person,
    samples.two_persons,
    samples.audio_only,
    samples.picture,
    samples.text_only,
    samples.silent_nobody,
    dialogues.dialogue,
    dialogues.call,
]


class Page(HTMLParser):
    """The elements of a page, with their attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or dict(attrs).get("type") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        return json.loads(self.texts["affuse-data"])

    @property
    def policy(self) -> str:
        return next(a["content"] or "" for a in self.attributes("meta") if "http-equiv" in a)


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_page_is_one_file_that_reaches_for_nothing(make: Any) -> None:
    page = Page(render_report(make()))
    assert not [a for _, a in page.elements if any(k in a for k in ("style", "onclick", "onload", "srcset"))]
    for _, attributes in page.elements:
        for key in ("src", "href", "poster", "action"):
            assert (attributes.get(key) or "#").startswith(("data:", "#"))
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy
    assert "connect-src" not in page.policy  # so that default-src holds for it


def test_policy_admits_exactly_the_script_and_style_of_the_page() -> None:
    html = render_report(samples.one_person())
    for tag, kind in (("<style>", "style"), ('<script type="module">', "script")):
        text = html.split(tag)[1].split(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in Page(html).policy


def test_page_holds_the_analysis() -> None:
    analysis = samples.two_persons()
    found, whole = Page(render_report(analysis)).data["analysis"], analysis.to_dict()
    assert found["source"] == whole["source"]
    assert [w["label"] for w in found["windows"]] == [w["label"] for w in whole["windows"]]
    for drawn, exact in zip(found["windows"], whole["windows"], strict=True):
        assert drawn["confidence"] == (
            None if exact["confidence"] is None else pytest.approx(exact["confidence"], abs=1e-4)
        )
    Draft202012Validator(schema()).validate(found)


def test_page_is_the_same_twice() -> None:
    assert render_report(samples.one_person()) == render_report(samples.one_person())


def test_page_without_media_is_small() -> None:
    assert len(render_report(samples.one_person(duration=20)).encode()) < 300_000


def test_hostile_names_and_words_stay_text() -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"
    analysis = samples.one_person(name=attack)
    analysis = replace(analysis, cues=[Cue(Segment(0, 2), attack, "en")], notes=[attack])
    html = render_report(analysis)
    page = Page(html)
    assert len(page.attributes("script")) == 2
    assert not page.attributes("img")
    assert page.data["analysis"]["cues"][0]["text"] == attack
    assert page.data["analysis"]["source"]["name"] == attack
    assert attack in page.texts["name"]


def test_playable_video_is_embedded_byte_for_byte(tmp_path: Path) -> None:
    clip = samples.write_clip(tmp_path / "clip.mp4")
    (video,) = Page(render_report(samples.one_person(clip, 6.0))).attributes("video")
    head, data = (video["src"] or "").split(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == clip.read_bytes()


def test_large_video_is_linked_from_the_folder_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_media, "EMBED_LIMIT", 10)
    clip = samples.write_clip(tmp_path / "my clip #1.mp4")
    page = Page(write_report(samples.one_person(clip, 6.0), tmp_path / "out" / "report.html").read_text("utf-8"))
    assert page.attributes("video")[0]["src"] == "../my%20clip%20%231.mp4"
    assert "media-src data: file: 'self'" in page.policy
    assert page.data["medium"]["note"] == "media.linked"


def write_sounding(path: Path, codec: str, audio: str, seconds: float = 4.0, rate: int = 25) -> Path:
    """A video of 120 × 80 whose brightness grows, with a tone that starts in the middle."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = 120, 80, "yuv420p"
        sound = container.add_stream(audio, rate=44100, layout="mono")
        for i in range(round(seconds * rate)):
            level = np.full((80, 120, 3), round(250 * i / (seconds * rate)), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        at = np.arange(round(seconds * 44100)) / 44100
        wave = np.where(at < seconds / 2, 0, 12000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)
        for i in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, i : i + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 44100, i
            container.mux(sound.encode(frame))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def played(page: Page, folder: Path) -> dict[str, Any]:
    """What a browser would find in the page: codecs, brightness over time, and when the tone begins."""
    import av

    sources = page.attributes("source") or page.attributes("video")
    data = (sources[-1]["src"] or "").split(",")[1]
    (folder / "played.mp4").write_bytes(base64.b64decode(data))
    with av.open(str(folder / "played.mp4")) as container:
        codecs = {stream.type: stream.codec_context.name for stream in container.streams}
        bright = {round(f.time, 3): float(f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)}
    with av.open(str(folder / "played.mp4")) as container:
        loud = [f.time for f in container.decode(audio=0) if np.abs(f.to_ndarray()).max() > 0.1]
    return {"codecs": codecs, "bright": bright, "tone": min(loud), "bytes": len(data) * 3 // 4}


@pytest.mark.parametrize(
    ("name", "video", "audio"), [("a.mp4", "libx265", "aac"), ("b.mkv", "libx264", "flac"), ("c.avi", "mpeg4", "mp3")]
)
def test_what_browsers_refuse_plays_as_a_copy_on_the_same_clock(
    tmp_path: Path, name: str, video: str, audio: str
) -> None:
    clip = write_sounding(tmp_path / name, video, audio)
    page = Page(write_report(samples.one_person(clip, 4.0), tmp_path / "out" / "r.html").read_text("utf-8"))
    assert page.data["medium"]["note"] == "media.proxy"
    found = played(page, tmp_path)
    assert found["codecs"] == {"video": "h264", "audio": "aac"}
    assert found["tone"] == pytest.approx(2.0, abs=0.08)
    times, levels = np.array(list(found["bright"])), np.array(list(found["bright"].values()))
    assert np.diff(times).max() < 0.2
    assert np.abs(levels - 250 * times / 4).max() < 8  # brightness tells when a picture was taken
    originals = [s["src"] for s in page.attributes("source")]
    assert originals[:1] == (["../a.mp4"] if name == "a.mp4" else [])


def test_long_copies_hold_key_frames_and_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from affuse.report import proxy

    clip = write_sounding(tmp_path / "a.mp4", "libx265", "aac", seconds=12.0)
    monkeypatch.setattr(proxy, "SMOOTH_SECONDS", 5.0)
    page = Page(render_report(samples.one_person(clip, 12.0)))
    assert page.data["medium"]["note"] == "media.proxy_slow"
    found = played(page, tmp_path)
    assert 1 <= len(found["bright"]) <= 3  # x265 has a key frame every 250 pictures
    assert found["tone"] == pytest.approx(6.0, abs=0.08)
    monkeypatch.setattr(report_media, "EMBED_LIMIT", 80_000)
    small = played(Page(render_report(samples.one_person(clip, 12.0))), tmp_path)
    assert small["bytes"] <= 80_000
    monkeypatch.setattr(report_media, "EMBED_LIMIT", 20_000)  # less than the sound needs
    assert Page(render_report(samples.one_person(clip, 12.0))).data["medium"]["kind"] == "stills"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("b.mov", "libx264")])
def test_a_copy_is_upright(tmp_path: Path, name: str, codec: str) -> None:
    import av

    from affuse.report.proxy import write_proxy

    picture = np.zeros((80, 120, 3), np.uint8)
    picture[:, :60] = 250  # the left half is bright; turned to the left, the lower half is
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 120, 80, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    made = write_proxy(tmp_path / name, tmp_path / "out.mp4", 0, None, 1.0, 1_000_000)
    assert made is not None
    with av.open(str(made.path)) as container:
        frame = next(container.decode(video=0))
        upright = np.rot90(frame.to_ndarray(format="gray"), frame.rotation // 90)
    assert upright.shape == (120, 80)
    assert upright[:50].mean() < 30
    assert upright[70:].mean() > 220


def test_highlights_have_pictures(tmp_path: Path) -> None:
    clip = samples.write_clip(tmp_path / "clip.mp4", seconds=40.0)
    medium = Page(render_report(samples.one_person(clip, 40.0))).data["medium"]
    page = Page(render_report(samples.one_person(clip, 40.0)))
    starts = [moment["start"] for moment in page.data["answers"]["en"]["highlights"][0]]
    assert [start for start, _ in medium["thumbnails"]] == sorted(set(starts))
    assert all(uri.startswith("data:image/jpeg;base64,/9j/") for _, uri in medium["thumbnails"])


def test_unplayable_video_is_replaced_by_stills_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_media, "EMBED_LIMIT", 10)  # no room for a copy
    clip = samples.write_clip(tmp_path / "clip.mpg", "mpeg1video", rate=25, size=(120, 80))
    page = Page(render_report(samples.one_person(clip, 6.0)))
    medium = page.data["medium"]
    assert not page.attributes("video")
    assert (medium["kind"], medium["note"], medium["ratio"]) == ("stills", "media.unplayable", 1.5)
    times = [time for time, _ in medium["stills"]]
    assert len(times) >= 6
    assert times == sorted(times)
    assert all(uri.startswith("data:image/jpeg;base64,/9j/") for _, uri in medium["stills"])


def test_codec_decides_not_only_the_suffix(tmp_path: Path) -> None:
    clip = samples.write_clip(tmp_path / "old.mp4", "mpeg4")
    assert Page(render_report(samples.one_person(clip, 6.0))).data["medium"]["note"] == "media.proxy"


def test_sound_with_a_cover_is_sound(tmp_path: Path) -> None:
    import av

    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1152
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    page = Page(render_report(samples.audio_only(path)))
    assert page.data["medium"]["kind"] == "audio"
    assert (page.attributes("audio")[0]["src"] or "").startswith("data:audio/mpeg;base64,")


def test_picture_is_upright_and_without_its_metadata(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # turn right to see it upright
    exif[0x010F] = "A camera"
    image.save(tmp_path / "photo.jpg", exif=exif)
    page = Page(render_report(samples.picture(tmp_path / "photo.jpg")))
    data = base64.b64decode((page.attributes("img")[0]["src"] or "").split(",")[1])
    assert page.data["medium"]["ratio"] == 0.5
    assert b"A camera" not in data


@pytest.mark.parametrize("content", [None, b"", b"not a video at all"])
def test_recording_that_cannot_be_read_again_becomes_a_note(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gone.mp4"
    if content is not None:
        path.write_bytes(content)
    for make in (samples.one_person, samples.picture):
        assert Page(render_report(make(path))).data["medium"]["note"] == "media.missing"


def test_unknown_language_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="known: en, zh"):
        render_report(samples.text_only(), language="xx")


def test_chinese_page_says_the_same_in_chinese() -> None:
    page = Page(render_report(samples.one_person(), language="zh"))
    assert page.attributes("html")[0]["lang"] == "zh-CN"
    assert page.texts["headline"].startswith("主要为中性（58%）")


def test_texts_of_all_languages_have_the_same_keys_and_places() -> None:
    def places(text: str) -> list[str]:
        return sorted(re.findall(r"\{(\w+)\}", text))

    english = page_messages("en")
    assert "live.start" in english
    for language in LANGUAGES:
        texts = page_messages(language)
        assert texts.keys() == english.keys()
        assert all(texts.values())
        lenient = ("now",)  # a moment needs no preposition in Chinese
        assert [key for key in english if places(texts[key]) != places(english[key]) and key not in lenient] == []


def test_chinese_texts_are_chinese() -> None:
    names = {"affuse", "CSV", "JSON", "Parquet", "TSV", "ECE", "id", "label", "SHA-256", "English", "Shapley", "FFmpeg"}
    names |= {
        "VTT",
        "SRT",
        "WebVTT",
        "XLSX",
        "ZIP",
        "WebP",
        "Whisper",
        "JavaScript",
        "https",
        "localhost",
        "model.bin",
        "model",
        "bin",
    }
    for key, text in page_messages("zh").items():
        left = set(re.findall(r"[A-Za-z][\w-]*", re.sub(r"\{\w+\}", "", text))) - names
        assert not left, f"{key}: {text}"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("no face", "没有人脸"),
        ("no words: no weights for speech recognition: the folder w holds no model.bin", None),
        ("no face; no words", "没有人脸；没有文字"),
        ("the video was left out: its video (h264) is empty or damaged throughout", None),
        ("2 persons are seen; voice and text cannot be told apart by person and count for each of them", None),
        ("person 3", "人物 3"),
        ("a sentence that nobody translated", "a sentence that nobody translated"),
    ],
)
def test_sentences_of_an_analysis_are_translated(english: str, chinese: str | None) -> None:
    said = translate(english, "zh")
    assert said == chinese or (chinese is None and not re.search("[a-z]{6}", said.replace("model.bin", "")))
    assert translate(english, "en") == english


def test_reasons_of_the_experts_are_all_in_the_table() -> None:
    from affuse.experts.base import NO_WORDS
    from affuse.experts.face.expert import NO_FACE, NO_PICTURE
    from affuse.experts.transcribe import NOT_INSTALLED

    words, sound = (NO_WORDS, NOT_INSTALLED, "no words in this window"), ("no sound", "silence", "too little sound")
    for reason in (NO_FACE, NO_PICTURE, *words, *sound, "no speech"):
        assert translate(reason, "zh") != reason


def test_what_is_said_about_speakers_is_all_in_the_table() -> None:
    from affuse.analyzer.assembly import _doubts
    from affuse.analyzer.observation import NOT_SEEN
    from affuse.analyzer.speech import SOMEBODY_ELSE
    from affuse.people.speaking import OFF_SCREEN

    unsure = [v for v in dialogues.dialogue(duration=60).verdicts if 45 <= v.segment.start <= 50]  # of the last turn
    (doubt,) = _doubts(unsure)
    for text in (SOMEBODY_ELSE, NOT_SEEN, OFF_SCREEN, doubt, "channel 1", "speaker 2", "judges sentiment only"):
        assert not re.search("[a-z]", translate(text, "zh")), text
    assert translate(doubt, "zh") == "在 6 个有语音的窗口中，有 6 个无法确定是谁在说话"
    assert translate("Anna", "zh") == "Anna"


def test_conflicts_are_told_in_chinese() -> None:
    assert (
        conflict_text("face says happiness, voice and text say anger", "zh") == "面部判断为快乐，语音与文字判断为愤怒"
    )
    assert conflict_text("face says engaged", "zh") == "面部判断为engaged"
    assert conflict_text("something else", "zh") == "something else"


def test_every_text_that_the_page_asks_for_exists() -> None:
    folder = Path(report_media.__file__).parent
    script = "".join(path.read_text("utf-8") for path in (folder / "static").glob("*.js"))
    asked = set(re.findall(r'say\("([\w.]+[a-z])"', script))
    template = (folder / "templates" / "report.html.j2").read_text("utf-8")
    asked |= set(re.findall(r'say\["([\w.]+)"\]', template)) | set(re.findall(r'data-\w+="([\w.]+)"', template))
    assert asked <= messages("en").keys()


# --- colours ---------------------------------------------------------------------------------------------------------


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, relative luminance."""
    high, low = sorted((float(linear(x) @ (0.2126, 0.7152, 0.0722)) for x in (a, b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("label", EKMAN.labels)
def test_text_on_every_colour_can_be_read(label: str) -> None:
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast(COLOURS[label], INKS[label]) >= 4.5


# Machado, Oliveira & Fernandes (2009), severity 1.0.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("name", DEFICIENCIES)
def test_colours_stay_apart_for_the_colour_blind(name: str) -> None:
    seen = {label: oklab(np.clip(np.array(DEFICIENCIES[name]) @ linear(c), 0, 1)) for label, c in COLOURS.items()}
    distances = [np.linalg.norm(seen[a] - seen[b]) for a in seen for b in seen if a < b]
    assert min(distances) > 0.05  # two and a half just noticeable differences of about 0.02


def person_colours() -> tuple[list[str], list[str]]:
    """Colours of persons in the style sheet, on light and on dark ground."""
    pairs = re.findall(r"--person: light-dark\((#\w{6}), (#\w{6})\)", style())
    light, dark = zip(*pairs, strict=True)
    return list(light), list(dark)


def test_names_on_the_colours_of_persons_can_be_read_however_pale_they_are() -> None:
    css = style()
    grounds = re.findall(r"--card: light-dark\((#\w{6}), (#\w{6})\)", css)[0]
    inks = re.findall(r"--ink: light-dark\((#\w{6}), (#\w{6})\)", css)[0]
    for colours, ground, ink in zip(person_colours(), grounds, inks, strict=True):
        for colour in colours:
            for opacity in (0.3, 0.6, 1.0):
                shown = [
                    round(opacity * int(colour[i : i + 2], 16) + (1 - opacity) * int(ground[i : i + 2], 16))
                    for i in (1, 3, 5)
                ]
                assert contrast("#{:02x}{:02x}{:02x}".format(*shown), ink) >= 4.5


@pytest.mark.parametrize("name", DEFICIENCIES)
def test_colours_of_persons_stay_apart_from_each_other_and_from_emotions(name: str) -> None:
    def seen(colour: str) -> np.ndarray:
        return oklab(np.clip(np.array(DEFICIENCIES[name]) @ linear(colour), 0, 1))

    for persons in person_colours():
        assert len(set(persons)) == 6
        for i, colour in enumerate(persons):
            others = [*persons[:i], *COLOURS.values()]
            assert min(np.linalg.norm(seen(colour) - seen(other)) for other in others) > 0.05


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson (2020), a space in which distances are about as seen."""
    lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return lab @ np.cbrt(lms @ rgb)


OWN = ("engaged", "frustrated", "bored")


def test_own_labels_have_colours_that_can_be_told_apart_and_read() -> None:
    for labels in (OWN, (*EKMAN.labels, *OWN), ("专注", "沮丧", "无聊")):
        own = Palette(labels)
        assert set(own.colours) == set(own.inks) == set(own.letters) == set(own.stack) == set(labels)
        assert len(set(own.letters.values())) == len(labels)
        assert all(contrast(own.colours[label], own.inks[label]) >= 4.5 for label in labels)
        for matrix in DEFICIENCIES.values():
            seen = [oklab(np.clip(np.array(matrix) @ linear(c), 0, 1)) for c in own.colours.values()]
            distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
            assert min(distances) > 0.05


def test_own_labels_keep_their_colours_in_whatever_order_they_come() -> None:
    assert Palette(OWN).colours == Palette(OWN[::-1]).colours
    assert {label: Palette((*OWN, "anger")).colours[label] for label in ("anger",)} == {"anger": COLOURS["anger"]}


def test_every_emotion_has_a_colour_a_letter_and_a_place() -> None:
    assert set(STACK) == set(COLOURS) == set(LETTERS) == set(EKMAN.labels)
    assert len(set(LETTERS.values())) == len(EKMAN)


# --- the schema ------------------------------------------------------------------------------------------------------


def test_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("make", MAKERS)
def test_samples_obey_the_schema(make: Any) -> None:
    Draft202012Validator(schema()).validate(json.loads(make().to_json()))


def break_document(document: dict[str, Any], path: str, value: Any) -> None:
    *steps, last = [int(s) if s.isdigit() else s for s in path.split("/")]
    for step in steps:
        document = document[step]
    if value is KeyError:
        del document[last]  # type: ignore[arg-type]
    else:
        document[last] = value  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "affuse/analysis/3"),
        ("extra", 1),
        ("windows", KeyError),
        ("summary", []),
        ("source/kind", "smell"),
        ("source/duration", -1),
        ("source/sha256", "0" * 63),
        ("source/sha256", ""),
        ("labels", ["anger"]),
        ("windows/0/confidence", 1.2),
        ("windows/0/confidence", None),
        ("windows/0/label", "joy"),
        ("windows/0/label", None),
        ("windows/0/sentiment", -1.01),
        ("windows/0/conflict", 1.5),
        ("windows/0/fused", None),
        ("windows/0/fused/anger", "0.1"),
        ("windows/0/fused/anger", -0.1),
        ("windows/0/fused/calm", 0.1),
        ("windows/0/evidence/face/reason", "no face"),
        ("windows/0/evidence/face/probabilities", None),
        ("windows/0/evidence/face/note", ""),
        ("persons/0/boxes/0/width", 0),
        ("persons/0/id", ""),
        ("cues/0/start", None),
    ],
)
def test_broken_documents_fail(path: str, value: Any) -> None:
    document = samples.one_person().to_dict()
    break_document(document, path, value)
    with pytest.raises(ValidationError):
        Draft202012Validator(schema()).validate(document)


@pytest.mark.parametrize("version", ["affuse/analysis/1", "affuse/analysis/2"])
def test_documents_without_a_checksum_are_valid(version: str) -> None:
    document = samples.one_person().to_dict()
    Draft202012Validator(schema()).validate(document | {"source": document["source"] | {"sha256": "0" * 64}})
    del document["source"]["sha256"]
    Draft202012Validator(schema()).validate(document | {"schema": version})


def test_own_labels_obey_the_schema() -> None:
    document = json.loads(samples.own_labels().to_json())
    assert document["labels"] == list(OWN)
    assert any(w["label"] and w["sentiment"] is None for w in document["windows"])
    Draft202012Validator(schema()).validate(document)
    document["windows"][0]["fused"]["engaged"] = 1.5
    with pytest.raises(ValidationError):
        Draft202012Validator(schema()).validate(document)


def test_absence_needs_a_reason() -> None:
    document = samples.silent_nobody().to_dict()
    document["windows"][0]["evidence"]["face"]["reason"] = ""
    with pytest.raises(ValidationError):
        Draft202012Validator(schema()).validate(document)


def test_files_of_own_labels_read_back(tmp_path: Path) -> None:
    analysis = samples.own_labels()
    for _ in range(2):  # the second time they are known as our own
        paths = write_results(analysis, tmp_path, "lesson", "zh")
    assert [name for name in pd.read_parquet(paths[2]) if name.startswith("fused_")] == [f"fused_{n}" for n in OWN]
    assert pd.read_csv(paths[1])["sentiment"].isna().all()
    assert Page(paths[3].read_text("utf-8")).data["palette"]["stack"] == list(OWN)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_results_read_back(tmp_path: Path, make: Any) -> None:
    analysis: Analysis = make()
    paths = write_results(analysis, tmp_path / "deep" / "out", "clip")
    assert [p.name for p in paths] == ["clip.json", "clip.csv", "clip.parquet", "clip.html"]
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)
    assert json.loads(paths[0].read_text("utf-8")) == analysis.to_dict()
    frame = analysis.to_frame()
    numbers = frame.select_dtypes("number")
    pd.testing.assert_frame_equal(pd.read_parquet(paths[2])[list(numbers)], numbers)
    pd.testing.assert_frame_equal(pd.read_csv(paths[1])[list(numbers)].astype(float), numbers)
    assert list(pd.read_parquet(paths[2])) == list(frame)


def test_tables_of_all_kinds_have_the_same_types(tmp_path: Path) -> None:
    from pyarrow import parquet

    written = [write_results(make(), tmp_path, f"r{i}")[2] for i, make in enumerate(MAKERS)]
    first, *rest = [parquet.read_schema(path).remove_metadata() for path in written]
    assert all(other.equals(first) for other in rest)


def test_earlier_results_are_replaced(tmp_path: Path) -> None:
    write_results(samples.one_person(), tmp_path, "clip")
    write_results(samples.text_only(), tmp_path, "clip")
    assert json.loads((tmp_path / "clip.json").read_text("utf-8"))["source"]["kind"] == "text"
    assert len(pd.read_csv(tmp_path / "clip.csv")) == 1


@pytest.mark.parametrize("name", ["clip.json", "clip.csv", "clip.parquet", "clip.html"])
def test_files_of_others_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"words": []}', encoding="utf-8")
    with pytest.raises(OutputError, match=f"{re.escape(name)} exists and was not written by affuse"):
        write_results(samples.one_person(), tmp_path, "clip")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text("utf-8") == '{"words": []}'


def test_recording_is_never_overwritten(tmp_path: Path) -> None:
    clip = tmp_path / "clip.html"
    clip.write_bytes(b"a recording with an odd name")
    with pytest.raises(OutputError, match="is the recording itself"):
        write_report(samples.one_person(clip), clip)
    with pytest.raises(OutputError, match="is the recording itself"):
        write_results(samples.one_person(clip), tmp_path, "clip")
    assert clip.read_bytes() == b"a recording with an odd name"


def test_a_report_is_called_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in .html; got .*x.pdf"):
        write_report(samples.text_only(), tmp_path / "x.pdf")
    assert not list(tmp_path.iterdir())


def test_failure_leaves_nothing_and_keeps_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(samples.text_only(), tmp_path, "clip")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arro3.io.write_parquet", full)
    with pytest.raises(OutputError, match=r"cannot be written \(no space left on device\)"):
        write_results(samples.one_person(), tmp_path, "clip")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"file.* cannot be written"):
        write_results(samples.text_only(), tmp_path / "file" / "out", "clip")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(samples.text_only(), tmp_path / "file" / "report.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_report(samples.text_only(), tmp_path / "folder.html")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission denied"):
        write_report(samples.text_only(), tmp_path / "report.html")


# --- the terminal ----------------------------------------------------------------------------------------------------


def printed(analysis: Analysis, **options: Any) -> str:
    out = StringIO()
    print_analysis(analysis, Console(file=out, **({"width": 100} | options)))
    return out.getvalue()


def test_terminal_ribbon_has_one_cell_a_window() -> None:
    analysis = samples.one_person()
    lines = printed(analysis).splitlines()
    ribbon = {line.split()[0]: line[10:] for line in lines if line.split()[:1] and line.split()[0] in ("face", "fused")}
    letters = [LETTERS[v.label] if v.label else "·" for v in analysis.verdicts]
    assert ribbon["fused"] == "".join(letters)
    assert ribbon["face"].count("·") == sum(v.evidence["face"].probabilities is None for v in analysis.verdicts)
    conflict = next(line for line in lines if line.startswith("conflict "))[10:].ljust(len(letters))
    assert [mark == "▲" for mark in conflict] == [bool(v.conflict_text) for v in analysis.verdicts]


def test_terminal_names_answer_and_absences() -> None:
    text = printed(samples.audio_only(), width=200)
    assert headline(samples.audio_only()) in text
    assert "Missing: face: no picture" in text
    assert "Missing: words: no words in 2 of 10 windows" in text


def test_terminal_tells_every_share() -> None:
    summary = samples.audio_only().summary
    voice, text = (summary.evidence[name].points or 0 for name in ("voice", "text"))
    assert f"voice neutral {100 * voice:+.0f}, words sadness {100 * text:+.0f}" in printed(samples.audio_only())


def test_terminal_begins_with_the_prior_where_it_is_known() -> None:
    analysis = samples.audio_only()
    known = replace(analysis, summaries=[replace(analysis.summary, prior=-2.0)])
    assert "in percentage points: prior 12, voice neutral" in printed(known)


def test_terminal_spares_pictures_the_timeline() -> None:
    text = printed(samples.picture())
    assert "0:00" not in text
    assert "face happiness +" in text


def test_terminal_is_plain_when_piped_and_coloured_when_not() -> None:
    assert "\x1b" not in printed(samples.two_persons())
    assert "\x1b[" in printed(samples.two_persons(), force_terminal=True, color_system="truecolor")


def test_terminal_speaks_of_own_labels_in_both_languages() -> None:
    analysis = samples.own_labels()
    text = printed(analysis, width=200)
    lines = text.splitlines()
    assert any(line.split() == ["E", "engaged", "F", "frustrated", "B", "bored"] for line in lines)
    ribbon = next(line for line in lines if line.startswith("fused"))[10:]
    assert ribbon == "".join("·" if v.label is None else v.label[0].upper() for v in analysis.verdicts)
    assert "sentiment +" not in text
    out = StringIO()
    print_analysis(analysis, Console(file=out, width=200), "zh")
    assert out.getvalue().splitlines()[1].startswith("主要为engaged（")


def test_terminal_speaks_chinese_in_straight_columns() -> None:
    out = StringIO()
    print_analysis(samples.two_persons(), Console(file=out, width=120), "zh")
    text = out.getvalue()
    assert not set(re.findall("[a-z]{2,}", text)) - {"two", "people", "mp"}
    ribbon = [line for line in text.splitlines() if line.startswith(("面部", "语音", "融合"))]
    assert {cell_len(line) for line in ribbon if "：" not in line} == {10 + 18}


def test_terminal_merges_long_recordings() -> None:
    analysis = samples.long_video(10)
    lines = printed(analysis).splitlines()
    assert len(lines) < 140
    note = next(line for line in lines if "rows for" in line)
    assert note.startswith(tuple(str(n) for n in range(2, 41)))
    assert f"for {len(windows_of(analysis, 'person 1'))} windows" in note
    assert all(len(line) <= 100 for line in lines)


def test_terminal_merged_confidence_is_the_mean() -> None:
    one = samples.one_person(duration=60.0)
    same = [
        replace(v, label="neutral", conflict_text="", confidence=c)
        for v, c in zip(one.verdicts, np.linspace(0.4, 0.8, 58), strict=True)
    ]
    text = printed(replace(one, verdicts=same))
    assert re.search(r"0:00\.0 - 1:00\.0\s+neutral\s+60 %", text)


def test_terminal_obeys_no_hostile_name() -> None:
    text = printed(
        samples.one_person(name="\x1b[31mred\x07[bold]b[/bold]\u202egnp.mp4"), force_terminal=True, color_system=None
    )
    assert "\x07" not in text
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    assert "[bold]b[/bold]" in text


# --- the figure ------------------------------------------------------------------------------------------------------


def test_figure_draws_the_numbers() -> None:
    analysis = samples.one_person()
    figure = plot_timeline(analysis)
    fused, *_, sentiment = figure.axes
    assert len(figure.axes) == 2 + len(analysis.modalities)
    bars = dict(zip(STACK, fused.containers, strict=True))
    for label in EKMAN.labels:
        expected = [np.nan if v.fused is None else v.fused[EKMAN.index(label)] for v in analysis.verdicts]
        np.testing.assert_allclose([bar.get_height() for bar in bars[label]], expected)
    lines = sentiment.collections[0].get_segments()
    assert [line[0][1] for line in lines if len(line)] == [
        v.sentiment for v in analysis.verdicts if v.sentiment is not None
    ]


def test_figure_draws_own_labels() -> None:
    analysis = samples.own_labels()
    fused, *_ = plot_timeline(analysis).axes
    colours = Palette(OWN).colours
    drawn = {bars.get_label(): mcolors.to_hex(bars.patches[0].get_facecolor()).upper() for bars in fused.containers}
    assert drawn == colours


@pytest.mark.parametrize("make", MAKERS)
def test_figure_can_be_saved(make: Any, tmp_path: Path) -> None:
    plot_timeline(make()).savefig(tmp_path / "figure.png", dpi=30)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_figure_without_matplotlib_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'affuse\[plot\]'"):
        plot_timeline(samples.text_only())


# --- words -----------------------------------------------------------------------------------------------------------


def test_headline_says_the_answer_and_the_conflict() -> None:
    analysis = samples.one_person()
    disagreeing = sum(bool(v.conflict_text) for v in analysis.verdicts)
    summary = replace(
        analysis.summary, label="happiness", sentiment=0.412, fused=samples.distribution("happiness", 0.62)
    )
    said = headline(replace(analysis, summaries=[summary]))
    assert said == f"Mostly happiness (62 %), sentiment +0.4; face and words disagree in {disagreeing} of 18 windows"


def test_headline_without_a_majority_names_the_runner_up() -> None:
    summary = replace(samples.text_only().summary, fused=samples.distribution("fear", 0.4, "sadness"), sentiment=-0.02)
    said = headline(replace(samples.text_only(), summaries=[summary]))
    assert said == "Mixed: sadness (48 %) ahead of fear (40 %), sentiment 0"


def test_headline_of_a_picture_has_no_mostly() -> None:
    assert headline(samples.picture()).startswith("Happiness (")


def test_headline_without_evidence_says_what_is_absent() -> None:
    said = headline(samples.silent_nobody())
    assert said == "No answer (face: no face; voice: silence; words: no transcript)"


def test_absences_are_counted_by_reason() -> None:
    found = absences(samples.audio_only(), samples.audio_only().summary)
    assert found == {"face": ["no picture"], "voice": [], "text": ["no words in 2 of 10 windows"]}


def test_windows_of_a_person_are_completed_by_those_of_the_scene() -> None:
    analysis = samples.two_persons()
    first = analysis.verdicts[0].segment
    scene = [v if v.person == "person 2" or v.segment != first else replace(v, person=None) for v in analysis.verdicts]
    found = windows_of(replace(analysis, verdicts=scene), "person 1")
    assert [v.person for v in found[:2]] == [None, "person 1"]
    assert len(found) == len(windows_of(analysis, "person 1"))


@pytest.mark.parametrize("indent", [None, 2])
def test_json_in_pieces_is_json_in_one(indent: int | None) -> None:
    for make in (samples.one_person, samples.text_only):
        analysis = make()
        assert analysis.to_json(indent) == json.dumps(analysis.to_dict(), ensure_ascii=False, indent=indent)
        assert json.loads(analysis.to_json(indent)) == analysis.to_dict()


@pytest.mark.parametrize(
    "make", [*MAKERS, lambda: replace(samples.text_only(), verdicts=(), notes=("Say \u201cso\u201d.\n",))]
)
def test_json_file_is_the_same_object_with_an_entry_a_line(make: Callable[[], Analysis], tmp_path: Path) -> None:
    analysis = make()
    (path,) = write_results(analysis, tmp_path, "clip", formats=["json"])
    text = path.read_text(encoding="utf-8")
    told = analysis.to_dict()
    assert json.loads(text) == told
    assert list(json.loads(text)) == list(told)
    lines = [line.strip().removesuffix(",") for line in text.splitlines()]
    for name in ("windows", "cues", "turns", "persons", "summary", "notes"):
        start = next(i for i, line in enumerate(lines) if line.startswith(f'"{name}": ['))
        assert [json.loads(line) for line in lines[start + 1 : start + 1 + len(told[name])]] == told[name]
    for name, value in told["settings"].items():
        assert f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" in lines
