"""How long a live service takes to answer: from the last sample to its answer, through the WebSocket.

``python bench/live.py [--clients 1 4] [--seconds 30] [--url ws://127.0.0.1:8000/v1/live]``; without ``--url`` a server
is started for it. Every client is a process of its own that sends pictures of the demo at 10 a second as JPEG, its
sound in pieces of 100 ms and its words as they end. The delay is the client's: from sending the last sample that an
answer is about to having read the answer. Give it ``nice`` priority where other work runs on the machine.
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
from PIL import Image
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Segment, Timeline

DEMO = Path(__file__).parent.parent / "demo"
TICK = 0.1  # seconds between two pictures, and of a piece of sound
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


class Tick(NamedTuple):
    """What is sent at once: a JPEG, samples, and words with their duration, where some end here."""

    jpeg: bytes
    samples: np.ndarray
    words: tuple[str, float] | None


class Measured(NamedTuple):
    """What a client saw: its own delays and the server's in milliseconds, and pictures dropped."""

    delays: list[float]
    told: list[float]
    dropped: int


def ticks() -> list[Tick]:
    """The demo clip, tick by tick."""
    recording = Recording.open(DEMO / "clip.mp4", transcript=DEMO / "clip.srt")
    (sound,) = recording.sound(Timeline((recording.span,)))
    size = round(TICK * SAMPLE_RATE)
    result = []
    for i, frame in enumerate(recording.frames(np.arange(0, recording.duration - TICK, TICK))):
        stream = io.BytesIO()
        Image.fromarray(frame.image).save(stream, "JPEG", quality=80)
        here = Segment(i * TICK, (i + 1) * TICK)
        ended = [(c.text, c.segment.duration) for c in recording.cues if c.segment.end in here]
        samples = np.round(sound[i * size : (i + 1) * size] * 32767)
        result.append(Tick(stream.getvalue(), samples, ended[0] if ended else None))
    return result


def stream(url: str, seconds: float, offset: float) -> Measured:
    """Send the demo over and over at its own pace, and measure."""
    parts = ticks()
    sent: dict[int, float] = {}  # when the samples up to each tick were sent
    delays, told, dropped = [], [], 0
    with LiveClient(url, language="en") as client:
        time.sleep(offset)
        thread = threading.Thread(target=_send, args=(client, parts, round(seconds / TICK), sent))
        thread.start()
        for answer in client.answers():
            read = time.perf_counter()
            if answer["time"] > WARM:
                delays.append(1000 * (read - sent[round(answer["time"] / TICK)]))
                told.append(answer["delay_ms"])
            dropped = answer["dropped"]
        thread.join()
    return Measured(delays, told, dropped)


def _send(client: LiveClient, parts: list[Tick], count: int, sent: dict[int, float]) -> None:
    began = time.perf_counter()
    for i in range(count):
        tick = parts[i % len(parts)]
        end = (i + 1) * TICK
        time.sleep(max(0.0, began + end - time.perf_counter()))
        sent[i + 1] = time.perf_counter()
        client.sound(i * TICK, tick.samples)
        if tick.words:
            client.words(end, *tick.words)
        client.picture(end, tick.jpeg)
    client.stop()


@contextmanager
def service() -> Iterator[str]:
    """A service of its own, and its address."""
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
            yield f"ws://127.0.0.1:{port}/v1/live"
        finally:
            process.terminate()
            process.wait()


def measure(url: str, clients: int, seconds: float) -> list[Measured]:
    """``clients`` at once, each a process."""
    stagger = [(url, seconds, 0.5 * i / clients) for i in range(clients)]
    with multiprocessing.get_context("spawn").Pool(clients) as pool:
        return pool.starmap(stream, stagger)


def table(found: dict[int, list[Measured]]) -> str:
    """A Markdown table, one row a number of clients."""
    lines = ["| clients | answers | p50 ms | p95 ms | p99 ms | p95 by the server | pictures dropped |", "|-" * 7 + "|"]
    for clients, measured in found.items():
        delays = [d for m in measured for d in m.delays]
        told = [d for m in measured for d in m.told]
        middle, high, highest = np.percentile(delays, (50, 95, 99))
        dropped = sum(m.dropped for m in measured)
        lines.append(
            f"| {clients} | {len(delays)} | {middle:.0f} | {high:.0f} | {highest:.0f} "
            f"| {np.percentile(told, 95):.0f} | {dropped} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--url", help="address of a running service")
    options = parser.parse_args()
    if options.url:
        found = {n: measure(options.url, n, options.seconds) for n in options.clients}
    else:
        with service() as url:
            found = {n: measure(url, n, options.seconds) for n in options.clients}
    print(table(found))


if __name__ == "__main__":
    main()
