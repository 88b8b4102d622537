"""How quickly the report of a long recording and the page over many recordings open and answer, in Chromium.

``python bench/report.py`` makes an analysis of ``--minutes`` with ``--persons`` and a sentence every 2.4 s, and
measures the time to open its report, to zoom, to go to a moment, to choose another person and to scroll the
transcript. A text of 100,000 sentences and an index of 5,000 recordings are measured as well. Times are of the page
itself, in milliseconds, the best of ``--repeat``: work until the next picture is drawn. ``--pictures FOLDER`` keeps
screenshots.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from affuse.labels import EKMAN
from affuse.people import Turn
from affuse.report import write_report
from affuse.results import Analysis, Cue, Evidence, Person, Source, Verdict
from affuse.timeline import Segment, Timeline

MODALITIES = ("face", "voice", "text")
SIGNS = np.array([-1, -1, -1, 1, -1, 0, 0])
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")

PAINTED = """async (act) => {
    const started = performance.now();
    await eval(act)();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    return performance.now() - started;
}"""
ACTIONS = {
    "zoom in": "() => document.querySelector('.zoom button:nth-child(2)').click()",
    "zoom in further": "() => document.querySelector('.zoom button:nth-child(2)').click()",
    "show all": "() => document.querySelector('.zoom button:nth-child(3)').click()",
    "go to a highlight": "() => document.querySelector('#moments button:last-of-type').click()",
    "next window": "() => document.querySelector('svg.timeline')"
    ".dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))",
    "another person": "() => document.querySelector('#people label:last-child input').click()",
    "end of the transcript": "() => { document.getElementById('lines').scrollTop = 1e9; }",
    "the other language": "() => document.getElementById('language').click()",
}


def wander(rng: np.random.Generator, n: int, k: int = len(EKMAN)) -> np.ndarray:
    """Probabilities (n, k) that change slowly."""
    steps = np.cumsum(rng.normal(0, 0.35, (n, k)), axis=0)
    slow = steps - np.linspace(0, 1, n)[:, None] * steps[-1] * 0.9
    powers = np.exp(slow - slow.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def verdicts(rng: np.random.Generator, timeline: Timeline, person: str) -> list[Verdict]:
    """Windows of one person, with silences and conflicts."""
    parts = {name: wander(rng, len(timeline)) for name in MODALITIES}
    fused = np.mean(list(parts.values()), axis=0)
    found = []
    for i, segment in enumerate(timeline):
        silent = i // 60 % 5 == 3
        evidence = {
            name: Evidence(None, "silence") if silent and name != "face" else Evidence(P[i], share=0.3, points=0.1)
            for name, P in parts.items()
        }
        top = int(fused[i].argmax())
        clash = parts["face"][i].max() > 0.8 and parts["face"][i].argmax() != top
        text = (
            f"face says {EKMAN.labels[int(parts['face'][i].argmax())]}, voice says {EKMAN.labels[top]}" if clash else ""
        )
        found.append(
            Verdict(
                segment,
                person,
                evidence,
                fused[i],
                EKMAN.labels[top],
                float(fused[i, top]),
                float(SIGNS @ fused[i]),
                0.5 if clash else 0.1,
                text,
                prior=-1.8,
                speaking=0.5,
            )
        )
    return found


def long_analysis(minutes: float, n_persons: int, path: Path | None = None) -> Analysis:
    """A meeting in which one speaks after the other."""
    rng = np.random.default_rng(7)
    duration = 60 * minutes
    names = [f"person {i + 1}" for i in range(n_persons)]
    tracks = [verdicts(rng, Timeline.windows(duration), name) for name in names]
    times = np.arange(0, duration, 0.5)
    box = np.tile([0.1, 0.2, 0.16, 0.34], (len(times), 1))
    starts = np.arange(0, duration - 2.5, 2.4)
    said = [Segment(float(t), float(t) + 2.2) for t in starts]
    who = [names[i // 7 % n_persons] for i in range(len(said))]
    return Analysis(
        Source(path.name if path else "meeting.mp4", path, duration, "video"),
        [v for row in zip(*tracks, strict=True) for v in row],
        [replace(track[0], segment=Segment(0.0, duration)) for track in tracks],
        [Person(name, times, box) for name in names],
        [
            Cue(s, f"Sentence {i} of the meeting, about as long as one is.", "en", name, EKMAN.labels[i % 7], 0.6, 0.1)
            for i, (s, name) in enumerate(zip(said, who, strict=True))
        ],
        MODALITIES,
        turns=[Turn(s, name, 0.9) for s, name in zip(said, who, strict=True)],
    )


def long_text(count: int) -> Analysis:
    """A bare text of so many sentences."""
    rng = np.random.default_rng(3)
    (whole,) = verdicts(rng, Timeline((Segment(0.0, 1.0),)), "")
    cues = [
        Cue(
            Segment(i / count, (i + 1) / count), f"Sentence {i} says a few words.", "en", None, EKMAN.labels[i % 7], 0.5
        )
        for i in range(count)
    ]
    summary = replace(whole, person=None)
    return Analysis(Source("text", None, 0.0, "text"), [summary], [summary], [], cues, MODALITIES)


def opened(page: Any, path: Path) -> float:
    """Milliseconds until a page is there, with all that its script draws."""
    page.goto(path.as_uri())
    page.wait_for_selector("#headline")
    return float(page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"))


def measured(page: Any, path: Path, times: int, actions: dict[str, str]) -> dict[str, float]:
    """Milliseconds to open a page and for each action on it, the best of several."""
    found: dict[str, list[float]] = {"open": [], **{name: [] for name in actions}}
    for _ in range(times):
        found["open"].append(opened(page, path))
        page.wait_for_timeout(500)
        for name, act in actions.items():
            found[name].append(float(page.evaluate(f"({PAINTED})({json.dumps(act)})")))
    return {name: round(min(values), 1) for name, values in found.items()}


def main() -> None:
    """Print one JSON object."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--persons", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=100_000)
    parser.add_argument("--recordings", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(QUIET))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        kinds: dict[str, Callable[[], Analysis]] = {
            "recording": lambda: long_analysis(options.minutes, options.persons),
            "text": lambda: long_text(options.sentences),
        }
        facts: dict[str, Any] = {"minutes": options.minutes, "persons": options.persons, "sentences": options.sentences}
        for kind, make in kinds.items():
            path = write_report(make(), Path(folder) / f"{kind}.html")
            actions = ACTIONS if kind == "recording" else {"end of the transcript": ACTIONS["end of the transcript"]}
            facts[kind] = {
                "megabytes": round(path.stat().st_size / 1e6, 1),
                "ms": measured(page, path, options.repeat, actions),
            }
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                opened(page, path)
                page.screenshot(path=options.pictures / f"{kind}.png", full_page=True)
        facts["index"] = index(page, Path(folder), options.recordings, options.repeat)
        browser.close()
    print(json.dumps(facts, indent=2))


