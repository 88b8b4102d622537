"""summary.xlsx: the rows of summary.csv as a workbook that other programs read, and that can be forgotten from."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from affuse.batch import Forgotten, forget, workbook
from affuse.batch.overview import FolderOverview, write_overview
from affuse.batch.rows import Columns
from affuse.batch.summary import write_csv
from affuse.errors import OutputError
from affuse.tables import unguarded

KEYS = tuple(digit * 64 for digit in "abc")
FORMULA = '=HYPERLINK("http://example.org","open")'


def summary(names: tuple[str, ...] = ("anna.mp4", "ben.mp4", "carla.mp4"), keys: tuple[str, ...] = KEYS) -> Columns:
    """Summaries of one person a recording, with columns of the user's."""
    count = len(names)
    return {
        "path": ("text", list(names)),
        "participant": ("text", [f"{number:03d}" for number in range(count)]),
        "said": ("text", [FORMULA, "+1", "-2", "@x"][:count]),
        "key": ("text", list(keys)),
        "person": ("text", ["person 1"] * count),
        "rank": ("int", [0] * count),
        "duration": ("float", [6.0, None, 7.25][:count]),
        "label": ("text", ["anger", None, "happiness"][:count]),
        "moment_confidence": ("float", [0.5, None, 0.75][:count]),
        "error": ("text", [None, "it is empty", None][:count]),
    }


def folder_of(tmp_path: Path, columns: Columns) -> Path:
    """What a batch leaves in its folder beside its parts."""
    write_csv(columns, tmp_path / "summary.csv")
    write_overview(tmp_path, columns, {name: name for name in ("participant", "said")})
    return tmp_path


def cells(path: Path) -> list[list[Any]]:
    sheet = openpyxl.load_workbook(path).worksheets[0]
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def test_the_workbook_has_the_rows_of_the_table_and_runs_no_formula(tmp_path: Path) -> None:
    columns = summary()
    folder_of(tmp_path, columns)
    header, *rows = cells(tmp_path / "summary.xlsx")
    assert header == list(columns)
    assert rows == [list(row) for row in zip(*(values for _, values in columns.values()), strict=True)]
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert [[unguarded(cell) for cell in row[:4]] for row in table[1:]] == [row[:4] for row in rows]
    assert [row[2] for row in table[1:]] == [f"'{FORMULA}", "+1", "-2"]  # numbers stay numbers
    sheet = openpyxl.load_workbook(tmp_path / "summary.xlsx").worksheets[0]
    said = [sheet.cell(row, 3) for row in (2, 3, 4)]
    assert [(cell.data_type, cell.quotePrefix) for cell in said] == [("s", True)] * 3
    assert sheet["B2"].value == "000"


def test_the_same_rows_make_the_same_bytes_at_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = workbook.workbook_bytes(summary())
    later = time.time() + 10_000_000
    monkeypatch.setattr(time, "time", lambda: later)
    assert workbook.workbook_bytes(summary()) == first


def test_without_the_library_one_note_says_so_and_no_older_rows_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, summary())
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openpyxl", None)
        (note,) = write_overview(tmp_path, summary(), {})
    assert note == (
        "summary.xlsx was not written: openpyxl is not installed; run: pip install 'affuse[excel]'; "
        "the same rows are in summary.csv"
    )
    assert not (tmp_path / "summary.xlsx").exists()
    assert (tmp_path / "index.html").is_file()
    assert write_overview(tmp_path, summary(), {}) == ()


@pytest.mark.parametrize(
    ("limit", "most", "sentence"),
    [
        ("MOST_ROWS", 2, "there are 3 rows, and a sheet of Excel holds 2 below its header"),
        ("MOST_CELLS", 29, "there are 30 cells, and it is written up to 29"),
    ],
)
def test_more_rows_than_a_sheet_holds_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, sentence: str
) -> None:
    monkeypatch.setattr(workbook, limit, most)
    (note,) = write_overview(tmp_path, summary(), {})
    assert note == f"summary.xlsx was not written: {sentence}; the same rows are in summary.csv"
    assert not (tmp_path / "summary.xlsx").exists()
    assert workbook.MOST_ROWS in (2, 2**20 - 1)  # the header is a row as well


