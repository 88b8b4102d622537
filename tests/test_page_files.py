"""What the page of the service is made of: its texts in both languages, its policy, its skeleton, its demo clip."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from affuse.report.messages import messages, page_messages

STATIC = Path(str(files("affuse.service").joinpath("static")))
REPORT = Path(str(files("affuse.report").joinpath("static")))
DEMO = Path(__file__).parents[1] / "demo"


def page_only() -> set[str]:
    """Keys of the texts that the page has beyond those of reports."""
    return page_messages("en").keys() - messages("en").keys()


def test_every_text_exists_and_is_used() -> None:
    scripts = "".join(path.read_text("utf-8") for path in STATIC.glob("*.js"))
    html = (STATIC / "index.html").read_text("utf-8")
    asked = set(re.findall(r'data-(?:say|label|placeholder)="([\w.]+)"', html))
    asked |= set(re.findall(r'say\(["`]([\w.]+)["`][,)]', scripts))
    assert asked <= page_messages("en").keys()
    families = tuple(re.findall(r"say\(`(\w+\.)\$\{", scripts))  # whose last part is computed
    assert [key for key in page_only() if f'"{key}"' not in scripts + html and not key.startswith(families)] == []


def test_texts_of_reports_are_used_by_reports() -> None:
    """A text that only the page says does not belong into every report."""
    import affuse.report

    folder = Path(affuse.report.__file__).parent
    sources = [*folder.glob("*.py"), *(folder / "static").glob("*.js"), *(folder / "templates").glob("report.*")]
    text = "".join(path.read_text("utf-8") for path in sources)
    families = ("emotion.", "modality.", "kind.", "whole.", "table.", "setting.", "sentence.", "phrase.", "media.")
    families += ("headline.", "now.", "windows.", "theme.", "purpose.")
    unused = [key for key in messages("en") if f'"{key}"' not in text and not key.startswith(families)]
    assert unused == []


def test_skeleton_holds_what_the_viewer_fills() -> None:
    script = (REPORT / "viewer.js").read_text("utf-8")
    wanted = set(re.findall(r'(?:byId|perhaps)\("([\w-]+)"\)|(?:find|search)\(root, "([\w-]+)"', script))
    wanted = {name for pair in wanted for name in pair if name}
    made = {"media", "stage", "faces", "caption", "still", "clock", "now-time"}  # by the viewer or with the recording
    html = (STATIC / "index.html").read_text("utf-8").split('<template id="skeleton">')[1]
    assert wanted - made <= set(re.findall(r'id="([\w-]+)"', html))


def test_page_obeys_its_policy_and_asks_nobody_else() -> None:
    html = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", html)
    assert len(re.findall(r"<script", html)) == 1
    for path in STATIC.glob("*.*"):
        assert set(re.findall(r"https?://[\w./]+", path.read_text("utf-8"))) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text("utf-8"))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.srt"])
def test_demo_is_the_one_of_the_repository(name: str) -> None:
    assert (STATIC / "demo" / name).read_bytes() == (DEMO / name).read_bytes()
