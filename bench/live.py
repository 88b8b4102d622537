"""How long a live service takes to answer: from the last sample to its answer, through the WebSocket.

``python bench/live.py [--clients 1 4] [--seconds 30] [--pictures 15] [--url ws://127.0.0.1:8000/v1/live]``; without
``--url`` a server is started for it. Every client is a process of its own that sends pictures of the demo as JPEG, 15 a
second or as many as ``--pictures`` says, its sound in pieces of 100 ms and its words as they end. The delay is the
client's: from sending the last sample that an answer is about to having read the answer. The time of the processor is
that of the whole service, with decoding and networks, divided by the answers; it is measured where the service is
started here. Give it ``nice`` priority where other work runs on the machine.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads, which is read when it loads
import psutil
from PIL import Image
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Segment, Timeline

DEMO = Path(__file__).parent.parent / "demo"
TICK = 0.1  # seconds of a piece of sound
WARM = 2.0  # seconds at the beginning that do not count


class LiveClient:
    """A client of ``WS /v1/live``: what is sent carries its time in seconds; answers come as dicts.

    ``token`` where the service asks for one; ``options`` are those of the start (language, step, window).
    """

    def __init__(self, url: str, token: str | None = None, **options: Any) -> None:
        self.url, self.token, self.options = url, token, options
        self._ends = ExitStack()

    def __enter__(self) -> LiveClient:
        """Connect, and wait until the service is ready. Raises RuntimeError with its sentence where it refuses."""
        protocols = [Subprotocol("affuse.live.v1")]
        if self.token:
            protocols.append(Subprotocol(f"token.{self.token}"))
        connection = connect(self.url, subprotocols=protocols, compression=None, open_timeout=60)
        self._socket = self._ends.enter_context(connection)
        self._socket.send(json.dumps({"type": "start"} | self.options))
        while self._message()["type"] == "loading":
            pass
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.close()

    def picture(self, seconds: float, jpeg: bytes) -> None:
        """A picture (JPEG, PNG or WebP) that was taken at ``seconds``."""
        self._socket.send(struct.pack("<Bd", 1, seconds) + jpeg)

    def sound(self, seconds: float, samples: np.ndarray) -> None:
        """Samples (n,) int16, mono, 16 kHz, that begin at ``seconds``."""
        self._socket.send(struct.pack("<Bd", 2, seconds) + samples.astype("<i2").tobytes())

    def words(self, seconds: float, text: str, duration: float = 1.0) -> None:
        """Words that ended at ``seconds``."""
        self._socket.send(json.dumps({"type": "text", "text": text, "time": seconds, "duration": duration}))

    def stop(self) -> None:
        """Say that this is all; `answers` ends."""
        self._socket.send(json.dumps({"type": "stop"}))

    def answers(self) -> Iterator[dict[str, Any]]:
        """Answers as they come, to the end of the stream. Raises RuntimeError with the service's sentence."""
        with suppress(ConnectionClosedOK):
            while True:
                yield self._message()

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(60))
        if message["type"] == "error":
            raise RuntimeError(message["detail"])
        return message


class Event(NamedTuple):
    """What is sent at ``time``: a JPEG, or samples that end then and words (with their duration) that ended lately."""

    time: float
    jpeg: bytes
    samples: np.ndarray
    words: tuple[str, float] | None


class Measured(NamedTuple):
    """What a client saw: its own delays and the server's in milliseconds, pictures dropped, answers, and who spoke."""

    delays: list[float]
    told: list[float]
    dropped: int
    answers: int
    known: int


def events(rate: float) -> list[Event]:
    """The demo clip in order of time, with pictures at a rate (a second)."""
    recording = Recording.open(DEMO / "clip.mp4", transcript=DEMO / "clip.srt")
    (sound,) = recording.sound(Timeline((recording.span,)))
    size = round(TICK * SAMPLE_RATE)
    count = int(recording.duration / TICK)
    result = []
    for i in range(count):
        here = Segment(i * TICK, (i + 1) * TICK)
        ended = [(c.text, c.segment.duration) for c in recording.cues if c.segment.end in here]
        samples = np.round(sound[i * size : (i + 1) * size] * 32767)
        result.append(Event(here.end, b"", samples, ended[0] if ended else None))
    for frame in recording.frames(np.arange(1, int(count * TICK * rate) + 1) / rate):
        stream = io.BytesIO()
        Image.fromarray(frame.image).save(stream, "JPEG", quality=80)
        result.append(Event(frame.time, stream.getvalue(), np.empty(0), None))
    return sorted(result, key=lambda event: event.time)