def test_a_text_that_no_cell_holds_costs_the_workbook_alone(tmp_path: Path) -> None:
    columns = summary()
    columns["error"] = ("text", [None, "bell \x07", None])
    (note,) = write_overview(tmp_path, columns, {})
    assert note.startswith("summary.xlsx was not written: an Excel file cannot hold the control characters")
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_workbook_of_the_users_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "summary.xlsx").write_bytes(content)
    with pytest.raises(OutputError, match=r"summary.xlsx exists and was not written by affuse"):
        FolderOverview(tmp_path)
    book = openpyxl.Workbook()
    book.active.append(["path", "mine"])
    book.save(tmp_path / "summary.xlsx")
    with pytest.raises(OutputError, match=r"summary.xlsx exists and was not written by affuse"):
        FolderOverview(tmp_path)
    workbook.rewrite_workbook(tmp_path / "summary.xlsx", ["path"], [["a.mp4"]])
    FolderOverview(tmp_path)  # ours is replaced


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_forgetting_leaves_a_workbook_as_if_the_recording_had_not_been_there(tmp_path: Path) -> None:
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    folder_of(whole, summary())
    target = Forgotten(KEYS[1], frozenset(KEYS[1:2]))
    told = forget(target, [whole], dry_run=True)
    assert len(cells(whole / "summary.xlsx")) == 4
    assert forget(target, [whole]) == told
    assert [(removal.what, removal.count) for removal in told] == [
        ("rows of summary.csv", 1),
        ("rows of summary.xlsx", 1),
    ]
    kept = {name: (kind, [values[0], values[2]]) for name, (kind, values) in summary().items()}
    folder_of(rest, kept)
    assert (whole / "summary.xlsx").read_bytes() == (rest / "summary.xlsx").read_bytes()
    assert forget(target, [whole]) == []


def test_names_that_spreadsheets_run_are_forgotten_as_well(tmp_path: Path) -> None:
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    columns = summary(("=anna.mp4", "'=ben.mp4", "-c.mp4"))
    del columns["key"]  # as of a folder that was analysed
    folder_of(whole, columns)
    lines = (whole / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["'=anna.mp4", "''=ben.mp4", "'-c.mp4"]
    forget(Forgotten("d" * 64, frozenset(), frozenset(("=anna.mp4",))), [whole])
    folder_of(rest, {name: (kind, values[1:]) for name, (kind, values) in columns.items()})
    for name in ("summary.csv", "summary.xlsx"):
        assert (whole / name).read_bytes() == (rest / name).read_bytes()


def test_a_workbook_that_lies_alone_is_forgotten_from_and_goes_with_its_last_row(tmp_path: Path) -> None:
    folder_of(tmp_path, summary())
    (tmp_path / "summary.csv").unlink()
    for number, key in enumerate(KEYS, 1):
        removed = forget(Forgotten(key, frozenset((key,))), [tmp_path])
        assert [removal.what for removal in removed] == ["rows of summary.xlsx"]
        left = cells(tmp_path / "summary.xlsx")[1:] if number < len(KEYS) else []
        assert [row[3] for row in left] == list(KEYS[number:])
    assert not (tmp_path / "summary.xlsx").exists()


def test_without_the_library_a_workbook_with_the_recording_goes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, summary())
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert forget(Forgotten("d" * 64, frozenset(("d" * 64,))), [tmp_path]) == []
    assert (tmp_path / "summary.xlsx").is_file()
    removed = forget(Forgotten(KEYS[0], frozenset(KEYS[:1])), [tmp_path])
    assert "workbooks that cannot be written anew without openpyxl" in {removal.what for removal in removed}
    assert not (tmp_path / "summary.xlsx").exists()
    assert (tmp_path / "summary.csv").read_text().count("\n") == 3


def test_a_workbook_of_the_users_stays_as_it_is(tmp_path: Path) -> None:
    folder_of(tmp_path, summary())
    book = openpyxl.Workbook()
    for row in (["path", "key"], ["anna.mp4", KEYS[0]]):
        book.active.append(row)
    book.save(tmp_path / "summary.xlsx")
    before = (tmp_path / "summary.xlsx").read_bytes()
    assert [r.what for r in forget(Forgotten(KEYS[0], frozenset(KEYS[:1])), [tmp_path])] == ["rows of summary.csv"]
    assert (tmp_path / "summary.xlsx").read_bytes() == before
