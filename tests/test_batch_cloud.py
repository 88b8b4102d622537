"""Recordings and data sets in cloud storage: S3 from a server on this machine, and fsspec's own file systems."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affuse.batch import BatchSettings, lease, read, run, storage
from affuse.batch.sources import content_key, find_items
from affuse.batch.store import locked
from affuse.errors import ConfigError, MediaError, MissingExtraError, OutputError
from affuse.files import replacing, write_text
from command import Run, caller

fsspec = pytest.importorskip("fsspec", reason="cloud storage needs the extra cloud")
pytest.importorskip("upath", reason="cloud storage needs the extra cloud")

TEXT = BatchSettings(experts={"text": "text"}, language="en")
SAID = ("I am so happy, thank you!", "I hate this.", "She died and I miss her.", "I am so scared.")


def cue(text: str) -> bytes:
    return f"1\n00:00:00,000 --> 00:00:02,000\n{text}\n".encode()


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system in memory, empty before and after."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A bucket of a server that speaks S3, known to this process and the workers from the environment alone."""
    pytest.importorskip("s3fs", reason="S3 needs the extra cloud")
    moto = pytest.importorskip("moto.server", reason="a server that speaks S3 needs moto (extra dev)")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "known")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "to nobody")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("bucket")
        yield files
    server.stop()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the connections that botocore keeps
def test_a_run_from_s3_to_s3_is_that_of_this_machine(s3: Any, tmp_path: Path) -> None:
    for number, text in enumerate(SAID):
        (tmp_path / f"said {number}.srt").write_bytes(cue(text))
        s3.pipe_file(f"bucket/in/said {number}.srt", cue(text))
    rows = "".join(f"said {number}.srt,{number:03d}\n" for number in range(4))
    (tmp_path / "m.csv").write_text(f"path,who\n{rows}")
    s3.pipe_file("bucket/in/m.csv", f"path,who\n{rows}none.srt,9\n".encode())
    here = run(tmp_path / "m.csv", tmp_path / "out", TEXT)
    done = run("s3://bucket/in/m.csv", "s3://bucket/out", TEXT)
    assert (done.analyzed, done.failed, done.configuration) == (4, 1, here.configuration)
    (error,) = read("s3://bucket/out", "errors").to_dict("records")
    assert (error["path"], error["reason"]) == ("none.srt", "s3://bucket/in/none.srt does not exist")
    for table in ("windows", "persons"):
        for part in (tmp_path / "out" / table).rglob("*.parquet"):
            assert s3.cat_file(f"bucket/out/{part.relative_to(tmp_path / 'out').as_posix()}") == part.read_bytes()
    assert not [name for name in s3.find("bucket/out") if "new-" in name or name.endswith((".part", ".lock"))]
    check_another_run(s3)


