"""Every relative link and picture of the pages leads somewhere, and so does its heading."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pages import DOCS, PAGES, ROOT, blocks, links, prose

pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").is_file(), reason="not part of this source distribution")

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

# What a page may name: sources and formats that it cites, a reader's own machine, and hosts reserved for examples.
HOSTS = {"127.0.0.1", "arxiv.org", "doi.org", "keepachangelog.com", "localhost", "mutmut.readthedocs.io", "semver.org"}
HOSTS |= {"data.europa.eu"}  # of the Official Journal
EXAMPLES = (".example", ".example.com", ".example.org")
# Paths from the root: those that the service answers, and where a server keeps software, settings and data.
SERVED = ("/health", "/metrics", "/openapi.json", "/v1/")
OF_SERVERS = ("/dev/shm", "/dev/null", "/etc/", "/opt/", "/srv/", "/var/lib/")

URL = re.compile(r"\b[a-z][a-z+.-]*://[^\s)>\"'`]*", re.IGNORECASE)
HOST = re.compile(r"(?<![\w.-])(?:[\w-]+\.)+(?:ai|cn|com|dev|edu|gov|io|net|org)\b", re.IGNORECASE)
ROOTED = re.compile(r"(?<![\w.<*)}\]/])/\w[\w./-]*|\b[A-Z]:\\\w[\w.\\-]*")
# Who does something is called user, person, expert, worker or client; an "Agent" is the speaker of one example.
OTHER_ACTOR = re.compile(r"[\w-]*agents?\b", re.IGNORECASE)
SPEAKER = 'person = "Agent"'


def hosts(text: str) -> set[str]:
    """Hosts that a page names, in addresses (one without a host counts as "") or by themselves."""
    return {urlsplit(url).hostname or "" for url in URL.findall(text)} | {host.lower() for host in HOST.findall(text)}


def rooted_paths(text: str) -> set[str]:
    """Paths of a page that begin at the root of a file system, or at a home folder."""
    return set(ROOTED.findall(URL.sub(" ", text)))


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
    allowed = SERVED + OF_SERVERS if page.name == "deploying.md" else SERVED
    assert not [path for path in rooted_paths(page.read_text(encoding="utf-8")) if not path.startswith(allowed)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_no_host_but_their_sources(page: Path) -> None:
    assert not [host for host in hosts(page.read_text(encoding="utf-8")) - HOSTS if not host.endswith(EXAMPLES)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_call_those_who_act_by_one_name(page: Path) -> None:
    assert not OTHER_ACTOR.findall(page.read_text(encoding="utf-8").replace(SPEAKER, ""))


@pytest.mark.parametrize("text", ["in /folder/x", "](/folder/x.md)", "A=/folder/", "~/folder", "D:\\folder"])
def test_a_path_from_the_root_is_seen(text: str) -> None:
    assert rooted_paths(text)


@pytest.mark.parametrize(
    "text", ["and/or", "docs/start.md", "../docs", "./x/y", "https://doi.org/10.1/x", "1 / 2", "</p>"]
)
def test_other_slashes_are_no_paths_from_the_root(text: str) -> None:
    assert not rooted_paths(text)


def test_hosts_are_seen_in_addresses_and_alone() -> None:
    text = "see https://a.example.org/x, index.example.com:80, file:///x, http://machine/x and affuse.media"
    assert hosts(text) == {"a.example.org", "index.example.com", "", "machine"}


def test_the_readmes_show_the_same_figures() -> None:
    def numbers(name: str) -> list[str]:
        page = (ROOT / name).read_text(encoding="utf-8")
        tables = re.findall(r"<!-- figures: \w+ -->\n(.*?)<!-- end -->", page, flags=re.DOTALL)
        return re.findall(r"\d+\.\d+|\.\d+", "".join(tables))

    assert numbers("README.md") == numbers("README.zh-CN.md") != []


# The others say in words in one language what they say in digits in the other.
SAME_FIGURES = [
    "affect.md",
    "head.md",
    "languages.md",
    "speakers.md",
    *(f"tutorials/{page.name}" for page in (DOCS / "zh" / "tutorials").glob("*.md")),
]


@pytest.mark.parametrize("name", sorted(SAME_FIGURES))
def test_both_languages_print_the_same_figures(name: str) -> None:
    def figures(page: Path) -> Counter[str]:
        return Counter(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+", prose(page)))

    chinese, english = figures(DOCS / "zh" / name), figures(DOCS / name)
    assert english
    assert (chinese - english, english - chinese) == (Counter(), Counter())


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
