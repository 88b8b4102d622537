"""A private analysis: numbers alone are written, nothing contradicts it, and nothing goes over a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import validate

from affuse.batch import read
from affuse.report import schema, without_identity
from affuse.results import Evidence
from command import Run, caller
from samples import two_persons
from test_redaction import DEMO, WORDS, assert_nowhere, recording_of

pytestmark = pytest.mark.usefixtures("batches_here")

HASH = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def test_nothing_but_numbers_is_kept_of_an_analysis() -> None:
    whole = two_persons()
    odd = replace(whole.verdicts[0], evidence={**whole.verdicts[0].evidence, "face": Evidence(None, "Anna was away")})
    silent = replace(whole.verdicts[0], evidence={**whole.verdicts[0].evidence, "face": Evidence(None, "no face")})
    whole = replace(whole, verdicts=[odd, silent, *whole.verdicts[1:]], notes=("Anna was away",))
    kept = without_identity(whole, "a" * 64)
    assert kept.cues == []
    assert kept.source == replace(whole.source, name="a" * 64, path=None)
    assert [verdict.evidence["face"].reason for verdict in kept.verdicts[:2]] == ["no evidence", "no face"]
    assert "Anna" not in kept.to_json()
    assert all(person["boxes"] == [] for person in kept.to_dict()["persons"])
    for before, after in zip(whole.verdicts, kept.verdicts, strict=True):
        assert (before.segment, before.label, before.sentiment) == (after.segment, after.label, after.sentiment)


def test_a_private_analysis_of_a_folder_tells_nobody_who_it_was(
    affuse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_of(tmp_path / "in" / "team")
    (tmp_path / "in" / "paul.mp4").write_bytes(b"no video")
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))
    done = affuse("analyze", tmp_path / "in", "--private", "--out", tmp_path / "out")
    assert done.code == 2  # of the file that is no video, which the terminal names
    assert "paul.mp4" in done.err
    assert "petra" not in done.out
    assert_nowhere(tmp_path / "out", b"Annabel", b"petra", b"paul", b"team", str(tmp_path).encode(), *WORDS)
    names = {path.name.partition(".")[0] for path in (tmp_path / "out").iterdir()} - {"index", "summary"}
    (name,) = names
    assert HASH.fullmatch(name)
    answer = json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))
    validate(answer, schema())
    assert answer["source"]["name"] == name
    assert answer["source"]["sha256"] is None  # whoever has the recording alone could compute it
    assert answer["cues"] == []
    assert {person["id"] for person in answer["persons"]} == {"speaker 1"}
    assert "data:video" not in (tmp_path / "out" / f"{name}.html").read_text(encoding="utf-8")
    assert list((tmp_path / "cache").rglob("*")) == []


def test_a_private_batch_knows_recordings_by_their_content_alone(affuse: Run, tmp_path: Path) -> None:
    recording_of(tmp_path / "team")
    (tmp_path / "team" / "paul.mp4").write_bytes(b"no video")
    rows = "path,participant,group\nteam/petra.mp4,Petra K.,team-b\nteam/paul.mp4,Paul,x\nteam/gone.mp4,Gone,x\n"
    (tmp_path / "clips.csv").write_text(rows, encoding="utf-8")
    asked = ["batch", tmp_path / "clips.csv", "--experts", "text,voice", "--out"]
    assert affuse(*asked, tmp_path / "out", "--private").code == 0
    secrets = (b"Annabel", b"petra", b"paul", b"team", b"participant", b"gone", str(tmp_path).encode())
    assert_nowhere(tmp_path / "out", *secrets, *WORDS)
    assert affuse(*asked, tmp_path / "plain").code == 0
    private, plain = read(tmp_path / "out"), read(tmp_path / "plain")
    answered = private[private["label"].notna()]
    assert answered["path"].tolist() == answered["key"].tolist() == plain["key"][plain["label"].notna()].tolist()
    assert answered["confidence"].tolist() == plain["confidence"].dropna().tolist()
    assert set(read(tmp_path / "out", "errors")["reason"]) == {"it could not be analysed"}
    assert {path for path in private["path"] if not HASH.fullmatch(path)} == {"unreadable-3"}
    again = affuse(*asked, tmp_path / "out", "--private")
    assert again.code == 0
    assert "0 analysed now" in again.out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["analyze", "--private", "--redact"], "either --redact or --private"),
        (["analyze", "--private", "--format", "json,elan"], "leave out the format elan"),
        (["analyze", "--private", "--format", "SRT"], "leave out the format SRT"),
        (["batch", "--private", "--redact"], "either --redact or --private"),
        (["batch", "--private", "--by", "folder"], "leave out --by"),
        (["batch", "--private", "--group", "folder"], "leave out --group"),
    ],
)
def test_what_contradicts_it_is_refused(affuse: Run, tmp_path: Path, tone: Path, command: list[str], says: str) -> None:
    result = affuse(*command, tone, "--out", tmp_path / "out")
    assert result.code == 2
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- the network ------------------------------------------------------------------------------------------------------

_LOOK = "import socket; s = socket.socket(); s.settimeout(5); print(s.connect_ex(('192.0.2.1', 80)))"


def without_network() -> list[str]:
    """How to start a process in a network of its own that leads nowhere; skips where the system forbids it."""
    for words in (["unshare", "--net", "--"], ["unshare", "--user", "--map-current-user", "--net", "--"]):
        if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    pytest.skip("this system lets nobody leave the network by unshare")


def test_an_analysis_needs_no_network(tmp_path: Path) -> None:
    alone = without_network()
    unreachable = subprocess.run([*alone, sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True)
    assert unreachable.stdout.strip() == "101"  # ENETUNREACH: there is no route at all
    asked = [
        "-m",
        "affuse.cli",
        "analyze",
        DEMO / "clip.mp4",
        "--transcript",
        DEMO / "clip.srt",
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run([*alone, sys.executable, *map(str, asked)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "clip.json").read_text(encoding="utf-8"))["summary"][0]["label"]
