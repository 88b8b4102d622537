"""A real server process met by crowds, slow and broken clients, killed processes, and a fuzzer that reads its OpenAPI.

``AFFUSE_FUZZ_EXAMPLES`` (default 4) is how many requests schemathesis makes up for every operation and phase.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

import httpx

from samples import write_clip
from serving import QUICK, Server, write_sound

pytestmark = pytest.mark.slow

FINAL = ("done", "failed")
CROWD = 72


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for the tests of this module; its workers look for jobs only when the server wakes them."""
    settings = QUICK | {"poll_seconds": 600, "max_queue": 1000}
    with Server(tmp_path_factory.mktemp("outside") / "service", **settings) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """The service of this module, which is there whatever the test before did to it, and has nothing to do."""
    if not shared.answers():
        shared.restart()
    for job in _jobs(shared).values():
        if job["state"] not in FINAL:
            httpx.delete(f"{shared.url}/v1/analyses/{job['id']}", timeout=60)
    return shared


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of noise: takes long enough to be killed at."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 60 * 16_000)
    return write_sound(tmp_path_factory.mktemp("media") / "noise.wav", samples)


def _wait(condition: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to an end"
        time.sleep(0.05)
    return value


def _jobs(server: Server) -> dict[str, dict[str, Any]]:
    listed = httpx.get(f"{server.url}/v1/analyses", params={"limit": 1000}, timeout=60).json()["analyses"]
    return {job["id"]: job for job in listed}


def _all_ended(server: Server) -> dict[str, dict[str, Any]]:
    def ended() -> dict[str, dict[str, Any]] | None:
        try:
            jobs = _jobs(server)
        except httpx.HTTPError:
            return None
        return jobs if all(job["state"] in FINAL for job in jobs.values()) else None

    return _wait(ended)


def _left(server: Server) -> list[str]:
    """Files that no finished job accounts for."""
    uploads = list((server.folder / "uploads").iterdir())
    results = [p for p in (server.folder / "results").iterdir() if len(p.name) != 32]
    return [path.name for path in (*uploads, *results)]


def _send(server: Server, path: Path, name: str | None = None) -> str:
    answer = httpx.post(
        f"{server.url}/v1/analyses", files={"file": (name or path.name, path.read_bytes())}, timeout=120
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


# --- crowds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Good and broken files, with the state that their jobs must end in."""
    place = tmp_path_factory.mktemp("crowd")
    good = [write_sound(place / f"sound {i}.wav", 3000 * np.sin(np.arange(4000) * (0.1 + i / 50))) for i in range(4)]
    good.append(write_clip(place / "clip.mp4", seconds=0.4))
    picture = place / "picture.png"
    Image.new("RGB", (48, 48), "white").save(picture)
    words = place / "words.txt"
    words.write_text("What a lovely day.")
    broken = {
        "noise.mp4": random.Random(0).randbytes(2000),
        "empty.wav": b"",
        "cut.png": picture.read_bytes()[:30],
        "cut.mp4": good[-1].read_bytes()[:40],
        "page.html": b"<html>not a recording</html>",
    }
    for name, content in broken.items():
        (place / name).write_bytes(content)
    return [(path, "done") for path in (*good, picture, words)] + [(place / name, "failed") for name in broken]


def test_a_crowd_of_good_broken_slow_and_vanishing_clients(
    server: Server, crowd: list[tuple[Path, str]], noise: Path
) -> None:
    _send(server, crowd[0][0])
    earlier = _all_ended(server)
    process = psutil.Process(server.process.pid)  # type: ignore[union-attr]
    before = process.memory_info().rss
    slow = [_slow_client(server) for _ in range(20)]
    with ThreadPoolExecutor(40) as pool:
        vanished = [pool.submit(_vanish, server, noise) for _ in range(20)]
        sent = [(pool.submit(_send, server, path), end) for path, end in (crowd * CROWD)[:CROWD]]
        expected = {future.result(): end for future, end in sent}
        for future in vanished:
            future.result()
    assert server.answers()
    jobs = _all_ended(server)
    assert {job: jobs[job]["state"] for job in expected} == expected
    assert jobs.keys() == earlier.keys() | expected.keys(), "every accepted job is there, and none that was not"
    assert all(jobs[job]["error"] for job, end in expected.items() if end == "failed")
    _wait(lambda: _left(server) == [])
    for line in slow:
        line.close()
    grown = process.memory_info().rss - before
    assert grown < 60e6, f"the server grew by {grown / 1e6:.0f} MB"
    assert "Traceback" not in server.log


def _slow_client(server: Server) -> socket.socket:
    """Announces much, sends a little and then nothing."""
    line = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    line.sendall(
        b"POST /v1/analyses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; "
    )
    return line


def _vanish(server: Server, path: Path) -> None:
    """Leaves in the middle of an upload, without a goodbye."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        line.sendall(
            b"POST /v1/analyses HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' % path.stat().st_size
        )
        line.sendall(path.read_bytes()[:300_000])
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset


# --- killed processes -------------------------------------------------------------------------------------------------


def _descendants(server: Server, module: str) -> list[psutil.Process]:
    assert server.process is not None
    try:
        below = psutil.Process(server.process.pid).children(recursive=True)
        return [p for p in below if module in p.cmdline()]
    except psutil.NoSuchProcess:
        return []


def _kill_worker(server: Server) -> None:
    for process in _descendants(server, "affuse.service.worker"):
        process.kill()


def _kill_runner(server: Server) -> None:
    for process in _descendants(server, "affuse.service.runner"):
        process.kill()


def _kill_server(server: Server) -> None:
    server.restart()


@pytest.mark.parametrize("seed", range(int(os.environ.get("AFFUSE_KILL_SEEDS", "1"))))
def test_kills_lose_no_job_and_repeat_none(
    server: Server, noise: Path, crowd: list[tuple[Path, str]], seed: int
) -> None:
    chance = random.Random(seed)
    expected = {_send(server, noise): "done" for _ in range(2)}
    expected |= {_send(server, path): end for path, end in chance.sample(crowd, 6)}
    murders = [_kill_worker, _kill_runner, _kill_server]
    chance.shuffle(murders)
    finished: dict[str, tuple[int, int]] = {}
    for murder in murders:
        _wait(lambda: "running" in {job["state"] for job in _jobs(server).values()} or _is_idle(server))
        time.sleep(chance.uniform(0, 0.5))
        finished |= _stamps(server)
        murder(server)
    jobs = _all_ended(server)
    assert {job: jobs[job]["state"] for job in expected} == expected, [j["error"] for j in jobs.values()]
    again = _stamps(server)
    assert {job: again[job] for job in finished} == finished, "what was finished must not be done again"
    _wait(lambda: _left(server) == [], 30)
    assert psutil.pid_exists(os.getpid())


def _is_idle(server: Server) -> bool:
    return all(job["state"] in FINAL for job in _jobs(server).values())


def test_the_job_of_a_killed_worker_is_finished_by_another(folder: Path, noise: Path) -> None:
    """Two workers joined by themselves; SIGKILL ends the one that is at the job."""
    with Server(folder, workers=0, **QUICK) as server:
        first, second = (_join(server) for _ in range(2))
        with first, second:
            job = _send(server, noise)
            _wait(lambda: _jobs(server)[job]["progress"] > 0)
            owner = _owner(server, job)
            dead, alive = (first, second) if owner.split("-")[-2] == str(first.pid) else (second, first)
            dead.kill()
            dead.wait()
            assert _jobs(server)[job]["state"] == "running", "its lease runs on for a while"
            assert _all_ended(server)[job]["state"] == "done"
            assert _owner(server, job).split("-")[-2] == str(alive.pid)
            alive.terminate()
            assert alive.wait(30) == 0
        _wait(lambda: _left(server) == [], 30)


def _join(server: Server) -> subprocess.Popen[bytes]:
    """A worker that takes part in the service of a folder, as ``affuse serve --worker`` does."""
    program = (
        "import json, sys; from pathlib import Path; from affuse.service import Settings, Worker;"
        "Worker(Settings(Path(sys.argv[1]), **json.loads(sys.argv[2]))).run()"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(server.folder), json.dumps(QUICK)])


def _owner(server: Server, job: str) -> str:
    """Name of the worker that a job is, or was, claimed by: host, process and a random part."""
    with closing(sqlite3.connect(server.folder / "jobs.db")) as db:
        return str(db.execute("SELECT worker FROM jobs WHERE id = ?", (job,)).fetchone()[0])


def _stamps(server: Server) -> dict[str, tuple[int, int]]:
    found = {}
    for path in (server.folder / "results").glob("*/analysis.json"):
        status = path.stat()
        found[path.parent.name] = (status.st_ino, status.st_mtime_ns)
    return {job: stamp for job, stamp in found.items() if len(job) == 32}


def test_nothing_outlives_a_killed_server(server: Server, noise: Path) -> None:
    job = _send(server, noise)
    _wait(lambda: _jobs(server)[job]["state"] == "running")
    _wait(lambda: _descendants(server, "affuse.service.runner"))
    family = _descendants(server, "affuse.service.worker") + _descendants(server, "affuse.service.runner")
    assert len(family) == 2
    server.kill()
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert len(gone) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_gives_its_job_back(server: Server, noise: Path, number: int) -> None:
    job = _send(server, noise)
    _wait(lambda: _jobs(server)[job]["state"] == "running")
    assert server.process is not None
    server.process.send_signal(number)
    assert server.process.wait(30) == 0
    with closing(sqlite3.connect(server.folder / "jobs.db")) as db:
        state, attempts = db.execute("SELECT state, attempts FROM jobs WHERE id = ?", (job,)).fetchone()
    assert (state, attempts) == ("queued", 0)
    assert "Traceback" not in server.log


# --- as users start it ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "service"


def test_workers_join_the_folder_of_a_service(folder: Path, crowd: list[tuple[Path, str]]) -> None:
    with Server(folder, "--workers", "0") as server:
        expected = {_send(server, path): end for path, end in (crowd[0], crowd[-1])}
        command = [sys.executable, "-m", "affuse.cli", "serve", "--worker", "--folder", str(folder)]
        worker = subprocess.Popen(command)
        try:
            jobs = _all_ended(server)
            assert {job: jobs[job]["state"] for job in expected} == expected
            _wait(lambda: _left(server) == [], 30)
        finally:
            worker.terminate()
            assert worker.wait(30) == 0


# --- fuzzing ----------------------------------------------------------------------------------------------------------


def test_made_up_requests_find_no_server_error(folder: Path) -> None:
    """No answer is a server error or has a status, type or shape that the OpenAPI document does not name."""
    pytest.importorskip("schemathesis", reason="schemathesis makes up the requests (extra dev)")
    with Server(folder, "--workers", "0", "--max-queue", "100000") as server:
        command = [
            *[sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"],
            *["--max-examples", os.environ.get("AFFUSE_FUZZ_EXAMPLES", "4"), "--no-color", "--seed", "1"],
            *["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--request-timeout", "60"],
            *["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"],
            "--checks=response_schema_conformance",
        ]
        found = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
        assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
        assert "Traceback" not in server.log
