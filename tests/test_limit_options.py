"""Every command that opens recordings or tables has the options that its refusals name."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import typer

from affuse.budget import DEFAULT_BUDGET, Budget, budget_in_use, within_budget
from affuse.cli.main import app
from affuse.cli.options import LIMITS
from affuse.errors import DataError
from affuse.tables import read_table, write_table
from command import Run, caller

MEDIA = (
    *("adapt", "analyze", "batch", "bench", "compare", "evaluate", "export", "features extract", "forget"),
    *("federate client", "federate simulate"),
    *("people enrol", "people find", "train", "tune"),
)
TABLES = ("consent add", "consent list", "consent withdraw", "fuse")


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def flags_of(command: str) -> set[str]:
    found = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]  # type: ignore[attr-defined]
    return {flag for parameter in found.params for flag in parameter.opts}


@pytest.mark.parametrize("command", MEDIA)
def test_commands_that_open_recordings_have_every_limit(command: str) -> None:
    assert {f"--{name.replace('_', '-')}" for name in LIMITS} <= flags_of(command)


@pytest.mark.parametrize("command", TABLES)
def test_commands_that_open_tables_alone_have_those_of_tables(command: str) -> None:
    assert {"--max-rows", "--max-table-bytes"} <= flags_of(command)
    assert "--max-duration" not in flags_of(command)


def test_import_has_those_of_what_people_write_about_recordings() -> None:
    limits = {flag for flag in flags_of("import") if flag.startswith("--max-")}
    assert limits == {"--max-duration", "--max-cues", "--max-text", "--max-rows"}


def test_there_is_an_option_for_every_limit_and_its_help_states_the_default() -> None:
    for name, value in vars(DEFAULT_BUDGET).items():
        option = LIMITS[name].__metadata__[0]
        assert option.default == f"--{name.replace('_', '-')}"
        assert option.help.endswith(f"({value:.0f}).")


def test_a_refusal_names_an_option_of_its_own_command_that_helps(affuse: Run, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("text,label\nI am glad.,happiness\nI am sad.,sadness\n")
    (tmp_path / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:05,000\nI am glad.\n")
    (tmp_path / "face.csv").write_text("id,anger,happiness\na,0.5,0.5\nb,0.25,0.75\n")
    talk = tmp_path / "talk.csv"
    talk.write_text("path,label\ntalk.srt,happiness\n")
    words = ("--experts", "text")
    for command, arguments, limit, value in (
        ("evaluate", ["--manifest", tmp_path / "clips.csv", *words], "--max-rows", 1),
        ("evaluate", ["--manifest", talk, *words, "--strict"], "--max-duration", 4),
        ("features extract", ["--manifest", tmp_path / "clips.csv", "--features", "bag-of-words", "--out",
                              tmp_path / "f.csv"], "--max-rows", 1),
        ("batch", [tmp_path / "clips.csv", "--out", tmp_path / "set"], "--max-rows", 1),
        ("fuse", [tmp_path / "face.csv"], "--max-table-bytes", 20),
    ):  # fmt: skip
        result = affuse(*command.split(), *arguments, limit, value)
        assert result.code == 2, (command, result)
        named = re.search(r"raise it with (--[a-z-]+)", result.err + result.out)
        assert named, (command, result)
        assert named[1] == limit
        assert named[1] in flags_of(command)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".xlsx"])
def test_what_is_opened_without_a_budget_takes_the_one_in_use(tmp_path: Path, suffix: str) -> None:
    place = tmp_path / f"rows{suffix}"
    write_table(pd.DataFrame({"id": ["a" * 1000] * 3000, "anger": [0.5] * 3000}), place)
    with (
        within_budget(Budget(max_rows=2999)),
        pytest.raises(DataError, match=r"has 3,0.. rows or more; the limit is 2,999 rows"),
    ):
        read_table(place)
    with within_budget(Budget(max_rows=3000)):
        assert len(read_table(place)) == 3000
    if suffix in (".parquet", ".xlsx"):
        assert place.stat().st_size < 100_000
    with (
        within_budget(Budget(max_table_bytes=1_000_000)),
        pytest.raises(DataError, match="the limit is 1,000,000"),
    ):
        read_table(place)  # three megabytes once it is unpacked
    assert budget_in_use() is DEFAULT_BUDGET
