"""The server process: it listens, and keeps its workers alive."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType

from affuse.errors import ConfigError
from affuse.service.settings import Settings

__all__ = ["Workers", "run"]

_LOOK = 1.0  # seconds between looks at the workers
_GRACE = 5.0  # seconds that a worker has to give its job back
_LARGEST_MESSAGE = 4 << 20  # bytes of a live message


def run(settings: Settings) -> None:
    """Serve until told to stop by a signal. Raises ConfigError where the address is taken."""
    import uvicorn

    from affuse.service.app import create_app

    app = create_app(settings)
    listener = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=_LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # pictures are compressed already
        timeout_graceful_shutdown=5,
    )
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"affuse serves at http://{shown}:{listener.getsockname()[1]} (Ctrl+C stops it)", file=sys.stderr, flush=True)
    # What the server raises again once it has shut down; by itself it would end this process before its workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Workers(settings), suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen at {host}, port {port} ({error.strerror}); choose another --port") from error
    return listener


class Workers:
    """The worker processes of a server: started with it, started anew when one dies, and ended with it.

    A worker reads its settings from its standard input, and ends when that does: so none outlives a killed server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._processes: list[subprocess.Popen[str]] = []
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Workers:
        self._processes = [self._start() for _ in range(self.settings.workers)]
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._keeper.join()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "affuse.service.worker"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl+C in a terminal is for the server alone
        )
        assert process.stdin is not None
        settings = asdict(self.settings) | {"folder": str(self.settings.folder)}
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        return process

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK):
            for place, process in enumerate(self._processes):
                if process.poll() is not None and not self._stopping.is_set():
                    self._processes[place] = self._start()
