"""What the system itself holds a job to, in real processes: memory, time of the processor, and no network."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

from affuse.service.worker import Runner, confinement_of, without_network
from serving import LocalService

_LIMITED = "from affuse.service.runner import JobSpec, _limit\n_limit(JobSpec('a', 'b', 'c', memory={}, seconds={}))\n"


def limited(code: str, memory: int = 0, seconds: float = 0.0) -> subprocess.CompletedProcess[str]:
    """What comes of code in a process with the limits of a job."""
    script = _LIMITED.format(memory, seconds) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)


def test_memory_beyond_the_limit_is_refused_before_it_is_taken() -> None:
    """At once, not when the worker looks: a broken file can ask for gigabytes in a second."""
    limit = _LIMITED.format(1_000_000_000, 0)
    took = "b = bytearray({}); del b; print({!r}, flush=True)\n".format
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{took(2_000_000_000, 'free')}{limit}{took(400_000_000, 'held')}{took(2_000_000_000, '')}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout.split(), done.stderr.splitlines()[-1]) == (["free", "held"], "MemoryError")


def test_the_next_job_has_as_much_again() -> None:
    """One process does many jobs, whose libraries and experts stay loaded."""
    again = "b = bytearray(900_000_000); " + _LIMITED.format(1_000_000_000, 0).replace("\n", "; ")
    done = limited(f"{again} c = bytearray(900_000_000); print('had it')", memory=1_000_000_000)
    assert done.stdout == "had it\n", done.stderr


def _job(make_service: Callable[..., LocalService], tone: Path, script: str, **settings: float) -> tuple[str, float]:
    """What a job fails with whose runner is a script, and after how many seconds."""
    service = make_service(**settings)
    runner = Runner(0.2)
    runner.command = [sys.executable, "-c", script]
    service.worker.runner = runner
    began = time.monotonic()
    try:
        job = service.done(tone, "tone.wav")
    finally:
        runner.end()
    assert job["state"] == "failed"
    return str(job["error"]), time.monotonic() - began


def test_a_job_that_burns_the_processor_is_ended_and_not_tried_again(
    make_service: Callable[..., LocalService], tone: Path, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    note = f"open({str(starts)!r}, 'a').write('x')\n"
    burn = _LIMITED.format(0, 0.01) + note + "import sys; sys.stdin.readline()\nwhile True: pass"
    error, _ = _job(make_service, tone, burn, job_seconds=50)
    assert error == "tone.wav took longer than 50 s, the most that this service allows"
    assert starts.read_text() == "x"


def test_a_recording_that_cannot_be_measured_is_given_up(make_service: Callable[..., LocalService], tone: Path) -> None:
    hang = "import sys, time\nsys.stdin.readline()\nprint('{\"opening\": true}', flush=True)\ntime.sleep(60)"
    error, seconds = _job(make_service, tone, hang, probe_seconds=0.5)
    assert error.startswith("tone.wav could not be measured in 0.5 s, the most that this service allows")
    assert seconds < 20
    slow = hang.replace("time.sleep(60)", "print('{\"opening\": false}', flush=True)\ntime.sleep(60)")
    error, _ = _job(make_service, tone, slow, probe_seconds=1.0, job_seconds=2.0)
    assert error.startswith("tone.wav took longer than 2 s")


def test_a_real_job_runs_under_limits(make_service: Callable[..., LocalService], tone: Path) -> None:
    service = make_service(job_memory=2_000_000_000, job_seconds=500)
    runner = Runner(1.0, confinement_of(service.settings, service.worker.staging))
    service.worker.runner = runner
    try:
        job = service.done(tone)
        assert job["state"] == "done", job["error"]
        assert runner._process is not None
        told = Path(f"/proc/{runner._process.pid}/limits").read_text()
    finally:
        runner.end()
    limits = {name: re.search(rf"^{name}\s+(\S+)", told, re.MULTILINE) for name in (
        "Max data size", "Max address space", "Max cpu time", "Max core file size"
    )}  # fmt: skip
    found = {name: match[1] for name, match in limits.items() if match}
    assert 2_000_000_000 < int(found["Max data size"]) < 4_000_000_000
    assert int(found["Max address space"]) < 10_000_000_000
    assert int(found["Max cpu time"]) >= 500
    assert found["Max core file size"] == "0"


@pytest.mark.skipif(not without_network(), reason="this system does not let a process leave the network")
def test_a_job_cannot_open_a_connection() -> None:
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5); print('connected')"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        inside = subprocess.run([sys.executable, "-c", code, port], capture_output=True, text=True)
        outside = subprocess.run([*without_network(), sys.executable, "-c", code, port], capture_output=True, text=True)
    assert inside.stdout == "connected\n"
    assert outside.returncode != 0
    assert "Network is unreachable" in outside.stderr


def test_only_a_service_that_may_fetch_weights_leaves_jobs_the_network(
    make_service: Callable[..., LocalService], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    settings = make_service().settings
    for more, network in (({}, False), ({"transcribe": True}, True), ({"transcribe": True, "asr_model": "x"}, False)):
        confinement = confinement_of(type(settings)(settings.folder, **more), tmp_path)
        assert confinement.network is network
        assert (str(tmp_path / "hub") in confinement.write) is network
        prefix = [] if network else without_network()
        assert Runner(1.0, confinement).command[: len(prefix) + 1] == [*prefix, sys.executable]
