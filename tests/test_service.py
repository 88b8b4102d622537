"""The service as a client meets it: from an upload to its answer, and to the last trace of it."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

import affuse
import samples
from affuse.budget import Budget
from affuse.errors import ConfigError
from affuse.report.schema import schema
from samples import write_clip

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

from affuse.service.hume import to_hume
from affuse.service.runner import JobSpec, _write
from affuse.service.store import JobStore
from affuse.service.worker import Runner, Worker, sweep
from serving import LocalService, write_sound

DEMO = Path(__file__).parent.parent / "demo" / "clip.mp4"
HEX = "0123456789abcdef"


@pytest.fixture(scope="session")
def long_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Minutes of noise: takes long enough to be interrupted."""
    noise = np.random.default_rng(0).integers(-9000, 9000, 60 * 16_000)
    return write_sound(tmp_path_factory.mktemp("media") / "long.wav", noise, 15)


@pytest.fixture(scope="session")
def subtitles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "words.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:00,900\nThis is wonderful, zanzibar!\n", encoding="utf-8")
    return path


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def expected() -> affuse.Analysis:
    """What the library says about the demo clip."""
    if not DEMO.is_file():
        pytest.skip("the demo clip is not part of this distribution")
    return affuse.analyze(DEMO, DEMO.with_suffix(".srt"), window=2, hop=2)


