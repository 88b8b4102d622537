"""Forgetting a recording: every trace of it goes, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affuse.batch import BatchSettings, forget, read, run, target_of
from affuse.batch.forgetting import _SUFFIXES
from affuse.batch.sources import Item, content_key
from affuse.batch.store import locked
from affuse.batch.workbook import read_workbook
from affuse.errors import ConfigError, MissingExtraError, OutputError
from affuse.features import Clip, FeatureStore
from affuse.features.items import Measured
from affuse.report import FORMATS
from affuse.report.redaction import COPY_SUFFIXES
from affuse.service import JobStore, Settings
from affuse.weights import sha256_of
from command import Run, caller
from serving import write_sound
from test_redaction import assert_nowhere

pytestmark = pytest.mark.usefixtures("batches_here")

TEXT = BatchSettings(experts={"text": "text"}, language="en")
SAID = {"petra": "I am so happy, thank you!", "ben": "I hate this.", "carla": "She died and I miss her."}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may touch the cache and the service of whoever runs it."""
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def write_words(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in SAID.items():
        (folder / f"{name}.srt").write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{text}\n", encoding="utf-8")
    (folder / "petra-broken.srt").write_text("petra says nothing\n", encoding="utf-8")
    return folder


def manifest(folder: Path) -> Path:
    rows = [f"in/{name}.srt,{name[0]},{number}" for number, name in enumerate((*SAID, "petra-broken"))]
    (folder / "clips.csv").write_text("\n".join(["path,group,age", *rows]) + "\n", encoding="utf-8")
    return folder / "clips.csv"


def tones(folder: Path) -> None:
    """Two people's recordings of one name and one length, as studies have them."""
    for number, person in enumerate(("P01", "P02")):
        (folder / person).mkdir(parents=True)
        samples = 8000 * np.sin(2 * np.pi * (200 + 50 * number) * np.arange(16_000) / 16_000)
        write_sound(folder / person / "baseline.wav", samples)


def forget_checksums(folder: Path) -> None:
    """Make results look like those of versions that wrote no checksum of the recording."""
    changed = 0
    for path in (path for path in folder.rglob("*") if path.suffix in (".json", ".html")):
        text, count = re.subn(r',\s*"sha256":\s*"[0-9a-f]{64}"', "", path.read_text(encoding="utf-8"), count=1)
        path.write_text(text, encoding="utf-8")
        changed += count
    assert changed


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- batches ----------------------------------------------------------------------------------------------------------


def test_no_byte_of_a_data_set_tells_of_a_forgotten_recording(affuse: Run, tmp_path: Path) -> None:
    folder, out = write_words(tmp_path / "in"), tmp_path / "study"
    run(manifest(tmp_path), out, TEXT, by="group", part_recordings=1)
    run(manifest(tmp_path), out, BatchSettings(experts={"text": "text"}, language="en", prior="uniform"))
    key = content_key(Item("", folder / "petra.srt"))
    before = {table: [read(out, table, c) for c in configurations(out)] for table in ("summaries", "windows")}
    assert b"petra.srt" in (out / "summary.csv").read_bytes()
    result = affuse("forget", folder / "petra.srt", "--in", out)
    assert result.code == 0, result.err
    assert "rows of windows" in result.out
    assert (folder / "petra.srt").is_file()  # the recording is not affuse's to remove
    assert_nowhere(out, b"petra.srt", key.encode())
    for table, frames in before.items():
        for configuration, frame in zip(configurations(out), frames, strict=True):
            kept = frame[frame["key"] != key].reset_index(drop=True)
            assert 0 < len(kept) < len(frame)
            pd.testing.assert_frame_equal(read(out, table, configuration), kept)
    assert "petra.srt" not in {Path(row[0]).name for row in read_workbook(out / "summary.xlsx")[1]}
    assert read(out, "errors", configurations(out)[0])["path"].tolist() == ["in/petra-broken.srt"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<h1>3 recordings</h1>" in page
    assert not (out / "groups.csv").exists()  # means over the recording as well


def configurations(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "configurations").glob("*.json"))


def test_the_page_without_a_recording_is_that_of_a_batch_without_it(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "in")
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    run(manifest(tmp_path), whole, TEXT, language="zh")
    lines = (tmp_path / "clips.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "others.csv").write_text("\n".join(line for line in lines if "petra.srt" not in line), encoding="utf-8")
    run(tmp_path / "others.csv", rest, TEXT, language="zh")
    forget(folder / "petra.srt", [whole])
    assert (whole / "summary.csv").read_text(encoding="utf-8") == (rest / "summary.csv").read_text(encoding="utf-8")
    assert data_of(whole / "index.html") == data_of(rest / "index.html")
    assert '<html lang="zh-CN">' in (whole / "index.html").read_text(encoding="utf-8")


def data_of(page: Path) -> dict[str, object]:
    match = re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    found: dict[str, object] = json.loads(match[1])
    return found


def test_a_forgotten_recording_is_analysed_anew_where_it_is_asked_for_again(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "in")
    run(str(folder / "*.srt"), tmp_path / "study", TEXT)
    before = read(tmp_path / "study", "windows")
    forget(folder / "petra.srt", [tmp_path / "study"])
    assert run(str(folder / "*.srt"), tmp_path / "study", TEXT).analyzed == 1
    pd.testing.assert_frame_equal(read(tmp_path / "study", "windows"), before)


def test_a_recording_that_was_never_read_is_known_by_its_path(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "in")
    (folder / "a").mkdir()
    shutil.move(folder / "ben.srt", folder / "a" / "ben.srt")
    lines = ["path", "in/a/ben.srt", "in/b/ben.srt", "in/carla.srt"]  # the second is not there
    (tmp_path / "clips.csv").write_text("\n".join(lines), encoding="utf-8")
    run(tmp_path / "clips.csv", tmp_path / "study", TEXT)
    forget(folder / "a" / "ben.srt", [tmp_path / "study"])
    assert read(tmp_path / "study")["path"].tolist() == ["in/b/ben.srt", "in/carla.srt"]
    (folder / "b").mkdir()
    (folder / "b" / "ben.srt").write_text("something", encoding="utf-8")
    forget(folder / "b" / "ben.srt", [tmp_path / "study"])
    assert read(tmp_path / "study")["path"].tolist() == ["in/carla.srt"]
    assert_nowhere(tmp_path / "study", b"ben.srt")


def test_the_key_alone_is_enough_and_a_hash_of_the_file_as_well(affuse: Run, tmp_path: Path, tone: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copyfile(tone, tmp_path / "in" / "petra.wav")
    digest, key = sha256_of(tone), content_key(Item("", tone))
    assert digest != key
    for number, name in enumerate((digest, key)):
        out = tmp_path / f"out{number}"
        run(tmp_path / "in", out / "study", BatchSettings(experts={"voice": "voice"}))
        affuse("analyze", tmp_path / "in" / "petra.wav", "--out", out / "single", "--experts", "voice")
        assert affuse("forget", name, "--in", out, "--log", tmp_path / "log").code == 0
        assert_nowhere(out, b"petra", key.encode())  # the data set told name and duration of the single results
    lines = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert [line["sha256"] for line in lines] == [digest, key]


def test_transcripts_are_part_of_a_key_and_a_namesake_is_told(affuse: Run, tmp_path: Path, tone: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copyfile(tone, tmp_path / "in" / "petra.wav")
    words = tmp_path / "in" / "petra.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:01,000\nI am happy.\n", encoding="utf-8")
    run(tmp_path / "in", tmp_path / "study", BatchSettings(experts={"text": "text", "voice": "voice"}))
    shutil.move(words, tmp_path / "elsewhere.srt")
    before = contents(tmp_path / "study")
    unknown = affuse("forget", tmp_path / "in" / "petra.wav", "--in", tmp_path / "study")
    assert unknown.code == 0
    assert "kept: petra.wav has the same name" in unknown.err
    assert contents(tmp_path / "study") == before
    given = ["--transcript", tmp_path / "elsewhere.srt"]
    assert affuse("forget", tmp_path / "in" / "petra.wav", "--in", tmp_path / "study", *given).code == 0
    assert_nowhere(tmp_path / "study", b"petra")


def test_a_data_set_that_a_batch_writes_to_is_left_alone(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "in")
    run(str(folder / "*.srt"), tmp_path / "study", TEXT)
    with locked(tmp_path / "study"), pytest.raises(OutputError, match="another run writes"):
        forget(folder / "petra.srt", [tmp_path / "study"])
    assert b"petra.srt" in (tmp_path / "study" / "summary.csv").read_bytes()


# --- results of analyze -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_content", [True, False])
def test_results_of_one_name_and_length_are_told_apart_by_content_or_else_by_their_folders(
    affuse: Run, tmp_path: Path, by_content: bool
) -> None:
    tones(tmp_path / "in")
    formats = "json,csv,parquet,html,srt,audacity"
    asked = ["analyze", tmp_path / "in", "--out", tmp_path / "out", "--experts", "voice", "--format", formats]
    assert affuse(*asked).code == 0
    if not by_content:
        forget_checksums(tmp_path / "out")
    others = {name: content for name, content in contents(tmp_path / "out").items() if name.startswith("P02/")}
    assert len(others) == 6
    assert affuse("forget", tmp_path / "in" / "P01" / "baseline.wav", "--in", tmp_path / "out").code == 0
    left = contents(tmp_path / "out")
    assert {name: left[name] for name in others} == others
    assert set(left) - set(others) == {"index.html", "summary.csv", "summary.xlsx", "retention.log"}
    assert [row[0] for row in read_workbook(tmp_path / "out" / "summary.xlsx")[1]] == ["P02/baseline.wav"]
    assert_nowhere(tmp_path / "out", b"P01")
    assert b"P02/baseline.wav" in left["summary.csv"]
    assert b"P02/baseline.wav" in left["index.html"]
    affuse("forget", tmp_path / "in" / "P02" / "baseline.wav", "--in", tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"retention.log"}


def test_results_that_could_be_anybodys_are_refused_before_anything_goes(affuse: Run, tmp_path: Path) -> None:
    tones(tmp_path / "in")
    for person in ("P01", "P02"):
        path = tmp_path / "in" / person / "baseline.wav"
        affuse("analyze", path, "--out", tmp_path / "out" / f"results-{person}", "--experts", "voice")
    forget_checksums(tmp_path / "out")
    before = contents(tmp_path / "out")
    result = affuse("forget", tmp_path / "in" / "P01" / "baseline.wav", "--in", tmp_path / "out")
    assert result.code == 2
    assert "say by --in which are meant" in result.err
    assert contents(tmp_path / "out") == before
    meant = tmp_path / "out" / "results-P01"
    assert affuse("forget", tmp_path / "in" / "P01" / "baseline.wav", "--in", meant).code == 0
    assert set(contents(meant)) == {"retention.log"}
    assert len(contents(tmp_path / "out" / "results-P02")) == 4


def test_results_are_known_by_content_wherever_they_lie(affuse: Run, tmp_path: Path) -> None:
    tones(tmp_path / "in")
    for person in ("P01", "P02"):
        path = tmp_path / "in" / person / "baseline.wav"
        affuse("analyze", path, "--out", tmp_path / "out" / f"results-{person}", "--experts", "voice")
    others = contents(tmp_path / "out" / "results-P02")
    result = affuse("forget", tmp_path / "in" / "P01" / "baseline.wav", "--in", tmp_path / "out")
    assert result.code == 0
    digest = sha256_of(tmp_path / "in" / "P02" / "baseline.wav")
    assert result.err.splitlines() == [
        f"kept: {(tmp_path / 'out' / 'results-P02' / 'baseline').as_posix()} has the same name, but another content or "
        f"transcript; its hash is {digest}"
    ]
    assert contents(tmp_path / "out" / "results-P01") == {}
    assert contents(tmp_path / "out" / "results-P02") == others
    assert affuse("forget", digest, "--in", tmp_path / "out").code == 0  # the hash alone, without any data set
    assert set(contents(tmp_path / "out")) == {"retention.log"}


def test_a_renamed_recording_is_found_and_one_that_took_its_name_is_not(affuse: Run, tmp_path: Path) -> None:
    tones(tmp_path / "in")
    own, other = (tmp_path / "in" / person / "baseline.wav" for person in ("P01", "P02"))
    asked = ["--experts", "voice", "--format", "json,csv,html"]
    assert affuse("analyze", tmp_path / "in" / "P01", "--out", tmp_path / "out", *asked).code == 0
    before = contents(tmp_path / "out")
    results = {f"baseline.{suffix}" for suffix in ("json", "csv", "html")}
    assert set(before) == {*results, "summary.csv", "summary.xlsx", "index.html"}
    kept = affuse("forget", other, "--in", tmp_path / "out", "--log", tmp_path / "log")  # same name and same length
    assert (kept.code, contents(tmp_path / "out")) == (0, before)
    assert "kept: " in kept.err
    assert "no trace of the recording was found" in kept.err
    renamed = own.rename(own.with_name("petra.wav"))
    assert affuse("forget", renamed, "--in", tmp_path / "out").code == 0
    assert set(contents(tmp_path / "out")) == {"retention.log"}


def test_files_that_affuse_did_not_write_stay(affuse: Run, tmp_path: Path, tone: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    recording = Path(shutil.copyfile(tone, folder / "petra.wav"))
    mine = {"petra.csv": b"name,age\npetra,3\n", "petra.TextGrid": b"mine", "petra-2.json": b'{"source": 1}'}
    for name, content in mine.items():
        (folder / name).write_bytes(content)
    asked = ["analyze", recording, "--out", folder / "results", "--experts", "voice", "--format", "csv,elan"]
    assert affuse(*asked).code == 0
    assert affuse("forget", recording, "--in", folder).code == 0
    assert contents(folder).keys() == {*mine, "petra.wav", "retention.log"}
    assert {name: (folder / name).read_bytes() for name in mine} == mine


def test_a_private_and_a_redacted_analysis_are_forgotten_as_well(affuse: Run, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "petra.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    for option in ("--private", "--redact"):
        assert affuse("analyze", path, option, "--out", tmp_path / "out" / option.strip("-")).code == 0
    (tmp_path / "out" / "redact" / ".petra.html.0123abcd.part").write_bytes(b"half a page")
    assert (tmp_path / "out" / "redact" / "petra.redacted.jpg").is_file()
    assert affuse("forget", path, "--in", tmp_path / "out").code == 0
    assert set(contents(tmp_path / "out")) == {"retention.log"}


def test_a_dry_run_says_the_same_and_changes_nothing(affuse: Run, tmp_path: Path) -> None:
    folder = write_words(tmp_path / "in")
    run(str(folder / "*.srt"), tmp_path / "study", TEXT)
    before = contents(tmp_path / "study")
    told = affuse("forget", folder / "petra.srt", "--in", tmp_path / "study", "--dry-run")
    assert told.code == 0
    assert contents(tmp_path / "study") == before
    done = affuse("forget", folder / "petra.srt", "--in", tmp_path / "study")
    assert told.out.replace("would be removed", "removed") == done.out
    assert affuse("forget", folder / "petra.srt", "--in", tmp_path / "study").err.startswith("no trace")


def test_the_log_holds_time_hash_and_counts_and_never_a_name(affuse: Run, tmp_path: Path) -> None:
    folder = write_words(tmp_path / "in")
    run(str(folder / "*.srt"), tmp_path / "study", TEXT)
    for name in ("petra", "ben"):
        affuse("forget", folder / f"{name}.srt", "--in", tmp_path / "study")
    lines = (tmp_path / "study" / "retention.log").read_text(encoding="utf-8").splitlines()
    assert [set(json.loads(line)) for line in lines] == [{"time", "sha256", "removed"}] * 2
    first = json.loads(lines[0])
    assert first["sha256"] == sha256_of(folder / "petra.srt")
    assert first["removed"]["rows of persons"] == 1
    assert "petra" not in lines[0]
    assert run(str(folder / "*.srt"), tmp_path / "study", TEXT).failed == 1  # the log is no obstacle to the next run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nobody.mp4"], "neither a file nor a hash"), (["0" * 64, "--in", "nowhere"], "nowhere is not a folder")],
)
def test_what_cannot_be_forgotten_gets_one_sentence(
    affuse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = affuse("forget", *arguments)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_the_suffixes_are_those_of_all_formats() -> None:
    known = set()
    for name in FORMATS.built_in:
        try:
            known.add(FORMATS.make(name).suffix)
        except MissingExtraError as error:
            pytest.skip(str(error))
    assert set(_SUFFIXES) == known | set(COPY_SUFFIXES.values())


def test_a_hash_is_no_folder_and_no_short_one() -> None:
    with pytest.raises(ConfigError, match="neither a file nor a hash"):
        target_of("0" * 63)


# --- cache and service ------------------------------------------------------------------------------------------------


def test_measurements_in_the_cache_go_and_those_of_others_stay(tmp_path: Path) -> None:
    tones(tmp_path / "in")
    store, zero = FeatureStore(), Measured(np.zeros(1))
    first, second = (tmp_path / "in" / person / "baseline.wav" for person in ("P01", "P02"))
    for path in (first, second):
        for item in (path, Clip(path, 0.0, 0.5)):
            store.recall(item, "settings", lambda _: zero)
    store.recall("some words", "settings", lambda _: zero)
    assert len(contents(tmp_path / "cache")) == 5
    removed = forget(first, [tmp_path])
    assert [removal.what for removal in removed] == ["measurements in the cache"] * 2
    assert len(contents(tmp_path / "cache")) == 3
    assert store.kept_of(sha256_of(first)) == []
    assert len(store.kept_of(sha256_of(second))) == 2


def fill_service(settings: Settings, jobs: list[tuple[str, str, float | None]]) -> list[str]:
    """Jobs by name, content of the upload (none where empty) and duration in the results; their ids."""
    settings.make_folders()
    store, ids = JobStore(settings.folder / "jobs.db"), []
    for number, (name, content, duration) in enumerate(jobs):
        job = store.add(name, {}, upload=f"u{number}.wav")
        assert job is not None
        ids.append(job.id)
        if content:
            (settings.uploads / f"u{number}.wav").write_text(content, encoding="utf-8")
        if duration is not None:
            (settings.results / job.id).mkdir()
            answer = {"source": {"name": name, "duration": duration}}
            (settings.results / job.id / "analysis.json").write_text(json.dumps(answer), encoding="utf-8")
    return ids


def test_jobs_of_a_service_go_with_uploads_and_results(
    affuse: Run, tmp_path: Path, tone: Path, make_service: Callable[..., object]
) -> None:
    pytest.importorskip("psutil", reason="the service needs the extra serve")
    petra = Path(shutil.copyfile(tone, tmp_path / "petra.wav"))
    settings = Settings(tmp_path / "service")
    ids = fill_service(
        settings,
        [("petra.wav", "", 1.0), ("renamed.wav", "kept", None), ("petra.wav", "", 7.0), ("ben.wav", "", 1.0)],
    )
    shutil.copyfile(tone, settings.uploads / "u1.wav")
    assert affuse("forget", petra, "--in", tmp_path / "service").code == 0
    store = JobStore(settings.folder / "jobs.db")
    assert store.ids() == {ids[2], ids[3]}  # of another length, and of another name
    assert [path.name for path in settings.uploads.iterdir()] == []
    assert {path.name for path in settings.results.iterdir()} == {ids[2], ids[3]}
    assert b"renamed.wav" not in (settings.folder / "jobs.db").read_bytes()


def test_jobs_are_known_by_the_checksum_in_their_results(affuse: Run, tmp_path: Path, tone: Path) -> None:
    pytest.importorskip("psutil", reason="the service needs the extra serve")
    petra = Path(shutil.copyfile(tone, tmp_path / "petra.wav"))
    settings = Settings(tmp_path / "service")
    ids = fill_service(settings, [("renamed.wav", "", 1.0), ("petra.wav", "", 1.0)])
    for number, digest in zip(ids, (sha256_of(petra), "0" * 64), strict=True):
        place = settings.results / number / "analysis.json"
        answer = json.loads(place.read_text(encoding="utf-8"))
        answer["source"]["sha256"] = digest
        place.write_text(json.dumps(answer), encoding="utf-8")
    assert affuse("forget", petra, "--in", tmp_path / "service").code == 0
    assert JobStore(settings.folder / "jobs.db").ids() == {ids[1]}
    assert {path.name for path in settings.results.iterdir()} == {ids[1]}
