"""Licences: of the weights as their cards state them, of what pip installs with affuse; what the audit concludes."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import affuse
from affuse import weights
from command import Run, caller

ROOT = Path(__file__).resolve().parent.parent
CARDS = Path(affuse.__file__).parent / "assets"
in_checkout = pytest.mark.skipif(not (ROOT / "Makefile").is_file(), reason="not part of this source distribution")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


# --- weights ----------------------------------------------------------------------------------------------------------


def card(name: str) -> str:
    place = "synchrony" if name == "turns" or name.startswith("synchrony") else name
    return (CARDS / ("fuser/fuser.md" if name == "fuser" else f"{place}.md")).read_text(encoding="utf-8")


def called(data: str) -> str:
    """A name of data without its licence."""
    return data.partition(" (")[0]


@pytest.mark.parametrize("name", sorted(weights.manifest()))
def test_terms_of_shipped_weights_are_those_of_their_card(name: str) -> None:
    entry = weights.manifest()[name]
    (stated,) = re.findall(r"^\| Licence \| (.+) \|$", card(name), flags=re.MULTILINE)
    forbidden = re.search("non-commercial|research use", stated) is not None
    assert entry.commercial == ("no" if forbidden else "yes")
    assert ("non-commercial" in entry.licence) == forbidden
    names = re.findall(r"\b\w*[A-Z_]\w*\b", " ".join(called(data) for data in entry.data))
    assert names, "what it was learned from is not stated"
    assert [word for word in names if word not in card(name)] == []


def test_licences_of_data_are_those_of_the_corpora() -> None:
    from affuse.data.corpora.registry import find, names

    def plain(text: str) -> str:
        return re.sub(r"\W|_", "", text).lower()

    stated = {plain(called(one)): one.partition(" (")[2] for w in weights.manifest().values() for one in w.data}
    known = {corpus: find(corpus).licence for corpus in names()}
    compared = [
        (corpus, licence, brackets.rstrip(")"))
        for corpus, licence in known.items()
        for data, brackets in stated.items()
        if licence and plain(corpus) in data and data != plain(called(weights.manifest()["fuser"].data[0]))
    ]
    assert {corpus for corpus, _, _ in compared} >= {"ravdess", "emodb", "meld", "sst2", "mosi", "smp2020_ewect"}
    assert [each for each in compared if each[2] not in each[1]] == []


def test_the_command_prints_all_of_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    shown = run("models", "licences").out
    listed = json.loads(run("models", "licences", "--json").out)["weights"]
    assert "…" not in shown
    assert {one["name"] for one in listed} >= {*weights.manifest(), *weights.DOWNLOADS, "68 landmarks", "whisper"}
    for one in listed:
        assert one["name"] in shown
        assert one["commercial"] in ("yes", "no")
        assert one["licence"]
    (voice,) = (one for one in listed if one["name"] == "voice")
    assert voice["version"] == weights.manifest()["voice"].version
    assert voice["data"] == [
        "RAVDESS (CC BY-NC-SA 4.0)",
        "EMO-DB (free for research with citation)",
        "Javanese acted speech and clips (MIT)",
        "Whisper tiny.en, the base (MIT)",
    ]


def test_a_manifest_without_these_facts_is_read(tmp_path: Path) -> None:
    entry = {"file": "x.onnx", "sha256": "0", "bytes": 1, "version": "1", "licence": "MIT"}
    (tmp_path / "manifest.json").write_text(json.dumps({"x": entry}), encoding="utf-8")
    assert weights.licences(tmp_path)[0] == weights.Terms("x", "shipped", "1", "MIT")


@in_checkout
def test_shipping_enters_them(tmp_path: Path) -> None:
    from recipes.ship import ship

    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.onnx").write_bytes(b"weights")
    ship(tmp_path / "run" / "x.onnx", "x", "3", "MIT", tmp_path, commercial="yes", data=["clips (CC0)"])
    assert weights.licences(tmp_path)[0] == weights.Terms("x", "shipped", "3", "MIT", "yes", ("clips (CC0)",))


# --- dependencies -----------------------------------------------------------------------------------------------------

# Licences under which software may be used, changed and sold by users of Apache-2.0 and MIT. MPL-2.0 asks only that
# changed files of its own stay open; GPL and AGPL are not here.
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-CMU", "MPL-2.0"),
    *("PSF-2.0", "Unlicense", "Zlib"),
    # As older metadata say it
    *("3-Clause BSD License", "Apache 2.0", "Apache Software License", "BSD License", "ISC License"),
    *(
        "ISC License (ISCL)",
        "MIT License",
        "MIT License (MIT)",
        "Mozilla Public License 2.0 (MPL 2.0)",
        "Python Software Foundation License",
    ),
}


def is_allowed(expression: str) -> bool:
    """Whether every part of an expression in SPDX's form is allowed, or one of its choices."""
    return all(any(one.strip() in ALLOWED for one in part.split(" OR ")) for part in expression.split(" AND "))


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("BSD-3-Clause AND MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-2.0-or-later", False),
        ("AGPL-3.0-only", False),
        ("", False),
    ],
)
def test_what_is_allowed(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


def runtime() -> dict[str, Distribution]:
    """What pip installs with affuse where no extra is named, by name."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [("affuse", frozenset())]
    while waiting:
        name, extras = waiting.pop()
        package = found[canonicalize_name(name)] = distribution(name)
        for line in package.requires or []:
            needed = Requirement(line)
            wanted = needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *extras))
            if wanted and canonicalize_name(needed.name) not in found:
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def licence_of(package: Distribution) -> str:
    """What its metadata state; the first line of its licence where they state nothing that names one."""
    facts = package.metadata
    classifiers = [c.split(" :: ")[-1] for c in facts.get_all("Classifier", []) if c.startswith("License :: OSI ")]
    classified = " AND ".join(c for c in classifiers if c != "OSI Approved")
    short = facts.get("License", "") if len(facts.get("License", "")) < 60 else ""
    if stated := facts.get("License-Expression") or classified or short:
        return stated
    texts = [file for file in package.files or [] if "dist-info" in str(file) and "LICENSE" in file.name]
    return texts[0].read_text().strip().splitlines()[0] if texts else ""


def test_what_is_installed_with_affuse_may_be_used_with_it() -> None:
    packages = runtime()
    assert {"numpy", "av", "onnxruntime", "typer", "click"} <= set(packages)  # what they need is looked at as well
    assert "pytest" not in packages
    assert {name: licence_of(one) for name, one in packages.items() if not is_allowed(licence_of(one))} == {}


@in_checkout
def test_the_notice_names_what_wheels_bundle_under_the_gpl() -> None:
    """PyAV states BSD-3-Clause, which its own code has; its wheels hold x264 and x265 beside FFmpeg."""
    held = " ".join(str(file) for file in distribution("av").files or [])
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for library in ("x264", "x265"):
        if f"lib{library}" in held:
            assert library in notice
            assert library in page


@in_checkout
def test_the_face_cascade_is_under_the_licence_in_its_head() -> None:
    # OpenCV states Apache-2.0 for the package; the file says something else.
    file = distribution("opencv-python-headless").locate_file("cv2/data/haarcascade_frontalface_default.xml")
    head = " ".join(Path(str(file)).read_text(encoding="utf-8")[:1500].split())
    licence = "Intel License Agreement For Open Source Computer Vision Library"
    assert licence in head
    assert "Copyright (C) 2000, Intel Corporation" in head
    (terms,) = (one for one in weights.licences() if one.name == "face cascade")
    assert terms.licence.startswith(licence)
    for page in (ROOT / "NOTICE", ROOT / "docs" / "licences.md"):
        assert licence in " ".join(page.read_text(encoding="utf-8").split())


# --- the audit --------------------------------------------------------------------------------------------------------


def package(name: str, *vulnerabilities: str, skipped: bool = False) -> dict[str, Any]:
    """An entry of a report of pip-audit."""
    if skipped:
        return {"name": name, "skip_reason": f"Dependency not found on PyPI and could not be audited: {name} (1.0)"}
    return {"name": name, "version": "1.0", "vulns": [{"id": one, "fix_versions": []} for one in vulnerabilities]}


@in_checkout
@pytest.mark.parametrize(
    ("entries", "code", "sentence"),
    [
        ([package("a"), package("b")], 0, "Packages looked up: 2. Known vulnerabilities: none."),
        ([package("a"), package("b", skipped=True)], 2, "Packages looked up: 1. Known vulnerabilities: none. Not"),
        ([package("a", skipped=True)], 2, "The package index knows none of the packages (of 1)"),
        ([package("a", "X-1", "X-2"), package("b")], 1, "Packages looked up: 2. Known vulnerabilities: a (X-1, X-2)"),
        (
            [package("a", "X-1"), package("b", skipped=True)],
            1,
            "Packages looked up: 1. Known vulnerabilities: a (X-1).",
        ),
    ],
)
def test_an_audit_is_no_better_than_what_was_looked_up(entries: list[dict[str, Any]], code: int, sentence: str) -> None:
    from scripts.audit import verdict

    found = verdict({"dependencies": entries})
    assert found[0] == code
    assert found[1].startswith(sentence)


@in_checkout
def test_an_audit_that_cannot_ask_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.audit import main

    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!{sys.executable}\nraise ConnectionError('no route to host')\n", encoding="utf-8")
    tool.chmod(0o755)
    report = tmp_path / "audit.json"
    report.write_text('{"dependencies": []}', encoding="utf-8")  # of an earlier run
    monkeypatch.setattr(sys, "argv", ["audit", "--tool", str(tool), "--packages", str(tmp_path), "--out", str(report)])
    assert main() == 2
    said = capsys.readouterr().out
    assert said.startswith("Advisories could not be asked for (ConnectionError: no route to host), so nothing")
    assert said.count("\n") == 1


@in_checkout
@pytest.mark.parametrize("service", ["pypi", "osv"])
def test_an_audit_asks_whom_it_is_told_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    from scripts.audit import main

    tool, report = tmp_path / "pip-audit", tmp_path / "audit.json"
    tool.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "asked = sys.argv[sys.argv.index('--vulnerability-service') + 1]\n"
        "entries = {'dependencies': [{'name': asked, 'version': '1', 'vulns': [{'id': 'X-1'}]}]}\n"
        "json.dump(entries, open(sys.argv[sys.argv.index('--output') + 1], 'w'))\n",
        encoding="utf-8",
    )
    tool.chmod(0o755)
    given = ["--tool", str(tool), "--packages", str(tmp_path), "--out", str(report), "--service", service]
    monkeypatch.setattr(sys, "argv", ["audit", *given])
    assert main() == 1
    assert capsys.readouterr().out == f"Packages looked up: 1. Known vulnerabilities: {service} (X-1).\n"
