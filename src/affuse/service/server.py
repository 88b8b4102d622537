"""The server process: it listens, and keeps its workers alive."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType

from affuse.errors import ConfigError
from affuse.service.notifier import JobNotifier
from affuse.service.settings import Settings

__all__ = ["Workers", "serve"]

_LOOK = 1.0  # seconds between looks at the workers
_GRACE = 5.0  # seconds that a worker has to give its job back
_LARGEST_MESSAGE = 4 << 20  # bytes of a live message


def serve(settings: Settings) -> None:
    """Serve analyses, fusion, live streams and the page until a signal (Ctrl+C, SIGTERM) ends the process.

    Parameters
    ----------
    settings : Settings
        What ``affuse serve`` makes of its options.

    Raises
    ------
    ConfigError
        If the address is taken, the folder cannot hold the jobs, or no Ray cluster answers.

    Examples
    --------
    >>> def main() -> None:
    ...     serve(Settings(Path("jobs"), port=8000, workers=2))
    """
    import uvicorn

    from affuse.service.app import create_app
    from affuse.service.connections import ConnectionLimits, LimitedServer, limited_protocol

    notifier = JobNotifier()
    app = create_app(settings, notifier)
    listener = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        http=limited_protocol(ConnectionLimits.of(settings)),
        proxy_headers=True,
        forwarded_allow_ips=list(settings.trusted_proxies),
        ws_max_size=_LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # pictures are compressed already
        timeout_graceful_shutdown=5,
    )
    with listener, _joined(settings) as for_workers:
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"affuse serves at http://{shown}:{listener.getsockname()[1]} (Ctrl+C stops it)", file=sys.stderr)
        print(f"affuse: {_confinement_told(settings)}", file=sys.stderr, flush=True)
        # What the server raises again once it has shut down; by itself it would end this process before its workers.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with Workers(for_workers, notifier), suppress(KeyboardInterrupt):
            LimitedServer(config).run(sockets=[listener])


def _joined(settings: Settings) -> AbstractContextManager[Settings]:
    """The settings for the workers; see `affuse.service.cluster.joined_cluster`."""
    if settings.ray is None:
        return nullcontext(settings)
    from affuse.service.cluster import joined_cluster  # an extra

    return joined_cluster(settings)


def _confinement_told(settings: Settings) -> str:
    """What holds jobs in their place; on a cluster every machine says it for itself."""
    from affuse.service.process import confinement_in_words

    if settings.ray is None:
        return confinement_in_words(settings)
    return f"jobs run on the Ray cluster {settings.ray}; what holds them there is told as soon as a machine takes one"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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

    A worker reads its settings from the first line of its standard input and takes every further line as the sign that
    a job waits. It ends when its standard input does, so none outlives a killed server.
    """

    def __init__(self, settings: Settings, notifier: JobNotifier) -> None:
        self.settings = settings
        notifier.listen(self.wake)
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
        process.stdin.write(json.dumps(self.settings.to_json()) + "\n")
        process.stdin.flush()
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def wake(self) -> None:
        """Tell all workers that a job waits."""
        for process in tuple(self._processes):
            assert process.stdin is not None
            with suppress(OSError):  # it has ended, or so many signs wait already that none is needed
                os.write(process.stdin.fileno(), b"\n")

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK):
            for place, process in enumerate(self._processes):
                if process.poll() is not None and not self._stopping.is_set():
                    self._processes[place] = self._start()