FILTER = """() => {
    const search = document.getElementById("search");
    search.value = "delft 0001";
    search.dispatchEvent(new Event("input"));
}"""


def index(page: Any, folder: Path, count: int, times: int) -> dict[str, Any]:
    """The page over so many recordings."""
    from affuse.batch.groups import group_means
    from affuse.batch.page import PAGE, write_index

    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(len(EKMAN)), count)
    labels = [EKMAN.labels[i] for i in shares.argmax(axis=1)]
    columns: dict[str, tuple[str, list[Any]]] = {
        "path": ("text", [f"day {i % 30}/clip {i:05d}.mp4" for i in range(count)]),
        "town": ("text", [("Delft", "Yogyakarta", "北京")[i % 3] for i in range(count)]),
        "key": ("text", [f"{i:064x}" for i in range(count)]),
        "person": ("text", [f"person {i % 2 + 1}" for i in range(count)]),
        "windows": ("int", [60] * count),
        "answered": ("int", [50] * count),
        "label": ("text", labels),
        "confidence": ("float", shares.max(axis=1).round(6).tolist()),
        "sentiment": ("float", rng.uniform(-1, 1, count).round(6).tolist()),
        **{f"share_{name}": ("float", shares[:, i].round(6).tolist()) for i, name in enumerate(EKMAN.labels)},
        "moment_start": ("float", [float(i % 4000) for i in range(count)]),
        "moment_label": ("text", labels),
        "moment_confidence": ("float", [0.5] * count),
        "conflicts": ("int", [i % 5 for i in range(count)]),
        "error": ("text", [None] * count),
    }
    write_index(folder, columns, ["town"], means={"town": group_means(columns, {"town": "town"}, "town")})
    found: dict[str, list[float]] = {"open": [], "filter": []}
    for _ in range(times):
        page.goto((folder / PAGE).as_uri())
        page.wait_for_selector("#rows tr:nth-child(5)")
        found["open"].append(
            float(page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"))
        )
        found["filter"].append(float(page.evaluate(f"({PAINTED})({json.dumps(FILTER)})")))
    return {"recordings": count, "ms": {name: round(min(values), 1) for name, values in found.items()}}


if __name__ == "__main__":
    main()
