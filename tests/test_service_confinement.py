"""What a job may reach, tried for real in processes that the kernel holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

from affuse.service.confinement import landlock_version, seccomp_is_known, system_paths
from affuse.service.process import Runner, confinement_in_words, confinement_of, without_network
from affuse.service.settings import Settings
from serving import LocalService

needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not seccomp_is_known(), reason="system calls cannot be filtered here")

_ATTEMPTS = """
import json, os, sys
from affuse.service.runner import _confine
_confine(json.loads(sys.argv[1]))
for attempt in sys.argv[2:]:
    try:
        exec(attempt)
        print("done")
    except OSError as error:
        print(error.strerror)
"""


def outcomes(settings: Settings, *attempts: str, network: bool = False) -> list[str]:
    """How statements end in a process that is confined as that of a job."""
    staging = settings.staging / "worker"
    for folder in (staging / "in", staging / "out"):
        folder.mkdir(parents=True, exist_ok=True)
    confinement = replace(confinement_of(settings, staging), network=network)
    command = [sys.executable, "-c", _ATTEMPTS, json.dumps(asdict(confinement)), *attempts]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(tmp_path / "jobs")
    settings.make_folders()
    return settings


_PRINT_PATHS = """
import json, sys
from pathlib import Path
from affuse.service.confinement import system_paths
print(json.dumps([sys.path, system_paths([], Path("/nowhere"))]))
"""


@pytest.mark.parametrize("place", ["study", "/"])
def test_the_folder_that_a_service_was_started_in_is_none_of_its_jobs_business(tmp_path: Path, place: str) -> None:
    """A process that is started as workers are, by -m, looks for modules in the folder where it is."""
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", "-s", _PRINT_PATHS, "pass"]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    looked_in, readable = json.loads(told.stdout.splitlines()[0])
    assert str(folder.resolve()) in looked_in
    assert not {str(folder.resolve()), "/var"} & set(readable)  # "/" would give all that it holds
    assert "/usr" in readable


@needs_landlock
def test_a_job_writes_nothing_but_its_results(settings: Settings, tmp_path: Path) -> None:
    inside = settings.staging / "worker"
    places = [settings.uploads / "x", settings.results / "x", settings.folder / "jobs.db", tmp_path / "x", "/dev/shm/x"]
    places += [Path.home() / ".affuse-test", Path(sys.prefix) / "affuse-test", inside / "in" / "x"]
    attempts = [f"open({str(place)!r}, 'w')" for place in places]
    attempts += [f"os.mkdir({str(tmp_path / 'new')!r})", f"os.symlink('/etc', {str(tmp_path / 'link')!r})"]
    assert set(outcomes(settings, *attempts)) == {"Permission denied"}
    assert not any(Path(place).exists() for place in places)
    fine = inside / "out" / "part"
    write = [f"os.mkdir({str(fine)!r})", f"open({str(fine / 'a')!r}, 'w').write('1')"]
    write += [f"os.rename({str(fine)!r}, {str(inside / 'out' / 'results')!r})", "open('/dev/null', 'w').write('x')"]
    assert outcomes(settings, *write) == ["done"] * 4


@needs_landlock
def test_a_job_reads_no_other_job_and_nothing_of_the_user(settings: Settings, tmp_path: Path) -> None:
    (settings.uploads / "other.mp4").write_text("another's recording")
    (tmp_path / "diary.txt").write_text("mine")
    secrets = [settings.uploads / "other.mp4", settings.folder / "jobs.db", tmp_path / "diary.txt"]
    (settings.folder / "jobs.db").write_text("x")
    attempts = [f"open({str(path)!r}).read()" for path in secrets]
    attempts += [f"os.listdir({str(Path.home())!r})", "open(f'/proc/{os.getppid()}/environ').read()"]
    assert set(outcomes(settings, *attempts)) == {"Permission denied"}
    own = settings.staging / "worker" / "in" / "mine.mp4"
    own.write_text("x")
    assert outcomes(settings, f"open({str(own)!r}).read()", "import sqlite3, av, onnxruntime") == ["done", "done"]
    allowed = replace(settings, readable=(str(tmp_path / "diary.txt"),))
    assert outcomes(allowed, attempts[2]) == ["done"]


@needs_seccomp
def test_a_job_opens_no_socket_and_looks_into_no_process(settings: Settings) -> None:
    attempts = [f"import socket; socket.socket(socket.{kind})" for kind in (
        "AF_INET", "AF_INET6", "AF_INET, socket.SOCK_DGRAM", "AF_NETLINK, socket.SOCK_RAW", "AF_PACKET, socket.SOCK_RAW"
    )]  # fmt: skip
    ptrace = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nif libc.ptrace(16, os.getppid(), 0, 0) < 0:\n"
    attempts.append(f"{ptrace} raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))")
    assert outcomes(settings, *attempts) == ["Permission denied"] * 6
    assert outcomes(settings, "import socket; socket.socketpair()") == ["done"]
    assert outcomes(settings, attempts[0], network=True) == ["done"]  # without the filter it could


@needs_landlock
def test_a_real_job_is_done_while_it_is_confined(
    make_service: Callable[..., LocalService], tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFUSE_TOKEN", "a token that no job must know")
    service = make_service()
    runner = Runner(1.0, confinement_of(service.settings, service.worker.staging))
    service.worker.runner = runner
    try:
        job = service.done(tone)
        assert job["state"] == "done", job["error"]
        assert runner._process is not None
        process = Path(f"/proc/{runner._process.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == ("2" if seccomp_is_known() else "0")
        assert b"AFFUSE_TOKEN" not in (process / "environ").read_bytes()
    finally:
        runner.end()


def test_the_start_message_says_what_holds_and_what_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from affuse.service import process

    monkeypatch.setattr(process, "landlock_version", lambda: 4)
    monkeypatch.setattr(process, "seccomp_is_known", lambda: True)
    monkeypatch.setattr(process, "without_network", lambda: ())
    assert confinement_in_words(settings) == (
        "jobs read nothing but the system and their own recording, and write nothing but their own results "
        "(Landlock 4), and have no network (seccomp)"
    )
    fetching = replace(settings, transcribe=True)
    assert "reach the network, to fetch weights; give --asr-model" in confinement_in_words(fetching)
    monkeypatch.setattr(process, "landlock_version", lambda: 0)
    monkeypatch.setattr(process, "seccomp_is_known", lambda: False)
    assert confinement_in_words(settings) == (
        "jobs read and write whatever this user may, since this kernel has no Landlock, and can reach the network, "
        "since this system has neither user namespaces nor seccomp for them"
    )
    monkeypatch.setattr(process, "without_network", lambda: ("unshare",))
    assert confinement_in_words(settings).endswith("have no network (user namespace)")


def test_a_service_inside_a_folder_of_the_system_is_left_out_of_what_jobs_read(tmp_path: Path) -> None:
    (tmp_path / "lib" / "jobs").mkdir(parents=True)
    (tmp_path / "lib" / "models").mkdir()
    (tmp_path / "file").write_text("x")
    paths = system_paths([tmp_path], tmp_path / "lib" / "jobs")
    assert {str(tmp_path / "file"), str(tmp_path / "lib" / "models")} <= set(paths)
    assert not {str(tmp_path), str(tmp_path / "lib"), str(tmp_path / "lib" / "jobs")} & set(paths)
    assert isinstance(without_network(), tuple)
