"""The page of the service in a real browser over a real server: analysing, live, fusing, errors, accessibility."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.request
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dialogues
from affuse.report.sentences import answer_in_words
from chromium import CHROMIUM, MARKS, QUIET, sync_api
from serving import LocalService, Server

pytest.importorskip("fastapi", reason="the extra serve is not installed")

DEMO = Path(__file__).parents[1] / "demo"
ATTACK = "<img src=x onerror=alert(1)>"
TOKEN = "0123456789abcdef-secret"


pytestmark = MARKS
FAKES = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
SLOW = 60_000  # milliseconds: machines that test are loaded
expect = sync_api.expect


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service") / "jobs", "--max-upload", "1") as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    camera, microphone = fake_devices(tmp_path_factory.mktemp("devices"))
    sources = [f"--use-file-for-fake-video-capture={camera}", f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *FAKES, *sources])
        yield browser
        browser.close()


def fake_devices(folder: Path) -> tuple[Path, Path]:
    """The demo clip as a camera (motion JPEG, every third picture) and a microphone (WAV)."""
    import av

    camera, microphone = folder / "camera.mjpeg", folder / "microphone.wav"
    with av.open(str(DEMO / "clip.mp4")) as clip, camera.open("wb") as out:
        for number, frame in enumerate(clip.decode(video=0)):
            if number % 3 == 0:
                frame.to_image().save(out, "JPEG", quality=90)
    resampler = av.AudioResampler("s16", "mono", 48_000)
    with av.open(str(DEMO / "clip.mp4")) as clip, wave.open(str(microphone), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        for frame in clip.decode(audio=0):
            for piece in resampler.resample(frame):
                sound.writeframes(piece.to_ndarray().tobytes())
    return camera, microphone


@dataclass
class Watch:
    """What a page must not do; refused requests are told on the console, and are expected where a test says so."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refusals: bool = False


