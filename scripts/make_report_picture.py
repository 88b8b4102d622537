"""Draw docs/report.png: the report of the demo clip, as a browser shows it.

``python scripts/make_report_picture.py`` (needs Playwright for Python, Chromium, and a font with Chinese characters)
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import affuse
from affuse.files import replacing

ROOT = Path(__file__).resolve().parent.parent
SIZE = {"width": 1100, "height": 1180}


def screenshot(page: Path) -> bytes:
    """The top of a page, as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport=SIZE)
        tab.goto(page.as_uri())
        tab.wait_for_function("[...document.querySelectorAll('video')].every((video) => video.readyState >= 2)")
        picture = tab.screenshot()
        browser.close()
    return picture


def main() -> None:
    """Analyse the clip, open its report and write the picture."""
    clip = ROOT / "demo" / "clip.mp4"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        affuse.write_report(affuse.analyze(clip, clip.with_suffix(".srt")), report)
        picture = Image.open(io.BytesIO(screenshot(report))).convert("RGB")
    few_colours = picture.quantize(256, dither=Image.Dither.NONE)
    with replacing(ROOT / "docs" / "report.png") as (part,):
        few_colours.save(part, "png", optimize=True)


if __name__ == "__main__":
    main()
