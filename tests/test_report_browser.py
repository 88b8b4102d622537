"""The page of an analysis in a real browser: seeking, keyboard, screen readers, colours, and silence on the network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

import pytest

import dialogues
import samples
from affuse.report import headline, media, write_report
from affuse.report.palette import palette
from affuse.results import Analysis, Cue, Head
from affuse.timeline import Segment
from chromium import CHROMIUM, MARKS, QUIET, sync_api

pytestmark = MARKS
SECONDS = 6.0
TIMELINE = "svg.timeline"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a page must not do."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Open the report of an analysis; whatever it complains of or asks the network for fails the test."""
    watch = Watch()
    contexts: list[Any] = []

    def open_page(analysis: Analysis, width: int = 1200, language: str = "en", **options: Any) -> Any:
        path = write_report(analysis, tmp_path / "report" / "report.html", language)
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: watch.complaints.append(message.text))
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))
        page.on("dialog", lambda dialog: watch.complaints.append(dialog.message))
        page.on("request", lambda request: watch.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#headline")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watch.complaints == []
    here = tmp_path.as_uri()
    assert [url for url in watch.requests if not url.startswith(("data:", here))] == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=SECONDS)


def until(page: Any, condition: str) -> None:
    """Wait for a condition. Playwright's own waiting evaluates strings in the page, which its policy forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


def seconds(page: Any) -> float:
    until(page, "!document.querySelector('video').seeking")
    return float(page.evaluate("document.querySelector('video').currentTime"))


def ready(page: Any) -> Any:
    until(page, "document.querySelector('video').readyState >= 2")
    return page


def playhead(page: Any) -> float:
    return float(page.locator(TIMELINE).get_attribute("aria-valuenow"))


def click_at(page: Any, fraction: float) -> None:
    box = page.locator(TIMELINE).bounding_box()
    page.locator(TIMELINE).click(position={"x": box["width"] * fraction, "y": 60})


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "libvpx-vp9")])
def test_click_on_a_curve_seeks(show: Show, tmp_path: Path, suffix: str, codec: str) -> None:
    path = samples.write_clip(tmp_path / f"clip{suffix}", codec, SECONDS)
    page = ready(show(samples.one_person(path, SECONDS)))
    for fraction in (0.5, 0.25):
        click_at(page, fraction)
        assert seconds(page) == pytest.approx(SECONDS * fraction, abs=0.05)
        assert playhead(page) == pytest.approx(SECONDS * fraction, abs=0.1)


def test_dragging_seeks_all_along(show: Show, clip: Path) -> None:
    page = ready(show(samples.one_person(clip, SECONDS)))
    page.locator(TIMELINE).scroll_into_view_if_needed()
    box = page.locator(TIMELINE).bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 80)
    page.mouse.down()
    for fraction in (0.4, 0.6, 0.8):
        page.mouse.move(box["x"] + fraction * box["width"], box["y"] + 80)
        assert playhead(page) == pytest.approx(SECONDS * fraction, abs=0.1)
    page.mouse.up()
    assert seconds(page) == pytest.approx(SECONDS * 0.8, abs=0.05)
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 80)
    assert seconds(page) == pytest.approx(SECONDS * 0.8, abs=0.05)


def test_keyboard_goes_from_window_to_window_and_plays(show: Show, clip: Path) -> None:
    analysis = samples.one_person(clip, SECONDS)  # windows of 3 s start at 0, 1, 2 and 3 s
    page = ready(show(analysis))
    page.locator(TIMELINE).focus()
    seen = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"):
        page.keyboard.press(key)
        seen.append(round(seconds(page), 2))
    assert seen[:4] == [0.0, 2.5, 3.5, 2.5]
    assert seen[4] == pytest.approx(SECONDS, abs=0.25)
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    until(page, "document.querySelector('video').currentTime > 0.15")
    assert playhead(page) > 0
    page.keyboard.press(" ")
    assert page.evaluate("document.querySelector('video').paused")


def test_keyboard_works_from_anywhere_but_not_on_controls(show: Show, clip: Path) -> None:
    page = ready(show(samples.one_person(clip, SECONDS)))
    page.keyboard.press("ArrowRight")
    assert seconds(page) == pytest.approx(2.5, abs=0.01)
    page.locator("#theme").focus()
    page.keyboard.press(" ")
    assert page.evaluate("document.querySelector('video').paused")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_focus_is_visible_and_goes_from_top_to_bottom(show: Show, clip: Path) -> None:
    page = ready(show(samples.two_persons(clip, SECONDS)))
    where = """() => {
        const focused = document.activeElement;
        const ringed = focused.type === "radio" ? focused.nextSibling : focused;
        const name = focused.id || focused.getAttribute("role") || focused.className;
        return [ringed.getBoundingClientRect().top + scrollY, name, getComputedStyle(ringed).outlineStyle];
    }"""
    tops, names = [], []
    for _ in range(12):
        page.keyboard.press("Tab")
        top, name, outline = page.evaluate(where)
        tops.append(top)
        names.append(name)
        assert outline == "solid"
        if names[-1] == "slider":
            break
    assert names[:3] == ["skip", "language", "theme"]
    assert names[-1] == "slider"
    assert all(b >= a - 60 for a, b in pairwise(tops))


def test_screen_reader_hears_the_answer(show: Show, clip: Path) -> None:
    analysis = samples.one_person(clip, SECONDS)
    page = ready(show(analysis))
    page.locator(TIMELINE).focus()
    page.keyboard.press("End")
    last = analysis.verdicts[-1]
    said = f"{last.label}, {round(100 * last.confidence)}"
    assert said in page.locator(TIMELINE).get_attribute("aria-valuetext")
    sync_api.expect(page.locator("#status")).to_contain_text(said)


def test_face_boxes_lie_on_the_video(show: Show, clip: Path) -> None:
    analysis = samples.two_persons(clip, SECONDS)
    page = ready(show(analysis))
    click_at(page, 0.5)
    seconds(page)
    frame = page.locator("video").bounding_box()
    assert frame["width"] / frame["height"] == pytest.approx(1.5, abs=0.01)
    boxes = [page.locator(".face").nth(i).bounding_box() for i in range(2)]
    assert page.locator(".face").count() == 2
    for person, box in zip(analysis.persons, boxes, strict=True):
        x, y, width, height = person.boxes[6]  # two looks a second
        assert box["x"] == pytest.approx(frame["x"] + x * frame["width"], abs=3)
        assert box["y"] == pytest.approx(frame["y"] + y * frame["height"], abs=3)
        assert box["width"] == pytest.approx(width * frame["width"], abs=3)
        assert box["height"] == pytest.approx(height * frame["height"], abs=3)


def test_person_switch_changes_the_answer(show: Show, clip: Path) -> None:
    analysis = samples.two_persons(clip, SECONDS)
    page = ready(show(analysis))
    click_at(page, 0.1)
    for number, summary in enumerate(analysis.summaries):
        page.locator(".people label").nth(number).click()
        said = page.locator("#headline").inner_text().replace("\u00a0", " ")
        assert said.startswith(headline(analysis, summary).split(", sentiment")[0])
        window = next(v for v in analysis.verdicts if v.person == summary.person)
        assert window.label in page.locator(TIMELINE).get_attribute("aria-valuetext")


LATIN = {"affuse", "Shapley", "SHA"}
"""What may be Latin on a Chinese page."""


def english(page: Any) -> set[str]:
    """Words in Latin letters that are shown, read out or pop up; names of files, words of people, checksums aside."""
    for details in page.locator("summary").all():
        details.click()
    texts = page.evaluate("""() => {
        const own = ".file, blockquote, .cue-text, #caption, dd, [lang=en]";
        const names = ["aria-label", "title", "aria-valuetext", "alt"];
        const found = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const { parentElement: parent, data } = walker.currentNode;
            if (!parent.closest("script, style, noscript, .cue") && !parent.closest(own)) found.push(data);
        }
        for (const node of document.body.querySelectorAll("*"))
            if (!node.closest(own) && !node.matches("video, audio, img, .file"))
                for (const name of names) found.push(node.getAttribute(name) ?? "");
        return found;
    }""")
    return {word for text in texts for word in re.findall(r"[A-Za-z]+", text)} - LATIN


def test_chinese_report_shows_no_english(show: Show, clip: Path) -> None:
    page = ready(show(samples.two_persons(clip, SECONDS), language="zh"))
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    click_at(page, 0.5)
    assert english(page) == set()
    assert "人物 1" in page.locator(".people").inner_text()
    assert "判断为" in page.locator(".clashes button").first.inner_text()
    assert "文字稿比记录早 0.3 秒结束。" in page.locator("footer").inner_text()


def test_the_button_switches_the_language_and_nothing_else(show: Show, clip: Path) -> None:
    analysis = samples.two_persons(clip, SECONDS)
    page = ready(show(analysis))
    seen = page.locator(".hero, #over-time, .honesty")
    before = seen.all_inner_texts()
    page.locator(".people label").nth(1).click()
    click_at(page, 0.5)
    where = seconds(page)
    page.locator("#language").click()
    assert page.locator("#language").evaluate("node => node === document.activeElement")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.title().endswith("情绪分析报告")
    assert english(page) == set()
    assert seconds(page) == pytest.approx(where, abs=0.05)
    said = page.locator("#headline").inner_text().replace("\u00a0", " ")
    assert said.startswith(headline(analysis, analysis.summaries[1], "zh").split("，")[0])
    page.locator(TIMELINE).focus()
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")  # the curves still seek, and only once
    assert seconds(page) == pytest.approx(2.5, abs=0.05)
    page.locator(".play").click()
    until(page, "!document.querySelector('video').paused")
    page.locator(".play").click()
    page.locator("#language").click()
    page.locator(".people label").nth(0).click()
    page.locator(TIMELINE).focus()
    page.keyboard.press("Home")
    assert page.locator("video").count() == 1
    assert seen.all_inner_texts() == before


# --- where the head is directed ---------------------------------------------------------------------------------------


def with_heads(analysis: Analysis, shares: tuple[float | None, ...], whole: float) -> Analysis:
    """Heads directed at the camera in such shares of the pictures of the windows, and in ``whole`` of all pictures."""
    windows = zip(analysis.verdicts, shares, strict=True)
    heads = [replace(v, head=None if share is None else Head(-30.0, 2.0, 0.0, share)) for v, share in windows]
    return replace(
        analysis,
        verdicts=heads,
        summaries=[replace(analysis.summary, head=Head(-12.4, 3.0, -0.2, whole)), *analysis.summaries[1:]],
    )


def test_how_often_the_head_is_directed_at_the_camera_is_told(show: Show, clip: Path) -> None:
    page = ready(show(with_heads(samples.one_person(clip, SECONDS), (1.0, 0.5, None, 0.25), 0.6)))
    told = page.locator("#evidence li").last.inner_text().replace("\u00a0", " ").split("\n")
    assert told == ["Head to camera", "60 %", "The head, not the eyes; yaw −12°, pitch +3°, roll 0°"]
    page.locator("#table summary").click()
    sync_api.expect(page.locator("#table thead th").nth(7)).to_have_text("Head to camera")
    cells = page.locator("#table tbody tr").evaluate_all("rows => rows.map((row) => row.cells[7].textContent)")
    assert [cell.replace("\u00a0", " ") for cell in cells] == ["100 %", "50 %", "–", "25 %"]
    page.locator("#language").click()
    assert english(page) == set()
    assert "指头部，不是眼睛；偏航角 −12°，俯仰角 +3°，翻滚角 0°" in page.locator("#evidence").inner_text()


def test_the_head_has_a_curve_over_time(show: Show, clip: Path) -> None:
    """Windows of 3 s that start at 0, 1, 2 and 3 s stand for 0 to 2, 2 to 3, 3 to 4 and 4 to 6 s."""
    page = ready(show(with_heads(samples.one_person(clip, SECONDS), (1.0, 0.5, None, 0.25), 0.6)))
    title = page.locator(".row-title").last
    assert title.text_content() == "Head towards the camera"
    top = float(title.get_attribute("y")) - 15 + 24  # a title is 24 pixels high, and its text begins 15 below its top
    assert page.locator(".blank title").last.text_content() == "0:03–0:04 head not measured"
    width = page.locator(TIMELINE).bounding_box()["width"] - 2  # a pixel on each side is left free
    drawn = page.locator(".curve-line").evaluate_all("lines => lines.map((line) => line.getAttribute('d'))")[-2:]
    found = [[tuple(map(float, point.split(","))) for point in line.lstrip("M").split("L")] for line in drawn]
    expected = [[(0, 1.0), (1, 1.0), (2.5, 0.5), (3, 0.5)], [(4, 0.25), (5, 0.25), (6, 0.25)]]
    for line, points in zip(found, expected, strict=True):
        for (x, y), (time, share) in zip(line, points, strict=True):
            assert x == pytest.approx(1 + width * time / SECONDS, abs=0.2)
            assert y == pytest.approx(top + 48 * (1 - share), abs=0.1)


def test_each_person_has_a_head_and_where_there_is_none_nothing_is_shown(show: Show, clip: Path) -> None:
    analysis = samples.two_persons(clip, SECONDS)
    shares = tuple(0.5 if verdict.person == "person 1" else None for verdict in analysis.verdicts)
    page = ready(show(with_heads(analysis, shares, 0.5)))
    for number, seen in enumerate((True, False)):
        page.locator(".people label").nth(number).click()
        assert ("Head to camera" in page.locator("#evidence").inner_text()) == seen
        assert ("Head towards the camera" in page.locator(".row-title").all_text_contents()) == seen
        page.locator("#table").evaluate("details => { details.open = true; }")
        sync_api.expect(page.locator("#table thead th", has_text="Head to camera")).to_have_count(int(seen))


# --- who speaks -------------------------------------------------------------------------------------------------------


def seek(page: Any, time: float) -> None:
    click_at(page, time / SECONDS)
    seconds(page)


def test_turns_are_boxes_at_their_times(show: Show, clip: Path) -> None:
    analysis = dialogues.dialogue(clip)
    page = ready(show(analysis))
    assert page.locator(".row-title").first.text_content() == "Who speaks"
    width = page.locator(TIMELINE).bounding_box()["width"] - 2  # a pixel on each side is left free
    boxes = page.locator("rect.turn[height='24']").evaluate_all(
        """boxes => boxes.map((box) => ({
            x: +box.getAttribute("x"), width: +box.getAttribute("width"), opacity: +box.getAttribute("fill-opacity"),
            kind: box.getAttribute("class"), fill: getComputedStyle(box).fill, title: box.textContent }))"""
    )
    assert len(boxes) == len(analysis.turns)
    for box, turn in zip(boxes, analysis.turns, strict=True):
        assert box["x"] == pytest.approx(1 + width * turn.segment.start / SECONDS, abs=0.1)
        assert box["width"] == pytest.approx(width * turn.segment.duration / SECONDS, abs=0.1)
        assert box["opacity"] == turn.probability
    assert boxes[0]["title"] == "0:00–0:01.5 Person 1, 95 %"
    assert boxes[3]["title"] == "0:04.5–0:05.7 Person 2, 55 %"
    assert ["unsure" in box["kind"] for box in boxes] == [False, False, False, True]
    assert boxes[1]["fill"] == boxes[3]["fill"]  # of the same person
    assert len({box["fill"] for box in boxes}) == 3
    assert page.locator(".turn-text").all_text_contents() == ["Person 1", "Person 2", "Off screen", "Person 2"]


def test_every_person_has_a_track_also_without_a_face(show: Show, clip: Path) -> None:
    analysis = dialogues.dialogue(clip)
    page = ready(show(analysis))
    titles = page.locator(".row-title").all_text_contents()
    assert titles[1:5] == ["Person 1", "Person 2", "Off screen", "Person 1: share of each emotion"]
    drawn = page.locator("rect[height='26']:not(.cue)").evaluate_all(
        "rects => rects.map((rect) => [+rect.getAttribute('y'), rect.textContent.split(' ').slice(1).join(' ')])"
    )
    tracks = [{label for y, label in drawn if y == top} for top in sorted({y for y, _ in drawn})]
    own = [[v.label or "no evidence" for v in analysis.verdicts if v.person == name] for name in dialogues.NAMES]
    assert tracks == [set(labels) for labels in own]
    page.locator(".people label", has_text="Off screen").click()
    assert page.locator(".row-title").all_text_contents()[4] == "Off screen: share of each emotion"
    assert page.locator("#timeline .cue title").all_text_contents() == ["Ten seconds, please."]
    assert page.locator(".row-title.other").all_text_contents() == ["Person 1", "Person 2"]


def test_summary_counts_only_what_is_theirs(show: Show, clip: Path) -> None:
    analysis = dialogues.dialogue(clip)
    page = ready(show(analysis))
    seek(page, 2.25)  # the second person speaks
    amounts = {}
    for name in ("Person 1", "Person 2", "Off screen"):
        page.locator(".people label", has_text=name).click()
        rows = [row.inner_text().split("\n") for row in page.locator("#evidence li").all()]
        amounts[name] = {row[0]: row[1:] for row in rows}
        assert page.locator("#now blockquote").count() == (name == "Person 2")
        assert page.locator("#now .speaker").inner_text() == "Speaks: person 2 (80\u00a0%)"
    assert amounts["Person 1"]["Voice"] == ["2 of 4 windows", "Somebody else speaks in 2 of 4 windows"]
    assert amounts["Off screen"]["Face"] == ["0 of 4 windows", "Not seen"]
    assert [amounts[name]["Speaks"] for name in amounts] == [["1.5 of 5.7 s"], ["2.7 of 5.7 s"], ["1.5 of 5.7 s"]]


def test_face_of_whoever_speaks_is_marked(show: Show, clip: Path) -> None:
    page = ready(show(dialogues.dialogue(clip)))
    found = []
    for time in (0.75, 2.25, 3.75, 5.1, 5.85):
        seek(page, time)
        marks = [[mark.inner_text() for mark in face.locator(".speaks").all()] for face in page.locator(".face").all()]
        found.append((*marks, page.locator(".heard").all_text_contents()))
    now, perhaps = ["speaks now"], ["perhaps speaks"]
    assert found[:2] == [(now, [], []), ([], now, [])]
    assert found[2] == ([], [], ["Off screenspeaks now"])
    assert found[3:] == [([], perhaps, []), ([], [], [])]


def test_transcript_names_colours_and_seeks(show: Show, clip: Path) -> None:
    analysis = dialogues.dialogue(clip)
    page = ready(show(analysis))
    lines = page.locator("#lines button")
    assert lines.count() == len(analysis.cues)
    said_in = (0.0, 1.0, 2.0, 3.0)  # starts of the windows whose part of time holds the middles of the cues
    for i, (cue, start) in enumerate(zip(analysis.cues, said_in, strict=True)):
        line = lines.nth(i)
        window = next(v for v in analysis.verdicts if v.person == cue.speaker and v.segment.start == start)
        name = "Off screen" if cue.speaker == "off screen" else str(cue.speaker).capitalize()
        assert (line.locator(".who").inner_text(), line.locator(".cue-text").inner_text()) == (name, cue.text)
        assert line.locator(".chip").inner_text() == window.label
        edge = line.evaluate("line => getComputedStyle(line).borderLeftColor")
        ground = line.locator(".chip").evaluate("chip => getComputedStyle(chip).backgroundColor")
        assert edge == ground
    for i in (2, 1):
        lines.nth(i).click()
        assert seconds(page) == pytest.approx(analysis.cues[i].segment.start, abs=0.05)
        assert [line.get_attribute("aria-current") for line in lines.all()].index("true") == i


def test_transcript_is_one_stop_for_the_keyboard(show: Show, clip: Path) -> None:
    analysis = dialogues.dialogue(clip)
    page = ready(show(analysis))
    page.locator("#lines button").first.focus()
    focused = "[...document.querySelectorAll('#lines button')].indexOf(document.activeElement)"
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "End", "ArrowDown", "Home"):
        page.keyboard.press(key)
        seen.append(page.evaluate(focused))
    assert seen == [1, 2, 1, 3, 3, 0]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert seconds(page) == pytest.approx(analysis.cues[1].segment.start, abs=0.05)
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == -1
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(focused) == 1


def test_screen_reader_hears_who_speaks(show: Show, clip: Path) -> None:
    page = ready(show(dialogues.dialogue(clip)))
    for time, said in (
        (2.25, "; speaks: person 2"),
        (3.75, "; speaks: off screen"),
        (5.1, "; perhaps speaks: person 2"),
    ):
        seek(page, time)
        assert page.locator(TIMELINE).get_attribute("aria-valuetext").endswith(said)
        assert page.locator("#status").inner_text().endswith(said)
    seek(page, 5.85)
    assert "speaks" not in page.locator(TIMELINE).get_attribute("aria-valuetext")


def test_call_without_a_picture_names_who_speaks(show: Show) -> None:
    page = show(dialogues.call())
    assert page.locator(".people label").all_inner_texts() == ["Channel 1", "Channel 2"]
    click_at(page, 0.75)
    name, words = page.locator("#caption").inner_text().split("\n")
    assert (name, words) == ("Channel 2", samples.CUES[3])
    assert page.locator("#now .speaker").inner_text().startswith("Speaks: channel 2")


def test_chinese_dialogue_shows_no_english(show: Show, clip: Path) -> None:
    page = ready(show(dialogues.dialogue(clip), language="zh"))
    for time, name in ((3.75, "画面外"), (5.1, "人物 2")):
        seek(page, time)
        assert name in page.locator("#now .speaker").inner_text()
        assert english(page) == set()
    page = show(dialogues.call(), language="zh")
    assert "声道 1" in page.locator(".people").inner_text()
    assert english(page) - {"wav"} == set()


def test_language_button_keeps_the_transcript(show: Show, clip: Path) -> None:
    page = ready(show(dialogues.dialogue(clip)))
    page.locator("#lines button").nth(2).click()
    page.locator("#language").click()
    lines = page.locator("#lines button")
    assert [line.locator(".who").inner_text() for line in lines.all()] == ["人物 1", "人物 2", "画面外", "人物 2"]
    assert lines.nth(2).get_attribute("aria-current") == "true"


def test_document_of_version_1_is_shown_as_before(show: Show, clip: Path) -> None:
    page = ready(show(dialogues.FirstVersion(**vars(dialogues.dialogue(clip)))))
    seek(page, 2.25)
    assert page.locator(".turn[height]").count() == 0
    assert page.locator(".speaks, .heard, #now .speaker, #lines .who").count() == 0
    assert page.locator("#now blockquote").inner_text() == "What a surprise!"  # of whom, nobody knows
    assert page.locator("#lines button").count() == 4
    assert page.locator("#lines .chip").count() == 0
    page.locator("#lines button").nth(2).click()
    assert seconds(page) == pytest.approx(3, abs=0.05)
    page.locator("#table summary").click()
    page.locator("#table thead th").first.wait_for()
    assert "Speaks" not in page.locator("#table thead").inner_text()


def test_table_tells_how_probable_it_is_that_they_speak(show: Show) -> None:
    analysis = dialogues.dialogue()
    page = show(analysis)
    page.locator("#table summary").click()
    page.locator("#table thead th").first.wait_for()  # drawn once it is opened
    column = page.locator("#table thead th").all_inner_texts().index("Speaks")
    cells = [row.locator("th, td").nth(column).inner_text() for row in page.locator("#table tbody tr").all()]
    own = [v.speaking for v in analysis.verdicts if v.person == "person 1"]
    assert cells == [f"{round(100 * p)}\u00a0%" for p in own]


def test_what_decided_it_is_in_points_and_adds_up(show: Show) -> None:
    analysis = samples.audio_only()
    known = replace(analysis, summaries=[replace(analysis.summary, prior=-2.0)])
    page = show(known)
    shown = page.locator("#shares li .value").all_inner_texts()
    assert shown[0].replace("\u00a0", " ") == "12 %"
    voice, text = (analysis.summary.evidence[m].points or 0 for m in ("voice", "text"))
    assert [value.replace("−", "-") for value in shown[2:4]] == [f"{100 * voice:+.0f}", f"{100 * text:+.0f}"]
    assert shown[1] == "absent"
    assert shown[-1].replace("\u00a0", " ") == f"{100 * (analysis.summary.confidence or 0):.0f} %"


def test_own_labels_have_their_colours_and_names(show: Show, clip: Path) -> None:
    analysis = samples.own_labels(clip, SECONDS)
    page = ready(show(analysis))
    assert page.locator("#legend li").all_inner_texts() == ["engaged", "frustrated", "bored"]
    colours = palette(analysis.labels.labels).colours
    found = page.evaluate("[...document.querySelectorAll('.band')].map((band) => band.getAttribute('fill'))")
    assert set(found) == set(colours.values())
    assert page.locator("#headline").inner_text().startswith("Mostly engaged")
    assert page.locator("#gauge").inner_text() == ""
    assert "Sentiment" not in page.locator("#timeline").inner_html()
    page.locator("#language").click()
    assert page.locator("#headline").inner_text().startswith("主要为engaged")


def test_conflicts_are_listed_and_lead_there(show: Show, clip: Path) -> None:
    analysis = samples.one_person(clip, SECONDS)
    first = next(v for v in analysis.verdicts if v.conflict_text)
    page = ready(show(analysis))
    button = page.locator(".clashes button").first
    assert first.conflict_text in button.inner_text()
    button.click()
    seconds(page)
    assert first.conflict_text in page.locator(".clash").inner_text()


def test_colours_follow_the_system_and_the_button(show: Show) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = "rgb(245, 246, 248)", "rgb(15, 19, 23)"
    page = show(samples.text_only(), color_scheme="dark")
    assert page.evaluate(ground) == dark
    page.locator("#theme").click()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="light")
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark


def test_reduced_motion_is_honoured(show: Show) -> None:
    page = show(samples.text_only(), reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('.track i')).transitionDuration") == "0s"


def test_table_holds_every_window_a_page_at_a_time(show: Show) -> None:
    analysis = samples.long_video(4)
    count = sum(v.person == "person 1" for v in analysis.verdicts)
    page = show(analysis)
    rows = page.locator("#table tbody tr")
    assert rows.count() == 0
    page.locator("#table summary").click()
    sync_api.expect(rows).to_have_count(200)
    page.locator("#table-body > button").click()
    assert rows.count() == count
    assert not page.locator("#table-body > button").is_visible()


def view(page: Any) -> tuple[str, ...]:
    return tuple(page.locator(".zoom output").inner_text().split("–"))


def test_zoom_by_buttons_keys_and_wheel(show: Show) -> None:
    page = show(samples.long_video(4))
    assert view(page) == ("0:00", "4:00")
    page.locator(".zoom button").nth(1).click()
    assert view(page) == ("0:00", "2:00")  # around the playhead, which is at the start
    page.locator(TIMELINE).focus()
    for key, expected in (("+", ("0:00", "1:00")), ("-", ("0:00", "2:00")), ("0", ("0:00", "4:00"))):
        page.keyboard.press(key)
        assert view(page) == expected
    assert page.locator(".zoom button").nth(2).is_disabled()
    click_at(page, 0.5)  # the middle of four minutes
    page.locator(".zoom button").nth(1).click()
    assert view(page) == ("1:00", "3:00")
    click_at(page, 0.25)  # clicks count within what is in view
    assert playhead(page) == pytest.approx(90, abs=1)
    page.locator(TIMELINE).hover(position={"x": 5, "y": 60})
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    start, end = view(page)
    assert start == "1:00"
    assert end in ("1:59", "2:00", "2:01")


def test_the_overview_chooses_what_is_shown(show: Show) -> None:
    page = show(samples.long_video(4))
    strip = page.locator("svg.overview")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()

    def drag(start: float, end: float) -> None:
        page.mouse.move(box["x"] + start * box["width"], box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + 12, steps=4)
        page.mouse.up()

    drag(0.25, 0.5)
    assert view(page) == ("1:00", "2:00")
    drag(0.4, 0.65)  # from within: moves it
    assert view(page) == ("2:00", "3:00")
    drag(0.75, 1.0)  # its right edge
    assert view(page) == ("2:00", "4:00")
    strip.click(position={"x": 0.25 * box["width"], "y": 10})
    assert view(page) == ("0:00", "2:00")
    assert playhead(page) == pytest.approx(60, abs=1)
    page.wait_for_timeout(50)
    ribbon = page.locator(f"{TIMELINE} text.scale").all_text_contents()
    assert "2:00" in ribbon
    assert "4:00" not in ribbon


def test_playing_and_seeking_keep_the_moment_in_view(show: Show) -> None:
    page = show(samples.long_video(4))
    page.locator(".zoom button").nth(1).click()
    page.locator(TIMELINE).focus()
    page.keyboard.press("End")
    assert view(page) == ("2:00", "4:00")
    page.keyboard.press("Home")
    assert view(page) == ("0:00", "2:00")


def test_short_recordings_have_no_zoom(show: Show, clip: Path) -> None:
    page = show(samples.one_person(clip, SECONDS))
    assert page.locator(".zoom").count() == 0
    assert page.locator("#highlights").is_hidden()


def test_highlights_lead_there_and_zoom_in(show: Show) -> None:
    page = show(samples.long_video(4))
    moments = page.locator("#moments button")
    assert moments.count() >= 4
    minutes, seconds_ = moments.first.locator(".time").inner_text().split(":")
    moments.first.click()
    assert playhead(page) == pytest.approx(60 * int(minutes) + float(seconds_) + 1.5, abs=1)
    assert view(page) != ("0:00", "4:00")
    answer = page.locator("#headline").bounding_box()["y"]
    assert answer < page.locator("#highlights").bounding_box()["y"] < page.locator("#watch").bounding_box()["y"]


def sentences(count: int) -> Analysis:
    kinds = ("anger", "happiness", "neutral")
    cues = [
        Cue(Segment(i / count, (i + 1) / count), f"Sentence {i}.", "en", None, kinds[i % 3], 0.6) for i in range(count)
    ]
    return replace(samples.text_only("Sentence 0."), cues=cues)


def test_a_text_is_told_sentence_by_sentence(show: Show) -> None:
    page = show(sentences(6))
    lines = page.locator("#lines .line")
    assert lines.count() == 6
    assert [line.locator(".chip").inner_text() for line in lines.all()] == ["anger", "happiness", "neutral"] * 2
    assert page.locator("#lines button").count() == 0  # there is nothing to seek
    assert "Click" not in page.locator("#transcript .help").inner_text()


def test_of_a_long_transcript_only_what_is_in_view_is_in_the_document(show: Show) -> None:
    page = show(sentences(5000))
    lines = page.locator("#lines .line")
    assert lines.count() <= 300
    page.evaluate("document.getElementById('lines').scrollTop = 1e9")
    sync_api.expect(page.locator("#lines")).to_contain_text("Sentence 4999.")
    assert lines.count() <= 600
    page.locator("#moments button").first.click()
    sync_api.expect(page.locator("#lines")).to_contain_text("Sentence 0.")
    assert page.locator("#caption").inner_text().endswith("…")


def test_words_that_say_something_else_are_told_too(show: Show) -> None:
    analysis = samples.audio_only()
    cue = replace(analysis.cues[0], label="fear", confidence=0.9)
    page = show(replace(analysis, cues=[cue, *analysis.cues[1:]]))
    line = page.locator("#lines .line").first
    assert line.locator(".chip").all_inner_texts() == [line.locator(".chip").first.inner_text(), "fear"]
    assert page.locator("#lines .words").count() == 1


def test_half_an_hour_draws_at_once(show: Show) -> None:
    page = show(samples.long_video(30))
    assert page.evaluate("performance.timing.domComplete - performance.timing.responseEnd") < 6000
    points = page.evaluate(
        "[...document.querySelectorAll('.band')].reduce((n, p) => n + p.getAttribute('d').length, 0)"
    )
    assert points < 500_000


def test_hevc_plays_as_a_copy(show: Show, tmp_path: Path) -> None:
    path = samples.write_clip(tmp_path / "phone.mp4", "libx265", SECONDS)
    page = ready(show(samples.one_person(path, SECONDS)))
    assert "a small copy plays here" in page.locator("#media-note").inner_text()
    assert page.evaluate("document.querySelector('video').currentSrc").startswith("data:video/mp4")
    click_at(page, 0.5)
    assert seconds(page) == pytest.approx(3, abs=0.05)
    page.keyboard.press(" ")
    until(page, "document.querySelector('video').currentTime > 3.2")


def test_unplayable_recording_still_has_a_clock(show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "EMBED_LIMIT", 10)  # no room for a copy
    path = samples.write_clip(tmp_path / "clip.mpg", "mpeg1video", SECONDS, 25, (120, 80))
    page = show(samples.one_person(path, SECONDS))
    assert "cannot play this format (mpg)" in page.locator("#media-note").inner_text()
    first = page.locator("#still").get_attribute("src")
    click_at(page, 0.9)
    assert page.locator("#still").get_attribute("src") != first
    page.keyboard.press("Home")
    page.locator(".play").click()
    page.wait_for_timeout(300)
    page.locator(".play").click()
    assert 0.1 < playhead(page) < SECONDS


def test_linked_recording_plays_from_beside_the_page(
    show: Show, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(media, "EMBED_LIMIT", 10)
    path = shutil.copy(clip, tmp_path / "clip of 100 %.mp4")
    page = ready(show(samples.one_person(Path(path), SECONDS)))
    click_at(page, 0.5)
    assert seconds(page) == pytest.approx(3, abs=0.05)


def test_recording_that_the_browser_refuses_gives_way_to_a_clock(
    show: Show, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(media, "_CODECS", {"mpeg4"})
    page = show(samples.one_person(samples.write_clip(tmp_path / "old.mp4", "mpeg4", SECONDS), SECONDS))
    sync_api.expect(page.locator(".notice")).to_contain_text("This browser cannot play the recording")
    click_at(page, 0.5)
    assert playhead(page) == pytest.approx(3, abs=0.1)


def test_hostile_words_run_nothing(show: Show) -> None:
    attack = "</script><img src=x onerror=alert(1)><svg onload=alert(2)>"
    analysis = samples.text_only(attack)
    page = show(analysis)
    page.wait_for_timeout(100)
    assert page.locator("#caption").inner_text() == attack
    named = replace(samples.one_person(name=attack, duration=6.0), cues=[Cue(Segment(0, 5), attack, None)])
    page = show(named)
    assert page.locator(".file bdi").inner_text() == attack


@pytest.mark.parametrize(
    "make",
    [samples.one_person, samples.picture, samples.silent_nobody, dialogues.dialogue],
    ids=lambda make: make.__name__,
)
def test_phone_never_scrolls_sideways(show: Show, make: Any) -> None:
    page = show(make(), width=340)
    assert page.evaluate("document.documentElement.scrollWidth") <= 340


@pytest.mark.parametrize(
    ("make", "scheme"),
    [
        (samples.two_persons, "light"),
        (samples.two_persons, "dark"),
        (samples.audio_only, "dark"),
        (dialogues.dialogue, "light"),
        (dialogues.dialogue, "dark"),
        (samples.picture, "light"),
    ],
)
def test_axe_finds_nothing(show: Show, make: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    page = show(make(), color_scheme=scheme)
    for details in page.locator("summary").all():
        details.click()
    result = axe.Axe().run(page).response
    found = result["violations"]
    assert len(result["passes"]) > 20
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []


def test_timeline_is_a_module_that_live_pages_can_feed(browser: Any) -> None:
    folder = Path(media.__file__).parent / "static"
    page = browser.new_page()
    page.route("http://affuse.test/", lambda route: route.fulfill(content_type="text/html", body="<div id=here></div>"))
    page.route("http://affuse.test/*.js", lambda route: route.fulfill(path=folder / PurePath(route.request.url).name))
    page.goto("http://affuse.test/")
    short, longer = (samples.one_person(duration=seconds) for seconds in (6.0, 12.0))
    ends = page.evaluate(
        """async ([short, longer, palette]) => {
            const { createTimeline, formatter } = await import("/timeline.js");
            const here = document.getElementById("here");
            const say = formatter({});
            const timeline = createTimeline(here, short, { say, palette, person: "person 1", onSeek: () => {} });
            const value = (name) => here.querySelector("svg").getAttribute("aria-value" + name);
            const first = value("max");
            timeline.update(longer);
            timeline.setTime(11.5);
            return [first, value("max"), timeline.index.windows.length, value("now")];
        }""",
        [short.to_dict(), longer.to_dict(), palette().to_dict()],
    )
    page.close()
    assert ends == ["6.0", "12.0", len(longer.verdicts), "11.5"]