def test_a_recording_gets_the_answer_that_the_library_gives(service: LocalService, expected: affuse.Analysis) -> None:
    words = DEMO.with_suffix(".srt")
    accepted = service.send(DEMO, "My holiday.mp4", transcript=words, window="2", hop="2")
    assert accepted.status_code == 202
    first = accepted.json()
    assert (first["state"], first["name"], first["result"], first["error"]) == ("queued", "My holiday.mp4", None, "")
    assert service.http.get(f"/v1/analyses/{first['id']}/table.csv").status_code == 404

    service.work()
    job = service.job(first["id"])
    assert (job["state"], job["progress"], job["error"]) == ("done", 1.0, "")
    assert job["created"] <= job["started"] <= job["finished"]
    Draft202012Validator(schema()).validate(job["result"])

    own = json.loads(replace(expected, source=replace(expected.source, name="My holiday.mp4")).to_json())
    assert job["result"] == own
    assert service.job(first["id"], shape="hume")["result"] == to_hume(own)

    frame = expected.to_frame()
    files = {name: service.http.get(f"/v1/analyses/{first['id']}/{name}") for name in ("table.csv", "table.parquet")}
    assert pd.read_csv(BytesIO(files["table.csv"].content)).columns.tolist() == frame.columns.tolist()
    read = pd.read_parquet(BytesIO(files["table.parquet"].content))
    pd.testing.assert_series_equal(read["confidence"], frame["confidence"], check_dtype=False)
    assert files["table.csv"].headers["content-disposition"] == "attachment; filename*=utf-8''My%20holiday.csv"

    page = service.http.get(f"/v1/analyses/{first['id']}/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "My holiday.mp4" in page.text
    sentences = service.http.get(f"/v1/analyses/{first['id']}/words.json").json()
    assert set(sentences) == {"en", "zh", "palette"}
    assert service.files() == [f"results/{first['id']}"] + [
        f"results/{first['id']}/{name}"
        for name in ("analysis.csv", "analysis.html", "analysis.json", "analysis.parquet", "rows.json", "words.json")
    ], "the recording and its transcript must be gone"


def test_the_nested_shape_holds_names_times_boxes_and_scores(expected: affuse.Analysis) -> None:
    flat = expected.to_dict()
    (source,) = to_hume(flat)
    assert source["source"] == {"type": "file", "filename": DEMO.name}
    (prediction,) = source["results"]["predictions"]
    models = prediction["models"]
    assert set(models) == {"face", "prosody", "language", "fused"}
    windows = flat["windows"]
    (group,) = models["face"]["grouped_predictions"]
    seen = [w for w in windows if w["evidence"]["face"]["probabilities"]]
    assert len(seen) == len(group["predictions"]) > 0
    boxes = flat["persons"][0]["boxes"]
    for window, said in zip(seen, group["predictions"], strict=True):
        assert said["time"] == {"begin": window["start"], "end": window["end"]}
        scores = {e["name"].lower(): e["score"] for e in said["emotions"]}
        assert scores == window["evidence"]["face"]["probabilities"]
        assert said["prob"] == max(scores.values())
        inside = [b for b in boxes if window["start"] <= b["time"] < window["end"]]
        middle = inside[len(inside) // 2]
        assert said["box"] == {"x": middle["x"], "y": middle["y"], "w": middle["width"], "h": middle["height"]}
    fused = [p for g in models["fused"]["grouped_predictions"] for p in g["predictions"]]
    assert [{e["name"].lower(): e["score"] for e in p["emotions"]} for p in fused] == [w["fused"] for w in windows]


def test_a_text_is_answered_like_the_library_does(service: LocalService) -> None:
    job = service.done(text="I lost my job today. I feel terrible.", language="en")
    expected = affuse.analyze(text="I lost my job today. I feel terrible.", language="en")
    assert job["result"] == json.loads(expected.to_json())
    assert not any(name.startswith("uploads/") for name in service.files())


def test_the_language_is_the_one_that_was_asked_for(service: LocalService, tone: Path, subtitles: Path) -> None:
    english = service.done(tone, transcript=subtitles, language="en")["result"]
    chinese = service.done(tone, transcript=subtitles, language="zh")["result"]
    assert english["windows"][0]["evidence"]["text"] != chinese["windows"][0]["evidence"]["text"]


def test_a_picture_and_a_silent_clip_are_answered(service: LocalService, tmp_path: Path) -> None:
    picture = tmp_path / "grey.png"
    Image.new("RGB", (64, 64), "grey").save(picture)
    assert service.done(picture)["result"]["source"]["kind"] == "picture"
    clip = service.done(write_clip(tmp_path / "clip.mp4", seconds=2))["result"]
    assert clip["source"]["kind"] == "video"
    assert clip["windows"][0]["evidence"]["face"]["reason"] == "no face"


def test_jobs_are_listed_newest_first(service: LocalService) -> None:
    sent = [service.send(text=f"text {i}").json()["id"] for i in range(5)]
    listed = service.http.get("/v1/analyses").json()["analyses"]
    assert [job["id"] for job in listed] == sent[::-1]
    page = service.http.get("/v1/analyses", params={"limit": 2, "offset": 1}).json()["analyses"]
    assert [job["id"] for job in page] == sent[::-1][1:3]
    assert service.http.get("/v1/analyses", params={"limit": 0}).status_code == 422


# --- failures ---------------------------------------------------------------------------------------------------------


def _no_server_path(sentence: str, service: LocalService) -> None:
    assert str(service.settings.folder) not in sentence
    assert "uploads" not in sentence
    assert not any(len(word) >= 32 and set(word) <= set(HEX) for word in sentence.replace(".", " ").split())


def test_a_failed_job_speaks_of_the_clients_file(service: LocalService, tmp_path: Path, tone: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(os.urandom(3000))
    job = service.done(broken, "Urlaub & Meer.mp4")
    assert job["state"] == "failed"
    assert job["error"].startswith("Urlaub & Meer.mp4 ")
    _no_server_path(job["error"], service)
    empty = tmp_path / "empty.wav"
    empty.touch()
    job = service.done(empty)
    assert job["error"] == "empty.wav is empty (0 bytes)"
    words = tmp_path / "mine.srt"
    words.write_text("1\nnot a time\nhello\n")
    job = service.done(tone, transcript=words)
    assert job["error"].startswith("the transcript, line 2: expected a time like")
    _no_server_path(job["error"], service)
    assert service.files() == [], "nothing of a failed job stays"


@pytest.mark.parametrize(
    "playlist", ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:{0}\n", "ffconcat version 1.0\nfile '{0}'\n"]
)
def test_a_list_of_files_opens_none_of_them(service: LocalService, tmp_path: Path, tone: Path, playlist: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(playlist.format(tone))
    job = service.done(path)
    assert job["state"] == "failed"
    assert "tone" not in job["error"]


def test_a_recording_that_is_too_long_is_refused(make_service: Callable[..., LocalService], tone: Path) -> None:
    job = make_service(budget=Budget(max_duration=0.5)).done(tone)
    assert job["error"].startswith("tone.wav lasts 1.0 s or more; the limit is 0.5 s (raise it with --max-duration")


@pytest.fixture
def own_runner() -> Iterator[Runner]:
    """A process that analyses for one test, which ends it: the common one keeps its experts loaded."""
    runner = Runner()
    yield runner
    runner.end()


def test_a_job_may_not_take_too_long(
    make_service: Callable[..., LocalService], long_sound: Path, own_runner: Runner
) -> None:
    service = make_service(job_seconds=1)
    service.worker.runner = own_runner
    job = service.done(long_sound)
    assert job["state"] == "failed"
    assert job["error"] == "long.wav took longer than 1 s, the most that this service allows"
    assert service.files() == []


def test_a_job_may_not_take_too_much_memory(
    make_service: Callable[..., LocalService], long_sound: Path, own_runner: Runner
) -> None:
    service = make_service(job_memory=20_000_000)  # less than an interpreter with its libraries takes
    service.worker.runner = own_runner
    job = service.done(long_sound)
    assert job["state"] == "failed"
    assert job["error"] == "long.wav took more than 0.02 GB of memory, the most allowed here"
    assert own_runner.memory() == 0


def test_a_runner_that_is_killed_once_does_the_job_nevertheless(
    service: LocalService, tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine short of memory ends a process, and not always the right one."""
    runner, killed = service.worker.runner, list[int]()
    start = runner.start

    def start_and_kill_once(spec: JobSpec) -> None:
        if killed:
            return start(spec)
        runner.end()  # so that it is launched anew, and takes longer to start than to be killed
        start(spec)
        assert runner._process is not None
        runner._process.kill()
        killed.append(runner._process.pid)

    monkeypatch.setattr(runner, "start", start_and_kill_once)
    job = service.done(tone)
    assert killed
    assert job["state"] == "done", job["error"]
    assert [name for name in service.files() if ".part" in name] == []


# --- deleting and keeping ---------------------------------------------------------------------------------------------


def _bytes_of(service: LocalService) -> bytes:
    """Everything that lies in the folder of the service, databases and their logs included."""
    return b"".join(path.read_bytes() for path in service.settings.folder.rglob("*") if path.is_file())


def test_deleting_leaves_no_trace(make_service: Callable[..., LocalService], tone: Path, subtitles: Path) -> None:
    service = make_service(keep_uploads=True)
    job = service.done(tone, "quokka.wav", transcript=subtitles)
    assert len(service.files()) > 2
    assert b"quokka" in _bytes_of(service)
    assert service.http.delete(f"/v1/analyses/{job['id']}").status_code == 204
    assert service.files() == []
    for trace in (b"quokka", b"zanzibar", job["id"].encode()):
        assert trace not in _bytes_of(service)
    assert service.http.get(f"/v1/analyses/{job['id']}").status_code == 404
    assert service.http.delete(f"/v1/analyses/{job['id']}").status_code == 404


def test_deleting_stops_a_running_job(service: LocalService, long_sound: Path, own_runner: Runner) -> None:
    service.worker.runner = own_runner
    job_id = service.send(long_sound, "quokka.wav").json()["id"]
    work = threading.Thread(target=service.work)
    work.start()
    while service.job(job_id)["state"] != "running":
        time.sleep(0.01)
    began = time.monotonic()
    assert service.http.delete(f"/v1/analyses/{job_id}").status_code == 204
    work.join()
    assert time.monotonic() - began < 5
    assert service.files() == []
    assert b"quokka" not in _bytes_of(service)


def test_a_waiting_job_that_is_deleted_is_never_done(service: LocalService, tone: Path) -> None:
    job_id = service.send(tone).json()["id"]
    service.http.delete(f"/v1/analyses/{job_id}")
    service.worker.work()
    assert service.files() == []
    assert service.http.get("/v1/analyses").json()["analyses"] == []


def test_private_keeps_scores_alone(make_service: Callable[..., LocalService], subtitles: Path) -> None:
    service = make_service(private=True)
    clip = DEMO if DEMO.is_file() else subtitles
    words = DEMO.with_suffix(".srt") if DEMO.is_file() else None
    said = (words or subtitles).read_text(encoding="utf-8").splitlines()[2]
    job = service.done(clip, "quokka.mp4" if words else "quokka.srt", **({"transcript": words} if words else {}))
    assert job["state"] == "done", job["error"]
    Draft202012Validator(schema()).validate(job["result"])
    assert job["name"] == job["result"]["source"]["name"] == "recording"
    assert job["result"]["cues"] == []
    assert all(person["boxes"] == [] for person in job["result"]["persons"])
    assert any(w["fused"] for w in job["result"]["windows"]), "the scores are there"
    kept = _bytes_of(service).decode("utf-8", errors="ignore")
    for secret in ("quokka", said.strip(), *[w for w in said.split() if len(w) > 6]):
        assert secret not in kept
    shape = service.job(job["id"], shape="hume")["result"][0]["results"]["predictions"][0]
    assert all(
        p["box"] is None and p["text"] is None
        for m in shape["models"].values()
        for g in m["grouped_predictions"]
        for p in g["predictions"]
    )


def test_private_failures_quote_nothing(make_service: Callable[..., LocalService], tone: Path, tmp_path: Path) -> None:
    service = make_service(private=True)
    words = tmp_path / "quokka.srt"
    words.write_text("1\nzanzibar --> nowhere\nhello\n")
    job = service.done(tone, "quokka.wav", transcript=words)
    assert job["state"] == "failed"
    kept = _bytes_of(service)
    assert b"zanzibar" not in kept
    assert b"quokka" not in kept


def test_uploads_are_kept_where_that_is_asked_for(make_service: Callable[..., LocalService], tone: Path) -> None:
    service = make_service(keep_uploads=True)
    service.done(tone)
    (upload,) = [name for name in service.files() if name.startswith("uploads/")]
    stored = service.settings.folder / upload
    assert stored.read_bytes() == tone.read_bytes()
    assert stored.stat().st_mode & 0o777 == 0o600
    sweep(service.worker.store, service.settings)
    assert stored.exists()


def test_what_is_old_or_nobodys_is_swept_away(make_service: Callable[..., LocalService], tone: Path) -> None:
    service = make_service(keep_uploads=True, keep_seconds=3600)
    old, young = service.done(tone)["id"], service.done(tone)["id"]
    _in_store(service, "UPDATE jobs SET finished = finished - 4000 WHERE id = ?", old)
    long_ago = time.time() - 4000
    for path in (service.settings.uploads / "orphan.mp4", service.settings.results / "orphan" / "analysis.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("left behind")
        os.utime(path, (long_ago, long_ago))
    os.utime(service.settings.results / "orphan", (long_ago, long_ago))
    outside = service.settings.folder.parent / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    link = service.settings.results / "link"
    link.symlink_to(outside)
    os.utime(link, (long_ago, long_ago), follow_symlinks=False)
    (service.settings.uploads / "arriving.mp4").touch()
    sweep(service.worker.store, service.settings)
    assert [job["id"] for job in service.http.get("/v1/analyses").json()["analyses"]] == [young]
    left = service.files()
    assert not any(old in name or "orphan" in name or "link" in name for name in left)
    assert "uploads/arriving.mp4" in left
    assert (outside / "precious").exists(), "what a link points at is not ours"


def test_uploads_of_a_worker_killed_after_the_end_are_swept(service: LocalService, tone: Path) -> None:
    job = service.done(tone)
    name = _in_store(service, "SELECT upload FROM jobs WHERE id = ?", job["id"])
    (service.settings.uploads / name).write_bytes(b"left by a killed worker")
    sweep(service.worker.store, service.settings)
    assert not any(name.startswith("uploads/") for name in service.files())


def _in_store(service: LocalService, statement: str, *values: Any) -> Any:
    db = sqlite3.connect(service.worker.store.path)
    with db:
        row = db.execute(statement, values).fetchone()
    db.close()
    return row[0] if row else None


# --- surviving --------------------------------------------------------------------------------------------------------


def test_an_abandoned_job_is_taken_up_by_another_worker(service: LocalService, tone: Path) -> None:
    job_id = service.send(tone).json()["id"]
    dead = JobStore(service.worker.store.path)
    assert dead.claim("a worker that dies").id == job_id  # type: ignore[union-attr]
    service.worker.work()
    assert service.job(job_id)["state"] == "running", "the lease still runs"
    _in_store(service, "UPDATE jobs SET lease = 0 WHERE id = ?", job_id)
    sweep(service.worker.store, service.settings)
    assert service.job(job_id)["state"] == "queued"
    service.work()
    assert service.job(job_id)["state"] == "done"
    assert not dead.finish(job_id, "a worker that dies", "too late"), "the dead one has no say any more"
    assert service.job(job_id)["error"] == ""


def test_results_that_lie_there_are_not_made_again(service: LocalService, tone: Path) -> None:
    job = service.done(tone)
    result = service.settings.results / job["id"] / "analysis.json"
    before = result.stat()
    # As if the worker had been killed between writing the results and noting the end.
    _in_store(service, "UPDATE jobs SET state = 'queued', finished = NULL WHERE id = ?", job["id"])
    service.work()
    assert service.job(job["id"])["state"] == "done"
    after = result.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_job_that_ends_every_worker_is_given_up(service: LocalService, tone: Path) -> None:
    job_id = service.send(tone).json()["id"]
    _in_store(service, "UPDATE jobs SET state = 'running', lease = 0, attempts = 10 WHERE id = ?", job_id)
    sweep(service.worker.store, service.settings)
    job = service.job(job_id)
    assert (job["state"], job["error"]) == ("failed", "the analysis ended its worker 10 times and was given up")
    assert service.files() == []


def test_a_worker_that_is_told_to_stop_gives_its_job_back(
    make_service: Callable[..., LocalService], long_sound: Path
) -> None:
    service = make_service()
    worker = Worker(service.settings)
    job_id = service.send(long_sound).json()["id"]
    work = threading.Thread(target=worker.work)
    work.start()
    while not service.job(job_id)["progress"]:  # in the middle of it
        time.sleep(0.01)
    worker.stop(work)
    work.join(10)
    assert service.job(job_id)["state"] == "queued"
    assert _in_store(service, "SELECT attempts FROM jobs WHERE id = ?", job_id) == 0
    assert len([name for name in service.files() if name.startswith("uploads/")]) == 1


def test_a_worker_in_the_same_process_is_woken_by_a_job(make_service: Callable[..., LocalService]) -> None:
    service = make_service(poll_seconds=60)  # by itself it would look a minute from now
    working = threading.Thread(target=service.worker._loop, daemon=True)
    working.start()
    job_id = service.send(text="fine").json()["id"]
    deadline = time.monotonic() + 30
    while service.job(job_id)["state"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    service.worker._stopping.set()
    service.worker.notifier.notify()
    working.join(10)
    assert not working.is_alive()


def test_an_error_of_the_store_does_not_end_a_worker(
    make_service: Callable[..., LocalService], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(poll_seconds=0.01)
    claims: list[str] = []

    def claim(worker: str) -> None:
        claims.append(worker)
        if len(claims) < 3:
            raise sqlite3.OperationalError("database or disk is full")
        service.worker._stopping.set()

    monkeypatch.setattr(service.worker.store, "claim", claim)
    service.worker._loop()
    assert len(claims) == 3
    assert [str(record.exc_info[1]) for record in caplog.records] == ["database or disk is full"] * 2


def test_two_workers_never_take_the_same_job(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.db")
    jobs = {store.add("n", {}, f"u{i}").id for i in range(40)}  # type: ignore[union-attr]
    claimed: list[list[str]] = [[] for _ in range(4)]

    def claim(mine: list[str], name: str) -> None:
        own = JobStore(tmp_path / "jobs.db")
        while job := own.claim(name):
            mine.append(job.id)

    threads = [threading.Thread(target=claim, args=(mine, str(i))) for i, mine in enumerate(claimed)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [job for mine in claimed for job in mine]
    assert len(taken) == len(set(taken)) == 40
    assert set(taken) == jobs


OLD_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    name TEXT NOT NULL,
    upload TEXT NOT NULL,
    transcript TEXT,
    options TEXT NOT NULL,
    stage TEXT NOT NULL DEFAULT '',
    progress REAL NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    worker TEXT,
    lease REAL,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created);
INSERT INTO jobs (id, state, created, name, upload, options)
    VALUES ('a', 'queued', 1, 'a.txt', 'a', '{"kind": "text"}');
INSERT INTO jobs (id, state, created, name, upload, options, worker, lease, attempts)
    VALUES ('b', 'running', 2, 'b.txt', 'b', '{"kind": "text"}', 'gone', 3, 1);
INSERT INTO jobs (id, state, created, started, finished, name, upload, options, progress)
    VALUES ('c', 'done', 3, 4, 6, 'c.txt', 'c', '{"kind": "text"}', 1);
"""
"""The table as affuse 0.1.0 made it, with a job that waits, one whose worker was killed, and one that is done."""


def test_a_folder_of_the_version_with_a_queue_is_used_on(
    tmp_path: Path, make_service: Callable[..., LocalService]
) -> None:
    folder = tmp_path / "old"
    (folder / "uploads").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "uploads" / name).write_text("I am so happy today!")
    for name in ("queue.db", "queue.db-wal"):
        (folder / name).write_text("messages")
    with sqlite3.connect(folder / "jobs.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(OLD_TABLE)
    db.close()
    service = make_service(folder)
    assert service.worker.store.counts() == {"queued": 1, "running": 1, "done": 1, "failed": 0}
    service.worker.store.recover()
    service.work()
    assert [service.job(name)["state"] for name in "ab"] == ["done", "done"]
    assert service.job("b")["result"]["summary"][0]["label"] == "happiness"
    assert not list(folder.glob("queue.db*"))


def test_a_store_that_is_none_or_newer_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=r"jobs\.db cannot be used as the store of jobs \(file is not a database\)"):
        JobStore(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ConfigError, match="was written by a newer affuse"):
        JobStore(path)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_too_many_jobs_are_refused_with_the_time_to_wait(make_service: Callable[..., LocalService], tone: Path) -> None:
    service = make_service(max_queue=2)
    assert [service.send(tone).status_code for _ in range(2)] == [202, 202]
    refused = service.send(tone)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["detail"].startswith("2 jobs wait already; ask again in ")
    assert service.send(text="words").status_code == 429
    assert len([name for name in service.files() if name.startswith("uploads/")]) == 2
    service.work()
    assert service.send(tone).status_code == 202


def test_the_limit_of_the_queue_holds_under_a_rush(make_service: Callable[..., LocalService]) -> None:
    service = make_service(max_queue=5)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(service.send(text="rush").status_code)) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [202] * 5 + [429] * 19
    assert len(service.files()) == 5


def test_an_upload_that_announces_too_much_is_refused_at_once(make_service: Callable[..., LocalService]) -> None:
    service = make_service(max_upload=100_000)
    refused = service.http.post("/v1/analyses", files={"file": ("big.wav", b"x" * 300_000)})
    assert refused.status_code == 413
    assert refused.json()["detail"] == "the upload is too large; at most 0.166 MB are taken"
    assert service.files() == []


def test_an_upload_in_pieces_is_refused_where_it_grows_too_large(make_service: Callable[..., LocalService]) -> None:
    service = make_service(max_upload=100_000)

    def pieces() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(60):
            yield b"x" * 10_000

    try:
        status = service.http.post(
            "/v1/analyses", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"}
        ).status_code
    except (ConnectionError, OSError, *_broken()):
        status = 413  # the server hung up before all was sent, and the answer was lost with the connection
    assert status == 413
    assert service.files() == []


def _broken() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError)


@pytest.mark.parametrize("path", ["/v1/fuse", "/v1/analyses"])
def test_json_is_bounded_as_well(service: LocalService, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affuse.service.uploads.MAX_JSON", 1000)
    headers = {"Content-Type": "application/json"}
    assert service.http.post(path, content=b"[" * 1001, headers=headers).status_code == 413
    assert service.http.post(path, content=iter([b"[" * 600] * 2), headers=headers).status_code == 413


def test_a_client_that_pauses_is_let_go(make_service: Callable[..., LocalService]) -> None:
    import socket

    service = make_service(upload_pause=0.3)
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(
            b"POST /v1/analyses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        answer = b""
        while piece := line.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"nothing arrived for 0.3 s" in answer
    assert service.files() == []


def test_a_client_that_trickles_is_let_go(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affuse.service.uploads._PATIENCE", 0.3)

    def trickle() -> Iterator[bytes]:
        yield b"--b\r\n"
        for _ in range(100):
            time.sleep(0.05)
            yield b"x"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    began = time.monotonic()
    try:
        answer = service.http.post("/v1/analyses", content=trickle(), headers=headers)
        assert answer.status_code == 408
        assert "too slow" in answer.json()["detail"]
    except _broken():
        pass
    assert time.monotonic() - began < 4
    assert service.files() == []


@pytest.mark.parametrize(
    ("data", "files", "sentence"),
    [
        ({}, {"film": ("a.wav", b"x")}, "the form needs a file named 'file'"),
        ({"file": "a path"}, {"other": ("a", b"")}, "the form needs a file named 'file'"),
        ({"transcript": "words"}, {"file": ("a.wav", b"x")}, "'transcript' must be a file"),
        ({"language": "de"}, {"file": ("a.wav", b"x")}, "language: Input should be 'en' or 'zh'"),
        ({"window": "0"}, {"file": ("a.wav", b"x")}, "window: Input should be greater than or equal to 0.1"),
        ({"window": "nan"}, {"file": ("a.wav", b"x")}, "window: "),
        ({"colour": "red"}, {"file": ("a.wav", b"x")}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_form_that_does_not_fit_is_refused_in_a_sentence(
    service: LocalService, data: dict[str, str], files: dict[str, Any], sentence: str
) -> None:
    refused = service.http.post("/v1/analyses", data=data, files=files)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(sentence)
    assert service.files() == []


def test_too_many_parts_are_refused(service: LocalService) -> None:
    many = service.http.post("/v1/analyses", data={f"f{i}": "x" for i in range(40)}, files={"file": ("a", b"x")})
    assert many.status_code == 400
    assert many.json()["detail"] == "the form is broken: Too many fields. Maximum number of fields is 32."
    files = service.http.post("/v1/analyses", files=[("file", ("a", b"x"))] * 40)
    assert files.status_code == 400
    long = service.http.post("/v1/analyses", data={"language": "e" * 2_000_000}, files={"file": ("a", b"x")})
    assert long.status_code == 400


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "", 415),
        (b"hello", "text/plain", 415),
        (b"hello", "multipart/form-data", 400),
        (b"hello", "multipart/form-data; boundary=b", 400),
        (b"--b\r\nnonsense\r\n\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b--\r\n", "Multipart/Form-Data; boundary=b; charset=hex", 422),
        (b"{}", "application/json", 422),
        (b"[", "Application/JSON", 422),
        (b"\xff", "application/json", 422),
        (b'{"text": ""}', "application/json", 422),
        (b'{"text": "x", "window": NaN}', "application/json", 422),
        (b'{"text": "x", "window": 1e400}', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"text": "\\ud800"}', "application/json", 422),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(
    service: LocalService, content: bytes, kind: str, status: int
) -> None:
    refused = service.http.post("/v1/analyses", content=content, headers={"Content-Type": kind})
    assert refused.status_code == status, refused.text
    assert refused.json()["detail"]
    assert service.files() == []


# --- what it says of itself -------------------------------------------------------------------------------------------


def test_health_and_figures(service: LocalService) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    service.done(text="fine")
    service.send(text="waits")
    assert service.http.get("/health").json() == {
        "status": "ok",
        "jobs": {"queued": 1, "running": 0, "done": 1, "failed": 0},
    }
    answer = service.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    figures = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert figures["affuse_jobs", "queued"] == 1
    assert figures["affuse_jobs", "done"] == 1
    assert figures["affuse_jobs_accepted_total",] == 2
    assert math.isfinite(figures["affuse_job_seconds_mean",])


def test_the_models_are_listed_with_their_licences(service: LocalService) -> None:
    models = service.http.get("/v1/models").json()
    assert models["labels"] == list(affuse.labels.EKMAN.labels)
    assert {"face", "voice", "text_en", "text_zh", "fuser"} <= {w["name"] for w in models["weights"]}
    assert all(w["licence"] and len(w["sha256"]) == 64 for w in models["weights"])
    assert set(models["rules"]) < set(models["methods"])


def test_the_document_of_the_api_explains_every_operation(service: LocalService) -> None:
    document = service.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {"post /v1/analyses", "delete /v1/analyses/{job_id}", "post /v1/fuse", "get /health"} <= set(operations)
    for name, operation in operations.items():
        assert operation["description"], name
        assert {"401", "403"} <= set(operation["responses"]), name
    text = operations["post /v1/analyses"]["requestBody"]["content"]["application/json"]
    (example,) = text["examples"].values()
    Draft202012Validator(text["schema"]).validate(example["value"])
    assert service.http.post("/v1/analyses", json=example["value"]).status_code == 202
    schemas = document["components"]["schemas"]
    fuse = {
        key: value["examples"][0] for key, value in schemas["FuseRequest"]["properties"].items() if "examples" in value
    }
    answer = service.http.post("/v1/fuse", json=fuse)
    assert answer.status_code == 200, answer.text


def test_results_in_own_labels_bring_their_colours(tmp_path: Path) -> None:
    spec = JobSpec("lesson.mp4", str(tmp_path / "results"), str(tmp_path / "upload.mp4"))
    _write(samples.own_labels(), spec)
    found = json.loads((tmp_path / "results" / "words.json").read_text(encoding="utf-8"))
    assert found["palette"]["stack"] == ["engaged", "frustrated", "bored"]
    assert found["zh"]["headlines"][0][0].startswith("主要为engaged")
    nested = to_hume(json.loads((tmp_path / "results" / "analysis.json").read_text(encoding="utf-8")))
    (group,) = nested[0]["results"]["predictions"][0]["models"]["fused"]["grouped_predictions"]
    assert {e["name"] for e in group["predictions"][0]["emotions"]} == {"Engaged", "Frustrated", "Bored"}


def test_the_service_recognises_words_where_that_is_asked_for(
    make_service: Callable[..., LocalService], tone: Path, tmp_path: Path, own_runner: Runner
) -> None:
    service = make_service(transcribe=True, asr_model=str(tmp_path / "nothing"))
    service.worker.runner = own_runner
    window = service.done(tone)["result"]["windows"][0]
    reason = window["evidence"]["text"]["reason"]
    assert reason == "no words: no weights for speech recognition: the folder nothing holds no model.bin"
