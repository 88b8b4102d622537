"""Measure what kills cost a batch: the same recordings undisturbed, and with three kills on the way.

``python bench/batch.py --recordings DIR [--limit 200] [--workers 1] [--kills 3] [--experts face,voice] --work DIR``

All processor time of a run is counted, that of killed processes and their workers included (Linux only: this process
adopts what they leave behind). Peak memory is that of the largest process, and of the processes of one run together,
looked at every half second; the second and the last third of a run say whether it grows. As in an installation, the
bytecode of Python's modules is kept, and was made before anything is measured.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from affuse.batch import read
from affuse.batch.folders import find_in_folder

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl


class Memory(threading.Thread):
    """Resident bytes of all processes that this one started, looked at every half second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.5):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.seen.append(total)

    def thirds(self) -> dict[str, float]:
        """Largest values in MB, of the second and the last third, without the loading at the start."""
        third = max(1, len(self.seen) // 3)
        return {
            "peak_mb": max(self.seen) / 1e6,
            "second_third_mb": max(self.seen[third : 2 * third], default=0) / 1e6,
            "last_third_mb": max(self.seen[-third:]) / 1e6,
        }


def reap() -> None:
    """Wait for whatever killed processes left behind, so that its time is counted."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.05)


def environment() -> dict[str, str]:
    """Variables of a process that keeps bytecode, in a place of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "affuse-bench-bytecode")}


def processor_seconds() -> float:
    """Of all processes that this one started and waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def finished(out: Path) -> int:
    """Recordings whose results are written."""
    parts = out.glob("persons/configuration=*/*.parquet")
    return sum(pd.read_parquet(path, columns=["key"])["key"].nunique() for path in parts)


def batch(command: list[str], out: Path, kills: int, recordings: int) -> Iterator[int]:
    """Run the command, ending it by SIGKILL so many times; yields how many recordings were finished at each kill."""
    for number in range(1, kills + 1):
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = number * recordings // (kills + 1)
        while finished(out) < goal and process.poll() is None:
            time.sleep(0.5)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        reap()
        yield finished(out)
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)


def measured(command: list[str], out: Path, kills: int, recordings: int) -> dict[str, Any]:
    """Processor time and memory of a run."""
    before, started = processor_seconds(), time.monotonic()
    memory = Memory()
    memory.start()
    at_kills = list(batch(command, out, kills, recordings))
    memory.over.set()
    memory.join()
    return {
        "processor_seconds": processor_seconds() - before,
        "seconds": time.monotonic() - started,
        "finished_at_kills": at_kills,
        **memory.thirds(),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--experts", default="face,voice,text")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    found = find_in_folder(asked.recordings)[0][: asked.limit]
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    manifest = asked.work / "clips.csv"
    manifest.write_text("path\n" + "".join(f"{own.path.resolve()}\n" for own in found), encoding="utf-8")
    warm = [sys.executable, "-m", "affuse.cli", "batch", str(found[0].path), "--out", str(asked.work / "warm")]
    subprocess.run(warm, env=environment(), stdout=subprocess.DEVNULL, check=True)
    facts: dict[str, Any] = {"recordings": len(found), "workers": asked.workers, "experts": asked.experts}
    for name, kills in (("undisturbed", 0), ("killed", asked.kills)):
        out = asked.work / name
        options = ["--out", str(out), "--workers", str(asked.workers), "--experts", asked.experts]
        command = [sys.executable, "-m", "affuse.cli", "batch", str(manifest), *options]
        facts[name] = measured(command, out, kills, len(found))
        facts[name]["rows"] = len(read(out)["path"].unique())
    facts["ratio"] = facts["killed"]["processor_seconds"] / facts["undisturbed"]["processor_seconds"]
    one, two = (read(asked.work / name, "windows") for name in ("undisturbed", "killed"))
    facts["the_same"] = one.equals(two)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
