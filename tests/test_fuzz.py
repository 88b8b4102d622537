"""A short run of ``make fuzz``, the same every time, and that it notices what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzz.harness import Answer, Reader
from fuzz.kinds import kind_of, seeds_of_kinds
from fuzz.makers import seeds, transcripts
from fuzz.run import further_seeds, search

SECONDS = 10.0


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    made, folder = tmp_path / "seeds", tmp_path / "mutated"
    made.mkdir()
    folder.mkdir()
    start = seeds(made) | seeds_of_kinds() | further_seeds()
    assert {kind_of(name) for name in start} == {"media", "tables", "packages", "configs", "messages"}
    outcomes: list[str] = []
    with Reader(seconds=60.0) as reader:
        found = search(start, reader, folder, 300, SECONDS, told=lambda _, answer: outcomes.append(answer.outcome))
    assert found is None, found and found[1].trouble
    assert outcomes.count("read") > 10


class _Planted(Reader):
    """Instead of a process: what holds a certain word goes wrong."""

    def read(self, path: Path) -> Answer:
        return Answer("defect" if b"999999" in path.read_bytes() else "read", "planted", 0.0, 0.0)


def test_a_defect_is_found_and_made_small(tmp_path: Path) -> None:
    start = {name: text.encode() for name, text in transcripts().items()}
    found = search(start, _Planted(), tmp_path, 2000, 30.0)
    assert found is not None
    assert b"999999" in found[0].data
    assert len(found[0].data) < 1000


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (Answer("read", "", 900, 1), ""),
        (Answer("refused", "a.srt, line 1: no.", 100, 1), ""),
        (Answer("refused", "two\nlines", 100, 1), "not one sentence"),
        (Answer("read", "", 1001, 1), "1001 MB of memory"),
        (Answer("hang", "no answer", 0, 1), "hang"),
        (Answer("crash", "the process ended with -11", 0, 1), "crash"),
    ],
)
def test_what_counts_as_trouble(answer: Answer, trouble: str) -> None:
    assert answer.trouble.startswith(trouble)
    assert bool(answer.trouble) == bool(trouble)


def test_a_process_that_ends_or_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    def start(code: str):
        return lambda: subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr("fuzz.harness._start", start("import os, sys; sys.stdin.readline(); os.abort()"))
    with Reader(30.0) as reader:
        assert reader.read(tmp_path / "x").outcome == "crash"
    monkeypatch.setattr("fuzz.harness._start", start("import time; time.sleep(60)"))
    with Reader(0.5) as reader:
        assert reader.read(tmp_path / "x").outcome == "hang"
    said = json.dumps({"outcome": "read", "sentence": "", "megabytes": 7})
    monkeypatch.setattr("fuzz.harness._start", start(f"input(); print('{said}')"))
    with Reader(30.0) as reader:
        assert reader.read(tmp_path / "x")[:3] == ("read", "", 7)


def test_further_seeds_come_from_the_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.srt").write_bytes(b"x")
    (tmp_path / "README.md").write_bytes(b"y")
    monkeypatch.setenv("AFFUSE_HOSTILE", str(tmp_path))
    (tmp_path / "b.csv").write_bytes(b"z")
    own = {"a.srt": b"x", "tables/b.csv": b"z"}
    assert further_seeds().items() >= own.items()
    monkeypatch.delenv("AFFUSE_HOSTILE")
    failed = further_seeds()
    assert not failed.keys() & own.keys()
    assert "tables/words_without_recordings.csv" in failed