def check_another_run(s3: Any) -> None:
    """What has not changed is not fetched again, and what has is; a copy under another name is not analysed twice."""
    s3.pipe_file("bucket/in/said 0.srt", cue("I am furious."))
    s3.pipe_file("bucket/in/none.srt", cue(SAID[1]))
    again = run("s3://bucket/in/m.csv", "s3://bucket/out", TEXT)
    assert (again.total, again.analyzed, again.earlier, again.failed) == (5, 1, 4, 0)
    table = read("s3://bucket/out").set_index("path")
    assert table["key"]["none.srt"] == table["key"]["said 1.srt"]
    assert table["key"]["said 0.srt"] == content_key(find_items(["s3://bucket/in/said 0.srt"]).items[0])
    assert table["who"].to_dict()["said 2.srt"] == "002"
    contents = read("s3://bucket/out", "contents").set_index("path")
    assert contents["key"].to_dict() == table["key"].to_dict()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_storage_that_does_not_answer_gets_one_sentence(s3: Any, affuse: Run, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(cue(SAID[0]))
    for arguments, says in (
        ([tmp_path / "a.srt", "--out", "s3://no-such-bucket/out"], "s3://no-such-bucket/out"),
        (["s3://no-such-bucket/in", "--out", tmp_path / "out"], "s3://no-such-bucket/in"),
        (["s3://bucket/empty/", "--out", tmp_path / "out"], "s3://bucket/empty/ does not exist, or holds nothing"),
        (["nowhere://bucket/a.srt", "--out", tmp_path / "out"], "nowhere://bucket/a.srt cannot be reached"),
        ([tmp_path / "a.srt", "s3://bucket/a.srt", "--out", tmp_path / "out"], "by a manifest that names both"),
    ):
        result = affuse("batch", *arguments, "--experts", "text", "--workers", "1")
        assert result.code == 2, (arguments, result.out)
        assert says in result.err
        assert result.err.startswith("affuse: ")
        assert result.err.count("\n") == 1, result.err


# --- what is read -----------------------------------------------------------------------------------------------------


def test_folders_patterns_and_addresses_are_told_apart(memory: Any) -> None:
    for name in ("a/1.wav", "b/2.wav", "b/2.srt", "b/t.csv", ".hidden/3.wav", "b/.4.wav"):
        memory.pipe_file(f"/in/{name}", b"x")
    inside = find_items("memory://in/")
    assert [item.name for item in inside.items] == ["a/1.wav", "b/2.wav"]
    assert str(inside.items[1].transcript) == "memory://in/b/2.srt"
    assert inside.skipped == 1
    assert [item.size for item in inside.items] == [1, 2]
    assert len({item.version for item in inside.items} - {""}) == 2
    pattern = find_items("memory://in/b/*")
    assert [item.name for item in pattern.items] == ["2.wav"]
    assert str(pattern.items[0].transcript) == "memory://in/b/2.srt"
    both = find_items(["memory://in/a/1.wav", "memory://in/b"])
    assert [item.name for item in both.items] == ["a/1.wav", "b/2.wav"]
    with pytest.raises(MediaError, match="does not exist, or holds nothing"):
        find_items("memory://in/c")


def test_the_key_of_a_content_is_the_same_wherever_it_lies(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(cue(SAID[0]))
    memory.pipe_file("/in/other.srt", cue(SAID[0]))
    (here,), (there,) = find_items([tmp_path / "a.srt"]).items, find_items(["memory://in/other.srt"]).items
    assert content_key(here) == content_key(there)
    assert (here.is_remote, there.is_remote) == (False, True)


def test_a_manifest_on_this_machine_may_name_both(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/in/1.srt", cue(SAID[0]))
    (tmp_path / "2.srt").write_bytes(cue(SAID[1]))
    (tmp_path / "m.csv").write_text("path\nmemory://in/1.srt\n2.srt\n")
    first, second = find_items(tmp_path / "m.csv").items
    assert (first.name, str(first.path)) == ("memory://in/1.srt", "memory://in/1.srt")
    assert (second.name, second.path) == ("2.srt", tmp_path / "2.srt")


def test_a_download_that_fails_leaves_nothing(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/in/a.wav", b"0123456789")
    with storage.fetch("memory://in/a.wav", tmp_path) as copy:
        assert copy.read_bytes() == b"0123456789"
    with (
        pytest.raises(MediaError, match=r"memory://in/b\.wav does not exist"),
        storage.fetch("memory://in/b.wav", tmp_path),
    ):
        pass

    def half(_: Any, source: str, target: str, **__: Any) -> None:
        Path(target).write_bytes(memory.cat_file(source)[:5])

    def broken(_: Any, source: str, target: str, **__: Any) -> None:
        half(_, source, target)
        raise ConnectionResetError("the line\nis cut")

    for get_file, says in ((half, "5 of 10 bytes came"), (broken, "the line is cut")):
        monkeypatch.setattr(type(memory), "get_file", get_file)
        with (
            pytest.raises(MediaError, match=f"memory://in/a.wav could not be downloaded: {says}"),
            storage.fetch("memory://in/a.wav", tmp_path),
        ):
            pass
        assert list(tmp_path.iterdir()) == []


# --- what is written --------------------------------------------------------------------------------------------------


def test_objects_appear_whole_or_not_at_all(memory: Any, tmp_path: Path) -> None:
    path = storage.as_path("memory://out/a.txt")
    write_text(path, "whole")
    assert memory.cat_file("/out/a.txt") == b"whole"

    def fail() -> None:
        with replacing(path) as (part,):
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert memory.find("/out") == ["/out/a.txt"]
    assert memory.cat_file("/out/a.txt") == b"whole"


def test_other_storage_gets_a_whole_file_by_renaming(tmp_path: Path) -> None:
    from upath.implementations.local import FilePath

    path: Any = FilePath((tmp_path / "deep/a.txt").as_uri(), protocol="file")
    assert not isinstance(path, Path)
    write_text(path, "whole")
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep/a.txt").read_text() == "whole"


def test_a_data_set_in_memory_is_read_again(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(cue(SAID[0]))
    done = run([tmp_path / "a.srt"], "memory://study", TEXT)
    assert (done.analyzed, done.to_dict()["folder"]) == (1, "memory://study")
    assert read("memory://study")["path"].tolist() == ["a.srt"]
    assert len(read("memory://study", "windows")) == 1
    memory.pipe_file("/mine/notes.txt", b"x")
    with pytest.raises(OutputError, match="memory://mine exists and holds no data set"):
        run([tmp_path / "a.srt"], "memory://mine", TEXT)


def test_a_lock_lives_as_long_as_its_holder(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "PATIENCE", 0.4)
    folder = storage.as_path("memory://study")
    with locked(folder), pytest.raises(OutputError, match="another run writes to memory://study"), locked(folder):
        pass
    assert memory.find("/study") == []
    memory.pipe_file("/study/.lock", b"of a run that was killed 7")
    with locked(folder):
        assert memory.exists("/study/.lock")
    assert memory.find("/study") == []


# --- without the libraries --------------------------------------------------------------------------------------------


def test_a_missing_library_names_its_pip_line(affuse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    (tmp_path / "a.srt").write_bytes(cue(SAID[0]))
    result = affuse("batch", tmp_path / "a.srt", "--out", "s3://bucket/out")
    assert result.code == 2
    assert result.err == "affuse: upath is not installed; run: pip install 'affuse[cloud]'\n"
    with pytest.raises(MissingExtraError):
        read("s3://bucket/out")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="cannot be reached"):
        read("nowhere://bucket/out")
