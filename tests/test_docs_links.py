"""Every relative link and picture of the pages leads somewhere, and so does its heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pages import DOCS, PAGES, ROOT, blocks, links

pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").is_file(), reason="not part of this source distribution")

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

# Not a path of the machine that wrote the page, nor how the project is worked on.
PRIVATE = re.compile(r"/work/|/root/|/home/|pypi\.org|conda\.anaconda|\bsub-?agents?\b", re.IGNORECASE)


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST make them; pages that are shown within it count."""
    text = page.read_text(encoding="utf-8")
    for shown in re.findall(r"^```\{include\} (\S+)", text, flags=re.MULTILINE):
        text += (page.parent / shown).read_text(encoding="utf-8")
    found = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether there is the file, and in it the heading, that a relative link names."""
    target, _, anchor = link.partition("#")
    place = (page.parent / target).resolve() if target else page
    if place.is_relative_to(DOCS / "reference" / "generated"):
        return True
    return place.exists() and (not anchor or place.suffix != ".md" or anchor in headings(place))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = [link for link in links(page) if not re.match(r"[a-z]+:", link) and not leads_somewhere(page, link)]
    assert not wrong, f"{page.relative_to(ROOT)}: {', '.join(wrong)}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_no_place_of_a_machine(page: Path) -> None:
    assert not PRIVATE.findall(page.read_text(encoding="utf-8"))


def test_the_readmes_show_the_same_figures() -> None:
    def numbers(name: str) -> list[str]:
        page = (ROOT / name).read_text(encoding="utf-8")
        tables = re.findall(r"<!-- figures: \w+ -->\n(.*?)<!-- end -->", page, flags=re.DOTALL)
        return re.findall(r"\d+\.\d+|\.\d+", "".join(tables))

    assert numbers("README.md") == numbers("README.zh-CN.md") != []


@pytest.mark.parametrize("page", sorted((DOCS / "zh").rglob("*.md")), ids=lambda page: page.name)
def test_both_languages_show_the_same_code(page: Path) -> None:
    english = DOCS / page.relative_to(DOCS / "zh")
    if not english.is_file() or page.name in ("index.md", "faq.md"):
        pytest.skip("this page has no English one with the same name")
    shown = [
        [(block.language, block.text) for block in blocks(each) if not block.language.startswith("{")]
        for each in (page, english)
    ]
    assert shown[0] == shown[1]
