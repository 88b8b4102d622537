"""Files appear whole or not at all, and a place that cannot be written is one sentence."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from affuse.errors import DataError, OutputError
from affuse.files import replacing, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_keeps_what_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "a.txt", tmp_path / "b.txt") as (a, b):
            a.write_text("new")
            b.write_text("new")
            raise DataError("the rows end early")

    with pytest.raises(DataError, match="the rows end early"):
        write()
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_several_files_appear_together_in_folders_that_are_made(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "a.txt", tmp_path / "y" / "z" / "b.txt"]
    with replacing(*paths) as parts:
        for part, path in zip(parts, paths, strict=True):
            part.write_text(path.name)
            assert part.parent == path.parent
            assert not path.exists()
    assert [path.read_text() for path in paths] == ["a.txt", "b.txt"]
    assert names(tmp_path / "x") == ["a.txt"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path, both = tmp_path / "a.txt", threading.Barrier(2)

    def write(text: str) -> None:
        with replacing(path) as (part,):
            part.write_text(text[:1])
            both.wait(5)
            part.write_text(text)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; the name of a file is needed"):
        write_text(tmp_path, "text")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written \(.*\); choose another place for the output"):
        write_text(tmp_path / "file" / "a.txt", "text")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission denied"):
        write_text(tmp_path / "a.txt", "text")


def test_json_and_text_are_utf_8_with_a_last_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"高兴": [1, None]}, indent=None)
    assert (tmp_path / "a.json").read_bytes() == '{"高兴": [1, null]}\n'.encode()
    write_json(tmp_path / "a.json", {"a": {"b": 1}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": {"b": 1}}
    assert '\n  "a"' in (tmp_path / "a.json").read_text()
    write_text(tmp_path / "a.txt", "ärger")
    assert (tmp_path / "a.txt").read_bytes() == "ärger".encode()
