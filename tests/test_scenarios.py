"""The pages about law and scenarios run as they are printed, and say of affuse what is so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from affuse.batch import read
from affuse.media import Recording
from affuse.purpose import Purpose
from affuse.timeline import Timeline
from clips import short_demo
from command import Run, caller
from pages import DOCS, ROOT, commands, run_page
from serving import write_sound

PAGES = [DOCS / name for name in ("law.md", "scenarios.md", "intended_use.md")]

pytestmark = pytest.mark.skipif(
    not (DOCS / "law.md").is_file() or not (ROOT / "demo").is_dir(), reason="not part of this source distribution"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in a folder with the beginning of the demo clip under the names of the pages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for number, name in enumerate(("clip", "review", "cabin", "session", "viewer1", "viewer2", "lesson")):
        with short_demo(Path(), name).open("ab") as file:
            file.write(_free_box(number))  # so that each is a recording of its own
    recording = Recording.open("clip.mp4")
    write_sound(Path("customer.wav"), 32_767 * next(iter(recording.sound(Timeline((recording.span,))))))
    Path("posts").mkdir()
    for number, post in enumerate(("I love this new phone, thank you!", "这个电影太难看了，我很生气。")):
        Path(f"posts/{number}.txt").write_text(post, encoding="utf-8")
    Path("panel.csv").write_text("path,draft\nviewer1.mp4,a\nviewer2.mp4,b\n", encoding="utf-8")
    return caller(monkeypatch, capfd)


def _free_box(number: int) -> bytes:
    """A box of MP4 that every reader skips."""
    return (12).to_bytes(4) + b"free" + number.to_bytes(4)


def settings(path: str) -> dict[str, str]:
    """What a JSON result says of how it was made."""
    found: dict[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))["settings"]
    return found


@pytest.mark.slow
def test_the_page_about_the_law_runs(run: Run) -> None:
    assert run_page(DOCS / "law.md", run) == 5
    notice = Path("notice.md").read_text(encoding="utf-8")
    assert "- Name: Example University\n" in notice
    ledger = pd.read_csv("consent.csv")
    assert ledger[["person", "purpose", "until"]].to_numpy().tolist() == [["P07", "research", "2099-12-31"]]
    assert ledger["withdrawn"].notna().all()
    assert read("study", "summaries")["purpose"].unique().tolist() == ["research"]


@pytest.mark.slow
def test_the_scenarios_run(run: Run) -> None:
    assert run_page(DOCS / "scenarios.md", run) == 16
    assert settings("reviews/review.json")["purpose"] == "customer-insight"
    assert settings("drives/cabin.json")["purpose"] == "safety"
    assert settings("fleet/cabin.json").items() >= Purpose("work", "safety").to_dict().items()
    (session,) = Path("sessions").glob("*.json")
    assert "session" not in session.name
    assert settings(str(session))["purpose"] == "medical"
    assert "Declared purpose: personal use" in Path("evening.html").read_text(encoding="utf-8")
    posts = read("posts-study", "summaries")
    assert len(posts) == 2
    assert posts["label"].notna().all()
    assert not posts["path"].str.contains("posts").any()
    drafts = pd.read_csv("panel/groups.csv")
    assert set(drafts["group"]) == {"a", "b"}
    lessons = read("lessons", "summaries")
    assert lessons["purpose"].unique().tolist() == ["research"]
    again = ("batch", "lesson.mp4", "--experts", "voice,text", "--purpose", "research", "--consent", "lesson.csv")
    assert run(*again, "--private", "--out", "lessons").code == 2  # since consent was withdrawn


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_declare_purposes_that_may_be_declared(page: Path) -> None:
    for arguments in commands(page):
        given = {flag: value for flag, value in pairwise(arguments) if flag.startswith("--")}
        Purpose(given.get("--purpose"), given.get("--exemption"))  # refuses others


def test_what_pages_say_is_refused_is_refused(run: Run) -> None:
    assert run("analyze", "--text", "x", "--experts", "text", "--purpose", "education").code == 2
    assert run("analyze", "--text", "x", "--experts", "text", "--purpose", "work", "--exemption", "consent").code == 2
