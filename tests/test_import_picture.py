"""The picture of the imports is that of the code, and its arrows point down."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from scripts.draw_imports import draw, heights, layout, main, neighbours
from scripts.imports import PACKAGE, ROOMS, lines_by_room, room_imports

PICTURE = PACKAGE.parent.parent / "docs" / "imports.svg"
# By hand: a imports b and d, b imports c and d, c imports d; a has a room of its own beside b.
SMALL = {("a", "b"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"), ("a", "e")}


@pytest.fixture(scope="module")
def arrows() -> Counter[tuple[str, str]]:
    return room_imports()


def test_the_committed_picture_is_that_of_the_code(arrows: Counter[tuple[str, str]]) -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(arrows), "run: python scripts/draw_imports.py"


def test_every_import_is_an_arrow_that_points_down(arrows: Counter[tuple[str, str]]) -> None:
    drawn = re.findall(r'data-from="(\w+)" data-to="(\w+)"', draw(arrows))
    assert sorted(drawn) == sorted(arrows)
    height = heights(arrows)
    assert all(height[above] > height[below] for above, below in arrows)
    assert set(height) == set(ROOMS)


def test_arrows_that_others_stand_for_are_light() -> None:
    assert neighbours(SMALL) == {("a", "b"), ("b", "c"), ("c", "d"), ("a", "e")}


def test_long_arrows_run_through_gaps_of_the_rows_between() -> None:
    rooms = ("d", "c", "b", "e", "a")
    assert heights(SMALL, rooms) == {"d": 0, "c": 1, "b": 2, "e": 2, "a": 3}
    rows, ways = layout({("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")}, ("d", "c", "b", "a"))
    assert ways[1] == ["a", ("a d", 2), ("a d", 1), "d"]
    assert [len(row) for row in rows] == [1, 2, 2, 1]


def test_lines_are_counted_without_docstrings_comments_and_blank_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts import imports

    source = '"""Says\nwhat it is."""\n\nx = 1\n"""What x is."""\n\n\ndef f():\n    # why\n    return "a" + "b"\n'
    (tmp_path / "labels.py").write_text(source)
    monkeypatch.setattr(imports, "PACKAGE", tmp_path)
    assert lines_by_room()["labels"] == 3


def test_the_command_writes_the_picture_and_prints_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arrows: Counter[tuple[str, str]]
) -> None:
    main(["--out", str(tmp_path / "x.svg")])
    assert (tmp_path / "x.svg").read_text(encoding="utf-8") == draw(arrows)
    main(["--lines"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [*ROOMS, "all"]
    counts = [int(line.split()[1].replace(",", "")) for line in printed]
    assert sum(counts[:-1]) == counts[-1] > 10_000
