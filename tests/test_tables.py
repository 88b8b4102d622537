"""Tables on disk: what is written comes back, whatever the suffix, and what is no table says so in a sentence."""

from __future__ import annotations

import csv
import io
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affuse.errors import ConfigError, DataError, MissingExtraError, OutputError
from affuse.tables import TABLE_SUFFIXES, _copy_rows, _excel_text, _first_line, csv_text, read_table, write_table
from command import caller

# Everything but control characters, which Excel cannot hold, and the halves of surrogate pairs, which no file can.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
ODD_IDS = st.sampled_from(["007", "1e5", "NaN", "null", "=1+1", "+49", "-", " a", "a ", "a,b", 'say "hi"', "1.0"])
NUMBERS = st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf])


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A table of ids, labels and two columns of numbers with gaps."""
    n = draw(st.integers(1, 6))
    ids = draw(st.lists(ODD_IDS | TEXT, min_size=n, max_size=n, unique=True))
    labels = draw(st.lists(st.sampled_from(["anger", "高兴", "", "NA"]), min_size=n, max_size=n))
    columns = {name: draw(st.lists(NUMBERS, min_size=n, max_size=n)) for name in ("voice", "ärger\tx")}
    return pd.DataFrame({"id": ids, "label": labels, **columns})


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
@given(table=tables())
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_again(suffix: str, table: pd.DataFrame) -> None:
    if suffix == ".xlsx":
        pytest.importorskip("openpyxl")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        write_table(table, path)
        again = read_table(path)
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert list(again.columns) == list(table.columns)
    assert again["id"].tolist() == table["id"].tolist()
    assert again["label"].tolist() == table["label"].tolist()
    for name in ("voice", "ärger\tx"):
        exact = suffix in (".parquet", ".pq")  # text and Excel hold numbers to within a unit in the last place or two
        np.testing.assert_allclose(again[name].to_numpy(float), table[name], rtol=0 if exact else 2e-15, atol=0)


def excel(path: Path, rows: list[list[object]], **more: list[list[object]]) -> Path:
    """A workbook as a spreadsheet program leaves it."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "first"
    for row in rows:
        book.active.append(row)
    for name, others in more.items():
        sheet = book.create_sheet(name)
        for row in others:
            sheet.append(row)
    book.save(path)
    return path


def test_a_spreadsheet_keeps_ids_and_finds_numbers(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["clip", "emotion", "happy", "count", "note", "ok"],
        ["007", "joy", 0.25, 1, "fine", True],
        [7, "NA", "0.5", 2.0, None, False],
        [None, None, None, None, None, None],
        [8.0, 3, None, 10, "", True],
    ]
    table = read_table(excel(tmp_path / "t.xlsx", rows, second=[["other"], ["sheet"]]))
    assert table["clip"].tolist() == ["007", "7", "8"]
    assert table["emotion"].tolist() == ["joy", "NA", "3"]
    assert table["happy"].tolist()[:2] == [0.25, 0.5]
    assert np.isnan(table["happy"].tolist()[2])
    assert table["count"].tolist() == [1, 2, 10]
    assert table["note"].tolist()[0] == "fine"
    assert table["note"].isna().tolist() == [False, True, True]
    assert table["ok"].tolist() == [True, False, True]
    assert read_table(tmp_path / "t.xlsx", ["count"])["count"].tolist() == ["1", "2", "10"]


