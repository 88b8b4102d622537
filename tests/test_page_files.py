"""What the page of the service is made of: its texts in both languages, its policy, its skeleton, its demo clip."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from affuse.report.words import STRINGS

STATIC = Path(str(files("affuse.service").joinpath("static")))
REPORT = Path(str(files("affuse.report").joinpath("static")))
DEMO = Path(__file__).parents[1] / "demo"


def page_strings() -> dict[str, dict[str, str]]:
    """The texts of strings.js, which are written so that they are JSON but for the names of the languages."""
    text = (STATIC / "strings.js").read_text("utf-8").split("export const STRINGS = ")[1].rstrip().removesuffix(";")
    text = re.sub(r"^  (en|zh): ", r'  "\1": ', text, flags=re.MULTILINE)
    found: dict[str, dict[str, str]] = json.loads(re.sub(r",(\s*\})", r"\1", text))
    return found


def test_both_languages_say_the_same() -> None:
    english, chinese = (page_strings()[lang] for lang in ("en", "zh"))
    assert english.keys() == chinese.keys()
    assert not english.keys() & STRINGS["en"].keys()
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_text_exists_and_is_used() -> None:
    own = page_strings()["en"]
    scripts = "".join(path.read_text("utf-8") for path in STATIC.glob("*.js") if path.name != "strings.js")
    html = (STATIC / "index.html").read_text("utf-8")
    asked = set(re.findall(r'data-(?:say|label|placeholder)="([\w.]+)"', html))
    asked |= set(re.findall(r'say\(["`]([\w.]+)["`][,)]', scripts))
    assert asked <= own.keys() | STRINGS["en"].keys()
    families = tuple(re.findall(r"say\(`(\w+\.)\$\{", scripts))  # whose last part is computed
    assert [key for key in own if f'"{key}"' not in scripts + html and not key.startswith(families)] == []


def test_skeleton_holds_what_the_viewer_fills() -> None:
    script = (REPORT / "viewer.js").read_text("utf-8")
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', script))
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
