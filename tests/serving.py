"""Services for tests: a real server process with workers of its own, and one in this process that works when told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import uvicorn

from affuse.service.app import create_app
from affuse.service.notifier import JobNotifier
from affuse.service.settings import Settings
from affuse.service.worker import Runner, Worker

__all__ = ["QUICK", "LocalService", "Server", "free_port", "write_sound"]

_PATIENCE = 60.0  # seconds: a loaded machine takes long to start three interpreters

QUICK = {"poll_seconds": 0.05, "lease_seconds": 2.0, "sweep_seconds": 0.2}
"""Settings with which a test need not wait for what a service is in no hurry about."""

_LAUNCH = """
import json, sys
from pathlib import Path
from affuse.service import Settings, serve
serve(Settings(Path(sys.argv[1]), **json.loads(sys.argv[2])))
"""


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``affuse serve`` as a process of its own; as a context manager it is there from start to end.

    ``options`` are those of the command; with ``settings`` the service is started by `affuse.service.serve` instead,
    since not all of them are options. ``environment`` is added to this process's own. What it prints is in `log`.
    """

    def __init__(self, folder: Path, *options: str, environment: dict[str, str] | None = None, **settings: Any) -> None:
        assert not (options and settings), "settings are not taken along with options"
        self.settings = settings
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options
        self.environment = environment or {}
        self._log = folder.with_name(f"{folder.name}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | self.environment,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not come up:\n{self.log}")
            time.sleep(0.05)
        return self

    def _command(self) -> list[str]:
        if self.settings:
            return [sys.executable, "-c", _LAUNCH, str(self.folder), json.dumps(self.settings | {"port": self.port})]
        place = ["--folder", str(self.folder), "--port", str(self.port)]
        return [sys.executable, "-m", "affuse.cli", "serve", *place, *self.options]

    def answers(self) -> bool:
        """Whether ``/health`` says that all is well."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(json.load(answer)["status"] == "ok")
        except (OSError, urllib.error.URLError):
            return False

    @property
    def log(self) -> str:
        """Everything that the server and its workers have printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End the server at once (SIGKILL); its workers notice and end by themselves."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """End the server as a service manager does (SIGTERM), and return its exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.kill()

    def restart(self) -> Server:
        """Kill it and start it anew, at the same port and over the same folder."""
        self.kill()
        return self.start()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.stop()


class LocalService:
    """The application behind a real socket in this process; its jobs are done in `work`, and nowhere else.

    ``http`` asks it, ``worker`` is its worker. A ``runner`` that others have warmed up spares loading the experts.
    """

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self.settings = settings
        notifier = JobNotifier()
        self.app = create_app(settings, notifier)
        self.worker = Worker(settings, notifier)
        self.worker.runner = runner
        self._listener = socket.create_server(("127.0.0.1", 0))
        # A connection inherits it. Without, the body of every answer waits 40 ms for the client to confirm the head.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        token = {} if settings.token is None else {"Authorization": f"Bearer {settings.token}"}
        self.http = httpx.Client(base_url=self.url, timeout=120, headers=token)
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="critical", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def __enter__(self) -> LocalService:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
        self.worker.close()

    def send(self, path: Path | None = None, name: str | None = None, **parts: Any) -> httpx.Response:
        """Upload a recording under a name, or send a text; ``parts`` are options, or ``transcript`` as a path."""
        if path is None:
            return self.http.post("/v1/analyses", json=parts)
        files = {"file": (name or path.name, path.read_bytes())}
        if "transcript" in parts:
            transcript = parts.pop("transcript")
            files["transcript"] = (transcript.name, transcript.read_bytes())
        return self.http.post("/v1/analyses", files=files, data=parts)

    def work(self) -> None:
        """Do all jobs that wait."""
        while self.worker.store.counts()["queued"]:
            self.worker.work()

    def done(self, path: Path | None = None, name: str | None = None, **parts: Any) -> dict[str, Any]:
        """Send, work, and return the job as it then stands."""
        answer = self.send(path, name, **parts)
        assert answer.status_code == 202, answer.text
        self.work()
        return self.job(answer.json()["id"])

    def job(self, job_id: str, **query: str) -> dict[str, Any]:
        """A job as it stands."""
        answer = self.http.get(f"/v1/analyses/{job_id}", params=query)
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def files(self) -> list[str]:
        """Everything that lies in the folders of uploads and results."""
        return sorted(
            str(path.relative_to(self.settings.folder))
            for folder in (self.settings.uploads, self.settings.results)
            for path in folder.rglob("*")
        )


def write_sound(path: Path, samples: np.ndarray, repeats: int = 1) -> Path:
    """Write 16-bit mono samples at 16 kHz, so many times over."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        for _ in range(repeats):
            file.writeframes(samples.astype("<i2").tobytes())
    return path
