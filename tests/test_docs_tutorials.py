"""The tutorials, and the page on extending affuse, run as they are printed and print what they say."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from command import caller
from pages import DOCS, ROOT, run_page

TUTORIALS = DOCS / "tutorials"

pytestmark = [
    pytest.mark.skipif(not TUTORIALS.is_dir(), reason="the pages are not part of this source distribution"),
    pytest.mark.slow,
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.skipif(not (ROOT / "demo").is_dir(), reason="the clip is not part of this source distribution")
def test_analyse_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("clip.mp4", "clip.srt"):
        shutil.copy(ROOT / "demo" / name, tmp_path)
    assert run_page(TUTORIALS / "analyze-recordings.md", caller(monkeypatch, capfd)) > 5


def test_fuse_your_models(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_page(TUTORIALS / "fuse-your-models.md", caller(monkeypatch, capfd)) > 5


def test_extend(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without torch, the network is left out."""
    has_torch = importlib.util.find_spec("torch") is not None
    ran = run_page(DOCS / "extend.md", caller(monkeypatch, capfd), lambda text: has_torch or "import torch" not in text)
    assert ran > 4


def test_train_and_evaluate(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without torch, what needs the trained expert is left out."""
    has_torch = importlib.util.find_spec("torch") is not None
    page = TUTORIALS / "train-and-evaluate.md"
    ran = run_page(page, caller(monkeypatch, capfd), lambda command: has_torch or "runs/" not in command)
    assert ran > 2
