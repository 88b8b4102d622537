"""Measure what kills cost a batch: the same recordings undisturbed, and with kills at random on the way.

``python bench/batch.py --recordings DIR [DIR …] [--limit 200] [--cut 1.0] [--workers 1] [--kills 3] [--seed 1]
[--experts face,voice] --work DIR``

``--cut`` makes thousands of short clips of few recordings: sounds are cut into pieces of so many seconds, and videos
are taken as they are. The order of the recordings, and how many are finished at each kill, are drawn by ``--seed``.

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
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from affuse.batch import read
from affuse.batch.folders import find_in_folder
from affuse.media import Recording
from affuse.timeline import Timeline

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl
SOUNDS = (".wav", ".flac", ".mp3", ".ogg")


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


def batch(command: list[str], out: Path, goals: Sequence[int]) -> Iterator[int]:
    """Run the command, ending it by SIGKILL as soon as so many recordings are finished; yields how many they were."""
    for goal in goals:
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while finished(out) < goal and process.poll() is None:
            time.sleep(0.5)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        reap()
        yield finished(out)
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)


def measured(command: list[str], out: Path, goals: Sequence[int] = ()) -> dict[str, Any]:
    """Processor time and memory of a run."""
    before, started = processor_seconds(), time.monotonic()
    memory = Memory()
    memory.start()
    at_kills = list(batch(command, out, goals))
    memory.over.set()
    memory.join()
    return {
        "processor_seconds": processor_seconds() - before,
        "seconds": time.monotonic() - started,
        "finished_at_kills": at_kills,
        **memory.thirds(),
    }


def clips(folders: Sequence[Path], limit: int, cut: float | None, work: Path) -> list[Path]:
    """So many recordings; sounds cut into pieces where that is asked for."""
    found = [own.path.resolve() for folder in folders for own in find_in_folder(folder)[0]]
    if cut is None:
        return found[:limit]
    made = [path for path in found if path.suffix not in SOUNDS][:limit]
    for path in (path for path in found if path.suffix in SOUNDS):
        recording = Recording.open(path)
        for samples in recording.sound(Timeline.windows(recording.duration, cut, cut)):
            if len(made) == limit:
                return made
            made.append((work / "clips" / f"{len(made):05d}.wav").resolve())
            write_wave(made[-1], samples)
    return made


def write_wave(path: Path, samples: Any) -> None:
    """16-bit mono sound of 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((32_767 * np.clip(samples, -1, 1)).astype("<i2").tobytes())


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--cut", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--experts", default="face,voice,text")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    found = clips(asked.recordings, asked.limit, asked.cut, asked.work)
    chance = random.Random(asked.seed)
    chance.shuffle(found)
    goals = sorted(chance.sample(range(1, len(found)), asked.kills))
    manifest = asked.work / "clips.csv"
    manifest.write_text("path\n" + "".join(f"{path}\n" for path in found), encoding="utf-8")
    warm = [sys.executable, "-m", "affuse.cli", "batch", str(found[0]), "--out", str(asked.work / "warm")]
    subprocess.run(warm, env=environment(), stdout=subprocess.DEVNULL, check=True)
    facts: dict[str, Any] = {
        "recordings": len(found),
        "workers": asked.workers,
        "experts": asked.experts,
        "goals": goals,
    }
    for name, kills in (("undisturbed", []), *([("killed", goals)] if goals else [])):
        out = asked.work / name
        options = ["--out", str(out), "--workers", str(asked.workers), "--experts", asked.experts]
        command = [sys.executable, "-m", "affuse.cli", "batch", str(manifest), *options]
        facts[name] = measured(command, out, kills)
        persons = read(out, "persons")
        facts[name]["recordings"] = len(read(out)["path"].unique())
        facts[name]["twice"] = int(persons.duplicated(["path", "person"]).sum())
        facts[name]["failed"] = len(read(out, "errors"))
        hours = persons.drop_duplicates("key")["duration"].sum() / 3600
        facts[name]["hours"] = hours
        facts[name]["processor_seconds_per_hour"] = facts[name]["processor_seconds"] / hours
    if goals:
        facts["ratio"] = facts["killed"]["processor_seconds"] / facts["undisturbed"]["processor_seconds"]
        one, two = (read(asked.work / name, "windows") for name in ("undisturbed", "killed"))
        facts["the_same"] = one.equals(two)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