Visit = Callable[..., Any]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def visit(browser: Any, server: Server, watch: Watch) -> Iterator[Visit]:
    """Open the page; whatever it complains of, or asks of anybody but the service, fails the test."""
    contexts: list[Any] = []

    def open_page(place: str = "", url: str = server.url, width: int = 1200, script: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, locale="en-GB", **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: watch.complaints.append(message.text))
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))
        page.on("dialog", lambda dialog: watch.complaints.append(dialog.message))
        page.on("request", lambda request: watch.requests.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(f"{url}/{place}")
        expect(page.locator("[role=tab][aria-selected=true]")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    refused = "Failed to load resource"
    assert [text for text in watch.complaints if not (watch.refusals and text.startswith(refused))] == []
    own = re.compile(r"(https?|ws)://127\.0\.0\.1:\d+/|blob:http://127\.0\.0\.1|data:")
    assert [url for url in watch.requests if not own.match(url)] == []


def ask(server: Server, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}/{path}", timeout=30) as answer:
        return json.load(answer)


def table(name: str, rows: dict[str, list[float | None]], labels: str = "id,anger,happiness") -> dict[str, Any]:
    """A CSV file as Playwright's file inputs take it."""
    lines = [labels, *(",".join([key, *("" if v is None else str(v) for v in row)]) for key, row in rows.items())]
    return {"name": name, "mimeType": "text/csv", "buffer": ("\n".join(lines) + "\n").encode()}


def downloaded(page: Any, selector: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.locator(selector).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def until(page: Any, condition: str) -> None:
    """Wait for a condition. Playwright's own waiting evaluates strings in the page, which its policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


# --- analysing --------------------------------------------------------------------------------------------------------


def test_demo_becomes_a_result(visit: Visit, server: Server) -> None:
    page = visit()
    page.locator("#compose-demo").click()
    expect(page.locator("#working-title")).to_have_text("Analysing clip.mp4")
    expect(page.locator("#result")).to_be_visible(timeout=SLOW)
    identity = page.url.split("#analyse/")[1]
    job = ask(server, f"v1/analyses/{identity}")
    words = ask(server, f"v1/analyses/{identity}/words.json")
    said = page.locator("#headline").inner_text().replace("\u00a0", " ")
    assert said.startswith(words["en"]["headlines"][0][0])
    assert page.evaluate("document.activeElement.id") == "result-name"

    timeline = page.locator("#timeline svg.timeline")
    expect(page.locator("#viewer .face")).to_have_count(1)
    assert [line.inner_text() for line in page.locator("#lines .who").all()] == ["Guest"] * len(job["result"]["cues"])
    turn = job["result"]["turns"][0]
    expect(page.locator("#timeline rect.turn title")).to_have_text(
        f"0:{turn['start']:04.1f}–0:{turn['end']:02.0f} Guest, {round(100 * turn['probability'])} %"
    )
    box = timeline.bounding_box()
    timeline.click(position={"x": box["width"] * 0.5, "y": 60})
    seconds = "document.querySelector('#media').currentTime"
    assert page.evaluate(seconds) == pytest.approx(job["result"]["source"]["duration"] / 2, abs=0.1)
    frame = page.locator("#media").bounding_box()
    assert frame["width"] / frame["height"] == pytest.approx(480 / 360, abs=0.01)
    conflict = next(w["conflict_text"] for w in job["result"]["windows"] if w["conflict_text"])
    expect(page.locator("#conflicts button").first).to_contain_text(conflict)
    assert page.locator("#shares li").count() == 5  # the prior, three modalities and the answer

    name, content = downloaded(page, "#download-csv")
    assert name == "clip.csv"
    assert len(list(csv.DictReader(io.StringIO(content.decode())))) == len(job["result"]["windows"])
    assert downloaded(page, "#download-parquet")[1][:4] == b"PAR1"
    assert json.loads(downloaded(page, "#download-json")[1]) == job["result"]
    assert b"affuse-data" in downloaded(page, "#download-report")[1]

    page.locator("#language").click()
    assert page.locator("#headline").inner_text().startswith(words["zh"]["headlines"][0][0].replace(" %", "\u00a0%"))
    assert "判断为" in page.locator("#conflicts button").first.inner_text()
    assert page.evaluate(seconds) == pytest.approx(job["result"]["source"]["duration"] / 2, abs=0.1)

    page.locator("#tab-fuse").click()
    page.locator("#tab-analyse").click()
    expect(page.locator("#result")).to_be_visible()  # as it was left
    assert page.evaluate(seconds) == pytest.approx(job["result"]["source"]["duration"] / 2, abs=0.1)

    page.reload()  # the service has no recording to give back; the user's own can be chosen again
    expect(page.locator("#result")).to_be_visible(timeout=SLOW)
    assert page.locator("#media").count() == 0
    page.locator("#attach").set_input_files(DEMO / "clip.mp4")
    expect(page.locator("video#media")).to_be_visible()

    page.locator("#result-delete").click()
    expect(page.locator("#compose")).to_be_visible()
    assert identity not in [job["id"] for job in ask(server, "v1/analyses")["analyses"]]


@pytest.mark.parametrize("version", [1, 2])
def test_dialogue_shows_who_speaks(visit: Visit, version: int) -> None:
    analysis = dialogues.dialogue() if version == 2 else dialogues.FirstVersion(**vars(dialogues.dialogue()))
    job = {"id": "abc", "state": "done", "name": "talk.mp4", "created": 0, "progress": 1, "stage": "", "error": ""}
    answers = {language: answer_in_words(analysis, language) for language in ("en", "zh")}
    page = visit()
    page.route("**/v1/analyses/abc", lambda route: route.fulfill(json=job | {"result": analysis.to_dict()}))
    page.route("**/v1/analyses/abc/words.json", lambda route: route.fulfill(json=answers))
    page.goto(f"{page.url.split('#')[0]}#analyse/abc")
    people = page.locator("#people label")
    expect(people).to_have_text(["Person 1", "Person 2", "Off screen"])
    told = version == 2
    expect(page.locator("#timeline .turn-text")).to_have_count(len(analysis.turns) if told else 0)
    expect(page.locator("#lines button")).to_have_count(len(analysis.cues))
    page.locator("#lines button").nth(2).click()
    expect(page.locator("#now .speaker")).to_have_text(["Speaks: off screen (90\u00a0%)"] if told else [])
    page.locator("#language").click()
    expect(people).to_have_text(["人物 1", "人物 2", "画面外"])
    who = ["人物 1", "人物 2", "画面外", "人物 2"]
    expect(page.locator("#lines .who")).to_have_text(who if told else [])
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    assert [v["id"] for v in axe.Axe().run(page).response["violations"]] == []


def test_many_recordings_show_their_answers(visit: Visit, server: Server, watch: Watch) -> None:
    page = visit()
    tone = io.BytesIO()
    with wave.open(tone, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes((9000 * np.sin(np.arange(16_000) / 5)).astype("<i2").tobytes())
    said = b"1\n00:00:00,000 --> 00:00:00,900\nI am so happy, this is wonderful!\n"
    chosen = [
        {"name": "day 1.wav", "mimeType": "audio/wav", "buffer": tone.getvalue()},
        {"name": "day 1.srt", "mimeType": "text/plain", "buffer": said},
        {"name": "day 2.wav", "mimeType": "audio/wav", "buffer": tone.getvalue()},
        {"name": "large.wav", "mimeType": "audio/wav", "buffer": bytes(2_000_000)},
    ]
    watch.refusals = True
    page.locator("#compose-file").set_input_files(chosen)
    expect(page.locator("#compose-picked")).to_contain_text("3 recordings")
    expect(page.locator("#compose-picked")).to_contain_text("1 with their words")
    expect(page.locator("#compose-transcript-field")).to_be_hidden()
    page.locator("#compose-submit").click()
    expect(page.locator("#compose-sending")).to_have_text("2 of 3 sent", timeout=SLOW)
    expect(page.locator("#compose-problem")).to_contain_text("large.wav")
    row = page.locator("#recent li", has_text="day 1.wav")
    expect(row.locator(".chip")).to_contain_text("happiness", timeout=SLOW)
    expect(page.locator("#recent li", has_text="day 2.wav").locator(".badge")).to_have_text("done", timeout=SLOW)
    page.locator("#compose-picked button").click()
    with page.context.expect_page() as opened:
        page.locator("#recent-all button").first.click()
    index = opened.value
    index.wait_for_selector("#rows tr:nth-child(2)")
    index.locator("#search").fill("day 1")
    link = index.locator("#rows a", has_text="day 1.wav")
    assert link.count() == 1
    name, content = downloaded(page, "#recent-all button:nth-of-type(2)")
    assert name == "summary.csv"
    assert "day 1.wav" in content.decode()
    with index.expect_download() as waiting:
        link.click()
    assert "I am so happy" in Path(waiting.value.path()).read_text(encoding="utf-8")


def test_text_becomes_a_result_and_runs_nothing(visit: Visit, watch: Watch) -> None:
    watch.refusals = True
    page = visit()
    page.locator("[name=kind][value=text]").check()
    page.locator("#compose-form [type=submit]").click()
    expect(page.locator("#compose-problem")).to_have_text("Write some text first.")
    page.locator("#compose-words").fill(f"I am so happy! {ATTACK}")
    page.route("**/v1/analyses/*", lambda route: route.abort())
    page.locator("#compose-form [type=submit]").click()
    expect(page.locator("#working-problem")).to_have_text("The service cannot be reached. Is it still running?")
    page.unroute("**/v1/analyses/*")  # the service is back
    expect(page.locator("#headline")).to_contain_text("Sentiment", timeout=SLOW)
    assert ATTACK in page.locator("#viewer").inner_text()
    page.locator("#result-new").click()
    expect(page.locator("#recent li").first).to_contain_text("done")
    assert page.evaluate("document.activeElement.tagName") == "H1"


def test_broken_recording_says_so_by_its_name(visit: Visit) -> None:
    page = visit()
    name = f"{ATTACK}.mp4"
    page.locator("#compose-file").set_input_files({"name": name, "mimeType": "video/mp4", "buffer": b"no video" * 99})
    expect(page.locator("#compose-picked")).to_contain_text(name)
    page.locator("#compose-form [type=submit]").click()
    expect(page.locator("#working-problem")).to_contain_text(name, timeout=SLOW)
    expect(page.locator("#working-title")).to_have_text(f"{name} could not be analysed")
    expect(page.locator("#working-back")).to_be_focused()
    page.locator("#working-back").click()
    row = page.locator("#recent li", has_text=ATTACK)
    expect(row).to_contain_text("failed")
    row.get_by_role("button", name=f"Delete {name}").click()
    expect(row).to_have_count(0)


def test_refusals_are_sentences_where_the_user_is(visit: Visit, watch: Watch) -> None:
    watch.refusals = True
    page = visit()
    problem, start = page.locator("#compose-problem"), page.locator("#compose-form [type=submit]")
    start.click()
    expect(problem).to_have_text("Choose a recording first.")
    page.locator("#compose-file").set_input_files(
        {"name": "large.mp4", "mimeType": "video/mp4", "buffer": bytes(1_200_000)}
    )
    start.click()
    expect(problem).to_contain_text(re.compile(r"too large for this service: .*at most 1"), timeout=SLOW)
    page.route(
        "**/v1/analyses",
        lambda route: route.fulfill(status=429, json={"detail": "100 jobs wait already"}, headers={"Retry-After": "7"}),
    )
    start.click()
    expect(problem).to_have_text("Too many analyses are waiting. Try again in 7 s.")
    page.unroute("**/v1/analyses")
    page.route("**/v1/analyses", lambda route: route.abort())
    start.click()
    expect(problem).to_have_text("The service cannot be reached. Is it still running?")
    page.unroute("**/v1/analyses")
    page.goto(page.url.split("#")[0] + "#analyse/0123")
    expect(page.locator("#working-problem")).to_contain_text("There is no such analysis.")


def test_token_is_asked_for_until_it_is_right(
    visit: Visit, watch: Watch, make_service: Callable[..., LocalService]
) -> None:
    watch.refusals = True
    guarded = make_service(token=TOKEN)
    page = visit(url=guarded.url)
    expect(page.locator("#token")).to_be_visible()
    page.locator("#token-value").fill("something-else-entirely")
    page.keyboard.press("Enter")
    expect(page.locator("#token-value")).to_have_value("")
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#recent")).to_contain_text("Nothing yet")
    page.reload()
    expect(page.locator("#recent")).to_contain_text("Nothing yet")
    assert TOKEN not in page.evaluate("JSON.stringify(localStorage)")
    cancelled = visit(url=guarded.url)
    cancelled.locator("#token-cancel").click()
    expect(cancelled.locator("#recent")).to_have_text("Without a token the service does not answer.")


# --- the page itself --------------------------------------------------------------------------------------------------


def test_language_and_colours_are_remembered(visit: Visit) -> None:
    page = visit()
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = "rgb(245, 246, 248)", "rgb(15, 19, 23)"
    assert (page.evaluate("document.documentElement.lang"), page.evaluate(ground)) == ("en", light)
    page.locator("#language").click()
    page.locator("#theme").click()
    for _ in range(2):
        expect(page.locator("#tab-analyse")).to_have_text("分析")
        assert (page.evaluate("document.documentElement.lang"), page.evaluate(ground)) == ("zh-CN", dark)
        page.reload()
    assert visit(color_scheme="dark").evaluate(ground) == dark


def test_tabs_by_keyboard_and_by_address(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#tab-analyse")).to_be_focused()
    for key, name in (("ArrowLeft", "fuse"), ("ArrowRight", "analyse"), ("End", "fuse"), ("ArrowLeft", "live")):
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{name}")).to_be_focused()
        expect(page.locator("[role=tab][aria-selected=true]")).to_have_id(f"tab-{name}")
        expect(page.locator("[role=tabpanel]:visible")).to_have_id(f"panel-{name}")
    page.go_back()
    expect(page.locator("#panel-fuse")).to_be_visible()
    expect(visit("#live").locator("#panel-live")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1200, "dark")])
def test_every_tab_is_accessible_and_fits(visit: Visit, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    page = visit(width=width, color_scheme=scheme)
    for name in ("analyse", "live", "fuse"):
        page.locator(f"#tab-{name}").click()
        if name == "fuse":
            page.locator("#fuse-example").click()
            expect(page.locator("#fuse-result")).to_be_visible(timeout=SLOW)
            page.locator("#panel-fuse summary").click()
        result = axe.Axe().run(page).response
        assert len(result["passes"]) > 20
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in result["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- fusing -----------------------------------------------------------------------------------------------------------

FACE = {"a": [0.2, 0.8], "b": [0.9, 0.1], "c": [None, None], "d": [0.6, 0.4]}
VOICE = {"a": [0.4, 0.6], "b": [0.7, 0.3], "c": [0.3, 0.7], "d": [0.1, 0.9]}


def test_tables_are_fused_by_the_product(visit: Visit, watch: Watch) -> None:
    watch.refusals = True
    page = visit("#fuse")
    start = page.locator("#fuse-form [type=submit]")
    page.locator("#fuse-files").set_input_files([table("face.csv", FACE)])
    start.click()
    expect(page.locator("#fuse-problem")).to_have_text("Choose at least two tables, one a modality.")
    page.locator("#fuse-files").set_input_files([table("voice.csv", VOICE | {"d": [0.1, 0.8]})])
    start.click()
    expect(page.locator("#fuse-problem")).to_contain_text("voice.csv")
    page.locator("#fuse-files").set_input_files([table("voice.csv", VOICE)])  # takes the place of that of this name
    expect(page.locator("#fuse-picked li")).to_have_count(2)
    start.click()
    expect(page.locator("#fuse-result-title")).to_have_text("4 rows fused", timeout=SLOW)
    expect(page.locator("#fuse-result-title")).to_be_focused()
    assert "face 3, voice 4" in page.locator("#fuse-facts").inner_text()
    name, content = downloaded(page, "#fuse-download")
    assert name == "fused.csv"
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(content.decode()))}
    for key, voice in VOICE.items():
        product = np.array([1.0 if v is None else v for v in FACE[key]]) * np.array(voice)
        found = [float(rows[key][label]) for label in ("anger", "happiness")]
        assert found == pytest.approx(list(product / product.sum()), abs=1e-6)
    assert rows["c"]["share_face"] == ""


def test_rules_are_compared_on_labelled_rows(visit: Visit) -> None:
    rng = np.random.default_rng(5)
    keys = [f"row {i}" for i in range(40)]
    truth = {key: ["anger", "happiness"][i % 2] for i, key in enumerate(keys)}
    faces, voices = (
        {key: [round(p, 3), round(1 - p, 3)] for key, p in zip(keys, _noisy(rng, truth), strict=True)} for _ in range(2)
    )
    page = visit("#fuse")
    expect(page.locator("#fuse-compare")).to_be_disabled()
    expect(page.locator("#fuse-method option", has_text="product")).to_have_count(1)
    page.locator("#fuse-files").set_input_files([table("face.csv", faces), table("voice.csv", voices)])
    lines = "\n".join(["id,label", *(f"{key},{label}" for key, label in truth.items())])
    page.locator("#fuse-truth").set_input_files({"name": "truth.csv", "mimeType": "text/csv", "buffer": lines.encode()})
    page.locator("#fuse-compare").check()
    page.locator("#fuse-form [type=submit]").click()
    expect(page.locator("#fuse-compared")).to_be_visible(timeout=SLOW)
    rows = [row.inner_text().split("\t") for row in page.locator("#fuse-comparison tbody tr").all()]
    accuracies = [float(row[1].split()[0]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {"auto", "product", "face alone", "voice alone"} <= {row[0] for row in rows}
    assert accuracies[0] > 60
    page.locator("#language").click()
    expect(page.locator("#fuse-comparison")).to_contain_text("仅face")


def _noisy(rng: np.random.Generator, truth: dict[str, str]) -> np.ndarray:
    """Probabilities of anger that are right more often than not."""
    lean = np.array([1.0 if label == "anger" else -1.0 for label in truth.values()])
    return 1 / (1 + np.exp(-(lean + rng.normal(0, 1, len(lean)))))


# --- live -------------------------------------------------------------------------------------------------------------


# The frame is about the face, which is in the middle of the clip.
CENTRED = """(() => {
    const [face, video] = ["#live-faces .face", "#live-video"]
        .map((s) => document.querySelector(s)?.getBoundingClientRect());
    return face && Math.abs(face.left + face.width / 2 - video.left - video.width / 2) < 0.2 * video.width;
})()"""


def test_camera_and_microphone_become_curves(visit: Visit) -> None:
    page = visit("#live", permissions=["camera", "microphone"])
    expect(page.locator("#live-over-time")).to_be_hidden()
    page.locator("#live-start").click()
    expect(page.locator("#live-state")).to_have_text("Live", timeout=SLOW)
    expect(page.locator("#live-faces .face")).to_have_count(1, timeout=SLOW)
    page.locator("#live-text").fill(f"I am so sad about it. {ATTACK}")
    page.keyboard.press("Enter")
    says = page.locator("#live-now .says li")
    expect(says.nth(0)).to_contain_text("happiness", timeout=SLOW)
    expect(says.nth(2)).to_contain_text("sadness", timeout=SLOW)
    expect(says.nth(1).locator(".chip")).to_have_count(1, timeout=SLOW)  # the voice of the clip has arrived
    expect(page.locator("#live-figures")).to_contain_text(re.compile(r"Delay\s*\d+ ms"))
    assert page.locator("#live-curves svg.timeline .band").count() > 20
    until(page, CENTRED)
    assert page.evaluate("document.querySelector('#live-camera').options.length") >= 3
    page.locator("#tab-fuse").click()  # nobody is filmed behind another tab
    page.locator("#tab-live").click()
    expect(page.locator("#live-state")).to_have_text("Stopped")
    assert page.evaluate("document.querySelector('#live-video').srcObject") is None


def test_lost_connection_is_found_again(visit: Visit) -> None:
    page = visit("#live", permissions=["camera", "microphone"])
    sockets: list[Any] = []

    def connect(socket: Any) -> None:
        sockets.append(socket)
        socket.connect_to_server() if len(sockets) > 1 else socket.close(code=3000, reason="")

    page.route_web_socket("**/v1/live", connect)
    page.locator("#live-microphone").select_option("off")
    page.locator("#live-start").click()
    expect(page.locator("#live-state")).to_have_text("The connection is lost; trying again", timeout=SLOW)
    expect(page.locator("#live-state")).to_have_text("Live", timeout=SLOW)
    expect(page.locator("#live-now .says li").nth(1)).to_contain_text("no sound", timeout=SLOW)
    page.locator("#live-stop").click()
    assert len(sockets) == 2


def test_live_says_why_it_cannot(visit: Visit) -> None:
    refuse = """navigator.mediaDevices.getUserMedia = () =>
        Promise.reject(new DOMException("no", window.refusal ?? "NotAllowedError"));"""
    page = visit("#live", script=refuse)
    start, problem = page.locator("#live-start"), page.locator("#live-problem")
    start.click()
    expect(problem).to_contain_text("The browser refuses the camera or the microphone.")
    page.locator("#language").click()
    expect(problem).to_contain_text("浏览器拒绝使用摄像头或麦克风")
    page.locator("#language").click()
    page.evaluate("window.refusal = 'NotFoundError'")
    start.click()
    expect(problem).to_contain_text("No such camera or microphone was found.")
    page.locator("#live-camera").select_option("off")
    page.locator("#live-microphone").select_option("off")
    start.click()
    expect(problem).to_contain_text("Switch on the camera or the microphone")
    insecure = visit("#live", script="Object.defineProperty(window, 'isSecureContext', { value: false });")
    insecure.locator("#live-start").click()
    expect(insecure.locator("#live-problem")).to_contain_text("open this page by https")


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_sound_keeps_its_waves_and_loses_those_above_8_khz(visit: Visit, rate: int) -> None:
    page = visit()
    level = """async ([rate, hertz]) => {
        const { Resampler } = await import("/static/resample.js");
        const resampler = new Resampler(rate, 16000);
        const made = [];
        const wave = (i) => Math.sin(2 * Math.PI * hertz * i / rate);
        for (let from = 0; from < rate; from += 128)
            made.push(...resampler.push(Float32Array.from({ length: 128 }, (_, i) => wave(from + i))));
        const steady = made.slice(1600, -1600);
        const power = steady.reduce((sum, x) => sum + x * x, 0) / steady.length;
        return [made.length, Math.sqrt(2 * power)];
    }"""
    length, loud = page.evaluate(level, [rate, 1000])
    assert length == pytest.approx(16_000, abs=40)
    assert loud == pytest.approx(1, abs=0.01)
    assert page.evaluate(level, [rate, 4000])[1] == pytest.approx(1, abs=0.02)
    assert page.evaluate(level, [rate, 11_000])[1] < 0.01