def test_text_that_looks_like_a_formula_is_text_in_the_file_too(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    write_table(pd.DataFrame({"id": ["=HYPERLINK(1)"], "x": [np.inf]}), tmp_path / "t.xlsx")
    cell = openpyxl.load_workbook(tmp_path / "t.xlsx").active["A2"]
    assert (cell.value, cell.data_type) == ("=HYPERLINK(1)", "s")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "t.xlsx is empty; a table with a header is needed"),
        ([["id", "x"]], "t.xlsx holds no rows"),
        ([["id", "x", "x"], [1, 2, 3]], "t.xlsx names the column 'x' twice"),
    ],
)
def test_a_spreadsheet_that_is_no_table_says_so(tmp_path: Path, rows: list[list[object]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_table(excel(tmp_path / "t.xlsx", rows))


@pytest.mark.parametrize("content", [b"id,x\n1,2\n", b"PK\x03\x04 cut off", b""])
def test_what_is_no_spreadsheet_says_so(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("openpyxl")
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.xlsx is not an Excel file"):
        read_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("text", "sentence"), [("bell \x07", "control characters"), ("a" * 40_000, "at most 32767 characters")]
)
def test_a_text_that_excel_cannot_hold_leaves_no_file(tmp_path: Path, text: str, sentence: str) -> None:
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match=sentence):
        write_table(pd.DataFrame({"id": [text]}), tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.xlsx").touch()
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    for use in (lambda: read_table(tmp_path / "t.xlsx"), lambda: write_table(pd.DataFrame(), tmp_path / "u.xlsx")):
        with pytest.raises(MissingExtraError, match=r"pip install 'affuse\[excel\]'"):
            use()


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, suffix: str) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    (tmp_path / f"t{suffix}").write_bytes(f"\ufeffid{separator}x\r\n01{separator}2\r\n".encode())
    assert read_table(tmp_path / f"t{suffix}").to_dict("records") == [{"id": "01", "x": 2}]


def test_gaps_are_gaps_in_numbers_and_text_in_ids(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,x,label\nNA,NA,None\n,,\nnull,1,nan\n")
    table = read_table(tmp_path / "t.csv")
    assert table["name"].tolist() == ["NA", "", "null"]
    assert table["label"].tolist() == ["None", "", "nan"]
    assert table["x"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"", "t.csv is empty; a table with a header is needed"),
        ("t.csv", b"id,x\n", "t.csv holds no rows"),
        ("t.csv", b"id,x,x\n1,2,3\n", "t.csv names the column 'x' twice"),
        ("t.csv", b"id,x\n\xff\xfe,2\n", r"t.csv is not UTF-8 text \(byte 5\)"),
        ("t.parquet", b"PAR1", "t.parquet is a broken Parquet file"),
        ("t.parquet", b"id,x\n1,2\n", "t.parquet is not a Parquet file"),
        ("t.parquet", b"PA", "t.parquet is not a Parquet file"),
        ("t.parquet", b"PAR1 and not its end", "t.parquet is not a Parquet file"),
        ("t.csv", b" , \n1,2\n", "t.csv is empty; a table with a header is needed"),
        ("t.csv", b"id,y,x,y,x\n1,2,3,4,5\n", "t.csv names the column 'x' twice"),
        ("t.csv", b'id,x\n1,"2\n', "t.csv is not a table: "),
    ],
)
def test_what_is_no_table_says_so(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_table(tmp_path / name)


def test_places_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv does not exist; a CSV, TSV, Parquet or Excel file is needed"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(ConfigError, match=r"t\.txt must end in \.csv, \.tsv, \.parquet, \.pq, \.xlsx"):
        write_table(pd.DataFrame({"id": ["a"]}), tmp_path / "t.txt")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(pd.DataFrame({"id": ["a"]}), tmp_path / "file" / "t.csv")


@pytest.mark.parametrize("suffix", [".CSV", ".Tsv", ".PARQUET", ".PQ", ".XLSX"])
def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path, suffix: str) -> None:
    if suffix == ".XLSX":
        pytest.importorskip("openpyxl")
    table = pd.DataFrame({"id": ["a", "b"], "x": [0.5, np.nan], "y": [1, 2]})
    write_table(table, tmp_path / f"t{suffix}")
    again = read_table(tmp_path / f"t{suffix}")
    assert again["id"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(again[["x", "y"]].to_numpy(float), table[["x", "y"]])
    if suffix == ".Tsv":
        assert (tmp_path / "t.Tsv").read_text() == "id\tx\ty\na\t0.5\t1\nb\t\t2\n"


def test_which_columns_are_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("row,Clip,EMOTION,x,code,note\n01,02,03,04,05,n/a\n")
    table = read_table(tmp_path / "t.csv", ["code"])
    assert table.to_dict("records") == [
        {"row": "01", "Clip": "02", "EMOTION": "03", "x": 4, "code": "05", "note": "n/a"}
    ]


def test_line_ends_within_cells_stay(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'id,x\r\n"a\r\nb",1\r\n')
    assert read_table(tmp_path / "t.csv").to_dict("records") == [{"id": "a\r\nb", "x": 1}]


class _Row(list[object]):
    """A row that can be watched."""


def test_rows_of_excel_are_copied_without_keeping_them() -> None:
    watched: list[weakref.ref[_Row]] = []

    def rows() -> Iterator[_Row]:
        short = [[number, 0.5] for number in range(100)]
        for values in (["id", "x", None], [None], *short, ["a", 1, "", 2], [1, 2, 3]):
            assert sum(row() is not None for row in watched) <= 1
            row = _Row(values)
            watched.append(weakref.ref(row))
            yield row
            del row

    lines = io.StringIO(newline="")
    assert _copy_rows(rows(), lines) == (2, (103, 4))  # the empty row counts; the first that is too wide is named
    assert lines.getvalue().splitlines()[:3] == ["id,x", "0,0.5", "1,0.5"]
    assert len(watched) == 104


def test_the_longest_text_of_excel_fits(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    text = "é" * 32_767
    write_table(pd.DataFrame({"id": [text], "x": [-np.inf]}), tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx").to_dict("records") == [{"id": text, "x": -np.inf}]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (7.0, "7"), (-7.0, "-7"), (0.5, "0.5"), (7, "7"), (True, "True"), (2.0**53, "9007199254740992.0"),
     (-(2.0**53), "-9007199254740992.0"), (2.0**53 - 1, "9007199254740991")],
)  # fmt: skip
def test_cells_of_excel_as_text(value: object, text: str) -> None:
    assert _excel_text(value) == text


def test_errors_are_told_in_one_line() -> None:
    assert _first_line(ValueError(" what is wrong\nand more")) == "what is wrong"
    assert _first_line(ValueError()) == "ValueError"


def test_an_interrupted_reading_is_no_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import arro3.io

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    write_table(pd.DataFrame({"id": ["a"]}), tmp_path / "t.parquet")
    monkeypatch.setattr(arro3.io, "read_parquet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_table(tmp_path / "t.parquet")


def test_missing_numbers_are_nulls_and_empty_cells(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "x": [0.5, np.nan]})
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(table, tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").column("x").to_pylist() == [0.5, None]
    openpyxl = pytest.importorskip("openpyxl")
    write_table(table, tmp_path / "t.xlsx")
    assert openpyxl.load_workbook(tmp_path / "t.xlsx").active["B3"].value is None


WIDE = "the row has 4 cells, but the header names 3 columns; a cell that holds a comma needs quotes"
NARROW = "the row has 2 cells, but the header names 3 columns; an empty cell stands for a missing value"


@pytest.mark.parametrize(
    ("content", "line", "sentence"),
    [
        ("id,a,b\nc0,.5,.5,.9\nc1,.4,.6", 2, WIDE),
        ("id,a,b\nc0,.5,.5\nc1,.4,.6,.9\n", 3, WIDE),
        ("id,a,b\n\n\nc0,.5,.5\nc1,.4,.6,0", 5, WIDE),
        ('id,a,b\r\n"c\r\n0",.5,.5\r\nc,1,.4,.6\r\n', 4, WIDE),
        ("id,a,b\nc0,.5,.5\nc1,.4\n", 3, NARROW),
        ("id,a,b\nc0,.5\nc1,.4,.6\n", 2, NARROW),
        ("id,a,b\nc0,.5,.5\nc1,.4", 3, NARROW),  # a file that was cut off
    ],
)
def test_a_row_of_another_width_is_refused(tmp_path: Path, content: str, line: int, sentence: str) -> None:
    (tmp_path / "t.csv").write_text(content, newline="")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.csv")
    assert str(caught.value) == f"{tmp_path / 't.csv'}, line {line}: {sentence}"
    (tmp_path / "t.tsv").write_text(content.replace(",", "\t"), newline="")
    with pytest.raises(DataError, match=f"t.tsv, line {line}: the row has"):
        read_table(tmp_path / "t.tsv")


def test_rows_of_another_width_that_lose_nothing_are_read(tmp_path: Path) -> None:
    expected = [{"id": "c0", "a": 0.5, "b": 0.5}, {"id": "c,1", "a": 0.4, "b": 0.6}]
    for rows in ('c0,.5,.5,,\n"c,1",.4,.6\n', 'c0,.5,.5\n"c,1",.4,.6,\n', 'c0,.5,.5\n\n  \n"c,1",.4,.6\n'):
        (tmp_path / "t.csv").write_text(f"id,a,b\n{rows}")
        assert read_table(tmp_path / "t.csv").to_dict("records") == expected
    (tmp_path / "t.csv").write_text("id,a,note,more\nc0,.5\nc1,.4,,\n")  # nobody has a note
    table = read_table(tmp_path / "t.csv")
    assert table["a"].tolist() == [0.5, 0.4]
    assert table[["note", "more"]].isna().all(axis=None)


def test_a_cell_longer_than_pythons_reader_takes(tmp_path: Path) -> None:
    text = "word, " * 50_000
    write_table(pd.DataFrame({"id": ["a"], "text": [text]}), tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv")["text"].tolist() == [text]


def test_a_value_beside_the_table_of_a_spreadsheet_is_refused(tmp_path: Path) -> None:
    rows: list[list[object]] = [["id", "a", None], ["c0", 0.5], [None], ["c1", 0.4, None, 0.9]]
    with pytest.raises(DataError, match="row 4 has a value in column 4, but the header names 2 columns"):
        read_table(excel(tmp_path / "t.xlsx", rows))
    assert read_table(excel(tmp_path / "u.xlsx", rows[:3])).to_dict("records") == [{"id": "c0", "a": 0.5}]


FORMULAS = (
    "=cmd|'/C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1+1",
    "- so what?",
    "'=1",
    "''-a",
    "-inf",
)
PLAIN = ("-2", "+49", "-1.5e3", "'tis", "a=b", "", "'", "1-2", "'5")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_no_text_is_a_formula_in_a_spreadsheet(tmp_path: Path, suffix: str) -> None:
    """As OWASP advises against CSV injection; numbers are no formulas and stay numbers."""
    texts = [*FORMULAS, *PLAIN]
    table = pd.DataFrame({"id": texts, "x": np.arange(len(texts)) - 3.5, "=name": texts})
    path = tmp_path / f"t{suffix}"
    write_table(table, path)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t" if suffix == ".tsv" else ",")
    assert header == ["id", "x", "'=name"]
    for text, x, row in zip(texts, table["x"], rows, strict=True):
        assert row == ([f"'{text}", str(x), f"'{text}"] if text in FORMULAS else [text, str(x), text])
    again = read_table(path, ["=name"])
    assert list(again.columns) == ["id", "x", "=name"]
    assert again["id"].tolist() == again["=name"].tolist() == texts
    assert again["x"].tolist() == table["x"].tolist()


@given(texts=st.lists(st.text(st.sampled_from("='+-@\t\r\n1a,\" "), min_size=1), min_size=1))
@settings(max_examples=100, deadline=None)
def test_guards_are_taken_off_whatever_the_text(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        write_table(pd.DataFrame({"x": np.zeros(len(texts)), "id": texts}), path)
        assert read_table(path)["id"].tolist() == texts


def test_what_is_printed_is_guarded_as_well() -> None:
    assert csv_text(pd.DataFrame({"id": ["=1"], "x": [-0.5]})) == "id,x\n'=1,-0.5\n"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "@x", "-x"])
def test_a_formula_stays_text_in_a_spreadsheet_that_somebody_edits(tmp_path: Path, text: str) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    write_table(pd.DataFrame({"id": [text, "plain"]}), tmp_path / "t.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    assert [(c.value, c.data_type, bool(c.quotePrefix)) for c in sheet["A"][1:]] == [
        (text, "s", True),
        ("plain", "s", False),
    ]
    assert read_table(tmp_path / "t.xlsx")["id"].tolist() == [text, "plain"]


def test_fuse_refuses_a_row_with_a_field_too_many(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text("id,a,b\nc0,.5,.5,.9\nc1,.4,.6")
    done = caller(monkeypatch, capfd, "fuse")(tmp_path / "one.csv", tmp_path / "two.csv")
    assert (done.code, done.out) == (2, "")
    assert done.err.strip().endswith(f"one.csv, line 2: {WIDE}")
    assert len(done.err.strip().splitlines()) == 1


def test_a_header_of_many_columns_is_read_in_no_time(tmp_path: Path) -> None:
    """Names were counted for every name: 40,000 of them took half a minute of a core."""
    path = tmp_path / "wide.tsv"
    path.write_text("\t".join(["x"] * 40_000) + "\n")
    began = time.process_time()
    with pytest.raises(DataError, match="names the column 'x' twice"):
        read_table(path)
    assert time.process_time() - began < 5