def stream(url: str, seconds: float, offset: float, rate: float) -> Measured:
    """Send the demo over and over at its own pace, and measure."""
    parts = events(rate)
    sent: dict[int, float] = {}  # when what ends at each millisecond was sent
    delays, told, dropped, answers, known = [], [], 0, 0, 0
    with LiveClient(url, language="en") as client:
        time.sleep(offset)
        thread = threading.Thread(target=_send, args=(client, parts, seconds, sent))
        thread.start()
        for answer in client.answers():
            read = time.perf_counter()
            answers += 1
            if answer["time"] > WARM:
                delays.append(1000 * (read - sent[round(1000 * answer["time"])]))
                told.append(answer["delay_ms"])
                known += answer.get("speakers") is not None
            dropped = answer["dropped"]
        thread.join()
    return Measured(delays, told, dropped, answers, known)


def _send(client: LiveClient, parts: list[Event], seconds: float, sent: dict[int, float]) -> None:
    began, length = time.perf_counter(), max(part.time for part in parts)
    for turn in range(int(seconds / length) + 1):
        for part in parts:
            end = turn * length + part.time
            if end > seconds:
                break
            time.sleep(max(0.0, began + end - time.perf_counter()))
            sent[round(1000 * end)] = time.perf_counter()
            if part.words:
                client.words(end, *part.words)
            if part.jpeg:
                client.picture(end, part.jpeg)
            else:
                client.sound(end - TICK, part.samples)
    client.stop()


@contextmanager
def service() -> Iterator[tuple[str, psutil.Process]]:
    """A service of its own: its address, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "affuse.cli", "serve", "--folder", folder, "--port", str(port)]
        process = subprocess.Popen([*command, "--workers", "0"], stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"ws://127.0.0.1:{port}/v1/live", psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def measure(url: str, clients: int, seconds: float, rate: float) -> list[Measured]:
    """``clients`` at once, each a process."""
    stagger = [(url, seconds, 0.5 * i / clients, rate) for i in range(clients)]
    with multiprocessing.get_context("spawn").Pool(clients) as pool:
        return pool.starmap(stream, stagger)


def with_cpu(url: str, process: psutil.Process, options: argparse.Namespace) -> dict[int, tuple[list[Measured], float]]:
    """What every number of clients measures, and seconds of the processor that the service took meanwhile."""
    found = {}
    measure(url, 1, WARM, options.pictures)  # the first stream loads the networks
    for n in options.clients:
        before = process.cpu_times()
        measured = measure(url, n, options.seconds, options.pictures)
        after = process.cpu_times()
        found[n] = measured, after.user + after.system - before.user - before.system
    return found


def table(found: dict[int, tuple[list[Measured], float]]) -> str:
    """A Markdown table, one row a number of clients."""
    lines = [
        "| clients | answers | p50 ms | p95 ms | p99 ms | p95 by the server | CPU ms an answer | who speaks known "
        "| pictures dropped |",
        "|-" * 9 + "|",
    ]
    for clients, (measured, cpu) in found.items():
        delays = [d for m in measured for d in m.delays]
        told = [d for m in measured for d in m.told]
        middle, high, highest = np.percentile(delays, (50, 95, 99))
        dropped = sum(m.dropped for m in measured)
        known = sum(m.known for m in measured) / len(delays)
        lines.append(
            f"| {clients} | {len(delays)} | {middle:.0f} | {high:.0f} | {highest:.0f} "
            f"| {np.percentile(told, 95):.0f} | {1000 * cpu / sum(m.answers for m in measured):.0f} "
            f"| {100 * known:.0f} % | {dropped} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pictures", type=float, default=15.0, help="a second")
    parser.add_argument("--url", help="address of a running service")
    options = parser.parse_args()
    if options.url:
        alone = {n: measure(options.url, n, options.seconds, options.pictures) for n in options.clients}
        found = {n: (measured, float("nan")) for n, measured in alone.items()}
    else:
        with service() as (url, process):
            found = with_cpu(url, process, options)
    print(table(found))


if __name__ == "__main__":
    main()
