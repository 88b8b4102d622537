"""Hands files to the process that reads them, and tells what went wrong with one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

__all__ = ["MOST_MEGABYTES", "Answer", "Reader"]

MOST_MEGABYTES = 1000
_ADDRESS_SPACE = 4_000_000_000  # bytes; libraries map a good part of them without using it
_HERE = Path(__file__).resolve().parent


class Answer(NamedTuple):
    """How reading ended: "read", "refused", "defect", "crash" or "hang"; what was said; the most memory; the time."""

    outcome: str
    sentence: str
    megabytes: float
    seconds: float

    @property
    def trouble(self) -> str:
        """What should not have happened; empty where nothing is wrong."""
        if self.outcome not in ("read", "refused"):
            return f"{self.outcome}: {self.sentence}"
        if self.megabytes > MOST_MEGABYTES:
            return f"{self.megabytes:.0f} MB of memory"
        if self.outcome == "refused" and (not self.sentence.strip() or "\n" in self.sentence.strip()):
            return f"not one sentence: {self.sentence!r}"
        return ""


class Reader:
    """A process that reads one file after another, and is started anew after a crash or a hang."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    def read(self, path: Path) -> Answer:
        """How reading a file ends."""
        began = time.monotonic()
        process = self._process = self._process or _start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        if not self._answers(process, began):
            self._end()
            return Answer("hang", f"no answer within {self._seconds:g} s", 0.0, self._seconds)
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._end()
            return Answer("crash", f"the process ended with {code}", 0.0, time.monotonic() - began)
        return Answer(**json.loads(line), seconds=time.monotonic() - began)

    def _answers(self, process: subprocess.Popen[bytes], began: float) -> bool:
        """Wait for a line, as long as the process has not used up its seconds of processor, nor four times as many."""
        clock = psutil.Process(process.pid)
        used = sum(clock.cpu_times()[:2])
        while True:
            ready, _, _ = select.select([process.stdout], [], [], min(1.0, self._seconds))
            if ready:
                return True
            with suppress(psutil.NoSuchProcess):
                if sum(clock.cpu_times()[:2]) - used > self._seconds:
                    return False
            if time.monotonic() - began > 4 * self._seconds:
                return False

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(_HERE.parent)}
    return subprocess.Popen(
        [sys.executable, str(_HERE / "reader.py"), str(_ADDRESS_SPACE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
