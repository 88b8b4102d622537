"""Clients that open connections and do not finish their requests keep nobody out, of a real server."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

from affuse.service.connections import ConnectionLimits
from affuse.service.settings import Settings
from serving import Server

_DESCRIPTORS = 256
_FLOOD = 300
_HALF_HEAD = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
_JSON_HEAD = b"POST /v1/fuse HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
_HALF_BODY = _JSON_HEAD + b"900\r\n\r\n{"


class ShortServer(Server):
    """A server that may open few files."""

    def _command(self) -> list[str]:
        return ["bash", "-c", f'ulimit -n {_DESCRIPTORS}; exec "$@"', "bash", *super()._command()]


@contextlib.contextmanager
def half_sent(server: Server, begin: bytes, n: int = _FLOOD) -> Iterator[list[socket.socket]]:
    """So many connections on which a request was begun and not ended."""
    with contextlib.ExitStack() as stack:
        lines = []
        for _ in range(n):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            with contextlib.suppress(OSError):  # closed by the server meanwhile
                line.sendall(begin)
            lines.append(line)
        yield lines


def answer_time(server: Server) -> float:
    """Seconds until a client is answered that comes now."""
    began = time.monotonic()
    with urllib.request.urlopen(f"{server.url}/health", timeout=30) as answer:
        assert json.load(answer)["status"] == "ok"
    return time.monotonic() - began


def is_closed(line: socket.socket, within: float) -> bool:
    line.settimeout(within)
    try:
        while line.recv(10_000):  # what came before the end
            pass
        return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.fixture(scope="module")
def short_of_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ShortServer(tmp_path_factory.mktemp("short") / "service", "--workers", "0") as server:
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits a second for a head, and for a body or a client that pauses."""
    settings = {"head_seconds": 1.0, "upload_pause": 1.0}
    with Server(tmp_path_factory.mktemp("impatient") / "service", workers=0, **settings) as server:
        yield server


@pytest.mark.parametrize("begin", [_HALF_HEAD, b"", _HALF_BODY], ids=["head", "nothing", "body"])
def test_half_sent_requests_keep_nobody_out(short_of_files: Server, begin: bytes) -> None:
    with half_sent(short_of_files, begin):
        times = [answer_time(short_of_files) for _ in range(5)]
        assert short_of_files.process is not None
        held = len(list(Path(f"/proc/{short_of_files.process.pid}/fd").iterdir()))
    assert max(times) < 1.0, times
    assert held < _DESCRIPTORS
    assert "Too many open files" not in short_of_files.log


def test_a_head_that_comes_byte_by_byte_is_cut_off(impatient: Server) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        began = time.monotonic()
        line.sendall(b"GET / HTTP/1.1\r\n")
        while not is_closed(line, 0.1) and time.monotonic() - began < 10:
            with contextlib.suppress(OSError):
                line.sendall(b"X")
        assert 0.9 < time.monotonic() - began < 5


def test_the_second_request_of_a_connection_has_no_more_time(impatient: Server) -> None:
    """The first byte of it ends uvicorn's own wait for a next request, after which that waited for ever."""
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert line.recv(10_000).startswith(b"HTTP/1.1 200")
        line.sendall(b"GET /health")
        assert is_closed(line, 5.0)


def test_a_body_that_stops_is_cut_off_and_a_slow_one_is_not(impatient: Server) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        line.sendall(_HALF_BODY)
        assert is_closed(line, 6.0)
    body = b'{"predictions": 1}'
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        line.sendall(_JSON_HEAD + b"%d\r\n\r\n" % len(body))
        for place in range(0, len(body), 3):  # 1.8 s in all
            time.sleep(0.3)
            line.sendall(body[place : place + 3])
        assert line.recv(10_000).startswith(b"HTTP/1.1 422")


def test_an_answer_that_nobody_takes_is_given_up(impatient: Server) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 400)  # many answers, none of them read
        began = time.monotonic()
        assert _soon(lambda: _is_held(impatient, line))
        assert _soon(lambda: not _is_held(impatient, line))
        assert time.monotonic() - began > 0.9
        assert answer_time(impatient) < 1.0


def _is_held(server: Server, line: socket.socket) -> bool:
    """Whether the server has the other end of a connection."""
    assert server.process is not None
    held = psutil.Process(server.process.pid).net_connections("tcp")
    return any(end.raddr and end.raddr.port == line.getsockname()[1] for end in held)


def _soon(condition: Callable[[], bool], within: float = 20.0) -> bool:
    deadline = time.monotonic() + within
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_one_address_cannot_take_all(tmp_path: Path) -> None:
    """Where this machine is no trusted proxy, it may hold a quarter of the connections, the oldest of which go."""
    with Server(tmp_path / "service", workers=0, max_connections=40, trusted_proxies=["10.0.0.1"]) as server:
        with half_sent(server, _HALF_HEAD, 30) as lines:
            time.sleep(0.5)
            closed = [is_closed(line, 0.05) for line in lines]
        assert closed == [True] * 20 + [False] * 10


def test_limits_follow_from_what_the_process_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for descriptors, total, each in ((1024, 464, 116), (256, 80, 20), (64, 8, 8), (resource.RLIM_INFINITY, 1000, 250)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, n=descriptors: (n, n))
        limits = ConnectionLimits.of(Settings(tmp_path))
        assert (limits.total, limits.each) == (total, each)


def test_who_is_a_trusted_proxy() -> None:
    limits = ConnectionLimits(1.0, 1.0, 10, 5, ("10.0.0.0/24", "::1"))
    assert [limits.is_proxy(a) for a in ("10.0.0.7", "10.0.1.7", "::1", "", "unix")] == [
        True,
        False,
        True,
        False,
        False,
    ]
